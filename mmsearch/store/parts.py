"""``parts.arrow``, opened: the parts of a segment, mapped, and read only where they were checked.

Arrow's reader is given nothing that was not checked before: the file's head and footer
when it is opened, a batch's metadata when the batch is, and of columns the bytes that are
asked for.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from mmsearch import forks
from mmsearch.errors import IndexDamaged
from mmsearch.once import Memo, once
from mmsearch.store import ipc_file
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.hit_columns import HitColumns, Ranges, spans
from mmsearch.store.rows import (
    BATCH_ROWS,
    MODALITIES,
    PARTS_SCHEMA,
    HitRow,
    PartRow,
    batch_to_rows,
)
from mmsearch.types import Checked, Modality

_MAX_OPEN_BATCHES = 4096  # some 4 KB each, held for looking up hits
# Checked beside what hits need, so that soon nothing has to be: so much, but of a small file
# no more than a share.
_AHEAD_BYTES, _AHEAD_SHARE = 1 << 19, 32
# What a row takes at least: its hash, four whole numbers of 8 bytes, three of 4, one of 1.
_LEAST_ROW_BYTES = 61
_KINDS = pa.array([str(m) for m in MODALITIES], pa.string())


class Parts:
    """The rows of a segment's ``parts.arrow``. Safe to use from several threads."""

    def __init__(
        self, path: ConfinedPath, checked: Checked, rows: int, roots: frozenset[int]
    ) -> None:
        """roots: the ids of roots that rows may have. Raises IndexDamaged for a file that cannot
        be read or has not that many rows."""
        self._path, self._checked, self._rows, self._roots = path, checked, rows, roots
        self._base = checked.data.ctypes.data
        self._open = threading.Lock()  # Arrow's reader is for one thread at a time
        self._hits: dict[int, HitColumns] = {}  # batch -> its columns, for hits
        self._rows_of: Memo[tuple[Modality, ...], NDArray[np.int64]] = Memo()
        try:
            # batch -> start, end of metadata, stop
            self._extents = self._check_frame(-(-rows // BATCH_ROWS))
            self._arrow = self._reader()
        except (pa.ArrowException, ValueError, struct.error) as e:
            raise self._unreadable(e) from e
        self._n = len(self._extents)
        self._valid = _Seen(self._n)
        self._plain = bytearray(self._n)  # batch -> 1 where its metadata was looked at
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
        names = list(columns or PARTS_SCHEMA.names)
        for i in range(self._n):
            self._check_columns(i, names)
        every = (self._batch(i) for i in range(self._n))
        return every if columns is None else (batch.select(names) for batch in every)

    def row(self, row: int) -> PartRow:
        """One row, with all that is stored of it."""
        i = row // BATCH_ROWS
        self._check_columns(i, PARTS_SCHEMA.names)
        try:
            return batch_to_rows(self._batch(i).slice(row % BATCH_ROWS, 1))[0]
        except ValueError as e:  # its metadata
            raise self._unreadable(e) from e

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
        except (ValueError, LookupError) as e:
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

    def _check(self, ranges: Iterable[tuple[int, int]]) -> None:
        spans = np.array(list(ranges), np.int64).reshape(-1, 2)
        self._checked.check(spans[:, 0], spans[:, 1])

    def _reader(self) -> Any:
        """Arrow's reader of the file; all that opening it reads was checked."""
        # on the caller's thread alone: see ``ipc_file.batches``
        alone = pa.ipc.IpcReadOptions(use_threads=False)
        source = pa.BufferReader(pa.py_buffer(self._checked.data))
        found = pa.ipc.open_file(source, options=alone)
        if not found.schema.equals(PARTS_SCHEMA) or found.num_record_batches != len(self._extents):
            raise ValueError("its columns are not those of parts")
        return found

    def _check_frame(self, n: int) -> NDArray[np.int64]:
        """Checks head, dictionary and footer; where each of n batches lies, int64 (n, 3)."""
        data, size = self._checked.data, len(self._checked.data)
        if size < max(ipc_file.TAIL_BYTES, _LEAST_ROW_BYTES * self._rows):
            raise ValueError("it is too short")
        start, footer = ipc_file.footer_of(data)
        dictionaries, batches = ipc_file.listed(footer, start)
        if len(batches) != n or len(dictionaries) != 1:
            raise ValueError(f"{len(batches)} batches do not fit {self._rows:,} rows")
        first, last = int(dictionaries[0, 0]), int(dictionaries[0, 2])
        # what was read so far is compared now: nothing of it was believed
        self._check([(0, min(int(batches[0, 0]), first)), (first, last), (start, size)])
        ipc_file.check_plain(data, *dictionaries[0].tolist())
        return batches

    def _check_columns(self, i: int, names: Sequence[str]) -> None:
        """Checks some columns of a batch: bytes by what was written, values by what they are.

        Arrow computes with what it was given and believes it: an offset beyond the end of the
        texts, or a number that no dictionary has, would end the process.
        """
        new = self._valid.missing(i, names)
        if not new:
            return
        batch = self._batch(i)
        if not self._checked.whole:
            self._check(span for name in new for span in self._spans(batch.column(name)))
        try:
            for name in new:
                _validate(batch, name, self._roots)
        except (pa.ArrowException, ValueError) as e:
            raise self._unreadable(e) from e
        self._valid.add(i, new)

    def _batch(self, i: int) -> pa.RecordBatch:
        """A record batch; its columns must be checked by the caller."""
        try:
            if not self._plain[i]:
                start, middle, stop = self._extents[i].tolist()
                self._check([(start, middle)])
                ipc_file.check_plain(self._checked.data, start, middle, stop)
                self._plain[i] = 1
            with self._open:
                batch = self._arrow.get_batch(i)
            if batch.num_rows != min(BATCH_ROWS, self._rows - i * BATCH_ROWS):
                raise ValueError(f"batch {i} has {batch.num_rows} rows")
        except (pa.ArrowException, ValueError, struct.error) as e:
            raise self._unreadable(e) from e
        return batch

    def _columns(self, batches: Iterable[int]) -> dict[int, HitColumns]:
        """The columns of some batches, by the batch's number, for hits."""
        found = {i: self._hits.get(i) for i in batches}
        if missing := [i for i, columns in found.items() if columns is None]:
            size = len(self._checked.data)
            new = {i: HitColumns(self._batch(i), self._base, size) for i in missing}
            if not self._checked.whole:
                self._check(span for columns in new.values() for span in columns.fixed)
            for columns in new.values():
                columns.check()
            if len(self._hits) + len(new) > _MAX_OPEN_BATCHES:
                self._hits.clear()
            self._hits.update(new)
            found.update(new)
        return found  # type: ignore[return-value]  # none is None by now

    def _spans(self, column: pa.Array) -> Ranges:
        try:
            return spans(column.buffers(), self._base, len(self._checked.data))
        except ValueError as e:
            raise self._unreadable(e) from e

    def _unreadable(self, why: object) -> IndexDamaged:
        return IndexDamaged(f"{self._path} cannot be read: {why}. Run `mmsearch verify`.")


def _validate(batch: pa.RecordBatch, name: str, roots: frozenset[int]) -> None:
    """Raises ValueError, or an error of Arrow's, for a column that Arrow cannot compute with, or
    whose values no writer writes."""
    from pyarrow import compute as pc

    column = batch.column(name)
    column.validate(full=True)
    if column.null_count and not PARTS_SCHEMA.field(name).nullable:
        raise ValueError(f"a part without {name}")
    if name == "modality" and not column.dictionary.equals(_KINDS):
        raise ValueError("kinds that there are not")
    if name == "root" and not roots.issuperset(column.unique().to_pylist()):
        raise ValueError("a root that is not known")
    if name in ("start_s", "end_s") and pc.all(pc.is_finite(column)).as_py() is False:
        raise ValueError("a time that is no number")
    if name in ("path", "path_bytes") and pc.any(pc.match_substring(column, "..")).as_py():
        for path in filter(None, column.to_pylist()):
            up, sign = ("..", "/") if isinstance(path, str) else (b"..", b"/")
            if up in path.split(sign):
                raise ValueError("a path that leaves its root")


class _Seen:
    """Which columns of which batches were looked at."""

    def __init__(self, batches: int) -> None:
        self._of: dict[str, bytearray] = {}  # column -> 1 for each such batch
        self._n = batches

    def missing(self, batch: int, names: Sequence[str]) -> list[str]:
        """Those that were not, of some columns of a batch."""
        return [name for name in names if name not in self._of or not self._of[name][batch]]

    def add(self, batch: int, names: Sequence[str]) -> None:
        """Notes some columns of a batch."""
        for name in names:
            self._of.setdefault(name, bytearray(self._n))[batch] = 1
