"""The rows that a snapshot holds open, as DuckDB is handed them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from mmsearch.store import PARTS_SCHEMA, Segment, Snapshot
from mmsearch.store.rows import split_path
from mmsearch.store.snapshot import join

# DuckDB looks for an interrupt, and gives memory back, after each batch (of 2,048 rows at
# most), and what functions make of texts is not counted in its memory limit: 700 times
# lower(text) took 13 GB. So no batch makes more texts than this.
_CALLS_A_BATCH = 8192
# Beside PARTS_SCHEMA: the number of the row over all segments, and what roots stand for.
_NUMBER = pa.field("number", pa.int64())
_OF_ROOTS = {name: pa.dictionary(pa.int32(), pa.string()) for name in ("prefix", "folder")}


def reader(
    snapshot: Snapshot, segments: Sequence[Segment], stored: Sequence[str], calls: int
) -> pa.RecordBatchReader:
    """The live rows of segments, with their ``number`` over all these and some stored columns.

    calls: how many texts are made of one row, see ``Expression``. Raises IndexDamaged here, and
    not while DuckDB reads: an error that it met would come back as its own.
    """
    names = sorted({"root" if n in _OF_ROOTS else n for n in stored})
    parts = [(segment, segment.batches(names)) for segment in segments]
    asked = schema(stored)
    batches = _batches(snapshot, parts, asked, stored, calls)
    return pa.RecordBatchReader.from_batches(asked, batches)


def schema(stored: Sequence[str]) -> pa.Schema:
    """The columns that ``reader`` gives."""
    return pa.schema([_NUMBER, *map(_field, stored)])


def _field(name: str) -> pa.Field:
    if name in _OF_ROOTS:
        return pa.field(name, _OF_ROOTS[name])
    field = PARTS_SCHEMA.field(name)
    return pa.field(name, field.type)


def _batches(
    snapshot: Snapshot,
    parts: Iterable[tuple[Segment, Iterator[pa.RecordBatch]]],
    schema: pa.Schema,
    stored: Sequence[str],
    calls: int,
) -> Iterator[pa.RecordBatch]:
    """parts: segments, each with the stored columns that are needed."""
    roots = sorted(snapshot.manifest.roots, key=lambda r: r.id)
    ids = np.array([r.id for r in roots], np.int32)
    texts = {
        "prefix": [split_path(join(r.path, ""))[0] for r in roots],
        "folder": [split_path(r.path)[0] if r.path else None for r in roots],
    }
    of_roots = {name: pa.array(texts[name], pa.string()) for name in texts}
    step = max(1, _CALLS_A_BATCH // max(1, calls))
    first = 0  # number of the segment's first row over all these segments
    for segment, batches in parts:
        at = 0
        for batch in batches:
            n = batch.num_rows
            arrays = [pa.array(np.arange(first + at, first + at + n))]
            for name in stored:
                if name in of_roots:
                    places = np.searchsorted(ids, batch.column("root").to_numpy())
                    place = pa.array(places.astype(np.int32))
                    arrays.append(pa.DictionaryArray.from_arrays(place, of_roots[name]))
                else:
                    arrays.append(batch.column(name))
            rows = pa.RecordBatch.from_arrays(arrays, schema=schema)
            if len(segment.dead):
                rows = rows.filter(pa.array(segment.live[at : at + n]))
            for begin in range(0, rows.num_rows, step):
                yield rows.slice(begin, step)
            at += n
        first += segment.ref.rows
