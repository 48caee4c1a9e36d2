"""The ledger: files that gave no parts, and why, so that the next run need not open them.

It is a list of small files, the *runs*. A commit appends one, sorted by key, and never rewrites
the others; if several runs hold the same file, the newest row holds. A row without an outcome
says that the file has parts now, or is gone. Once there are many runs, those of similar size are
merged. Paths are stored relative to their root. A run is an Arrow file that is not compressed: what
reading it takes is known from its size, whoever wrote it.
"""

from __future__ import annotations

import heapq
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import xxhash

from mmsearch.errors import IndexDamaged
from mmsearch.store import ipc_file
from mmsearch.store.blocks import Whole
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import checksum, sync_folder, unreadable
from mmsearch.store.manifest import FileRef, LedgerRef, Manifest, Root
from mmsearch.store.rows import split_path, storable
from mmsearch.store.snapshot import join
from mmsearch.types import Signature

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # XXH3-64 of root and path; ascending
        pa.field("root", pa.int32(), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # relative to the root
        pa.field("path_bytes", pa.binary()),  # only where the name is not UTF-8
        pa.field("outcome", pa.string()),  # null: it has parts now, or is gone
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("decoders", pa.string()),  # what read it, see ``media.versions``
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("ctime_ns", pa.int64(), nullable=False),
        pa.field("inode", pa.int64(), nullable=False),
    ]
)
_GROUP_ROWS = 1 << 14  # read and written at a time: some 15 MB as Python has them
_MAX_RUNS = 12  # each is a file to open; merged when a commit would make more
# Older runs are merged with the newest as long as they have no more than so many times its rows:
# a row is then rewritten a logarithmic number of times.
_MERGE_FACTOR = 2


class Outcome(StrEnum):
    """Why a file has no parts."""

    IGNORED = "ignored"  # of a kind that is not indexed
    SKIPPED = "skipped"  # its content cannot be read
    FAILED = "failed"  # we could not: it is tried again


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A file without parts. ``path`` is absolute; ``outcome`` is None where that is over."""

    path: str
    outcome: Outcome | None
    stage: str | None = None
    reason: str | None = None
    decoders: str | None = None
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0

    @property
    def signature(self) -> Signature:
        """What tells an unchanged file without reading it."""
        return self.size, self.mtime_ns, self.ctime_ns, self.inode


_Keyed = tuple[int, int, bytes, LedgerRow]  # key, root id, relative path; then the row


def append(
    folder: ConfinedPath,
    generation: int,
    rows: Iterable[LedgerRow],
    runs: Sequence[LedgerRef],
    roots: Sequence[Root],
) -> tuple[LedgerRef, ...]:
    """Writes rows as a new run, durably; returns all runs that the ledger has then.

    generation: of the commit; it names the file. runs: those of before, oldest first. The newest
    of them may be merged into the new one: they are missing in what is returned.
    Raises IndexDamaged for a run that cannot be read, and OSError as the disk does.
    """
    fresh = {_key(row.path, roots): row for row in rows}  # of the same file the last row holds
    keyed = sorted((*key, row) for key, row in fresh.items())
    left, total = list(runs), len(keyed)
    if len(left) >= _MAX_RUNS:
        while left and left[-1].rows <= _MERGE_FACTOR * total:
            total += left.pop().rows
    merged = _merged([*(_run(folder, run, roots) for run in runs[len(left) :]), iter(keyed)])
    # nothing older is left that a row without an outcome could hide
    kept = (one for one in merged if left or one[3].outcome is not None)
    if (first := next(kept, None)) is not None:
        left.append(_write(folder / f"ledger-{generation:06d}.arrow", chain([first], kept)))
    return tuple(left)


def read_ledger(folder: AnyPath, manifest: Manifest) -> Iterator[LedgerRow]:
    """The files without parts that a manifest knows of, in the order of their keys.

    Raises IndexDamaged for a run that is missing or not the one that was written.
    """
    place = ConfinedPath(folder)
    for *_, row in _merged([_run(place, run, manifest.roots) for run in manifest.ledger]):
        if row.outcome is not None:
            yield row


def check_run(folder: ConfinedPath, run: LedgerRef, roots: Sequence[Root]) -> int:
    """Reads one run; returns how many rows it has. Raises IndexDamaged, also for a wrong order."""
    last, n = (-1, -1, b""), 0
    for key, root, path, row in _run(folder, run, roots):
        if (key, root, path) <= last or key != _hash(root, path):
            raise IndexDamaged(f"{folder / run.name}: {row.path} is out of order.")
        last, n = (key, root, path), n + 1
    return n


def _merged(runs: Sequence[Iterator[_Keyed]]) -> Iterator[_Keyed]:
    """The rows of several runs, oldest first; of the same file the newest."""
    newest_first = list(reversed(runs))
    for _, same in groupby(heapq.merge(*newest_first, key=_place), key=_place):
        yield next(same)  # of equal ones ``merge`` gives that of the earlier iterator first


def _place(one: _Keyed) -> tuple[int, int, bytes]:
    return one[:3]


def _key(path: str, roots: Sequence[Root]) -> tuple[int, int, bytes]:
    """(key, root id, relative path) of an absolute path: below the first root above it.

    The first, and not the shortest: roots that come later must not change the key of a file.
    """
    above = [r for r in roots if r.path and (path == r.path or path.startswith(join(r.path, "")))]
    root = min(above, key=lambda r: r.id)
    relative = os.fsencode(path[len(join(root.path, "")) :].replace(os.sep, "/"))
    return _hash(root.id, relative), root.id, relative


def _hash(root: int, relative: bytes) -> int:
    return xxhash.xxh3_64_intdigest(struct.pack("<i", root) + relative)


def _write(path: ConfinedPath, rows: Iterator[_Keyed]) -> LedgerRef:
    written = 0
    with path.open("wb") as file:
        with pa.ipc.new_file(file, LEDGER_SCHEMA) as run:
            while some := list(islice(rows, _GROUP_ROWS)):
                run.write_batch(_batch(some))
                written += len(some)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return LedgerRef(path.name, written, FileRef(*checksum(path)))


def _batch(rows: Sequence[_Keyed]) -> pa.RecordBatch:
    paths = [split_path(os.fsdecode(relative)) for _, _, relative, _ in rows]
    columns: list[Any] = [
        [key for key, *_ in rows],
        [root for _, root, *_ in rows],
        [text for text, _ in paths],
        [raw for _, raw in paths],
        *([storable(getattr(row, name)) for *_, row in rows] for name in _TEXTS),
        *([getattr(row, name) for *_, row in rows] for name in _NUMBERS),
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, LEDGER_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=LEDGER_SCHEMA)


_TEXTS = ("outcome", "stage", "reason", "decoders")
_NUMBERS = ("size", "mtime_ns", "ctime_ns", "inode")


def _run(folder: ConfinedPath, run: LedgerRef, roots: Sequence[Root]) -> Iterator[_Keyed]:
    """The rows of one run, in order. Raises IndexDamaged."""
    path = folder / run.name
    prefixes = {root.id: root.path for root in roots}
    try:
        file = Whole(path, run.file)
        file.check_all()
        for batch in ipc_file.batches(file.data, LEDGER_SCHEMA):
            columns = (column.to_pylist() for column in batch.columns)
            for key, root, text, raw, outcome, *facts in zip(*columns, strict=True):
                relative = text if raw is None else os.fsdecode(raw)
                base = prefixes[root]
                absolute = join(base, relative) if relative else base
                kind = None if outcome is None else Outcome(outcome)
                yield key, root, os.fsencode(relative), LedgerRow(absolute, kind, *facts)
    # a root that is not known is a KeyError
    except PermissionError as e:
        raise unreadable(path, e) from e
    except (OSError, ValueError, KeyError) as e:
        raise IndexDamaged(f"{path} cannot be read: {e}. Run `mmsearch verify`.") from e
