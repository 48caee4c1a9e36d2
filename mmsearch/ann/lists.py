"""The file of a segment's lists: which rows lie in each, and their 4-bit codes.

Little-endian, one section behind the other, so that a list can be read alone:

    header   "mmslists", version, lists, rows, block bytes, rows a block (40 bytes)
    sizes    int32 (lists,): how many rows each list has
    rows     int32 (rows,): the row numbers, list after list
    codes    uint8: for each list its blocks, as FAISS's fast scan reads them
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.trained import Trained
from mmsearch.errors import IndexDamaged
from mmsearch.once import once
from mmsearch.types import Checked

_HEADER = struct.Struct("<8sIIqII8x")
_MAGIC, _VERSION = b"mmslists", 1
_MANY_LISTS = 256  # that are loaded at once: looking at all rows is as quick then


def packed(index: Any) -> Iterator[NDArray[np.uint8]]:
    """The file of the lists of a filled FAISS fast-scan index, piece by piece."""
    import faiss

    held: Any = faiss.downcast_InvertedLists(index.invlists)
    sizes = np.array([held.list_size(i) for i in range(index.nlist)], np.int32)
    header = _HEADER.pack(
        _MAGIC, _VERSION, index.nlist, int(sizes.sum()), held.block_size, held.n_per_block
    )
    yield np.frombuffer(header, np.uint8)
    yield sizes.view(np.uint8)
    for i in np.flatnonzero(sizes).tolist():
        ids = faiss.rev_swig_ptr(held.get_ids(i), int(sizes[i]))
        yield ids.astype(np.int32).view(np.uint8)
    for i in np.flatnonzero(sizes).tolist():
        blocks = -(-int(sizes[i]) // held.n_per_block)
        yield faiss.rev_swig_ptr(held.get_codes(i), blocks * held.block_size)


class Lists:
    """A segment's lists, mapped; each is checked, and loaded into FAISS, when first wanted.

    n: rows of the segment, each of which is in one list. index: the empty FAISS index that they
    are for. Raises IndexDamaged, also later.
    """

    def __init__(self, file: Checked, n: int, index: Any) -> None:
        import faiss

        self._file = file
        if len(file.data) < _HEADER.size:
            raise _damaged("are cut short")
        self._check(0, _HEADER.size)
        head = _HEADER.unpack(file.data[: _HEADER.size].tobytes())
        if head[:2] != (_MAGIC, _VERSION):
            raise _damaged("are of another kind")
        held: Any = faiss.downcast_InvertedLists(index.invlists)
        if head[2:] != (index.nlist, n, held.block_size, held.n_per_block):
            raise _damaged("do not belong to this segment and its quantiser")
        self.nlist: int = index.nlist
        self.n = n
        rows_at = _HEADER.size + 4 * self.nlist
        self._codes_at = rows_at + 4 * n
        if len(file.data) < self._codes_at:
            raise _damaged("are cut short")
        self._check(0, rows_at)
        self.sizes = file.data[_HEADER.size : rows_at].view(np.int32)
        blocks = -(-self.sizes.astype(np.int64) // held.n_per_block)
        self._first = np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])
        self._first_code = np.concatenate([[0], np.cumsum(blocks)]) * held.block_size
        whole = self._codes_at + int(self._first_code[-1])
        if self.sizes.min() < 0 or int(self._first[-1]) != n or len(file.data) != whole:
            raise _damaged("do not have the length that they say")
        self._rows: NDArray[np.int32] = file.data[rows_at : self._codes_at].view(np.int32)
        self._rows_checked = False  # all of them
        self._loaded = self.sizes == 0
        self._lock = threading.Lock()

    @property
    def loading(self) -> bool:
        """Whether a thread is putting lists into a FAISS index at this moment."""
        return self._lock.locked()

    @property
    def complete(self) -> bool:
        """Whether all lists have been loaded."""
        return bool(self._loaded.all())

    def renew(self) -> None:
        """Has a lock of its own in a child; see ``forks.renewed``."""
        self._lock = threading.Lock()

    @once
    def of_row(self) -> NDArray[np.int32]:
        """int32 (n,): the list that each row is in. Raises IndexDamaged where one is in none."""
        self._check(0, self._codes_at)
        out = np.full(self.n, -1, np.int32)
        self._check_rows(self._rows)
        out[self._rows] = np.repeat(np.arange(self.nlist, dtype=np.int32), self.sizes)
        if (out < 0).any():
            raise _damaged("do not hold each row once")
        return out

    def load(self, wanted: NDArray[np.int64] | None, index: Any) -> None:
        """Puts lists into a FAISS index that does not have them yet.

        wanted: int64 of any shape, numbers of lists (-1 is none); None for all.
        """
        if len(self._missing(wanted)):
            with self._lock:
                self._load(self._missing(wanted), index)

    def load_ahead(self, n: int, index: Any) -> None:
        """Puts n more lists into a FAISS index, so that it gets complete in the end."""
        if len(more := self._missing(None)[:n]):
            self.load(more, index)

    def _missing(self, wanted: NDArray[np.int64] | None) -> NDArray[np.intp]:
        if wanted is None:
            return np.flatnonzero(~self._loaded)
        lists = wanted[wanted >= 0]
        return np.unique(lists[~self._loaded[lists]])

    def _load(self, new: NDArray[np.intp], index: Any) -> None:
        import faiss

        starts, stops = self._first[new], self._first[new + 1]
        rows_at = self._codes_at - 4 * self.n
        codes, ends = self._first_code[new], self._first_code[new + 1]
        self._file.check(rows_at + 4 * starts, rows_at + 4 * stops)
        self._file.check(self._codes_at + codes, self._codes_at + ends)
        if len(new) < _MANY_LISTS:
            for a, b in zip(starts, stops, strict=True):
                self._check_rows(self._rows[a:b])
        elif not self._rows_checked:
            self._check(rows_at, self._codes_at)
            self._check_rows(self._rows)
            self._rows_checked = True
        held = faiss.downcast_InvertedLists(index.invlists)
        for i, a, b, at in zip(new.tolist(), starts, stops, codes.tolist(), strict=True):
            ids = self._rows[a:b].astype(np.int64)
            blocks = self._file.data[self._codes_at + at :]
            if held.list_size(i):  # a load was interrupted after this list
                held.resize(i, 0)
            held.add_entries(i, int(b - a), faiss.swig_ptr(ids), faiss.swig_ptr(blocks))
        index.ntotal = self.n
        self._loaded[new] = True

    def _check_rows(self, rows: NDArray[np.int32]) -> None:
        """Raises IndexDamaged for rows that the segment does not have."""
        if len(rows) and (rows.min() < 0 or rows.max() >= self.n):
            raise _damaged("name rows that the segment does not have")

    def _check(self, start: int, stop: int) -> None:
        self._file.check(np.array([start], np.int64), np.array([stop], np.int64))


def what_is_wrong(
    shape: tuple[int, ...], lists: Checked, quantiser: Checked, facts: dict[str, Any]
) -> str | None:
    """What is wrong with the lists of vectors (n, d) under a trained quantiser; None if nothing.

    The bytes of both files were checked. Every row must be in one list.
    """
    n, d = shape
    try:
        trained = Trained.read(quantiser.data, d, facts["nlist"])
        Lists(lists, n, trained.index()).of_row  # noqa: B018 - it checks all
    except IndexDamaged as e:
        return str(e)
    return None


def _damaged(what: str) -> IndexDamaged:
    return IndexDamaged(
        f"the lists of a segment {what}. `mmsearch verify` names the file: remove it, and "
        "`mmsearch index` builds it anew."
    )
