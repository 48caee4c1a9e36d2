"""Pretrained sound towers, rebuilt from their public weights, log-mel front ends included.

``AiSfx`` is the tower that ships. ``YamNet`` is a teacher: it names what is
heard in the training clips, and nothing of it is shipped.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini.towers import SameConv, folded

AISFX_BN_EPS = 1e-5
AISFX_RATE_HZ = 44_100
AISFX_WINDOW, AISFX_HOP, AISFX_MELS = 2048, 1024, 96
AISFX_SPEC_MAX = 9.457798957824707  # the spectrogram's largest value in the authors' training data
AISFX_BLOCK = 100  # frames a block (2.3 s): the shortest sound the tower was trained on
AISFX_BLOCK_STEPS = 12  # steps of the feature map in a block, after three halvings
AISFX_FEATURES = 512
PEAK_FLOOR = 1e-4  # -80 dB: what is quieter is silence and is not amplified
YAMNET_RATE_HZ = 16_000
YAMNET_PATCH, YAMNET_PATCH_HOP = 96, 48  # frames of 10 ms
YAMNET_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def mel_filters(
    n_mels: int, n_bins: int, rate_hz: int, low_hz: float, high_hz: float, unit_area: bool
) -> Tensor:
    """Triangular filters on the HTK mel scale, float32 (n_bins, n_mels).

    Triangles are drawn over Hz (librosa, ``htk=True``); ``unit_area`` divides
    each by its sum over the bins, as librosa's ``norm=1.0`` does.
    """
    mels = np.linspace(htk_mel(low_hz), htk_mel(high_hz), n_mels + 2)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = np.linspace(0.0, rate_hz / 2, n_bins)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if unit_area:
        filters /= np.maximum(np.abs(filters).sum(1, keepdims=True), 1e-12)
    return torch.from_numpy(filters.T.astype(np.float32))


class Spectrum(nn.Module):
    """Windowed Fourier magnitudes as a matrix product: float32 (n, samples) to (n, frames, bins).

    A Hann window of ``window`` samples (periodic), a frame each ``hop``
    samples, no padding. Power where ``power`` is 2, magnitude where it is 1.
    """

    def __init__(self, window: int, n_fft: int, hop: int, power: int) -> None:
        super().__init__()
        t = np.arange(window)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * t / window)
        angle = 2 * np.pi * np.outer(np.arange(n_fft // 2 + 1), t) / n_fft
        basis = np.concatenate([np.cos(angle) * hann, np.sin(angle) * hann])
        self.basis: Tensor
        self.register_buffer("basis", torch.from_numpy(basis.astype(np.float32))[:, None])
        self.hop, self.power = hop, power

    def forward(self, x: Tensor) -> Tensor:
        parts = F.conv1d(x[:, None], self.basis, stride=self.hop).transpose(1, 2)
        real, imaginary = parts.chunk(2, dim=2)
        energy = real * real + imaginary * imaginary
        return energy if self.power == 2 else torch.sqrt(energy)


def htk_mel(hz: float) -> float:
    """Hz on the HTK mel scale."""
    return 2595.0 * math.log10(1.0 + hz / 700.0)


class AiSfx(nn.Module):
    """aiSFX: a nine-layer CNN trained on sound-effect libraries; any sound to float32 (n, f).

    forward takes float32 (n, samples) at 44.1 kHz and returns, side by side,
    the mean and the maximum over 2.3-second blocks of the 512 features (2 * 512),
    the mean over the blocks of the scores of the classifiers that came with it
    (307), and mean and deviation over time of the spectrogram (2 * 96) and of what
    the first three blocks of layers find in it (2 * 64, 2 * 128, 2 * 256).
    Source: Ma & Lerch 2022, ISMIR, "Representation Learning for the Automatic
    Indexing of Sound Effects Libraries"; weights: PyPI aisfx (CC BY 4.0).
    """

    CLASSIFIERS = (0, 1, 2, 3)  # the libraries sorted by the Universal Category System

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        from numpy._core import multiarray

        plain_numbers = [
            (multiarray.scalar, "numpy.core.multiarray.scalar"),
            np.dtype,
            np.dtypes.Int64DType,
        ]
        with torch.serialization.safe_globals(plain_numbers):
            state, _ = torch.load(checkpoint, weights_only=True, map_location="cpu")
        self.spectrum = Spectrum(AISFX_WINDOW, AISFX_WINDOW, AISFX_HOP, power=2)
        self.mel: Tensor
        filters = mel_filters(
            AISFX_MELS, AISFX_WINDOW // 2 + 1, AISFX_RATE_HZ, 0.0, AISFX_RATE_HZ / 2, unit_area=True
        )
        self.register_buffer("mel", filters)
        self.blocks = nn.ModuleList()
        for number in range(1, 5):
            at = f"embedding_net.conv_block{number}."
            pair = [folded(state, f"{at}conv{i}", f"{at}bn{i}", AISFX_BN_EPS) for i in (1, 2)]
            self.blocks.append(nn.Sequential(*(SameConv(w, b, 1, 1, math.inf) for w, b in pair)))
        self.classifiers = nn.ModuleList()
        for number in self.CLASSIFIERS:
            layers: list[nn.Module] = []
            for i in (0, 2, 4):
                weight = state[f"fc.{number}.{i}.weight"]
                layer = nn.Linear(weight.shape[1], weight.shape[0])
                layer.load_state_dict({"weight": weight, "bias": state[f"fc.{number}.{i}.bias"]})
                layers += [layer, nn.ReLU()]
            self.classifiers.append(nn.Sequential(*layers[:-1]))
        self.requires_grad_(False).eval()

    def log_mel(self, x: Tensor) -> Tensor:
        """float32 (n, samples) to (n, frames, 96), as librosa and the authors compute it."""
        x = x / x.abs().amax(1, keepdim=True).clamp_min(PEAK_FLOOR)
        least = AISFX_HOP * (AISFX_BLOCK - 1)
        x = F.pad(x, (AISFX_WINDOW // 2, AISFX_WINDOW // 2 + max(0, least - x.shape[1])))
        mel = self.spectrum(x) @ self.mel
        return torch.log10(1.0 + 10_000.0 * mel) / AISFX_SPEC_MAX

    def forward(self, x: Tensor) -> Tensor:
        log_mel = self.log_mel(x)
        found = list(spread(log_mel))
        x = log_mel[:, None]
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number < len(self.blocks) - 1:
                found += spread(x.mean(3).transpose(1, 2))
                x = F.max_pool2d(x, 2)
        blocks = F.max_pool1d(x.mean(3), AISFX_BLOCK_STEPS, AISFX_BLOCK_STEPS // 2)
        scores = [net(blocks.transpose(1, 2)).mean(1) for net in self.classifiers]
        return torch.cat([blocks.mean(2), blocks.amax(2), *scores, *found], dim=1)


def spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over time: (n, time, c) to two of (n, c)."""
    mean = x.mean(1)
    return mean, (x.square().mean(1) - mean.square()).clamp_min(0.0).sqrt()


def yamnet_mel() -> Tensor:
    """TensorFlow's mel filters, drawn over mels: float32 (257, 64), 125 to 7,500 Hz."""
    edges = np.linspace(htk_mel(125.0), htk_mel(7500.0), 66)
    bins = np.array([htk_mel(hz) for hz in np.linspace(0.0, YAMNET_RATE_HZ / 2, 257)])[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[0] = 0.0
    return torch.from_numpy(filters.astype(np.float32))


class YamNet(nn.Module):
    """YAMNet: sounds to the probabilities of 521 AudioSet classes, float32 (patches, 521).

    forward takes one sound, float32 (samples,) at 16 kHz.
    Source: TensorFlow model garden, research/audioset/yamnet (Apache-2.0).
    """

    def __init__(self, arrays: Path) -> None:
        super().__init__()
        with np.load(arrays, allow_pickle=False) as stored:
            given = [torch.from_numpy(stored[str(i)].astype(np.float32)) for i in range(56)]
        pairs = list(zip(given[:54:2], given[1:54:2], strict=True))
        layers = [SameConv(pairs[0][0].permute(0, 3, 1, 2), pairs[0][1], 2, 1, math.inf)]
        for number, stride in enumerate(YAMNET_STRIDES):
            (depth, depth_bias), (point, point_bias) = pairs[1 + 2 * number : 3 + 2 * number]
            depth = depth.permute(3, 0, 1, 2)
            layers.append(SameConv(depth, depth_bias, stride, depth.shape[0], math.inf))
            layers.append(SameConv(point.permute(0, 3, 1, 2), point_bias, 1, 1, math.inf))
        self.layers = nn.Sequential(*layers)
        self.weight, self.bias = given[54], given[55]
        self.spectrum = Spectrum(400, 512, 160, power=1)
        self.mel = yamnet_mel()
        self.requires_grad_(False).eval()

    def log_mel(self, x: Tensor) -> Tensor:
        """float32 (samples,) to (patches, 96, 64)."""
        least = 400 + 160 * (YAMNET_PATCH - 1)
        x = F.pad(x, (0, max(0, least - len(x))))
        mel = torch.log(self.spectrum(x[None])[0] @ self.mel + 0.001)
        return mel.unfold(0, YAMNET_PATCH, YAMNET_PATCH_HOP).transpose(1, 2)

    def classify(self, patches: Tensor) -> Tensor:
        """(patches, 96, 64) to probabilities (patches, 521)."""
        pooled = self.layers(patches[:, None]).mean((2, 3))
        return torch.sigmoid(pooled @ self.weight.T + self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.log_mel(x))
