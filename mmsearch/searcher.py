"""The read path: an open index, and the results of asking it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from mmsearch import ann, filters, store
from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.query import Query, listed
from mmsearch.spaces import Encoder
from mmsearch.spaces.kept import encoder_of
from mmsearch.store import HitRow, Segment, Snapshot
from mmsearch.store.rows import MODALITIES
from mmsearch.types import Hit, Ids, Mask, Modality, Scores, Space, Vectors

SCHEMA = 1  # of Results.to_json
_BATCH_QUERIES = 256


class Results(Sequence[Hit]):
    """The hits of one query, best first, and what was asked of what.

    ``filter_ms`` is the part of ``took_ms`` that the filter took; None without one.
    """

    def __init__(
        self,
        hits: Sequence[Hit],
        query: Query,
        folder: Path,
        space: Space,
        took_ms: float,
        filter_ms: float | None = None,
    ) -> None:
        self.hits = tuple(hits)
        self.query = query
        self.folder = folder
        self.space = space
        self.took_ms = took_ms
        self.filter_ms = filter_ms

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, at: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[at]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        return f"Results({len(self)} hits in {str(self.folder)!r}, {self.took_ms:.1f} ms)"

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch query --json`` prints; its form is ``schema``."""
        return {
            "schema": SCHEMA,
            "query": self.query.to_json(),
            "index": str(self.folder),
            "space": self.space.name,
            "took_ms": round(self.took_ms, 3),
            "filter_ms": None if self.filter_ms is None else round(self.filter_ms, 3),
            "hits": [hit.to_json() for hit in self.hits],
        }


@dataclass(frozen=True)
class _View:
    """A snapshot with what searching it needs, replaced as a whole by ``refresh``."""

    snapshot: Snapshot
    indexes: tuple[ann.SegmentIndex, ...]
    first: tuple[int, ...]  # segment -> number of its first row over all segments
    masks: dict[Modality | None, list[Mask | None]]  # filled as modalities are asked for
    # (a race fills one twice with the same)
    filtered: filters.MaskCache

    @classmethod
    def over(cls, snapshot: Snapshot) -> _View:
        indexes: list[ann.SegmentIndex] = []
        first, n = [], 0
        quantiser = snapshot.manifest.ann
        for segment in snapshot.segments:
            if quantiser is not None and (codes := segment.code_blocks) is not None:
                checks = segment.check_rows, codes.check_all
                indexes.append(ann.IvfPq(segment.vectors, codes.data, quantiser.facts, *checks))
            else:
                indexes.append(ann.Flat(segment.vectors, segment.check_rows))
            first.append(n)
            n += segment.ref.rows
        return cls(snapshot, tuple(indexes), tuple(first), {}, filters.MaskCache())

    def allowed(self, to: Modality | None, where: str | None = None) -> Sequence[Mask | None]:
        """For each segment, which rows may be found; None where all may.

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
                masks.append(None if mask.all() else mask)  # counted once, not per query
            self.masks[to] = masks
        return self.masks[to]

    def _met(self, to: Modality | None, where: str) -> list[Mask | None]:
        if to is None:
            found = filters.matching(self.snapshot, where)
            return [None if mask.all() else mask for mask in found]
        both = zip(self.allowed(to), self.allowed(None, where), strict=True)
        return [b if a is None else a if b is None else a & b for a, b in both]

    def search(self, xq: Vectors, k: int, masks: Sequence[Mask | None]) -> tuple[Scores, Ids]:
        """The best k over all segments; ids count rows over all segments."""
        found = []
        for index, first, mask in zip(self.indexes, self.first, masks, strict=True):
            if mask is not None and not mask.any():
                continue
            D, ids = index.search(xq, k, mask)
            found.append((D, np.where(ids >= 0, ids + first, -1)))
        if not found:
            return np.empty((len(xq), 0), np.float32), np.empty((len(xq), 0), np.int64)
        return ann.merge(found, k)

    def part(self, number: int) -> tuple[Segment, HitRow]:
        at = int(np.searchsorted(self.first, number, side="right")) - 1
        segment = self.snapshot.segments[at]
        return segment, segment.rows([number - self.first[at]])[0]

    def hit(self, rank: int, score: float, row: HitRow) -> Hit:
        return Hit(
            rank=rank,
            score=score,
            id=row.id,
            modality=row.modality,
            path=self.snapshot.absolute(row.root, row.path),
            start_s=row.start_s,
            end_s=row.end_s,
            text=row.text,
            meta=row.meta,
        )


class Index:
    """An index, open for asking. Safe to use from several threads.

    It shows the snapshot that was current when it was opened or last refreshed,
    whatever a writer does meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._view = _View.over(Snapshot.open(folder))
        self._encoder: Encoder | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Parts that a search can find."""
        return len(self._view.snapshot)

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self)} parts, {self.space})"

    @property
    def space(self) -> Space:
        """The space that the vectors of this index live in."""
        return self._view.snapshot.manifest.space

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is being shown."""
        return self._view.snapshot

    def refresh(self) -> bool:
        """Shows the newest snapshot; True if there was a newer one."""
        with self._lock:
            now = self._view.snapshot
            if store.manifest.read(self.path) == now.manifest:
                return False
            self._view = _View.over(Snapshot.open(self.path, now))
            return True

    def search(
        self,
        text: str | None = None,
        *,
        image: Any = None,
        audio: Any = None,
        vector: Any = None,
        to: str | None = None,
        k: int = 10,
        where: str | None = None,
    ) -> Results:
        """The k parts nearest to a text, picture, sound or vector, best first.

        image: path, bytes or PIL image. audio: path or (samples, sample_rate_hz).
        vector: (d,) of this index's space. to: ``image``, ``text``, ``audio`` or ``any``.
        where: an SQL condition that hits must meet, such as ``"width > 1000"``; the columns
        are ``mmsearch.filters.COLUMNS``. What it gave is kept for the next query.
        Raises UsageError, DecodeError, DimensionMismatch, SpaceMismatch, or SpaceUnavailable
        for a space whose vectors are not finite.
        """
        started = time.perf_counter()
        query = Query.make(text, image=image, audio=audio, vector=vector, to=to, k=k, where=where)
        view = self._view
        masks, filter_ms = _timed_masks(view, query)
        encoder = None if vector is not None else self._load_encoder(view)
        xq = query.vector_in(view.snapshot.manifest.space, encoder)
        return self._answer(view, [query], xq, masks, started, filter_ms)[0]

    def search_batch(
        self,
        texts: Sequence[str],
        to: str | None = None,
        k: int = 10,
        where: str | None = None,
    ) -> list[Results]:
        """One Results for each text, in order; faster than asking one by one."""
        view, texts = self._view, listed(texts, "texts")
        for text in texts:
            if not isinstance(text, str):
                raise UsageError(f"a text query is a str, not {type(text).__name__}.")
        out: list[Results] = []
        for at in range(0, len(texts), _BATCH_QUERIES):
            started = time.perf_counter()
            some = texts[at : at + _BATCH_QUERIES]
            queries = [Query.make(t, to=to, k=k, where=where) for t in some]
            masks, filter_ms = _timed_masks(view, queries[0])
            encoder = self._load_encoder(view)
            xq = encoder.encode(Modality.TEXT, [q.text for q in queries])
            out += self._answer(view, queries, xq, masks, started, filter_ms)
        return out

    def get(self, part_id: str) -> Hit | None:
        """The part with that id (an item's id is that of its first part), or None."""
        view = self._view
        if not isinstance(part_id, str):
            raise UsageError(f"an id is a str, not {type(part_id).__name__}.")
        found = view.snapshot.find(part_id)
        if found is None:
            return None
        segment, row = found
        return view.hit(0, 1.0, segment.rows([row])[0])

    def add(
        self,
        items: Iterable[Any],
        ids: Sequence[str] | None = None,
        meta: Sequence[dict[str, Any]] | None = None,
    ) -> list[str]:
        """Adds things in one commit, shows the result and returns their ids.

        items: paths, or dicts with one of ``text``, ``image`` and ``audio``.
        """
        from mmsearch.indexer import add_items

        added = add_items(self.path, items, ids, meta)
        self.refresh()
        return added

    def remove(self, what: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> int:
        """Removes items by id, or by path (a folder's: all below it); returns how many.

        What is the id of an item is taken as that; anything else as a path.
        """
        from mmsearch.indexer import remove_items

        several = [what] if isinstance(what, str | os.PathLike) else what
        removed = remove_items(self.path, several)
        self.refresh()
        return removed

    # -- inside -------------------------------------------------------------

    def _load_encoder(self, view: _View) -> Encoder:
        space = view.snapshot.manifest.space
        with self._lock:
            if self._encoder is None or self._encoder.space.fingerprint != space.fingerprint:
                self._encoder = encoder_of(
                    space, view.snapshot.kept_space, view.snapshot.check_kept_space
                )
            return self._encoder

    def _answer(
        self,
        view: _View,
        queries: Sequence[Query],
        xq: Vectors,
        masks: Sequence[Mask | None],
        started: float,
        filter_ms: float | None,
    ) -> list[Results]:
        manifest = view.snapshot.manifest
        D, ids = view.search(xq, queries[0].k, masks)
        share_ms = None if filter_ms is None else filter_ms / len(queries)
        if not np.isfinite(xq).all() or not np.isfinite(D[ids >= 0]).all():
            raise SpaceUnavailable(
                f"{manifest.space} gave vectors that are not finite: its weights are damaged. "
                "Train it again and index anew."
            )
        out = []
        for query, scores, row in zip(queries, D, ids, strict=True):
            hits: list[Hit] = []
            for score, number in zip(scores.tolist(), row.tolist(), strict=True):
                if number < 0:
                    break
                _, part = view.part(number)
                hits.append(view.hit(len(hits) + 1, score, part))
            took_ms = (time.perf_counter() - started) * 1000 / len(queries)
            out.append(Results(hits, query, self.path, manifest.space, took_ms, share_ms))
        return out


def _timed_masks(view: _View, query: Query) -> tuple[Sequence[Mask | None], float | None]:
    """Which rows may answer, and the milliseconds that the filter took; None without one."""
    started = time.perf_counter()
    masks = view.allowed(query.to, query.where)
    took_ms = (time.perf_counter() - started) * 1000
    return masks, None if query.where is None else took_ms
