"""How sure a figure is: the percentile bootstrap over independent units.

Five captions of one photo succeed and fail together, so what is drawn anew is the
photo with all its queries, not the caption.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.evaluation.measures import Numbers, Ranks

DRAWS = 2_000
LEVEL_PERCENT = 95.0
SEED = 0  # the same figures have the same intervals
Z = 1.959963984540054  # of the normal distribution: 95% lie within
FEW_UNITS = 10  # below this many a bootstrap says little (Efron & Tibshirani 1993, ch. 14)
_BLOCK_CELLS = 4_000_000  # draws are made in blocks of this many numbers: 32 MB


def units_of(targets: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The independent unit of each query: queries that share a target share a unit.

    targets: for each query the numbers of its right answers. Returns int64 (nq,),
    units numbered from 0: the connected components of queries and targets.
    """
    parent: dict[int, int] = {}  # target -> another of its unit, nearer to the first

    def first(target: int) -> int:
        while (above := parent.setdefault(target, target)) != target:
            parent[target] = parent[above]
            target = above
        return target

    for own in targets:
        for other in own[1:]:
            parent[first(other)] = first(own[0])
    _, units = np.unique([first(own[0]) for own in targets], return_inverse=True)
    return units.astype(np.int64)


def bootstrap(values: Numbers, ranks: Ranks, units: NDArray[np.int64], seed: int) -> Numbers:
    """The statistics of ``DRAWS`` samples, each of as many units as there are.

    values: float64 (nq, m), averaged over queries. ranks: (nq,), whose median is taken.
    units: (nq,) from 0. Returns float64 (DRAWS, m + 1): the means, then the median.
    The same units and seed draw the same samples, so the difference of two results
    is a paired bootstrap.
    """
    n = int(units.max()) + 1
    sizes = np.bincount(units, minlength=n).astype(np.float64)
    sums = np.stack([np.bincount(units, column, n) for column in values.T], axis=1)
    order = np.argsort(ranks, kind="stable")
    sorted_ranks, sorted_units = ranks[order].astype(np.float64), units[order]
    rng = np.random.default_rng(seed)
    out = np.empty((DRAWS, values.shape[1] + 1))
    block = max(1, _BLOCK_CELLS // len(ranks))
    for at in range(0, DRAWS, block):
        times = rng.multinomial(n, np.full(n, 1 / n), min(block, DRAWS - at))
        weights = times.astype(np.float64)
        out[at : at + block, :-1] = (weights @ sums) / (weights @ sizes)[:, None]
        upto = np.cumsum(times[:, sorted_units], axis=1)
        total = upto[:, -1:]
        low = (upto > (total - 1) // 2).argmax(axis=1)
        high = (upto > total // 2).argmax(axis=1)
        out[at : at + block, -1] = (sorted_ranks[low] + sorted_ranks[high]) / 2
    return out


def ends(draws: Numbers) -> tuple[Numbers, Numbers]:
    """The ends of the central 95% of each column of (DRAWS, m): two of (m,)."""
    tail = (100 - LEVEL_PERCENT) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high


def wilson(share: float, n: int) -> tuple[float, float]:
    """The ends of the 95% score interval of a share over n units.

    For where all units are alike, as at 0% and 100%: a bootstrap draws nothing else there and
    would call that certain. Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
