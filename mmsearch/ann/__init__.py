"""Vectors in, the nearest rows out: ``(D, I)`` over one segment.

One class a kind of index, one line each in ``KINDS``; the only room that imports
faiss. ``Together`` searches all segments of a snapshot.
"""

from __future__ import annotations

from typing import Protocol

from mmsearch.ann.effort import same_effort
from mmsearch.ann.flat import Flat
from mmsearch.ann.ivfpq import IvfPq
from mmsearch.ann.lists import what_is_wrong
from mmsearch.ann.quantiser import MIN_TRAIN
from mmsearch.ann.together import NOTHING, Together
from mmsearch.ann.when import AUTO_MIN, wanted
from mmsearch.types import Ids, Mask, Scores, Vectors

KINDS = {"flat": Flat, "ivfpq": IvfPq}
CHOICES = ("auto", *KINDS)


class SegmentIndex(Protocol):
    """What every class in ``KINDS`` meets."""

    def search(
        self, xq: Vectors, k: int, allowed: Mask | None, recall: float | None = None
    ) -> tuple[Scores, Ids]:
        """The nearest k allowed rows for each query, best first.

        xq: float32 (nq, d), rows of unit L2 norm. allowed: bool (n,), not changed afterwards,
        or None for all.
        recall: the share of the ten nearest that should be found, on average; None is what
        the index was tuned for, 1 compares every vector.
        Returns D float32 (nq, k) inner products and I int64 (nq, k) row numbers;
        where fewer than k were found, I is -1 and D is -inf.
        Equal scores come in row order. Raises IndexDamaged for bytes that were altered.
        """


__all__ = [
    "AUTO_MIN",
    "CHOICES",
    "KINDS",
    "MIN_TRAIN",
    "NOTHING",
    "Flat",
    "IvfPq",
    "SegmentIndex",
    "Together",
    "same_effort",
    "wanted",
    "what_is_wrong",
]
