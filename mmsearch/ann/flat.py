"""Exact search: the inner product with every stored vector, in blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.topk import best, merge, rescored
from mmsearch.types import CheckRows, Ids, Mask, Scores, Vectors

_BLOCK_ROWS = 16384  # 32 MiB of float32 at d = 512: fits beside the caches, feeds BLAS well
_BLOCK_QUERIES = 256
# Widened to float32 once and kept when no more than this: a query over 10,000
# parts is then a 6 ms product instead of that and a 12 ms conversion.
_KEEP_BYTES = 64 << 20
# A matrix product's rounding may swap neighbours at the border: these more are looked at.
_SPARE = 8


class Flat:
    """Exact inner product over memory-mapped float16 vectors (n, d).

    check: told the rows that are about to be read; raises where they are damaged.
    """

    def __init__(self, vectors: NDArray[np.float16], check: CheckRows = lambda rows: None) -> None:
        self._xb = vectors
        self._check = check
        self._kept: Vectors | None = None

    def search(
        self, xq: Vectors, k: int, allowed: Mask | None, recall: float | None = None
    ) -> tuple[Scores, Ids]:
        """See ``ann.SegmentIndex``; the scores are exact for the stored vectors."""
        _, ids = self._candidates(xq, k + _SPARE, allowed)
        return rescored(xq, self._xb, ids, k)

    def _candidates(self, xq: Vectors, k: int, allowed: Mask | None) -> tuple[Scores, Ids]:
        n = len(self._xb)
        if allowed is not None and np.count_nonzero(allowed) * 4 < n:
            return self._search_rows(xq, k, np.flatnonzero(allowed))
        found: list[tuple[Scores, Ids]] = []
        for start in range(0, n, _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, n)
            mask = None if allowed is None else allowed[start:stop]
            if mask is not None and not mask.any():
                continue
            new = _block(xq, self._block(start, stop), np.arange(start, stop), k, mask)
            found = [merge([*found, new], k)]
        return found[0] if found else _nothing(len(xq), k)

    def _search_rows(self, xq: Vectors, k: int, rows: NDArray[np.intp]) -> tuple[Scores, Ids]:
        found: list[tuple[Scores, Ids]] = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            some = rows[start : start + _BLOCK_ROWS]
            self._check(some)
            xb = self._kept[some] if self._kept is not None else self._xb[some].astype(np.float32)
            found = [merge([*found, _block(xq, xb, some, k, None)], k)]
        return found[0] if found else _nothing(len(xq), k)

    def _block(self, start: int, stop: int) -> Vectors:
        if self._xb.size * 4 > _KEEP_BYTES:
            self._check(np.arange(start, stop))
            return self._xb[start:stop].astype(np.float32)
        if self._kept is None:
            self._check(np.arange(len(self._xb)))
            self._kept = self._xb.astype(np.float32)
        return self._kept[start:stop]


def _block(
    xq: Vectors, xb: Vectors, rows: NDArray[np.intp], k: int, allowed: Mask | None
) -> tuple[Scores, Ids]:
    found = []
    for at in range(0, len(xq), _BLOCK_QUERIES):
        scores = xq[at : at + _BLOCK_QUERIES] @ xb.T
        ids = np.broadcast_to(rows.astype(np.int64), scores.shape)
        if allowed is not None:
            scores = np.where(allowed, scores, np.float32(-np.inf))
            ids = np.where(allowed, ids, -1)
        found.append(best(scores, ids, k))
    return np.concatenate([D for D, _ in found]), np.concatenate([ids for _, ids in found])


def _nothing(nq: int, k: int) -> tuple[Scores, Ids]:
    return np.full((nq, k), -np.inf, np.float32), np.full((nq, k), -1, np.int64)
