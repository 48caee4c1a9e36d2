"""A segment: an immutable batch of parts, one row each, and their vectors.

The row number is the join between ``parts.parquet`` (the truth), ``parts.arrow``
(the same rows, memory-mapped for looking up hits) and ``vectors-<fp>.npy``.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.store.files import checksum, remove, sync_file, sync_folder
from mmsearch.store.manifest import FileRef, SegmentRef
from mmsearch.types import Modality

PARQUET_NAME, ARROW_NAME = "parts.parquet", "parts.arrow"
# Every Arrow batch but the last has this many rows, so row r is row r % BATCH
# of batch r // BATCH, found without reading the others.
BATCH_ROWS = 4096
MODALITIES = tuple(Modality)  # a row's code is its place in here
_CODES = {m: i for i, m in enumerate(MODALITIES)}

PARTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("root", pa.int32(), nullable=False),
        pa.field("path", pa.string()),  # relative to the root; null: added without a file
        pa.field("path_bytes", pa.binary()),  # only where the name is not UTF-8
        pa.field("modality", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("part_no", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("meta", pa.string()),  # a JSON object
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("ctime_ns", pa.int64(), nullable=False),
        pa.field("inode", pa.int64(), nullable=False),
        pa.field("content_hash", pa.binary(16), nullable=False),  # BLAKE2b-128
    ]
)


def vectors_name(fingerprint: str) -> str:
    """The file of a segment's vectors in the space of that fingerprint."""
    return f"vectors-{fingerprint}.npy"


def codes_name(ann_name: str) -> str:
    """The file of a segment's IVF-PQ lists under that quantiser."""
    return f"codes-{ann_name}.faiss"


@dataclass(frozen=True, slots=True)
class PartRow:
    """One row of ``parts.parquet``; ``path`` may carry surrogates."""

    id: str
    root: int
    path: str | None
    modality: Modality
    part_no: int
    start_s: float | None
    end_s: float | None
    text: str | None
    meta: dict[str, Any]
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    content_hash: bytes

    @property
    def item_id(self) -> str:
        """The id of the item that the part belongs to."""
        return self.id if self.part_no == 0 else self.id[: -len(f"#{self.part_no}")]


def part_id(item_id: str, part_no: int) -> str:
    """The first part bears its item's id, the others ``#n`` behind it."""
    return item_id if part_no == 0 else f"{item_id}#{part_no}"


def split_path(path: str | None) -> tuple[str | None, bytes | None]:
    """(UTF-8 text, the bytes where the name is not UTF-8) of a decoded path."""
    if path is None:
        return None, None
    try:
        path.encode()
        return path, None
    except UnicodeEncodeError:
        raw = os.fsencode(path)
        return raw.decode("utf-8", "backslashreplace"), raw


def _clean(text: str | None) -> str | None:
    # lone surrogates cannot be stored as UTF-8
    return None if text is None else text.encode("utf-8", "replace").decode()


def rows_to_batch(rows: Sequence[PartRow]) -> pa.RecordBatch:
    """The rows as one Arrow batch of ``PARTS_SCHEMA``."""
    paths = [split_path(r.path) for r in rows]
    codes = pa.array([_CODES[r.modality] for r in rows], pa.int8())
    columns = [
        pa.array([r.id for r in rows], pa.string()),
        pa.array([r.root for r in rows], pa.int32()),
        pa.array([p for p, _ in paths], pa.string()),
        pa.array([b for _, b in paths], pa.binary()),
        _modality_column(codes),
        pa.array([r.part_no for r in rows], pa.int32()),
        pa.array([r.start_s for r in rows], pa.float64()),
        pa.array([r.end_s for r in rows], pa.float64()),
        pa.array([_clean(r.text) for r in rows], pa.string()),
        pa.array([json.dumps(r.meta) if r.meta else None for r in rows], pa.string()),
        pa.array([r.size for r in rows], pa.int64()),
        pa.array([r.mtime_ns for r in rows], pa.int64()),
        pa.array([r.ctime_ns for r in rows], pa.int64()),
        pa.array([r.inode for r in rows], pa.int64()),
        pa.array([r.content_hash for r in rows], pa.binary(16)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PARTS_SCHEMA)


def _modality_column(codes: pa.Array) -> pa.DictionaryArray:
    # always the whole dictionary: an Arrow file has one for all its batches
    return pa.DictionaryArray.from_arrays(codes, pa.array([str(m) for m in MODALITIES]))


def _rebatched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held: list[pa.RecordBatch] = []
    n = 0
    for batch in batches:
        held.append(batch)
        n += batch.num_rows
        if n >= BATCH_ROWS:
            table = pa.Table.from_batches(held).combine_chunks()
            whole = table.to_batches(max_chunksize=BATCH_ROWS)
            held = [whole.pop()] if whole[-1].num_rows < BATCH_ROWS else []
            n = sum(b.num_rows for b in held)
            yield from whole
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def write_segment(
    folder: Path,
    number: int,
    fingerprint: str,
    n: int,
    d: int,
    chunks: Iterable[tuple[pa.RecordBatch, NDArray[np.float16]]],
) -> SegmentRef:
    """Writes a new segment durably; nothing refers to it until a manifest does.

    chunks: (parts, float16 (m, d) vectors) pairs, row by row the same parts,
    ``n`` rows in all. They are streamed: memory does not grow with ``n``.
    Raises OSError as the disk does, and ValueError if rows and vectors differ.
    """
    name = f"{number:06d}-{secrets.token_hex(2)}"
    segment = folder / "segments" / name
    segment.mkdir(parents=True)
    try:
        files = _write_files(segment, fingerprint, n, d, chunks)
    except BaseException:
        remove(segment)  # a full disk needs the room back at once
        raise
    sync_folder(segment.parent)
    return SegmentRef(name=name, rows=n, files=files)


def _write_files(
    segment: Path,
    fingerprint: str,
    n: int,
    d: int,
    chunks: Iterable[tuple[pa.RecordBatch, NDArray[np.float16]]],
) -> dict[str, FileRef]:
    from pyarrow import parquet as pq  # only a writer needs it, and it takes a while to load

    vectors = segment / vectors_name(fingerprint)
    written = 0

    def parts(f: Any) -> Iterator[pa.RecordBatch]:
        nonlocal written
        for batch, xb in chunks:
            if xb.dtype != np.float16 or xb.shape != (batch.num_rows, d):
                raise ValueError(f"{batch.num_rows} parts came with vectors {xb.shape} {xb.dtype}")
            f.write(np.ascontiguousarray(xb).data)
            written += len(xb)
            yield batch

    with (
        vectors.open("wb") as f,
        pq.ParquetWriter(segment / PARQUET_NAME, PARTS_SCHEMA, compression="zstd") as parquet,
        pa.ipc.new_file(segment / ARROW_NAME, PARTS_SCHEMA) as arrow,
    ):
        header = {"descr": "<f2", "fortran_order": False, "shape": (n, d)}
        np.lib.format.write_array_header_1_0(f, header)
        for batch in _rebatched(parts(f)):
            parquet.write_batch(batch)
            arrow.write_batch(batch)
    if written != n:
        raise ValueError(f"{n} rows were promised and {written} came")
    files = {}  # name -> FileRef
    for path in sorted(segment.iterdir()):
        sync_file(path)
        files[path.name] = FileRef(*checksum(path))
    sync_folder(segment)
    return files


class Segment:
    """One segment, opened: every file mapped at once, read when touched.

    Raises FileNotFoundError if a file is gone (the snapshot was replaced) and
    IndexDamaged if one has another size than the manifest says.
    """

    def __init__(
        self,
        folder: Path,
        ref: SegmentRef,
        fingerprint: str,
        ann_name: str | None,
        earlier: Segment | None = None,
    ) -> None:
        """Opens the segment.

        earlier: the same segment as another snapshot opened it; its maps are
        shared, for a mapped file costs an open file.
        """
        self.ref = ref
        self.folder = folder / "segments" / ref.name
        for name, file in ref.files.items():
            if name.startswith("codes-") or (earlier is not None and name in earlier.ref.files):
                continue
            size = (self.folder / name).stat().st_size
            if size != file.bytes:
                raise IndexDamaged(
                    f"{self.folder / name} has {size} bytes and should have {file.bytes}. "
                    "`mmsearch verify` says what is affected."
                )
        try:
            self.vectors: NDArray[np.float16]
            self._arrow: Any
            if earlier is not None:
                self._arrow, self.vectors = earlier._arrow, earlier.vectors
            else:
                self._arrow = pa.ipc.open_file(pa.memory_map(str(self.folder / ARROW_NAME)))
                self.vectors = np.load(
                    self.folder / vectors_name(fingerprint), mmap_mode="r", allow_pickle=False
                )
            dead = np.empty(0, np.uint32)
            if ref.deletions is not None:
                dead = np.load(self.folder / ref.deletions, allow_pickle=False)
        except (pa.ArrowInvalid, ValueError, EOFError) as e:
            raise IndexDamaged(f"{self.folder} cannot be read: {e}. Run `mmsearch verify`.") from e
        if self.vectors.ndim != 2 or len(self.vectors) != ref.rows or len(dead) != ref.deleted:
            raise IndexDamaged(
                f"{self.folder}: rows, vectors and deletions do not fit together. "
                "Run `mmsearch verify`."
            )
        self.dead: NDArray[np.uint32] = dead
        # Lists that are missing or cut short are derived data: without them this
        # segment is searched exactly, and the next run makes them anew.
        self.codes: NDArray[np.uint8] | None = None
        if ann_name is not None and (codes := ref.files.get(codes_name(ann_name))) is not None:
            path = self.folder / codes_name(ann_name)
            if path.is_file() and path.stat().st_size == codes.bytes:
                self.codes = np.memmap(path, np.uint8, "r")

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """bool (rows,): True where the part was not deleted."""
        mask = np.ones(self.ref.rows, np.bool_)
        mask[self.dead] = False
        return mask

    @cached_property
    def modality_codes(self) -> NDArray[np.int8]:
        """int8 (rows,): the place of each row's modality in ``MODALITIES``."""
        out = np.empty(self.ref.rows, np.int8)
        for i in range(self._arrow.num_record_batches):
            column = self._arrow.get_batch(i).column("modality")
            out[i * BATCH_ROWS : i * BATCH_ROWS + len(column)] = column.indices.to_numpy()
        return out

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The parts in row order, ``BATCH_ROWS`` at a time, memory-mapped."""
        for i in range(self._arrow.num_record_batches):
            yield self._arrow.get_batch(i)

    def row(self, row: int) -> PartRow:
        """One part by its row number."""
        batch = self._arrow.get_batch(row // BATCH_ROWS).slice(row % BATCH_ROWS, 1)
        return batch_to_rows(batch)[0]

    def find(self, part: str) -> int | None:
        """The live row with that part id, or None."""
        from pyarrow import compute as pc

        for i, batch in enumerate(self.batches()):
            at: int = pc.index(batch.column("id"), part).as_py()
            while at >= 0:
                row = i * BATCH_ROWS + at
                if self.live[row]:
                    return row
                rest = batch.column("id").slice(at + 1)
                step = pc.index(rest, part).as_py()
                at = at + 1 + step if step >= 0 else -1
        return None

    def item_rows(self, item_ids: set[str]) -> dict[int, str]:
        """The live rows of some items' parts: row -> item id."""
        from pyarrow import compute as pc

        wanted = pa.array(sorted(item_ids), pa.string())
        rows = {}  # row -> item id
        for i, batch in enumerate(self.batches()):
            items = pc.replace_substring_regex(batch.column("id"), r"#\d+$", "")
            mine = pc.is_in(items, wanted).to_numpy(zero_copy_only=False)
            for at in np.flatnonzero(mine).tolist():
                if self.live[i * BATCH_ROWS + at]:
                    rows[i * BATCH_ROWS + at] = items[at].as_py()
        return rows


def batch_to_rows(batch: pa.RecordBatch) -> list[PartRow]:
    """The parts of an Arrow batch, as plain rows."""
    rows = []
    for r in batch.to_pylist():
        raw = r.pop("path_bytes")
        if raw is not None:
            r["path"] = os.fsdecode(raw)
        r["modality"] = Modality(r["modality"])
        r["meta"] = json.loads(r["meta"]) if r["meta"] else {}
        rows.append(PartRow(**r))
    return rows
