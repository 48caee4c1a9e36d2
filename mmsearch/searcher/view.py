"""A snapshot with all that searching it needs, made once and shared by every query."""

from __future__ import annotations

import os
import shlex
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmsearch import ann, forks
from mmsearch.calibrate import surprise
from mmsearch.errors import IndexDamaged, SpaceUnavailable
from mmsearch.once import once
from mmsearch.searcher.chances import Chances
from mmsearch.searcher.masks import Group, Masks
from mmsearch.store import HitRow, Segment, Snapshot
from mmsearch.store.rows import BATCH_ROWS, OWN_KEY, item_of
from mmsearch.store.snapshot import join
from mmsearch.types import Hit, Ids, Modality, Scores, Space, SpaceVectors, Vectors

if TYPE_CHECKING:
    from mmsearch.filters import Filter

_SegmentIndex: TypeAlias = ann.Flat | ann.IvfPq

# What altered bytes lead to: Arrow's errors are ValueErrors and IndexErrors.
_UNREADABLE = (ValueError, LookupError, TypeError)
_NEAR_UNIT = 1e-6  # a length so near to 1 is that of a unit vector in float32


class Found(NamedTuple):
    """What a search found: (nq, k) each; where fewer than k were found, ids are -1 and both
    others -inf. ``surprise`` is what decided the order where lanes met, else None, or NaN for
    queries among others for which none met.
    ``out_of_reach``: kinds of parts that no lane takes together with the query."""

    scores: Scores
    ids: Ids
    surprise: Scores | None = None
    out_of_reach: frozenset[Modality] = frozenset()


@dataclass(frozen=True)
class View:
    """A snapshot and what searching it needs, replaced as a whole by ``refresh``.

    Rows are numbered over all segments: those of the first, then those of the second, …
    """

    snapshot: Snapshot
    lanes: tuple[tuple[_SegmentIndex, ...], ...]  # of each lane, for each segment
    together: tuple[ann.Together, ...]  # of each lane, all segments
    first: tuple[int, ...]  # segment -> number of its first row
    prefixes: dict[int, str]  # root -> what stands before a path below it
    masks: Masks
    chances: Chances

    @classmethod
    def over(cls, snapshot: Snapshot, earlier: View | None = None) -> View:
        """The view of a snapshot; what takes long is made when it is first used.

        earlier: that of the snapshot before, which gives what did not change since.
        """
        first, n = [], 0
        for segment in snapshot.segments:
            first.append(n)
            n += segment.ref.rows
        spaces = range(len(snapshot.manifest.space.each))
        lanes = tuple(_indexes(snapshot, i, earlier) for i in spaces)
        return cls(
            snapshot,
            lanes,
            tuple(ann.Together(indexes) for indexes in lanes),
            tuple(first),
            {root.id: join(root.path, "") for root in snapshot.manifest.roots},
            Masks(snapshot, None if earlier is None else earlier.masks),
            _chances(snapshot, earlier),
        )

    def allowed(self, to: Modality | None, where: str | Filter | None = None) -> Sequence[Group]:
        """Which parts may be found; see ``Masks.groups``."""
        return self.masks.groups(to, where)

    # -- searching ----------------------------------------------------------

    @forks.native
    def search(
        self, xq: Vectors, k: int, groups: Sequence[Group], recall: float | None = None
    ) -> Found:
        """The best k over all segments, best first.

        xq: float32 (nq, d), rows of unit length (of several lanes, in each that they are in).
        groups: as ``allowed`` gives them. recall: see ``Query``.
        Scores are inner products, ids the numbers of rows over all segments. Raises
        SpaceUnavailable where no lane takes both what was asked and what may answer.
        """
        if self.snapshot.manifest.space.lanes:
            return self._across(xq, k, groups, recall)
        return Found(*self._nearest(xq, k, groups[0], recall))

    def _nearest(
        self, xq: Vectors, k: int, group: Group, recall: float | None
    ) -> tuple[Scores, Ids]:
        D, ids = self.together[group.lane].search(xq, k, group.masks, recall)
        if self.snapshot.manifest.space.lanes and len(rows := self._rows_of[group.lane]):
            ids = np.where(ids >= 0, rows[ids], -1)
        return D, ids

    def _across(self, xq: Vectors, k: int, groups: Sequence[Group], recall: float | None) -> Found:
        """What several lanes find, each the parts that it is the first to hold of those lanes that
        the query is in; in the order of their surprise."""
        space = self.snapshot.manifest.space
        blocks = [xq[:, columns] for columns in space.columns]
        lengths = np.stack([np.linalg.norm(block, axis=1) for block in blocks], axis=1)
        lengths[np.abs(lengths - 1) < _NEAR_UNIT] = 1
        asked, which = np.unique(lengths > 0, axis=0, return_inverse=True)
        D = np.full((len(xq), k), -np.inf, np.float32)
        ids, S = np.full((len(xq), k), -1, np.int64), D.copy()
        met, beyond = False, set()
        for number, pattern in enumerate(asked):
            rows = np.flatnonzero(which.reshape(-1) == number)
            lanes = np.flatnonzero(pattern).tolist()
            mine = [g for g in groups if g.lane == _first(lanes, g.modality, space)]
            if not mine:
                raise SpaceUnavailable(_no_lane(space, lanes, groups))
            reached = {group.modality for group in mine}
            beyond |= {g.modality for g in groups if g.count and g.modality not in reached}
            mine = [group for group in mine if group.count]
            if not mine:
                continue
            met = met or len(mine) > 1
            found = []
            for group in mine:
                own = blocks[group.lane][rows] / lengths[rows, group.lane, None]
                scores, numbers = self._nearest(np.ascontiguousarray(own), k, group, recall)
                by_chance = None
                if len(mine) > 1 and group.modality is not None:
                    by_chance = self.chances.of(group.lane, group.modality, lanes)
                found.append((scores, numbers, surprise(scores, by_chance, group.count)))
            D[rows], ids[rows], S[rows] = _best(found, k)
            if len(mine) == 1:
                S[rows] = np.nan  # as for those of an index without lanes
        out = frozenset(modality for modality in beyond if modality is not None)
        return Found(D, ids, S if met else None, out)

    # -- reading what was found ---------------------------------------------

    def hits(
        self, scores: Scores, numbers: Ids, surprises: Scores | None = None
    ) -> tuple[Hit, ...]:
        """The hits of one query.

        scores, surprises: float32 (k,). numbers: int64 (k,), -1 at its end where fewer were
        found.
        Raises IndexDamaged where a row is not what a writer writes.
        """
        found = [number for number in numbers.tolist() if number >= 0]
        try:
            rows = rows_of(self.snapshot.segments, self.first, found)
            ranked = enumerate(zip(scores.tolist(), rows, strict=False), 1)
            hits = [self.hit(rank, score, row) for rank, (score, row) in ranked]
            if surprises is not None and not np.isnan(surprises).any():
                both = zip(hits, surprises.tolist(), strict=False)
                hits = [replace(hit, surprise=one) for hit, one in both]
            return tuple(hits)
        except _UNREADABLE as e:
            raise self._damaged(e) from e

    def hit(self, rank: int, score: float, row: HitRow) -> Hit:
        """A row as a hit."""
        part, root, path, modality, part_no, start_s, end_s, text, meta = row
        if path is not None:
            path = self.prefixes[root] + (path if os.sep == "/" else path.replace("/", os.sep))
        meta.pop(OWN_KEY, None)
        item = item_of(part, part_no)
        return Hit(rank, score, part, item, modality, path, start_s, end_s, text, meta)

    def find(self, part_ids: Collection[str], vectors: bool = False) -> dict[str, Hit]:
        """The live parts with some ids, by those, as hits of rank 0.

        vectors: whether they carry their vectors. Raises IndexDamaged.
        """
        try:
            places = self.snapshot.find_all(part_ids)
        except _UNREADABLE as e:
            raise self._damaged(e) from e
        return self.at(places, vectors)

    def at(
        self, places: Mapping[str, tuple[Segment, int]], vectors: bool = False
    ) -> dict[str, Hit]:
        """The parts at some places, segment and row, as hits of rank 0; see ``find``."""
        try:
            return self._at(places, vectors)
        except _UNREADABLE as e:
            raise self._damaged(e) from e

    def _at(self, places: Mapping[str, tuple[Segment, int]], vectors: bool) -> dict[str, Hit]:
        inside: dict[int, list[str]] = {}  # id of a segment -> keys of places
        for key, (segment, _) in places.items():
            inside.setdefault(id(segment), []).append(key)
        found: dict[str, Hit] = {}
        for keys in inside.values():
            segment, at = places[keys[0]][0], [places[key][1] for key in keys]
            hits = [self.hit(0, 1.0, row) for row in segment.rows(at)]
            if vectors:
                segment.check_stored(np.array(at, np.int64))
                stored = segment.stored(at).astype(np.float32)
                space = self.snapshot.manifest.space
                both = zip(hits, stored, strict=True)
                hits = [replace(hit, vector=SpaceVectors.of(one, space)) for hit, one in both]
            found.update(zip(keys, hits, strict=True))
        return found

    def ids(self, numbers: NDArray[np.int64]) -> list[str]:
        """The part ids of rows. numbers: int64 (m,), none of them -1. Raises IndexDamaged."""
        try:
            return self._ids(numbers)
        except _UNREADABLE as e:
            raise self._damaged(e) from e

    def _ids(self, numbers: NDArray[np.int64]) -> list[str]:
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        taken: list[NDArray[np.object_]] = []
        starts = np.concatenate([self._id_starts, [np.iinfo(np.int64).max]])
        cuts = np.searchsorted(ordered, starts)
        for i in np.flatnonzero(np.diff(cuts)).tolist():
            inside = ordered[cuts[i] : cuts[i + 1]] - starts[i]
            taken.append(self._id_columns[i].take(pa.array(inside)).to_numpy(zero_copy_only=False))
        out = np.empty(len(numbers), np.object_)
        if taken:
            out[order] = np.concatenate(taken)
        found: list[str] = out.tolist()
        return found

    def _damaged(self, why: Exception) -> IndexDamaged:
        folder = self.snapshot.folder
        return IndexDamaged(
            f"{folder}: a part that was found cannot be read ({why}). `mmsearch verify --index "
            f"{shlex.quote(str(folder))}` says what is affected."
        )

    @once
    def _rows_of(self) -> list[NDArray[np.int64]]:
        """Of each lane int64 (vectors,): the number of the row that each of its vectors is of."""
        found = []
        for lane in range(len(self.lanes)):
            each = zip(self.snapshot.segments, self.first, strict=True)
            rows = ((segment.rows_of(lane), first) for segment, first in each)
            numbers = [of + first for of, first in rows if of is not None]
            found.append(np.concatenate([np.empty(0, np.int64), *numbers]))
        return found

    @once
    def _id_columns(self) -> list[pa.Array]:
        return [ids for segment in self.snapshot.segments for ids in segment.ids]

    @once
    def _id_starts(self) -> NDArray[np.int64]:
        """int64 (batches,): the number of each batch's first row."""
        segments = zip(self.snapshot.segments, self.first, strict=True)
        starts = [np.arange(first, first + s.ref.rows, BATCH_ROWS) for s, first in segments]
        return np.concatenate([np.empty(0, np.int64), *starts])


def _indexes(snapshot: Snapshot, lane: int, earlier: View | None) -> tuple[_SegmentIndex, ...]:
    """What searches a lane's vectors in each segment: with lists, or exactly where it has none.

    Those of an earlier view that search the same, with what they loaded, are taken over.
    """
    name = snapshot.manifest.space.each[lane].fingerprint
    quantiser, trained = snapshot.manifest.anns.get(name), snapshot.ann_blocks.get(name)
    before = {} if earlier is None else _earlier_indexes(snapshot, lane, earlier)
    indexes: list[_SegmentIndex] = []
    for files in (segment.lanes[lane] for segment in snapshot.segments):
        lists = None if quantiser is None or trained is None else files.code_blocks
        if (known := before.get((id(files.vectors), id(lists)))) is not None:
            indexes.append(known)
        elif quantiser is not None and trained is not None and lists is not None:
            of = files.blocks, lists, trained
            indexes.append(ann.IvfPq(files.vectors, *of, quantiser.facts))
        else:
            indexes.append(ann.Flat(files.vectors, files.check_rows))
    return tuple(indexes)


def _earlier_indexes(
    snapshot: Snapshot, lane: int, earlier: View
) -> dict[tuple[int, int], _SegmentIndex]:
    """What an earlier view searches a lane with, by the ids of vectors and lists (or of None)."""
    now, then = snapshot.manifest, earlier.snapshot.manifest
    if now.space.fingerprint != then.space.fingerprint:
        return {}
    name = now.space.each[lane].fingerprint
    quantiser, trained = now.anns.get(name), snapshot.ann_blocks.get(name)
    same_lists = trained is earlier.snapshot.ann_blocks.get(name) and ann.same_effort(
        quantiser.facts if quantiser else {}, then.anns[name].facts if name in then.anns else {}
    )
    found: dict[tuple[int, int], _SegmentIndex] = {}
    for segment, index in zip(earlier.snapshot.segments, earlier.lanes[lane], strict=True):
        files = segment.lanes[lane]
        if isinstance(index, ann.Flat):
            found[id(files.vectors), id(None)] = index
        elif same_lists:
            found[id(files.vectors), id(files.code_blocks)] = index
    return found


def _chances(snapshot: Snapshot, earlier: View | None) -> Chances:
    """What chance gives; that of an earlier view if it has the same parts."""
    if earlier is not None and earlier.snapshot.manifest.query == snapshot.manifest.query:
        before, now = earlier.snapshot.segments, snapshot.segments
        if len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True)):
            return earlier.chances
    return Chances(snapshot)


def rows_of(
    segments: Sequence[Segment], first: Sequence[int], numbers: Sequence[int]
) -> list[HitRow]:
    """The rows of some numbers, in their order; each segment is asked once.

    first: for each segment, the number of its first row.
    """
    if len(segments) == 1:
        return segments[0].rows(numbers)
    places: dict[int, list[int]] = {}  # segment -> places in numbers
    for place, number in enumerate(numbers):
        places.setdefault(bisect_right(first, number) - 1, []).append(place)
    found: dict[int, HitRow] = {}  # place in numbers -> row
    for at, mine in places.items():
        rows = segments[at].rows([numbers[place] - first[at] for place in mine])
        found.update(zip(mine, rows, strict=True))
    return [found[place] for place in range(len(numbers))]


def _first(lanes: Sequence[int], modality: Modality | None, space: Space) -> int | None:
    """The first of some lanes that holds a kind of part."""
    return next((lane for lane in lanes if modality in space.held[lane]), None)


def _no_lane(space: Space, lanes: Sequence[int], groups: Sequence[Group]) -> str:
    """Why nothing can answer."""
    wanted = sorted({str(group.modality) for group in groups})
    held = sorted({str(m) for lane in lanes for m in space.held[lane]})
    return (
        f"{space.name}: what was asked lies in {' and '.join(space.each[i].name for i in lanes)}, "
        f"which finds {', '.join(held) or 'nothing'}, and not {', '.join(wanted) or 'that'}. "
        "`mmsearch bridge` makes one space of two, in which each finds the other."
    )


def _best(found: Sequence[tuple[Scores, Ids, Scores]], k: int) -> tuple[Scores, Ids, Scores]:
    """The k most surprising of what several lanes found, equal ones by score and then by row."""
    D, ids, S = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    order = np.lexsort((ids, -D, -S), axis=1)[:, :k]
    there = np.take_along_axis(ids, order, axis=1)
    return np.take_along_axis(D, order, axis=1), there, np.take_along_axis(S, order, axis=1)
