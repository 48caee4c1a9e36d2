"""Writing a segment: its rows as Parquet and Arrow, its vectors, and what is deleted in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from mmsearch.store import npy
from mmsearch.store.blocks import seal
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import checksum, remove, replace_file, sync_file, sync_folder
from mmsearch.store.lane_files import VECTOR, vectors_name
from mmsearch.store.manifest import FileRef, SegmentRef
from mmsearch.store.rows import BATCH_ROWS, PARTS_SCHEMA
from mmsearch.store.segment import ARROW_NAME, PARQUET_NAME, ROW, Segment
from mmsearch.types import Modality, Space

Chunk = tuple[pa.RecordBatch, NDArray[np.float16]]  # parts, and their vectors (m, d)


def write_segment(
    folder: ConfinedPath,
    number: int,
    space: Space,
    n: int,
    chunks: Iterable[Chunk],
) -> SegmentRef:
    """Writes a new segment durably; nothing refers to it until a manifest does.

    chunks: (parts, float16 (m, d) vectors) pairs, row by row the same parts,
    ``n`` rows in all. They are streamed: memory does not grow with ``n``.
    Raises OSError as the disk does, and ValueError if rows and vectors differ.
    """
    name = f"{number:06d}-{secrets.token_hex(2)}"
    segment = folder / "segments" / name
    segment.mkdir()  # durably: its name is on the disk before its files are
    try:
        files = _write_files(segment, space, n, chunks)
    except BaseException:
        remove(segment)  # a full disk needs the room back at once
        raise
    return SegmentRef(name=name, rows=n, files=files)


def _write_files(
    segment: ConfinedPath,
    space: Space,
    n: int,
    chunks: Iterable[Chunk],
) -> dict[str, FileRef]:
    from pyarrow import parquet as pq  # only a writer needs it, and it takes a while to load

    d, written = space.dimension, 0
    vectors = [segment / vectors_name(lane.fingerprint) for lane in space.each]
    counts = [0] * len(vectors)

    def parts(files: Sequence[IO[bytes]]) -> Iterator[pa.RecordBatch]:
        nonlocal written
        for batch, xb in chunks:
            if xb.dtype != np.float16 or xb.shape != (batch.num_rows, d):
                raise ValueError(f"{batch.num_rows} parts came with vectors {xb.shape} {xb.dtype}")
            for i, file in enumerate(files):
                own = xb if not space.lanes else xb[_held(batch, space.held[i]), space.columns[i]]
                file.write(np.ascontiguousarray(own).data)
                counts[i] += len(own)
            written += len(xb)
            yield batch

    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in vectors]
        for file, lane in zip(files, space.each, strict=True):
            _write_head(file, n, lane.dimension)
        both = [stack.enter_context((segment / n).open("wb")) for n in (PARQUET_NAME, ARROW_NAME)]
        parquet = stack.enter_context(pq.ParquetWriter(both[0], PARTS_SCHEMA, compression="zstd"))
        arrow = stack.enter_context(pa.ipc.new_file(both[1], PARTS_SCHEMA))
        for batch in _rebatched(parts(files)):
            parquet.write_batch(batch)
            arrow.write_batch(batch)
        for file, lane, count in zip(files, space.each, counts, strict=True):
            if count != n:
                file.seek(0)
                _write_head(file, count, lane.dimension)  # as long as before: NumPy leaves room
    if written != n:
        raise ValueError(f"{n} rows were promised and {written} came")
    made = {PARQUET_NAME: FileRef(*checksum(segment / PARQUET_NAME))}
    for path in (*vectors, segment / ARROW_NAME):
        made |= seal(path)
    for name in made:
        sync_file(segment / name)
    sync_folder(segment)
    return made


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


def _write_head(file: IO[bytes], n: int, d: int) -> None:
    file.write(npy.head(VECTOR, (n, d)))


def _held(batch: pa.RecordBatch, modalities: Sequence[Modality]) -> NDArray[np.bool_]:
    """bool (rows,): which parts are of one of some modalities."""
    kinds = batch.column("modality").to_pylist()
    return np.array([kind in modalities for kind in kinds], np.bool_)


def live_chunks(segment: Segment) -> Iterator[Chunk]:
    """The live rows of a segment, a batch at a time. Raises IndexDamaged."""
    first = 0
    for batch in segment.batches():
        keep = np.flatnonzero(segment.live[first : first + batch.num_rows])
        if len(keep):
            yield batch.take(pa.array(keep)), segment.stored(first + keep)
        first += batch.num_rows


def write_deletions(
    segment: Segment, ref: SegmentRef, rows: Iterable[int], generation: int
) -> SegmentRef:
    """Writes which rows of a segment are deleted: those of before, and some more.

    ref: the segment's reference now; what is returned is the same if no row is new. generation:
    of the commit; it names the file.
    """
    dead = np.union1d(segment.dead, np.array(list(rows), np.uint32)).astype(ROW)
    if len(dead) == ref.deleted:
        return ref
    files = {n: f for n, f in ref.files.items() if n != ref.deletions}
    name = f"deleted-{generation:06d}.npy"
    path = segment.place / name
    replace_file(path, [npy.head(ROW, dead.shape), dead])
    files[name] = FileRef(*checksum(path))
    return replace(ref, files=files, deletions=name, deleted=len(dead))
