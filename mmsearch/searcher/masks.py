"""Which rows of a snapshot may be found, worked out once and kept from query to query."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmsearch import filters
from mmsearch.ann import NOTHING
from mmsearch.filters import Kept, Known, MaskCache, filter_of
from mmsearch.once import Memo
from mmsearch.store import Segment, Snapshot
from mmsearch.store.rows import MODALITIES
from mmsearch.types import Mask, Modality

if TYPE_CHECKING:
    from mmsearch.filters import Filter


@dataclass(frozen=True)
class Group:
    """Which parts of one lane may be found, of one kind or (None) of all.

    ``masks``: for each segment, of the lane's vectors there; None where all may, ``NOTHING``
    where none. ``count``: how many may.
    """

    lane: int
    modality: Modality | None
    masks: Sequence[Mask | None]
    count: int


_Told = list[tuple[Hashable, Known]]  # by what was asked, the most recently last


class _Asked(NamedTuple):
    """What masks are of: rows of segments, or (with a lane) of that lane's vectors."""

    lane: int | None
    modality: Modality | None
    where: Filter | None

    @property
    def key(self) -> Hashable:
        """What the masks are kept by: it holds no values, of which there may be many."""
        return self.lane, self.modality, None if self.where is None else self.where.key


class Masks:
    """The masks of a snapshot. Safe to use from several threads.

    earlier: those of the snapshot before. What they tell of segments that did not change is taken
    over, and narrowed where parts were deleted since: a filter is evaluated over new segments only.
    """

    def __init__(self, snapshot: Snapshot, earlier: Masks | None = None) -> None:
        self._snapshot = snapshot
        # so few that they need no limit: without a filter, and with one
        known: tuple[_Told, ...] = ([], [])
        if earlier is not None:
            known = earlier._known_to(snapshot)
        self._plain, self._filtered = MaskCache(known[0], limited=False), MaskCache(known[1])
        self._groups: Memo[Modality | None, tuple[Group, ...]] = Memo()

    def groups(self, to: Modality | None, where: str | Filter | None = None) -> Sequence[Group]:
        """Which parts may be found: of an index without lanes one group.

        Raises UsageError or LimitExceeded for a filter that is none, or takes too much.
        """
        if where is not None:
            return tuple(self._each(to, filter_of(where)))
        return self._groups.get(to, lambda: tuple(self._each(to, None)))

    def rows(self, where: str | Filter) -> filters.Masks:
        """Which rows of each segment meet a condition; None where all do, ``NOTHING`` where none.

        Raises UsageError or LimitExceeded as ``groups``.
        """
        return self._masks(_Asked(None, None, filter_of(where)))

    def _each(self, to: Modality | None, where: Filter | None) -> Iterator[Group]:
        space = self._snapshot.manifest.space
        if not space.lanes:
            yield Group(0, to, self._masks(_Asked(None, to, where)), 1)  # nobody asks how many
            return
        for lane, held in enumerate(space.held):
            for modality in held:
                if to in (None, modality):
                    masks = self._masks(_Asked(lane, modality, where))
                    yield Group(lane, modality, masks, self._count(lane, masks))

    def _count(self, lane: int, masks: filters.Masks) -> int:
        of = (segment.rows_of(lane) for segment in self._snapshot.segments)
        counts = [
            len(own) if mask is None else int(np.count_nonzero(mask))
            for mask, own in zip(masks, of, strict=True)
            if own is not None
        ]
        return sum(counts)

    def _masks(self, asked: _Asked) -> filters.Masks:
        """For each segment, which rows may be found; None where all may, ``NOTHING`` where none."""
        cache = self._plain if asked.where is None else self._filtered
        return cache.get(asked.key, partial(self._made, asked))

    def _made(self, asked: _Asked, known: Known | None) -> filters.Masks:
        segments = self._snapshot.segments
        before = known or [None] * len(segments)
        new = [i for i, one in enumerate(before) if one is None]
        made: dict[int, Mask | None] = {}
        if new or known is None:  # an index without segments, too, tells a filter that is none
            made = dict(zip(new, self._worked_out(asked, new), strict=True))
        return [
            made[i] if one is None else _narrowed(one, asked.lane, segment)
            for i, (one, segment) in enumerate(zip(before, segments, strict=True))
        ]

    def _worked_out(self, asked: _Asked, numbers: Sequence[int]) -> list[Mask | None]:
        """The masks of some segments, by their numbers."""
        lane, modality, where = asked
        segments = [self._snapshot.segments[i] for i in numbers]
        if lane is not None:
            rows = self._masks(_Asked(None, modality, where))
            return [
                _of_lane(rows[i], lane, segment)
                for i, segment in zip(numbers, segments, strict=True)
            ]
        if where is None:
            return [_of_kind(modality, segment) for segment in segments]
        if modality is None:
            return [_known(m) for m in filters.matching(self._snapshot, where, segments)]
        of_kind = self._masks(_Asked(None, modality, None))
        met = self._masks(_Asked(None, None, where))
        return [_both(of_kind[i], met[i]) for i in numbers]

    def _known_to(self, later: Snapshot) -> tuple[_Told, ...]:
        """What these masks tell of a later snapshot: without a filter, and with one."""
        now, then = later.manifest, self._snapshot.manifest
        if now.space.fingerprint != then.space.fingerprint:
            return [], []
        places = [_place(segment, self._snapshot.segments) for segment in later.segments]
        paths = {root.id: root.path for root in now.roots}
        moved = any(paths.get(root.id) != root.path for root in then.roots)
        caches = (self._plain, None if moved else self._filtered)  # filters see paths
        return tuple(
            [(asked, [_moved(known, place) for place in places]) for asked, known in cache.known()]
            if cache is not None
            else []
            for cache in caches
        )


_Place = tuple[int, bool]  # of a segment in an earlier snapshot, and whether it lost rows since


def _place(segment: Segment, earlier: Sequence[Segment]) -> _Place | None:
    """Where a segment stood in an earlier snapshot; None for one that is new."""
    for i, before in enumerate(earlier):
        if before is segment:
            return i, False
        if segment.has_rows_of(before) and not (segment.live & ~before.live).any():
            return i, segment.ref.deleted != before.ref.deleted
    return None


def _moved(known: Known, place: _Place | None) -> Kept | None:
    """What is known of a segment in its new place."""
    if place is None or (one := known[place[0]]) is None:
        return None
    return Kept(one.mask, True) if place[1] else one


def _narrowed(kept: Kept, lane: int | None, segment: Segment) -> Mask | None:
    """A mask without the rows that were deleted since it was made."""
    if not kept.narrow or kept.mask is NOTHING:
        return kept.mask
    return _both(kept.mask, _live(lane, segment))


def _live(lane: int | None, segment: Segment) -> Mask | None:
    own = None if lane is None else segment.rows_of(lane)
    return _known(segment.live if own is None else segment.live[own])


def _of_kind(modality: Modality | None, segment: Segment) -> Mask | None:
    mask = segment.live
    if modality is not None:
        mask = mask & (segment.modality_codes == MODALITIES.index(modality))
    return _known(mask)


def _of_lane(mask: Mask | None, lane: int, segment: Segment) -> Mask | None:
    """The mask of a lane's vectors that one of rows gives."""
    own = segment.rows_of(lane)
    return mask if mask is None or mask is NOTHING else _known(mask[own])


def _known(mask: Mask) -> Mask | None:
    """The mask, or what stands for it where it is all True or all False.

    Counted once here and not by every query.
    """
    if mask.all():
        return None
    return mask if mask.any() else NOTHING


def _both(a: Mask | None, b: Mask | None) -> Mask | None:
    if a is None or b is NOTHING:
        return b
    if b is None or a is NOTHING:
        return a
    return _known(a & b)
