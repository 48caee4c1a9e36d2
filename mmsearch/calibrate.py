"""What a score means: how rarely chance would give as good a one.

The cosines of two spaces, or of two kinds of parts in one, cannot be compared: a caption lies at
0.3 from the picture that it describes in one model, and at 0.6 from a text that has nothing to do
with it in another. So a score is held against the best scores that queries get which were not
asked about this collection, and against how many parts there are: of a million pictures the best
one looks better by chance than of ten sounds. The best of many scores are Gumbel distributed, and
how many of n parts would score as high by chance is an exponential in the score: the E-value of
sequence search (Karlin and Altschul 1990, doi:10.1073/pnas.87.6.2264). ``benchmarks/lanes.py``
compares it with other rules.

A cosine ends at 1, an exponential does not: held against others that are alike, such as thirty
sounds, the same file again would be no rarer than one of ten. So cosines are first made into
Fisher's z = artanh(cosine) (Fisher 1915, doi:10.2307/2331838), which is as good as the cosine up to
0.5 and has no end: by chance a cosine near 1 is out of reach in any collection.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmsearch.types import Scores

_NEAREST = 1 - 1e-4  # of cosines: vectors are stored as float16, which cannot tell more
LEAST_QUERIES = 8  # from which something can be said
_NARROWEST = 1e-4  # where all queries get the same
_QUARTILES = math.log(math.log(4)) - math.log(math.log(4 / 3))  # apart in a Gumbel of width 1


class Chance(NamedTuple):
    """The Gumbel distribution of the best score, as Fisher's z, that a query gets by chance of so
    many parts."""

    location: float
    width: float
    parts: int


def chance(best: NDArray[np.floating], parts: int) -> Chance | None:
    """The distribution of ``best`` (nq,): the best cosine of each of some queries, which have
    nothing to do with the parts, among so many of them. None for too few queries.

    Fitted to the median and the quartiles, so that a few that do fit change little.
    """
    if len(best) < LEAST_QUERIES or not parts:
        return None
    low, middle, high = np.quantile(_z(best), [0.25, 0.5, 0.75]).tolist()
    width = max(_NARROWEST, (high - low) / _QUARTILES)
    return Chance(middle + width * math.log(math.log(2)), width, parts)


def _z(cosines: NDArray[np.floating]) -> NDArray[np.float64]:
    """Fisher's z of cosines."""
    return np.arctanh(np.clip(cosines.astype(np.float64), -_NEAREST, _NEAREST))


def surprise(scores: Scores, by_chance: Chance | None, n: int) -> Scores:
    """How rare scores are: -log10 of how many of n parts would score as high by chance, for which
    0 is what the best of them gets by chance, and 2 what it gets in one of 100 collections.

    scores: float32 cosines, -inf for none. At least -log10(n). Beyond some 2 it is extrapolated,
    for no more queries were asked. Where nothing is known of chance, all get about 0; the order
    stays.
    """
    if by_chance is None:
        return np.where(np.isneginf(scores), scores, 1e-3 * scores).astype(np.float32)
    over = (_z(scores) - by_chance.location) / by_chance.width
    with np.errstate(over="ignore"):  # of any one part: that of the best of all, shared out
        share = -np.expm1(-np.exp(-over) / by_chance.parts)
    with np.errstate(divide="ignore"):
        found = -(np.log10(share) + math.log10(max(1, n)))
    # so far above that nothing is left of the share: as above, without its rounding
    far = over / math.log(10) - math.log10(max(1, n) / by_chance.parts)
    found = np.where(np.isneginf(scores), -np.inf, np.where(share > 1e-12, found, far))
    return found.astype(np.float32)
