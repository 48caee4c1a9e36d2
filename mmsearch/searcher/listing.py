"""Listing and counting items, with a filter and without a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from mmsearch.ann import NOTHING
from mmsearch.errors import UsageError
from mmsearch.given import is_unicode, shown
from mmsearch.searcher.view import View
from mmsearch.store import Segment
from mmsearch.store.firsts import Rows, first_rows
from mmsearch.store.rows import BATCH_ROWS
from mmsearch.types import Hit, Mask

if TYPE_CHECKING:
    from mmsearch.filters import Filter

MAX_LIMIT = 10_000

_Place = tuple[Segment, int] | None  # a segment and a row; None while it is not known


class Page(Sequence[Hit]):
    """Some items of a list: of each its first part, as a hit of rank 0 and score 1.

    ``cursor``: what ``list(after=…)`` goes on from; None if nothing follows.
    """

    def __init__(self, hits: Sequence[Hit], cursor: str | None) -> None:
        self.hits = tuple(hits)
        self.cursor = cursor

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, at: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[at]

    def __len__(self) -> int:
        return len(self.hits)

    def __repr__(self) -> str:
        return f"Page({len(self)} items, cursor={self.cursor!r})"


def page(view: View, where: Filter | None, limit: Any, after: Any) -> Page:
    """The next items, in the order of their ids, that have a part that meets a condition.

    where: None for all. limit: how many at most. after: an id; None begins at the first. Holds so
    many ids as are asked for. Raises UsageError and what ``Masks.rows`` raises.
    """
    if (
        isinstance(limit, bool)
        or not isinstance(limit, int | np.integer)
        or not (1 <= limit <= MAX_LIMIT)
    ):
        raise UsageError(
            f"limit is how many items you want: 1 to {MAX_LIMIT:,}, not {shown(limit)}."
        )
    if after is not None and not (isinstance(after, str) and is_unicode(after)):
        raise UsageError(f"after is the cursor of the page before, a str; not {shown(after)}.")
    places = _smallest(view, where, int(limit) + 1, after)
    items = sorted(places)[: int(limit)]
    unknown = view.snapshot.find_all({one for one in items if places[one] is None})
    found = {one: place for one in items if (place := places[one] or unknown.get(one))}
    hits = view.at(found)
    return Page([hits[one] for one in items if one in hits], _last(items, len(places)))


def _last(items: Sequence[str], known: int) -> str | None:
    return items[-1] if known > len(items) else None


def count(view: View, where: Filter | None) -> int:
    """How many items have a part that meets a condition. where: None for all."""
    n = 0
    apart: set[str] = set()  # items of which a piece is met that stands apart from the first part
    for segment, met in _met(view, where):
        rows, more = first_rows(segment, met)
        n += len(rows)
        apart |= more
    firsts: dict[int, tuple[Segment, list[int]]] = {}  # id of a segment -> it, and first parts
    for segment, row in view.snapshot.find_all(apart).values():
        firsts.setdefault(id(segment), (segment, []))[1].append(row)
    if firsts:
        for segment, met in _met(view, where):
            if id(segment) in firsts:
                counted, _ = first_rows(segment, met)
                firsts[id(segment)] = segment, [*{*firsts[id(segment)][1]} - {*counted.tolist()}]
    return n + sum(len(rows) for _, rows in firsts.values())


def _met(view: View, where: Filter | None) -> Iterator[tuple[Segment, Mask | None]]:
    """The segments that hold anything that is met, and what of them is; None for all."""
    segments = view.snapshot.segments
    if where is None:
        yield from ((segment, None) for segment in segments)
        return
    for segment, met in zip(segments, view.masks.rows(where), strict=True):
        if met is not NOTHING:
            yield segment, met


def _smallest(view: View, where: Filter | None, most: int, after: str | None) -> dict[str, _Place]:
    """The first ids of items that are met, behind one, and where their first parts stand."""
    best: dict[str, _Place] = {}
    bound: str | None = None  # ids from here on are too many
    for segment, met in _met(view, where):
        rows, apart = first_rows(segment, met)
        found: dict[str, _Place] = {one: None for one in apart if after is None or one > after}
        best = {**found, **best}
        for some in np.split(rows, np.flatnonzero(np.diff(rows // BATCH_ROWS)) + 1):
            if len(some):
                best |= _of_batch(segment, some, most, after, bound)
                if len(best) >= most:
                    best = {one: best[one] for one in sorted(best)[:most]}
                    bound = next(reversed(best))
    return {one: best[one] for one in sorted(best)[:most]}


def _of_batch(
    segment: Segment, rows: Rows, most: int, after: str | None, bound: str | None
) -> dict[str, _Place]:
    """The first ids at some rows of one batch, behind one and up to another."""
    from pyarrow import compute as pc

    ids = segment.ids[int(rows[0]) // BATCH_ROWS].take(pa.array(rows % BATCH_ROWS))
    keep = np.ones(len(rows), np.bool_)
    if after is not None:
        keep &= pc.greater(ids, after).to_numpy(zero_copy_only=False)
    if bound is not None:
        keep &= pc.less_equal(ids, bound).to_numpy(zero_copy_only=False)
    ids, rows = ids.filter(pa.array(keep)), rows[keep]
    if len(rows) > most:
        first = pc.bottom_k_unstable(ids, most)
        ids, rows = ids.take(first), rows[first.to_numpy()]
    return {one: (segment, row) for one, row in zip(ids.to_pylist(), rows.tolist(), strict=True)}
