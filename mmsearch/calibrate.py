"""What a score means: how rarely chance would give as good a one.

The cosines of two spaces, or of two kinds of parts in one, cannot be compared: a caption lies at
0.3 from the picture that it describes in one model, and at 0.6 from a text that has nothing to do
with it. So each score is held against those that the same query gets from an even sample of the
parts of that kind (in speaker verification: test normalisation, Auckenthaler et al. 2000), and
against how many of them there are: of a million pictures the best will look better by chance
than of ten sounds (the E-value of sequence search, Karlin and Altschul 1990).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mmsearch.types import Scores

LEAST = 5  # parts from which something can be said
_TRIMMED = 0.05  # the share of the sample's best that may be what was asked for


def surprise(scores: Scores, background: Scores, n: int) -> Scores:
    """How surprising scores are: 0 is what one of n parts gets by chance, 2 one in a hundred times.

    scores: (nq, k), -inf for none. background: (nq, m), what each query gets from an even
    sample of the n parts. Returns float32 (nq, k): -log10 of how many of n parts would score as
    high, were the scores normally distributed as the sample without its best twentieth; -inf
    for none. The order of a query's scores stays. Of fewer parts than ``LEAST`` nothing is known:
    all get about 0.
    """
    m = background.shape[1]
    if m < LEAST:
        return (1e-3 * scores).astype(np.float32)
    top = max(1, round(_TRIMMED * m))
    rest = np.sort(background, axis=1)[:, : m - top].astype(np.float64)
    mean, width = _untrimmed(rest, top / m)
    t = (scores - mean[:, None]) / (width[:, None] * math.sqrt(1 + 1 / len(rest[0])))
    found = (_log10_tail(_normal(t, m - top - 1)) + math.log10(max(1, n))) * -1
    return np.where(np.isneginf(scores), -np.inf, found).astype(np.float32)


def _untrimmed(
    rest: NDArray[np.float64], share: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of normal samples of which the best share was cut off."""
    cut = NormalDist().inv_cdf(1 - share)
    ratio = NormalDist().pdf(cut) / (1 - share)
    width = rest.std(axis=1, ddof=1) / math.sqrt(1 - cut * ratio - ratio**2)
    width = np.maximum(width, 1e-6)
    return rest.mean(axis=1) + ratio * width, width


def _normal(t: NDArray[np.float64], degrees: int) -> NDArray[np.float64]:
    """The normal deviate that is as rare as a t of some degrees of freedom (Wallace 1959)."""
    share = (8 * degrees + 1) / (8 * degrees + 3)
    z: NDArray[np.float64] = share * np.sign(t) * np.sqrt(degrees * np.log1p(t**2 / degrees))
    return z


def _log10_tail(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """log10 of the share of a normal distribution above z (Börjesson and Sundberg 1979)."""
    x = np.abs(z)
    a, b = 1 / math.pi, 2 * math.pi
    tail = -(x**2) / 2 - np.log(math.sqrt(2 * math.pi) * ((1 - a) * x + a * np.sqrt(x**2 + b)))
    with np.errstate(divide="ignore"):
        below = np.log1p(-np.exp(tail))
    return np.where(z > 0, tail, below) / math.log(10)
