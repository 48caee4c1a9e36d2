"""A snapshot with all that searching it needs, made once and shared by every query."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmsearch import ann, filters
from mmsearch.errors import IndexDamaged
from mmsearch.store import HitRow, Segment, Snapshot
from mmsearch.store.rows import BATCH_ROWS, MODALITIES
from mmsearch.store.snapshot import join
from mmsearch.types import Hit, Ids, Mask, Modality, Scores, Vectors

# What altered bytes lead to: Arrow's errors are ValueErrors and IndexErrors.
_UNREADABLE = (ValueError, LookupError, TypeError)
NOTHING: Mask = np.empty(0, np.bool_)  # stands for a mask of a segment without a True


@dataclass(frozen=True)
class View:
    """A snapshot and what searching it needs, replaced as a whole by ``refresh``.

    Rows are numbered over all segments: those of the first, then those of the second, …
    """

    snapshot: Snapshot
    indexes: tuple[ann.SegmentIndex, ...]
    first: tuple[int, ...]  # segment -> number of its first row
    prefixes: dict[int, str]  # root -> what stands before a path below it
    masks: dict[Modality | None, list[Mask | None]] = field(default_factory=dict)
    # filled as modalities are asked for (a race fills one twice with the same)
    filtered: filters.MaskCache = field(default_factory=lambda: filters.MaskCache())

    @classmethod
    def over(cls, snapshot: Snapshot) -> View:
        """The view of a snapshot; what takes long is made when it is first used."""
        indexes: list[ann.SegmentIndex] = []
        first, n = [], 0
        quantiser, trained = snapshot.manifest.ann, snapshot.ann_blocks
        for segment in snapshot.segments:
            lists = segment.code_blocks
            if quantiser is not None and trained is not None and lists is not None:
                files = segment.vector_blocks, lists, trained
                indexes.append(ann.IvfPq(segment.vectors, *files, quantiser.facts))
            else:
                indexes.append(ann.Flat(segment.vectors, segment.check_rows))
            first.append(n)
            n += segment.ref.rows
        prefixes = {root.id: join(root.path, "") for root in snapshot.manifest.roots}
        return cls(snapshot, tuple(indexes), tuple(first), prefixes)

    # -- which rows may answer ----------------------------------------------

    def allowed(self, to: Modality | None, where: str | None = None) -> Sequence[Mask | None]:
        """For each segment, which rows may be found; None where all may, ``NOTHING`` where none.

        Raises UsageError or LimitExceeded for a filter that is none, or takes too much.
        """
        if where is not None:
            return self.filtered.get((to, where), lambda: self._met(to, where))
        if to not in self.masks:
            masks: list[Mask | None] = []
            for segment in self.snapshot.segments:
                mask = segment.live
                if to is not None:
                    mask = mask & (segment.modality_codes == MODALITIES.index(to))
                masks.append(_known(mask))
            self.masks[to] = masks
        return self.masks[to]

    def _met(self, to: Modality | None, where: str) -> list[Mask | None]:
        if to is None:
            return [_known(mask) for mask in filters.matching(self.snapshot, where)]
        both = zip(self.allowed(to), self.allowed(None, where), strict=True)
        return [_both(a, b) for a, b in both]

    # -- searching ----------------------------------------------------------

    def search(
        self, xq: Vectors, k: int, masks: Sequence[Mask | None], recall: float | None = None
    ) -> tuple[Scores, Ids]:
        """The best k over all segments, best first.

        xq: float32 (nq, d), rows of unit length. masks: as ``allowed`` gives them.
        recall: see ``Query``.
        Returns D float32 (nq, k) inner products and I int64 (nq, k) numbers of rows over
        all segments; where fewer than k were found, I is -1 and D is -inf.
        """
        found = []
        for index, first, mask in zip(self.indexes, self.first, masks, strict=True):
            if mask is NOTHING:
                continue
            D, ids = index.search(xq, k, mask, recall)
            found.append((D, np.where(ids >= 0, ids + first, -1) if first else ids))
        if len(found) == 1:
            return found[0]
        if not found:
            return np.full((len(xq), k), -np.inf, np.float32), np.full((len(xq), k), -1, np.int64)
        return ann.merge(found, k)

    # -- reading what was found ---------------------------------------------

    def hits(self, scores: Scores, numbers: Ids) -> tuple[Hit, ...]:
        """The hits of one query.

        scores: float32 (k,). numbers: int64 (k,), -1 at its end where fewer were found.
        Raises IndexDamaged where a row is not what a writer writes.
        """
        found = [number for number in numbers.tolist() if number >= 0]
        try:
            rows = rows_of(self.snapshot.segments, self.first, found)
            ranked = enumerate(zip(scores.tolist(), rows, strict=False), 1)
            return tuple([self.hit(rank, score, row) for rank, (score, row) in ranked])
        except _UNREADABLE as e:
            raise self._damaged(e) from e

    def hit(self, rank: int, score: float, row: HitRow) -> Hit:
        """A row as a hit."""
        part, root, path, modality, _, start_s, end_s, text, meta = row
        if path is not None:
            path = self.prefixes[root] + (path if os.sep == "/" else path.replace("/", os.sep))
        return Hit(rank, score, part, modality, path, start_s, end_s, text, meta)

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
            f"{folder}` says what is affected."
        )

    @cached_property
    def _id_columns(self) -> list[pa.Array]:
        return [batch.column("id") for s in self.snapshot.segments for batch in s.batches(["id"])]

    @cached_property
    def _id_starts(self) -> NDArray[np.int64]:
        """int64 (batches,): the number of each batch's first row."""
        segments = zip(self.snapshot.segments, self.first, strict=True)
        starts = [np.arange(first, first + s.ref.rows, BATCH_ROWS) for s, first in segments]
        return np.concatenate([np.empty(0, np.int64), *starts])


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
