"""What a query is ranked against, and the exact rank of every right answer in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.evaluation.measures import Ranks
from mmsearch.query import MAX_QUERY_WINDOWS
from mmsearch.store import Snapshot
from mmsearch.store.rows import MODALITIES
from mmsearch.types import Modality, Scores, Vectors

# Scores held at once: 64 M of float32 are 256 MB (or one query's, where those are more).
_CELLS = 64_000_000
_BLOCK_QUERIES = 1_024
_BLOCK_ROWS = 8_192
# From this many right answers a full sort is faster than counting what beats each.
_SORT_FROM = 12


class Pool(Protocol):
    """Targets, numbered from 0."""

    def __len__(self) -> int: ...

    def scores(self, xq: Vectors) -> Scores:
        """float32 (nq, n): the inner product of each query with each target."""


@dataclass
class Captions:
    """Captions as targets: their vectors, float32 (n, d)."""

    vectors: Vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def scores(self, xq: Vectors) -> Scores:
        """See ``Pool``."""
        return xq @ self.vectors.T


@dataclass
class Held:
    """What an index holds of one modality: items, not parts.

    An item's score is that of its best part. Numbers are in the order of the index,
    and so are equal scores. The items' ids are kept in memory, about 150 bytes each.
    """

    snapshot: Snapshot
    ids: dict[str, int] = field(default_factory=dict)  # item id -> number
    by_path: dict[str, int] = field(default_factory=dict)  # of the wanted paths: -> number
    content: dict[str, bytes] = field(default_factory=dict)  # of the wanted paths: -> its hash
    # segment -> (row numbers, number of the item that each belongs to)
    rows: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def scores(self, xq: Vectors) -> Scores:
        """See ``Pool``. Reads the memory-mapped vectors in blocks."""
        out = np.full((len(xq), len(self)), -np.inf, np.float32)
        for xb, items in self._blocks():
            first = int(items[0])
            if items[-1] - first + 1 == len(items) and (np.diff(items) == 1).all():
                # one part an item, in order: twice as fast as looking for each one's best
                there = out[:, first : first + len(items)]
                np.maximum(there, xq @ xb.T, out=there)
                continue
            order = np.argsort(items, kind="stable")
            own, starts = np.unique(items[order], return_index=True)
            best = np.maximum.reduceat(xq @ xb[order].T, starts, axis=1)
            out[:, own] = np.maximum(out[:, own], best)
        return out

    def _blocks(self) -> Iterator[tuple[Vectors, NDArray[np.int64]]]:
        for segment, (rows, items) in zip(self.snapshot.segments, self.rows, strict=True):
            for at in range(0, len(rows), _BLOCK_ROWS):
                some = rows[at : at + _BLOCK_ROWS]
                segment.check_stored(some)
                xb = segment.stored(some).astype(np.float32)
                _check_finite(xb, segment.folder)
                yield xb, items[at : at + _BLOCK_ROWS]

    def vectors_of(self, numbers: Sequence[int]) -> Vectors:
        """One unit vector for each item, (n, d): the mean of its first parts', as
        a query with its file would be."""
        several, back = np.unique(np.asarray(numbers, np.int64), return_inverse=True)
        place = {number: i for i, number in enumerate(several.tolist())}
        wanted = np.zeros(len(self), np.bool_)
        wanted[several] = True
        sums = np.zeros((len(several), self.snapshot.manifest.space.dimension))
        taken = np.zeros(len(several), np.int64)
        for segment, (rows, items) in zip(self.snapshot.segments, self.rows, strict=True):
            mine = np.flatnonzero(wanted[items])
            segment.check_stored(rows[mine])
            for at in mine.tolist():
                i = place[int(items[at])]
                if taken[i] < MAX_QUERY_WINDOWS:
                    sums[i] += segment.stored(rows[at : at + 1])[0].astype(np.float64)
                    taken[i] += 1
        _check_finite(sums, self.snapshot.folder)
        return unit(sums)[back]


def _check_finite(vectors: NDArray[Any], where: Path) -> None:
    """Raises IndexDamaged: nothing can be ranked by a score that is no number."""
    if not np.isfinite(vectors).all():
        raise IndexDamaged(f"{where} holds vectors that are no numbers. Run `mmsearch verify`.")


def unit(sums: NDArray[np.float64]) -> Vectors:
    """Rows scaled to unit length, as float32."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    out: Vectors = (sums / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return out


def held(snapshot: Snapshot, modality: Modality, wanted: set[str]) -> Held:
    """The live items of one modality; ``by_path`` has those of the wanted absolute paths."""
    pool = Held(snapshot)
    code = MODALITIES.index(modality)
    names = ("id", "part_no", "root", "path", "path_bytes", "content_hash")
    for segment in snapshot.segments:
        rows: list[NDArray[np.int64]] = []
        items: list[int] = []
        first = 0
        for batch in segment.batches(names):
            there = np.arange(first, first + batch.num_rows)
            there = there[segment.live[there] & (segment.modality_codes[there] == code)]
            first, before = first + batch.num_rows, first
            if not len(there):
                continue
            rows.append(there)
            some = batch.take((there - before).tolist())
            hashes = some.column("content_hash")
            columns = (some.column(name).to_pylist() for name in names[:-1])
            for row, (part, part_no, root, path, raw) in enumerate(zip(*columns, strict=True)):
                item = part if part_no == 0 else part[: -len(f"#{part_no}")]
                number = pool.ids.setdefault(item, len(pool.ids))
                items.append(number)
                if wanted and path is not None:
                    relative = path if raw is None else os.fsdecode(raw)
                    absolute = snapshot.absolute(root, relative)
                    if absolute in wanted:
                        pool.by_path.setdefault(absolute, number)
                        pool.content.setdefault(absolute, hashes[row].as_py())
        at = np.concatenate(rows) if rows else np.empty(0, np.int64)
        pool.rows.append((at.astype(np.int64), np.array(items, np.int64)))
    return pool


def exact_ranks(pool: Pool, xq: Vectors, targets: Sequence[Sequence[int]]) -> list[Ranks]:
    """The rank (1 is best) of each right answer in the whole pool, for each query.

    xq: float32 (nq, d). targets: for each query the numbers of its right answers.
    Equal scores stand in the pool's order.
    """
    out: list[Ranks] = []
    block = max(1, min(_BLOCK_QUERIES, _CELLS // max(1, len(pool))))
    for at in range(0, len(xq), block):
        for row, own in zip(
            pool.scores(xq[at : at + block]), targets[at : at + block], strict=True
        ):
            out.append(_ranks(row, np.asarray(own, np.int64)))
    return out


def _ranks(scores: Scores, own: Ranks) -> Ranks:
    if len(own) >= _SORT_FROM:
        place = np.empty(len(scores), np.int64)
        place[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
        return place[own]
    return np.array(
        [
            1 + np.count_nonzero(scores > scores[i]) + np.count_nonzero(scores[:i] == scores[i])
            for i in own.tolist()
        ],
        np.int64,
    )
