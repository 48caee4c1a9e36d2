"""Taking over everything that another index of the same space holds, in one commit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mmsearch.errors import SpaceMismatch
from mmsearch.store.files import writing_to
from mmsearch.store.manifest import SegmentRef
from mmsearch.store.rows import PARTS_SCHEMA
from mmsearch.store.segment import Segment
from mmsearch.store.segment_writing import Chunk, live_chunks, write_segment
from mmsearch.store.snapshot import Snapshot
from mmsearch.store.writer import Writer

_PART = r"#\d+$"  # what tells an item's parts apart


def absorb(writer: Writer, other: Snapshot) -> tuple[int, int]:
    """Copies the live parts of another index, vectors and all; returns (parts, items replaced).

    Items of the same id that the writer's index has are replaced. Every byte is checked
    before it is copied. Raises SpaceMismatch, IndexDamaged, IndexNotWritable.
    """
    ours, theirs = writer.manifest.space, other.manifest.space
    if ours.fingerprint != theirs.fingerprint:
        raise SpaceMismatch(
            f"{other.folder} holds {theirs}; {writer.folder} holds {ours}. Only indexes of one "
            "space can be merged: index its files again with the other space."
        )
    roots = {root.id: writer.root(root.path) for root in other.manifest.roots}
    for segment in other.segments:
        segment.check_whole()
    items = _items(other)
    replaced = _drop_same(writer, items)
    new: list[SegmentRef] = []
    with writing_to(writer.folder):
        for segment in other.segments:
            if live := segment.ref.rows - segment.ref.deleted:
                number = writer.manifest.next_segment + len(new)
                chunks = _chunks(segment, roots)
                new.append(write_segment(writer.place, number, ours, live, chunks))
    writer.remember(include=[*writer.manifest.include, *other.manifest.include])
    came = {*items.to_pylist()} if writer.manifest.unfinished else set()
    unfinished = [u for u in writer.manifest.unfinished if u.item_id not in came]
    writer.commit(unfinished=[*unfinished, *other.manifest.unfinished], segments=new)
    return sum(ref.rows for ref in new), replaced


def _chunks(segment: Segment, roots: dict[int, int]) -> Iterator[Chunk]:
    """A segment's live rows, under other numbers of roots, with their vectors."""
    place = PARTS_SCHEMA.get_field_index("root")
    for batch, vectors in live_chunks(segment):
        numbers = [roots[root] for root in batch.column(place).to_pylist()]
        columns = [*batch.columns]
        columns[place] = pa.array(numbers, pa.int32())
        yield pa.RecordBatch.from_arrays(columns, schema=PARTS_SCHEMA), vectors


def _drop_same(writer: Writer, theirs: pa.Array) -> int:
    """Deletes the items whose ids the other index has, too; returns how many."""
    from pyarrow import compute as pc

    found = 0
    if not len(theirs):
        return 0
    for segment in writer.snapshot.segments:
        batches = list(segment.batches(["id", "part_no"]))
        ids = pa.chunked_array([batch.column("id") for batch in batches], pa.string())
        # all at once: each call arranges what it looks for anew
        same = pc.is_in(pc.replace_substring_regex(ids, _PART, ""), theirs)
        rows = np.flatnonzero(same.to_numpy() & segment.live)
        part_no = np.concatenate([batch.column("part_no").to_numpy() for batch in batches])
        found += int(np.count_nonzero(part_no[rows] == 0))
        writer.delete(segment, rows.tolist())
    return found


def _items(snapshot: Snapshot) -> pa.Array:
    """The ids of all live items."""
    from pyarrow import compute as pc

    ids = []
    for segment in snapshot.segments:
        first = 0
        for batch in segment.batches(["id", "part_no"]):
            part_no = batch.column("part_no").to_numpy()
            live = segment.live[first : first + batch.num_rows]
            ids.append(batch.column("id").take(pa.array(np.flatnonzero(live & (part_no == 0)))))
            first += batch.num_rows
    return pc.unique(pa.chunked_array(ids, pa.string()))
