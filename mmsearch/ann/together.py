"""All segments of a snapshot in one space, searched as one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann import exact
from mmsearch.ann.flat import Flat
from mmsearch.ann.ivfpq import IvfPq
from mmsearch.ann.topk import merge, nothing
from mmsearch.types import Ids, Mask, Scores, Vectors

NOTHING: Mask = np.empty(0, np.bool_)  # stands for a mask without a True
# Neighbours with fewer rows are copied side by side: searching a segment alone costs as much
# as comparing some 300 rows more.
_SMALL_ROWS = 2048
# Rows in one copy: 4 MB at d = 512 stay in the processor's cache for several queries.
_COPIED_ROWS = 4096
# Up to so many queries are asked of all segments before anything is put in order. With more,
# matrix products may be faster.
_FEW_QUERIES = 15
_FEW_HITS = 10_000  # that these queries may want in all: 12 bytes each, in each segment
# At most this many plans are kept, and fewer if their masks, which they hold, are large.
_MOST_PLANS, _MOST_BYTES = 16, 64 << 20


class Together:
    """The segments' indexes, in order; their rows are numbered from first to last.

    indexes: of each segment. Neighbours that are small and have no lists are copied side by
    side when they are first searched. Safe to use from several threads.
    """

    def __init__(self, indexes: Sequence[Flat | IvfPq]) -> None:
        self._units = tuple(_units(indexes))
        rows = sum(len(index.vectors) for index in indexes)
        self._most = max(1, min(_MOST_PLANS, _MOST_BYTES // max(1, rows)))
        self._plans: dict[int, _Plan] = {}  # id of masks, which the plan holds -> plan

    def search(
        self, xq: Vectors, k: int, masks: Sequence[Mask | None], recall: float | None = None
    ) -> tuple[Scores, Ids]:
        """Find the nearest rows of all segments, as ``ann.SegmentIndex`` does of one.

        masks: of each segment bool (n,), None where all rows may be found, ``NOTHING`` where
        none may; not changed afterwards.
        """
        nq = len(xq)
        plan = self._plan(masks)
        xq = np.ascontiguousarray(xq, np.float32)
        found: list[tuple[Scores, Ids]] = []
        rest: Sequence[_Part] = plan.parts
        few = nq == 1 or (len(rest) > 1 and 0 < nq <= _FEW_QUERIES)
        if few and nq * k <= _FEW_HITS and "faiss" in sys.modules:
            scans, firsts, rest = plan.scans()
            if len(scans) == 1:
                D, ids = exact.scanned(xq, scans[0], k)
                found.append((D, ids + firsts if firsts[0] else ids))
            elif scans:
                D, ids = exact.scanned_each(xq, scans, k)
                ids += firsts[:, None, None]
                found += zip(D, ids, strict=True)
        for index, mask, first in rest:
            D, ids = index.search(xq, k, mask, recall)
            found.append((D, ids + first if first else ids))
        if not found:
            return nothing(nq, k)
        D, ids = found[0] if len(found) == 1 else merge(found, k)
        if plan.numbered and D[:, -1].min() == -np.inf:  # fewer than k were found
            ids = np.where(np.isneginf(D), -1, ids)
        return D, ids

    def _plan(self, masks: Sequence[Mask | None]) -> _Plan:
        plans = self._plans
        plan = plans.get(id(masks))
        if plan is None:
            if len(plans) >= self._most:
                plans = self._plans = {}
            plan = plans.setdefault(id(masks), _Plan(self._units, masks))
        return plan


class _Part(NamedTuple):
    """One index to search, the mask of its rows, and the number of its first row."""

    searched: Flat | IvfPq
    mask: Mask | None
    first: int


class _Plan:
    """The parts to search under some masks."""

    def __init__(self, units: Sequence[_Unit], masks: Sequence[Mask | None]) -> None:
        """Copies small segments that were not copied yet. Raises IndexDamaged."""
        self.masks = masks  # held, so that no other masks get their id
        self.parts = tuple(unit.part(own) for unit in units if (own := unit.own(masks)))
        self.numbered = any(part.first for part in self.parts)  # not from 0
        self._scans: tuple[list[exact.Scan], NDArray[np.int64], list[_Part]] | None = None

    def scans(self) -> tuple[Sequence[exact.Scan], NDArray[np.int64], Sequence[_Part]]:
        """Return the parts that FAISS scans, their first rows, and the other parts.

        Raises IndexDamaged.
        """
        known = self._scans
        if known is None:
            scans, firsts, others = [], [], []
            for part in self.parts:
                scan = part.searched.scan(part.mask) if isinstance(part.searched, Flat) else None
                if scan is None:
                    others.append(part)
                else:
                    scans.append(scan)
                    firsts.append(part.first)
            known = self._scans = scans, np.array(firsts, np.int64), others
        return known


class _Unit:
    """Segments that are searched as one: a single one, or copies of small neighbours."""

    def __init__(self, segments: Sequence[Flat | IvfPq], at: int, first: int) -> None:
        """at: the number of the first segment; first: that of its first row."""
        self._segments = segments
        self._of = slice(at, at + len(segments))
        self._first = first
        self._index = segments[0] if len(segments) == 1 else None

    def own(self, masks: Sequence[Mask | None]) -> Sequence[Mask | None]:
        """Return the masks of its segments, or none of them if no row may be found."""
        own = masks[self._of]
        return () if all(mask is NOTHING for mask in own) else own

    def part(self, own: Sequence[Mask | None]) -> _Part:
        """Return what is searched with the masks of its segments. Raises IndexDamaged."""
        if self._index is None:  # two threads may both copy, and either copy serves
            copied = [one.checked() for one in self._segments if isinstance(one, Flat)]
            self._index = Flat(np.concatenate(copied))
        return _Part(self._index, self._joined(own), self._first)

    def _joined(self, own: Sequence[Mask | None]) -> Mask | None:
        if len(own) == 1 or all(mask is None for mask in own):
            return own[0]
        whole = [
            np.full(len(one.vectors), mask is None) if mask is None or mask is NOTHING else mask
            for one, mask in zip(self._segments, own, strict=True)
        ]
        return np.concatenate(whole)


def _units(indexes: Sequence[Flat | IvfPq]) -> Iterator[_Unit]:
    at = first = 0
    for run in _runs(indexes):
        yield _Unit(run, at, first)
        at, first = at + len(run), first + sum(len(one.vectors) for one in run)


def _runs(indexes: Sequence[Flat | IvfPq]) -> Iterator[Sequence[Flat | IvfPq]]:
    """Yield small neighbours without lists together, and each of the others alone."""
    run: list[Flat | IvfPq] = []
    rows = 0
    for index in indexes:
        n = len(index.vectors)
        small = isinstance(index, Flat) and n < _SMALL_ROWS
        if run and (not small or rows + n > _COPIED_ROWS):
            yield run
            run, rows = [], 0
        if small:
            run.append(index)
            rows += n
        else:
            yield [index]
    if run:
        yield run
