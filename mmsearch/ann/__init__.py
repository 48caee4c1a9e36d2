"""Vectors in, the nearest rows out: ``(D, I)`` over one segment.

One class a kind of index, one line each in ``KINDS``; the only room that imports
faiss. A snapshot is searched segment by segment and merged with ``merge``.
"""

from __future__ import annotations

from typing import Protocol

from mmsearch.ann.flat import Flat
from mmsearch.ann.ivfpq import MIN_TRAIN, IvfPq, wanted
from mmsearch.ann.topk import merge
from mmsearch.types import Ids, Mask, Scores, Vectors

KINDS = {"flat": Flat, "ivfpq": IvfPq}
CHOICES = ("auto", *KINDS)


class SegmentIndex(Protocol):
    """What every class in ``KINDS`` meets."""

    def search(self, xq: Vectors, k: int, allowed: Mask | None) -> tuple[Scores, Ids]:
        """The nearest k allowed rows for each query, best first.

        xq: float32 (nq, d), rows of unit L2 norm. allowed: bool (n,), or None for all.
        Returns D float32 (nq, k) inner products and I int64 (nq, k) row numbers;
        where fewer than k were found, I is -1 and D is -inf.
        Equal scores come in row order.
        """


__all__ = ["CHOICES", "KINDS", "MIN_TRAIN", "Flat", "IvfPq", "SegmentIndex", "merge", "wanted"]
