"""The first parts of items: where an item stands that has any part of some kind.

An item's parts follow each other in a segment. Of an item that was committed in pieces, as a long
one is, a piece may stand apart from the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmsearch.store.rows import BATCH_ROWS
from mmsearch.store.segment import Segment
from mmsearch.types import Mask

Rows = NDArray[np.int64]


def first_rows(segment: Segment, met: Mask | None = None) -> tuple[Rows, set[str]]:
    """Where the items stand of which a live part is met.

    met: bool (rows,); None is all. Returns int64 (m,), the rows of first parts, ascending, and the
    ids of items of which a part is met that stands apart from the first.
    """
    columns = [batch.column("part_no").to_numpy() for batch in segment.batches(["part_no"])]
    part_no = np.concatenate([np.empty(0, np.int32), *columns])
    live = segment.live if met is None else segment.live & met
    firsts = np.flatnonzero(live & (part_no == 0))
    if met is None:
        return firsts, set()
    later = np.flatnonzero(live & (part_no > 0))
    found, apart = [firsts], set()
    for rows in np.split(later, np.flatnonzero(np.diff(later // BATCH_ROWS)) + 1):
        if len(rows):
            near, far = _with_first(segment, rows, rows - part_no[rows])
            found.append(near)
            apart |= far
    return np.unique(np.concatenate(found)), apart


def _with_first(segment: Segment, rows: Rows, firsts: Rows) -> tuple[Rows, set[str]]:
    """Which of some rows of one batch follow their first part; the items of those that do not.

    firsts: the row that the first part of each would have.
    """
    from pyarrow import compute as pc

    inside = pa.array(rows % BATCH_ROWS)
    ids = segment.ids[int(rows[0]) // BATCH_ROWS].take(inside)
    items = pc.replace_substring_regex(ids, r"#\d+$", "")
    places, which = np.unique(firsts, return_inverse=True)
    there = [_live_id(segment, place) for place in places.tolist()]
    near = pc.equal(items, pa.array(there, pa.string()).take(pa.array(which.reshape(-1))))
    own = near.fill_null(False).to_numpy(zero_copy_only=False)
    return firsts[own], set(items.filter(pa.array(~own)).to_pylist())


def _live_id(segment: Segment, row: int) -> str | None:
    if row < 0 or not segment.live[row]:
        return None
    found: str = segment.ids[row // BATCH_ROWS][row % BATCH_ROWS].as_py()
    return found


def ids_at(segment: Segment, rows: Rows) -> Iterator[str]:
    """The ids of some parts, by their rows."""
    for some in np.split(rows, np.flatnonzero(np.diff(rows // BATCH_ROWS)) + 1):
        if len(some):
            ids = segment.ids[int(some[0]) // BATCH_ROWS]
            yield from ids.take(pa.array(some % BATCH_ROWS)).to_pylist()
