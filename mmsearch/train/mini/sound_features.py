"""What the sound towers hear in every training clip, clean and disturbed."""

from __future__ import annotations

import io
import zlib

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from mmsearch.train.mini import data
from mmsearch.train.mini.sound_towers import AISFX_RATE_HZ, YAMNET_RATE_HZ, AiSfx, YamNet

WINDOW_S = 10.0
DISTURBED = 6  # disturbed copies of each clip

Wave = NDArray[np.float32]
Precise = NDArray[np.float64]


def aisfx() -> AiSfx:
    """aiSFX with the weights of its package."""
    return AiSfx(data.package_file("aisfx", "models/checkpoint.pth", "aisfx"))


def decode(content: bytes, rate_hz: int) -> Wave:
    """A sound file as float32 (samples,) mono, at most ``WINDOW_S`` seconds of it."""
    wave, own_rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mono = wave[: int(own_rate_hz * WINDOW_S)].mean(1)
    return soxr.resample(mono, own_rate_hz, rate_hz).astype(np.float32)


def disturb(wave: Wave, other: Wave, rng: np.random.Generator) -> Wave:
    """The clip at another speed, place, colour and distance, over noise or another clip."""
    x: Precise = wave.astype(np.float64)
    if rng.random() < 0.6:
        speed = float(np.exp(rng.uniform(-0.15, 0.15)))
        x = soxr.resample(x, AISFX_RATE_HZ, AISFX_RATE_HZ / speed)
    if rng.random() < 0.5 and len(x) > AISFX_RATE_HZ:
        keep = int(len(x) * rng.uniform(0.5, 1.0))
        start = int(rng.integers(0, len(x) - keep + 1))
        x = x[start : start + keep]
    if rng.random() < 0.3:  # a room: exponentially dying noise
        tail = rng.standard_normal(int(AISFX_RATE_HZ * 0.3))
        tail *= np.exp(-np.arange(len(tail)) / (AISFX_RATE_HZ * rng.uniform(0.02, 0.1)))
        size = len(x) + len(tail)
        wet = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(tail, size), size)[: len(x)]
        x = x + (wet / (np.abs(wet).max() + 1e-9) * np.abs(x).max() * rng.uniform(0.1, 0.6))
    if rng.random() < 0.5:  # a tilted or dulled spectrum
        spectrum = np.fft.rfft(x)
        hz = np.fft.rfftfreq(len(x), 1 / AISFX_RATE_HZ)
        gain_db = rng.uniform(-4, 4) * np.log2(np.maximum(hz, 50.0) / 1000.0)
        if rng.random() < 0.4:
            gain_db -= 24.0 * np.maximum(0.0, np.log2(np.maximum(hz, 1.0) / rng.uniform(3e3, 1e4)))
        x = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(x))
    if rng.random() < 0.5:  # background: hiss, rumble, or another clip far below
        if rng.random() < 0.5:
            hiss = np.fft.rfft(rng.standard_normal(len(x)))
            slope = np.maximum(np.arange(len(hiss)), 1.0) ** rng.uniform(-1.0, 0.0)
            noise: Precise = np.fft.irfft(hiss * slope, len(x))
        else:
            noise = np.resize(other, len(x)).astype(np.float64)
        level = np.sqrt(np.mean(x**2)) * 10 ** (-rng.uniform(10, 30) / 20)
        x = x + noise / (np.sqrt(np.mean(noise**2)) + 1e-9) * level
    if rng.random() < 0.3:  # late, or with silence behind
        before, after = (int(AISFX_RATE_HZ * rng.uniform(0, 2)) for _ in range(2))
        x = np.pad(x, (before, after))
    return x[: int(AISFX_RATE_HZ * WINDOW_S)].astype(np.float32)


@torch.inference_mode()
def heard(sources: data.Sources) -> dict[str, NDArray[np.float32]]:
    """For every sound: ``features`` (n, 1 + DISTURBED, f), the first of them clean, and
    ``classes`` (n, 521), YAMNet's mean probabilities for the clean clip."""
    tower, teacher = aisfx(), YamNet(sources.yamnet / "yamnet_dequant_fp16.npz")
    clips = [content for _, content in data.sounds(sources)]
    names = [sound.name for sound, _ in data.sounds(sources)]
    waves = [decode(content, AISFX_RATE_HZ) for content in clips]
    features, classes = [], []
    for name, content, wave in zip(names, clips, waves, strict=True):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        others = (waves[int(rng.integers(len(waves)))] for _ in range(DISTURBED))
        views = [wave, *(disturb(wave, other, rng) for other in others)]
        features.append([tower(torch.from_numpy(view)[None])[0].numpy() for view in views])
        low = torch.from_numpy(decode(content, YAMNET_RATE_HZ))
        classes.append(teacher(low).mean(0).numpy())
    return {"features": np.array(features), "classes": np.array(classes)}
