"""Exact search of a segment without lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann import exact, without_faiss
from mmsearch.ann.masked import Masked, Masks
from mmsearch.ann.topk import nothing
from mmsearch.once import once
from mmsearch.types import CheckRows, Ids, Mask, Scores, Vectors


class Flat:
    """Exact inner product over memory-mapped float16 vectors (n, d).

    check: told the rows that are about to be read; raises where they are damaged.
    """

    def __init__(self, vectors: NDArray[np.float16], check: CheckRows = lambda rows: None) -> None:
        self._xb = vectors
        self._check = check
        self._checked = False  # whether all rows have been checked
        self._masks = Masks()

    def search(
        self, xq: Vectors, k: int, allowed: Mask | None, recall: float | None = None
    ) -> tuple[Scores, Ids]:
        """See ``ann.SegmentIndex``; every row that may be found is compared."""
        n, d = self._xb.shape
        only = None if allowed is None else self._masks.of(allowed)
        m = n if only is None else only.n
        if not len(xq) or not m:
            return nothing(len(xq), k)
        self._check_rows(only)
        xq = np.ascontiguousarray(xq, np.float32)
        if without_faiss.serves(len(xq), m, d):
            rows = None if only is None else only.rows
            if (found := without_faiss.nearest(xq, self._xb, k, rows)) is not None:
                return found
        return exact.nearest(xq, self._view, self._xb, k, only)

    def scan(self, allowed: Mask | None) -> exact.Scan | None:
        """Check the rows of a mask and return a scan for them; None if another way is faster.

        Raises IndexDamaged.
        """
        n, d = self._xb.shape
        only = None if allowed is None else self._masks.of(allowed)
        m = n if only is None else only.n
        if not m or not exact.scans(1, n, d, 1, m):
            return None
        self._check_rows(only)
        return exact.Scan.of(self._view, only)

    @property
    def vectors(self) -> NDArray[np.float16]:
        """The vectors (n, d)."""
        return self._xb

    def checked(self) -> NDArray[np.float16]:
        """Check all vectors (n, d) and return them. Raises IndexDamaged."""
        self._check_rows(None)
        return self._xb

    @once
    def _view(self) -> Any:
        """The vectors as a FAISS index, which only points to them."""
        return exact.view(self._xb)

    def _check_rows(self, only: Masked | None) -> None:
        if self._checked or (only is not None and only.checked):
            return
        self._check(np.arange(len(self._xb)) if only is None else only.rows)
        if only is None:
            self._checked = True
        else:
            only.checked = True
