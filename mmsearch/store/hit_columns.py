"""A record batch as hits need it: single values of its buffers, without Arrow's objects.

Python checks the bounds of each buffer, and what a value may be is checked here: so Arrow's own
checks of whole columns, which take a hundred times as long, are not needed for looking at hits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from mmsearch.store.rows import MODALITIES, HitRow, meta_of

Ranges = list[tuple[int, int]]  # of bytes in the file, [start, stop)
# Validity bits, offsets, bytes, and the place of the bytes in the file.
_Texts = tuple[memoryview | None, memoryview, memoryview, int]
_Numbers = tuple[memoryview | None, memoryview]  # validity bits, values
_TEXTS = ("id", "path", "path_bytes", "text", "meta")


class HitColumns:
    """The columns of a batch that hits show.

    fixed: the ranges of all that is used but the texts' own bytes; whoever made this compares
    them with what was written and calls ``check``, before ``spans`` and ``row``.
    """

    def __init__(self, batch: pa.RecordBatch, base: int, size: int) -> None:
        """base, size: where the mapped file lies in memory. Raises ValueError."""
        batch.validate()  # that buffers are as long as there are rows
        self._n, self._base, self._size = batch.num_rows, base, size
        self.fixed: Ranges = []
        self._texts: list[_Texts | None] = []
        for name in _TEXTS:
            column = batch.column(name)
            nulls = column.null_count
            if nulls == len(column):
                self._texts.append(None)
                continue
            bits, offsets, content = column.buffers()
            self.fixed += spans((bits, offsets), base, size)
            place = spans((content,), base, size)
            self._texts.append(
                (
                    memoryview(bits) if nulls else None,
                    memoryview(offsets).cast("i"),
                    memoryview(b"" if content is None else content),
                    place[0][0] if place else 0,
                )
            )
        self._roots = self._values(batch.column("root"), "i")
        self._modalities = self._values(batch.column("modality"), "b")  # the indices
        self._part_nos = self._values(batch.column("part_no"), "i")
        self._starts = self._numbers(batch.column("start_s"))
        self._ends = self._numbers(batch.column("end_s"))

    def check(self) -> None:
        """Raises ValueError where texts overlap or lie outside, and for unknown kinds."""
        for texts in self._texts:
            if texts is not None:
                _, offsets, content, _ = texts
                ends = np.frombuffer(offsets, "<i4", self._n + 1)
                if ends[0] < 0 or ends[-1] > len(content) or (ends[1:] < ends[:-1]).any():
                    raise ValueError("texts lie outside of it")
        codes = np.frombuffer(self._modalities, np.int8, self._n)
        if codes.min() < 0 or codes.max() >= len(MODALITIES) or self._texts[0] is None:
            raise ValueError("parts without an id, or of a kind that there is not")
        self.fixed = []  # not needed again

    def _values(self, column: pa.Array, kind: str) -> memoryview:
        bits, content = column.buffers()
        self.fixed += spans((bits, content), self._base, self._size)
        values: Any = memoryview(content)
        return values.cast(kind)  # type: ignore[no-any-return]

    def _numbers(self, column: pa.Array) -> _Numbers | None:
        nulls = column.null_count
        if nulls == len(column):
            return None
        values = self._values(column, "d")
        return memoryview(column.buffers()[0]) if nulls else None, values

    def spans(self, at: int) -> Ranges:
        """Where the bytes of a row's texts lie in the file."""
        found = []
        for texts in self._texts:
            if texts is not None:
                _, offsets, _, place = texts
                start, stop = offsets[at], offsets[at + 1]
                if stop > start:
                    found.append((place + start, place + stop))
        return found

    def row(self, at: int) -> HitRow:
        """One row of the batch. Raises ValueError for what a writer does not write."""
        values: list[Any] = []
        for texts in self._texts:  # in line: this is what looking at a hit costs
            if texts is None:
                values.append(None)
                continue
            bits, offsets, content, _ = texts
            if bits is None or bits[at >> 3] >> (at & 7) & 1:
                values.append(content[offsets[at] : offsets[at + 1]])
            else:
                values.append(None)
        part, path, raw, text, meta = values
        if part is None:
            raise ValueError("a part without an id")
        if raw is not None:
            path = os.fsdecode(raw.tobytes())
        elif path is not None:
            path = str(path, "utf-8")
        return HitRow(
            str(part, "utf-8"),
            self._roots[at],
            path,
            MODALITIES[self._modalities[at]],
            self._part_nos[at],
            None if self._starts is None else _number(self._starts, at),
            None if self._ends is None else _number(self._ends, at),
            None if text is None else str(text, "utf-8"),
            {} if meta is None else meta_of(str(meta, "utf-8")),
        )


def _number(numbers: _Numbers, at: int) -> float | None:
    bits, values = numbers
    if bits is not None and not bits[at >> 3] >> (at & 7) & 1:
        return None
    number: float = values[at]
    if not math.isfinite(number):
        raise ValueError("a time that is no number")
    return number


def spans(buffers: Iterable[Any], base: int, size: int) -> Ranges:
    """Where an array's buffers lie in a file, but for those that are not there.

    base, size: where the mapped file lies in memory. Raises ValueError for one that lies elsewhere.
    """
    starts = [(b.address - base, b.size) for b in buffers if b is not None and b.size]
    if any(start < 0 or start + n > size for start, n in starts):
        raise ValueError("values that do not lie in it")
    return [(start, start + n) for start, n in starts]
