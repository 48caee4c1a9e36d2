"""Contrastive losses over whole batches, with every right answer of a batch counted as one.

The logits and the sigmoid loss are open_clip's; what is added is which pairs are right:
captions of one picture, and equal captions of several, are not negatives.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

FIRST_BIAS = -10.0  # of the sigmoid loss: most pairs are wrong (Zhai et al. 2023)
MOST_SCALE = 100.0  # Radford et al. 2021


class Contrast(nn.Module):
    """Symmetric InfoNCE or the sigmoid loss, with a learned temperature.

    Source: van den Oord et al. 2018, arXiv:1807.03748; Radford et al. 2021,
    arXiv:2103.00020; Zhai et al. 2023, arXiv:2303.15343.
    """

    def __init__(self, kind: str, scale: float, smoothing: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(FIRST_BIAS)) if kind == "sigmoid" else None
        self._smoothing = smoothing
        self._logits: Any = ClipLoss()
        self._sigmoid = _Sigmoid()

    def scale(self) -> Tensor:
        """The inverse temperature."""
        return self.log_scale.exp().clamp(max=MOST_SCALE)

    def forward(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """a, b: unit rows (n, d). same: bool (n, n), whether a's row and b's row belong
        together; its diagonal is true."""
        if self.bias is not None:
            return self._sigmoid.of(a, b, self.scale(), self.bias, same)
        rows, columns = self._logits.get_logits(a, b, self.scale())
        one = _cross_entropy(rows, same, self._smoothing)
        return (one + _cross_entropy(columns, same.T, self._smoothing)) / 2


class _Sigmoid(SigLipLoss):
    """open_clip's loss, told which pairs are right."""

    def of(self, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, same: Tensor) -> Tensor:
        self._same = same
        found: Tensor = self._loss(a, b, scale, bias)
        return found

    def get_ground_truth(
        self, device: Any, dtype: Any, num_logits: int, negative_only: bool = False
    ) -> Tensor:
        return (2 * self._same.to(device=device, dtype=dtype) - 1)[:num_logits]


def _cross_entropy(logits: Tensor, same: Tensor, smoothing: float) -> Tensor:
    target = same.to(logits.dtype)
    target = target / target.sum(1, keepdim=True)
    return F.cross_entropy(logits, target, label_smoothing=smoothing)


def distilled(a: Tensor, b: Tensor, taught_a: Tensor, taught_b: Tensor, scale: float) -> Tensor:
    """How far the similarities of a batch are from a teacher's: mean KL divergence, both ways.

    Unit rows; the teacher's may have another width. Source: Wu et al. 2023 (TinyCLIP),
    arXiv:2309.12314, affinity mimicking.
    """
    ours, theirs = scale * a @ b.T, scale * taught_a @ taught_b.T
    found = torch.zeros((), device=a.device)
    for mine, taught in ((ours, theirs), (ours.T, theirs.T)):
        found = found + F.kl_div(
            mine.log_softmax(1), taught.log_softmax(1), log_target=True, reduction="batchmean"
        )
    return found / 2
