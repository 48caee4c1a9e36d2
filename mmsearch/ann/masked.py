"""Masks in the forms that searching needs, made once: the same filter is asked again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.library import faiss_module
from mmsearch.ann.lists import Lists
from mmsearch.once import once
from mmsearch.types import Mask

# At most this many masks of a segment are kept, and fewer if they are large.
_MOST, _MOST_BYTES = 16, 32 << 20
_KEPT_ROWS = 1 << 16  # finding more takes less time than comparing them


class Masked:
    """A mask (n,) and its other forms, each made when it is first used.

    Safe to use from several threads: a mask is a filter of one segment, so of one ``Lists``.
    """

    def __init__(self, allowed: Mask) -> None:
        """allowed: bool (n,), not changed afterwards."""
        self.allowed = allowed
        self.n = int(np.count_nonzero(allowed))
        self.checked = False  # whether all rows that it allows have been checked
        self._rows: NDArray[np.int64] | None = None
        self._held: NDArray[np.int64] | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 (m,): the rows that may be found, ascending; kept if they are few."""
        rows = self._rows
        if rows is None:
            rows = np.flatnonzero(self.allowed)
            if len(rows) <= _KEPT_ROWS:
                self._rows = rows
        return rows

    @once
    def selector(self) -> Any:
        """The mask as FAISS takes it, a bit a row. It keeps the bits that FAISS points to."""
        return faiss_module().IDSelectorBitmap(np.packbits(self.allowed, bitorder="little"))

    @once
    def parameters(self) -> Any:
        """What FAISS is told in a search of an index without lists."""
        return faiss_module().SearchParameters(sel=self.selector)

    def held(self, lists: Lists) -> NDArray[np.int64]:
        """Count the rows that each list holds: int64 (nlist,)."""
        held = self._held
        if held is None:
            held = np.bincount(lists.of_row[self.allowed], minlength=lists.nlist)
            self._held = held
        return held


class Masks:
    """The masks that a segment was searched with last."""

    def __init__(self) -> None:
        self._known: dict[int, Masked] = {}  # id of a mask, which is held -> what was made of it

    def of(self, allowed: Mask) -> Masked:
        """Return the forms of a mask (n,), and keep them for queries with the same array."""
        all_known = self._known
        known = all_known.get(id(allowed))
        if known is None:
            if len(all_known) >= max(1, min(_MOST, _MOST_BYTES // max(1, len(allowed)))):
                all_known = self._known = {}
            # it keeps the mask, so that no other gets the same id while it is held here
            known = all_known.setdefault(id(allowed), Masked(allowed))
        return known
