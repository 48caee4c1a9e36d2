"""Masks in the forms that searching needs, made once: the same filter is asked again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.lists import Lists
from mmsearch.ann.quantiser import faiss_module
from mmsearch.types import Mask

_MOST = 16  # masks of a segment of which something is kept


class Masked:
    """A mask (n,) and its other forms, each made when it is first used.

    Safe to use from several threads: two may make the same form, and either one serves.
    """

    def __init__(self, allowed: Mask) -> None:
        """allowed: bool (n,), not changed afterwards."""
        self.allowed = allowed
        self.n = int(np.count_nonzero(allowed))
        self.checked = False  # whether all rows that it allows have been checked
        self._rows: NDArray[np.int64] | None = None
        self._selector: Any = None
        self._parameters: Any = None
        self._held: NDArray[np.int64] | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 (m,): the rows that may be found, ascending."""
        rows = self._rows
        if rows is None:
            rows = self._rows = np.flatnonzero(self.allowed)
        return rows

    @property
    def selector(self) -> Any:
        """The mask as FAISS takes it, a bit a row."""
        selector = self._selector
        if selector is None:
            faiss = faiss_module()
            # given an array, the selector keeps it: C++ only points to the bits
            bits = np.packbits(self.allowed, bitorder="little")
            selector = self._selector = faiss.IDSelectorBitmap(bits)
        return selector

    @property
    def parameters(self) -> Any:
        """What FAISS is told in a search of an index without lists."""
        parameters = self._parameters
        if parameters is None:
            parameters = faiss_module().SearchParameters(sel=self.selector)
            self._parameters = parameters
        return parameters

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
        known = self._known.get(id(allowed))
        if known is None:
            known = Masked(allowed)
            if len(self._known) >= _MOST:
                self._known = {}
            self._known[id(allowed)] = known
        return known
