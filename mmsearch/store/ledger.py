"""The ledger: files that gave no parts, so that the next run need not open them.

One row a file that was ignored (of a kind we don't index) or skipped (should
have been indexed and failed), with its signature and, if skipped, stage and reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmsearch.errors import IndexDamaged
from mmsearch.store.blocks import read_whole
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import checksum, sync_file, sync_folder
from mmsearch.store.manifest import FileRef, Manifest
from mmsearch.store.rows import split_path

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # absolute
        pa.field("path_bytes", pa.binary()),
        pa.field("stage", pa.string()),  # null: ignored
        pa.field("reason", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("ctime_ns", pa.int64(), nullable=False),
        pa.field("inode", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A file without parts; ``stage`` and ``reason`` are None if it was ignored."""

    path: str
    stage: str | None
    reason: str | None
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def signature(self) -> tuple[int, int, int, int]:
        """What tells an unchanged file without reading it."""
        return self.size, self.mtime_ns, self.ctime_ns, self.inode


def write_ledger(
    folder: ConfinedPath, generation: int, rows: Iterable[LedgerRow]
) -> tuple[str, FileRef]:
    """Writes a new ledger durably and returns its name and reference."""
    from pyarrow import parquet as pq

    kept = list(rows)
    paths = [split_path(r.path) for r in kept]
    table = pa.table(
        [
            pa.array([p for p, _ in paths], pa.string()),
            pa.array([b for _, b in paths], pa.binary()),
            pa.array([r.stage for r in kept], pa.string()),
            pa.array(
                [None if r.reason is None else r.reason.encode("utf-8", "replace").decode()
                 for r in kept],
                pa.string(),
            ),
            pa.array([r.size for r in kept], pa.int64()),
            pa.array([r.mtime_ns for r in kept], pa.int64()),
            pa.array([r.ctime_ns for r in kept], pa.int64()),
            pa.array([r.inode for r in kept], pa.int64()),
        ],
        schema=LEDGER_SCHEMA,
    )  # fmt: skip
    name = f"ledger-{generation:06d}.parquet"
    path = folder / name
    with path.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
    sync_file(path)
    sync_folder(folder)
    return name, FileRef(*checksum(path))


def read_ledger(folder: AnyPath, manifest: Manifest) -> list[LedgerRow]:
    """The rows of the manifest's ledger, checked; none where there is no ledger.

    Raises IndexDamaged for a file that is missing or not the one that was written.
    """
    name, file = manifest.ledger, manifest.ledger_file
    if name is None or file is None:
        return []

    path = ConfinedPath(folder) / name
    try:
        content = read_whole(path, file)
        table = _parquet(content).cast(LEDGER_SCHEMA)
    except (OSError, ValueError) as e:  # Arrow's errors are ValueErrors, too
        raise IndexDamaged(f"{path} cannot be read: {e}. Run `mmsearch verify`.") from e
    rows = []
    for r in table.to_pylist():
        raw = r.pop("path_bytes")
        rows.append(LedgerRow(**{**r, "path": os.fsdecode(raw) if raw is not None else r["path"]}))
    return rows


def _parquet(content: bytes) -> pa.Table:
    """The table in a Parquet file's bytes, read on this thread and from memory of Arrow's own.

    ``read_table`` reads on threads of Arrow's: one that lets go of bytes of Python's while the
    program ends aborts it.
    """
    from pyarrow import parquet as pq

    memory = pa.allocate_buffer(len(content))
    np.frombuffer(memory, np.uint8)[:] = np.frombuffer(content, np.uint8)
    with pq.ParquetFile(pa.BufferReader(memory), pre_buffer=False) as file:
        return file.read(use_threads=False)
