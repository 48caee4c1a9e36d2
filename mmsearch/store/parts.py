"""``parts.arrow``, opened: the parts of a segment, mapped, and read only where they were checked.

Arrow's reader is given nothing that was not checked before: the file's head and footer
when it is opened, a batch's metadata when the batch is, and of columns the bytes that are
asked for.
"""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from mmsearch import forks
from mmsearch.errors import IndexDamaged
from mmsearch.once import Memo, once
from mmsearch.store.rows import BATCH_ROWS, MODALITIES, HitRow, PartRow, batch_to_rows
from mmsearch.types import Checked, Modality

_MAX_OPEN_BATCHES = 4096  # some 4 KB each, held for looking up hits
# Checked beside what hits need, so that soon nothing has to be: so much, but of a small file
# no more than a share.
_AHEAD_BYTES, _AHEAD_SHARE = 1 << 19, 32
_TAIL_BYTES = 10  # the footer's length and "ARROW1"
# Fields of the footer, and what stands in them for each message: Apache Arrow, format/File.fbs.
_DICTIONARIES, _RECORD_BATCHES = 2, 3
_MESSAGE = np.dtype([("start", "<i8"), ("metadata", "<i4"), ("", "<i4"), ("body", "<i8")])

Ranges = list[tuple[int, int]]  # of bytes in the file, [start, stop)


class Parts:
    """The rows of a segment's ``parts.arrow``. Safe to use from several threads."""

    def __init__(self, path: Path, checked: Checked, rows: int) -> None:
        """Raises IndexDamaged for a file that cannot be read or has not that many rows."""
        self._path, self._checked = path, checked
        self._base = checked.data.ctypes.data
        self._open = threading.Lock()  # Arrow's reader is for one thread at a time
        self._hits: dict[int, _Columns] = {}  # batch -> its columns, for hits
        self._columns_checked: frozenset[str] = frozenset()  # in all batches
        self._rows_of: Memo[tuple[Modality, ...], NDArray[np.int64]] = Memo()
        try:
            self._extents = np.empty((0, 3), np.int64)  # batch -> start, end of metadata, stop
            if not checked.whole:
                self._extents = self._check_frame()
            self._arrow = self._reader()
        except (pa.ArrowInvalid, ValueError, struct.error) as e:
            raise self._unreadable(e) from e
        self._n = self._arrow.num_record_batches
        if self._n != -(-rows // BATCH_ROWS):
            raise self._unreadable(f"{self._n} batches do not fit {rows:,} rows")
        forks.renewed(self, Parts._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        if self._open.locked():  # Arrow's reader was in use: what it has in hand is half done
            forks.abandon(self._arrow)
            self._arrow = self._reader()
        self._open = threading.Lock()

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, ``BATCH_ROWS`` at a time, memory-mapped; of some columns or all.

        All that can be met on the way was checked when this returns.
        """
        self._check_metadata(range(self._n))
        self._check_columns(columns)
        every = (self._batch(i) for i in range(self._n))
        return every if columns is None else (batch.select(list(columns)) for batch in every)

    def row(self, row: int) -> PartRow:
        """One row, with all that is stored of it."""
        i = row // BATCH_ROWS
        if not self._checked.whole:
            self._check([(int(self._extents[i, 0]), int(self._extents[i, 2]))])
        return batch_to_rows(self._batch(i).slice(row % BATCH_ROWS, 1))[0]

    def rows(self, numbers: Sequence[int]) -> list[HitRow]:
        """What hits show of some rows, in the order asked: some 4 µs each."""
        try:
            opened = self._columns([n // BATCH_ROWS for n in numbers])
            places = [(opened[n // BATCH_ROWS], n % BATCH_ROWS) for n in numbers]
            if not self._checked.whole:
                self._check(span for columns, at in places for span in columns.spans(at))
                ahead = min(_AHEAD_BYTES, len(self._checked.data) // _AHEAD_SHARE)
                self._checked.check_more(ahead)
            return [columns.row(at) for columns, at in places]
        except (ValueError, IndexError) as e:  # of a file that has no checks
            raise self._unreadable(e) from e

    @once
    def modality_codes(self) -> NDArray[np.int8]:
        """int8 (rows,): the place of each row's modality in ``MODALITIES``."""
        columns = [batch.column(0).indices.to_numpy() for batch in self.batches(["modality"])]
        return np.concatenate(columns) if columns else np.empty(0, np.int8)

    def rows_of(self, kinds: tuple[Modality, ...]) -> NDArray[np.int64]:
        """int64 (m,): the rows of some modalities, ascending."""
        codes = [MODALITIES.index(kind) for kind in kinds]
        return self._rows_of.get(kinds, lambda: np.flatnonzero(np.isin(self.modality_codes, codes)))

    @once
    def ids(self) -> list[pa.Array]:
        """The parts' ids, in row order, ``BATCH_ROWS`` in an array."""
        return [batch.column("id") for batch in self.batches(["id"])]

    # -- what was checked -----------------------------------------------------

    def _reader(self) -> Any:
        # on the caller's thread alone: see ``ledger._parquet``; nothing is unpacked anyway
        alone = pa.ipc.IpcReadOptions(use_threads=False)
        return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._checked.data)), options=alone)

    def _check(self, ranges: Iterable[tuple[int, int]]) -> None:
        spans = np.array(list(ranges), np.int64).reshape(-1, 2)
        self._checked.check(spans[:, 0], spans[:, 1])

    def _check_frame(self) -> NDArray[np.int64]:
        """Checks head, dictionaries and footer; where each batch lies, int64 (batches, 3)."""
        data, size = self._checked.data, len(self._checked.data)
        if size < _TAIL_BYTES:
            raise ValueError("it is too short")
        self._check([(size - _TAIL_BYTES, size)])
        (length,) = struct.unpack_from("<i", data[size - _TAIL_BYTES :].tobytes())
        start = size - _TAIL_BYTES - length
        self._check([(start, size)])
        footer = data[start:].tobytes()
        dictionaries = _messages(footer, _DICTIONARIES)
        batches = _messages(footer, _RECORD_BATCHES)
        head = int(batches[0, 0]) if len(batches) else start
        self._check([(0, head), *((a, b) for a, _, b in dictionaries.tolist())])
        return batches

    def _check_columns(self, names: Sequence[str] | None) -> None:
        if self._checked.whole:
            return
        if names is None:
            self._checked.check_all()
        elif missing := set(names) - self._columns_checked:
            ranges: Ranges = []
            for i in range(self._n):
                batch = self._batch(i)
                for name in missing:
                    ranges += _spans(batch.column(name).buffers(), self._base)
            self._check(ranges)
            self._columns_checked |= missing

    def _check_metadata(self, batches: Sequence[int]) -> None:
        if not self._checked.whole:
            self._check((a, b) for a, b, _ in self._extents[list(batches)].tolist())

    def _batch(self, i: int) -> pa.RecordBatch:
        """A record batch; its metadata must have been checked, its columns be it by the caller."""
        with self._open:
            return self._arrow.get_batch(i)

    def _columns(self, batches: Iterable[int]) -> dict[int, _Columns]:
        """The columns of some batches, by the batch's number, for hits."""
        found = {i: self._hits.get(i) for i in batches}
        if missing := [i for i, columns in found.items() if columns is None]:
            self._check_metadata(missing)
            new = {i: _Columns(self._batch(i), self._base) for i in missing}
            if not self._checked.whole:
                self._check(span for columns in new.values() for span in columns.fixed)
            for columns in new.values():
                columns.fixed = []  # not needed again
            if len(self._hits) + len(new) > _MAX_OPEN_BATCHES:
                self._hits.clear()
            self._hits.update(new)
            found.update(new)
        return found  # type: ignore[return-value]  # none is None by now

    def _unreadable(self, why: object) -> IndexDamaged:
        return IndexDamaged(f"{self._path} cannot be read: {why}. Run `mmsearch verify`.")


def _messages(footer: bytes, field: int) -> NDArray[np.int64]:
    """Where the messages lie that a field of an Arrow file's footer lists.

    Returns int64 (n, 3): start, end of the metadata, stop; all in bytes of the file.
    """
    # FlatBuffers: the root table, its vtable, the field's place in the table, the vector
    (table,) = struct.unpack_from("<I", footer, 0)
    vtable = table - struct.unpack_from("<i", footer, table)[0]
    (size,) = struct.unpack_from("<H", footer, vtable)
    at = 4 + 2 * field
    (offset,) = struct.unpack_from("<H", footer, vtable + at) if at < size else (0,)
    if not offset:
        return np.empty((0, 3), np.int64)
    vector = table + offset + struct.unpack_from("<I", footer, table + offset)[0]
    (n,) = struct.unpack_from("<I", footer, vector)
    listed = np.frombuffer(footer, _MESSAGE, n, vector + 4)
    middle = listed["start"] + listed["metadata"]
    return np.stack([listed["start"], middle, middle + listed["body"]], axis=1)


def _spans(buffers: Iterable[Any], base: int) -> Ranges:
    """Where an array's buffers lie in the file, but for those that are not there."""
    starts = [(b.address - base, b.size) for b in buffers if b is not None and b.size]
    return [(start, start + size) for start, size in starts]


# Validity bits, offsets, bytes, and the place of the bytes in the file.
_Texts = tuple[memoryview | None, memoryview, memoryview, int]
_Numbers = tuple[memoryview | None, memoryview]  # validity bits, values
_object = json.JSONDecoder().decode  # json.loads, but for its questions
_TEXTS = ("id", "path", "path_bytes", "text", "meta")


class _Columns:
    """A record batch as a hit needs it: single values of its buffers, without Arrow's objects.

    fixed: the ranges of all that is used but the texts' own bytes.
    """

    def __init__(self, batch: pa.RecordBatch, base: int) -> None:
        self.fixed: Ranges = []
        self._texts: list[_Texts | None] = []
        for name in _TEXTS:
            column = batch.column(name)
            nulls = column.null_count
            if nulls == len(column):
                self._texts.append(None)
                continue
            bits, offsets, content = column.buffers()
            self.fixed += _spans((bits, offsets), base)
            self._texts.append(
                (
                    memoryview(bits) if nulls else None,
                    memoryview(offsets).cast("i"),
                    memoryview(b"" if content is None else content),
                    0 if content is None else content.address - base,
                )
            )
        self._roots = self._values(batch.column("root"), "i", base)
        self._modalities = self._values(batch.column("modality"), "b", base)  # the indices
        self._part_nos = self._values(batch.column("part_no"), "i", base)
        self._starts = self._numbers(batch.column("start_s"), base)
        self._ends = self._numbers(batch.column("end_s"), base)

    def _values(self, column: pa.Array, kind: str, base: int) -> memoryview:
        bits, content = column.buffers()
        self.fixed += _spans((bits, content), base)
        values: Any = memoryview(content)
        return values.cast(kind)  # type: ignore[no-any-return]

    def _numbers(self, column: pa.Array, base: int) -> _Numbers | None:
        nulls = column.null_count
        if nulls == len(column):
            return None
        values = self._values(column, "d", base)
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
        """One row of the batch."""
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
            {} if meta is None else _object(str(meta, "utf-8")),
        )


def _number(numbers: _Numbers, at: int) -> float | None:
    bits, values = numbers
    if bits is not None and not bits[at >> 3] >> (at & 7) & 1:
        return None
    number: float = values[at]
    return number
