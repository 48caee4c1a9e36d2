"""The reading side of an open index: questions go in, results come out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from mmsearch import forks, store
from mmsearch.errors import IndexDamaged, MmsearchError, SpaceMismatch, SpaceUnavailable, UsageError
from mmsearch.given import checked_flag, is_unicode, listed, several, shown
from mmsearch.query import Query, check_text, checked, many_vectors, readable
from mmsearch.searcher.masks import Group
from mmsearch.searcher.results import BatchResults, Results
from mmsearch.searcher.view import Found, View
from mmsearch.spaces import Encoder
from mmsearch.spaces.kept import encoder_of
from mmsearch.store import Snapshot
from mmsearch.types import Hit, Modality, Scores, Space, Vectors

if TYPE_CHECKING:
    from mmsearch.filters import Filter, Params, Where
    from mmsearch.media.isolated import IsolatedDecoder

_BLOCK_TEXTS = 256  # of many texts, so many are encoded at once
_BLOCK_FILES = 32  # of many pictures or sounds, so many are searched with at once


class Searcher:
    """An index, open for searching.

    It shows the snapshot that was current when it was opened or last refreshed, whatever a writer
    does meanwhile. Safe to use from threads and in forked children; see ``mmsearch.Index``, which
    can change the index, too.
    """

    def __init__(self, folder: Path, space: str | None = None, isolate: bool = False) -> None:
        """space: the name that loads its space's model now, where that was moved. isolate: whether
        pictures and sounds that are asked with are decoded in a process of their own."""
        self.path = folder
        self._decoder = _decoder() if isolate else None
        self._place = space
        self._view = View.over(Snapshot.open(folder))
        self._encoder: Encoder | None = None
        self._lock, self._encoder_lock = forks.Lock(), forks.Lock()

    def __len__(self) -> int:
        """Parts that a search can find."""
        return len(self._view.snapshot)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} parts, {self.space})"

    @property
    def space(self) -> Space:
        """The space that the vectors of this index live in."""
        return self._view.snapshot.manifest.space

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is being shown."""
        return self._view.snapshot

    def close(self) -> None:
        """Ends the process that decodes, if there is one; it comes back if it is needed."""
        if self._decoder is not None:
            self._decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> bool:
        """Shows the newest snapshot; True if there was a newer one.

        What did not change since is kept: see the class.
        Raises IndexNotFound, IndexDamaged or IndexTooNew, and goes on showing the present one.
        """
        with self._lock:
            newest = Snapshot.open(self.path, self._view.snapshot)
            if newest is self._view.snapshot:
                return False
            self._view = View.over(newest, self._view)
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
        where: Where | None = None,
        params: Params | None = None,
        recall: float | None = None,
    ) -> Results:
        """The k parts nearest to a text, picture, sound or vector, best first.

        image: path, bytes or PIL image. audio: path or (samples, sample_rate_hz).
        vector: (d,) of this index's space. to: ``image``, ``text``, ``audio`` or ``any``.
        where: an SQL condition that hits must meet, such as ``"width > 1000"``; the columns
        are ``mmsearch.filters.COLUMNS``. Or a dict of what must be equal, or in a list:
        ``{"meta.brand": "nike", "id": ids}``. Its result is kept for the next query.
        params: the values of the condition's ``?``, in their order. Use them, or a dict, for all
        that comes from outside: a value never changes what is asked. Each is a str, int, float,
        bool, date or datetime; behind ``in`` a list of such of one kind, however long:
        ``where="meta.brand = ? and id in ?", params=["nike", ids]``. A datetime with an offset is
        taken in UTC.
        recall: the share of the ten nearest that should be found, 0.5 to 1; None is what the
        index was tuned for, 1 compares every vector.
        Raises UsageError, DecodeError, DimensionMismatch, SpaceMismatch, or SpaceUnavailable
        for a space whose vectors are not finite.
        """
        started = time.perf_counter()
        asked = {"text": text, "image": image, "audio": audio, "vector": vector}
        query = Query.make(**asked, to=to, k=k, where=where, params=params, recall=recall)
        view = self._view
        groups, filter_ms = _timed_groups(view, query.to, query.filter)
        encoder, unknown = None if vector is not None else self._encoder_for(view), 0.0
        if encoder is None and vector is None:
            found = _nothing(1, query.k)
        else:
            read = query
            if text is not None and encoder is not None:
                known, unknown = readable(encoder, text)
                read = replace(query, text=known)
            xq = read.vector_in(view.snapshot.manifest.space, encoder, self._decoder)
            found = _search(view, xq, query.k, groups, recall)
        D, rows, surprise, beyond = found
        surprises = None if surprise is None else surprise[0]
        told = surprises, beyond, unknown
        results = Results(view, D[0], rows[0], query, self.path, 0.0, filter_ms, *told)
        results.hits  # noqa: B018 - read now: what is damaged is said here, not by a loop later
        results.took_ms = (time.perf_counter() - started) * 1000
        return results

    def search_batch(
        self,
        texts: Iterable[str] | None = None,
        *,
        images: Iterable[Any] | None = None,
        audio: Iterable[Any] | None = None,
        vectors: Any = None,
        to: str | None = None,
        k: int = 10,
        where: Where | None = None,
        params: Params | None = None,
        recall: float | None = None,
    ) -> BatchResults:
        """The k parts nearest to each of many texts, pictures, sounds or vectors, in their order.

        Exactly one of the first four is asked with. texts: any iterable; it is taken, encoded and
        searched with in blocks, so that beside what is found (12 bytes a hit) and the texts
        themselves no memory is needed for many. images, audio: any iterables of what ``search``
        takes, decoded one by one; of those that are no paths, results keep only the type's name.
        vectors: (nq, d) numbers of this index's space, taken as they are where they are float32
        of unit length; searched with in blocks, too. to, k, where, params, recall: as for
        ``search``.
        All are answered from one snapshot. Hits are read when they are looked at.
        Raises UsageError, DecodeError, DimensionMismatch or LimitExceeded, naming what cannot be
        asked with (``images[3]``), and what ``search`` raises.
        """
        given = {"text": texts, "image": images, "audio": audio, "vector": vectors}
        kinds = [kind for kind, things in given.items() if things is not None]
        if len(kinds) != 1:
            raise UsageError(
                "ask a batch with exactly one of texts, images, audio and vectors; got "
                f"{len(kinds)}."
            )
        like = to_modality, k, asked_filter, recall = checked(to, k, where, params, recall)
        view = self._view
        groups, filter_ms = _timed_groups(view, to_modality, asked_filter)
        last = time.perf_counter()
        asked: Any
        if vectors is not None:
            asked, blocks = many_vectors(vectors, view.snapshot.manifest.space)
        elif texts is not None:
            asked = []
            blocks = self._encoded(view, several(texts, "texts"), asked)
        else:
            asked = []
            name = "images" if audio is None else "audio"
            things = several(images if audio is None else audio, name)
            blocks = self._decoded(view, kinds[0], name, things, asked)
        D, rows = [np.empty((0, k), np.float32)], [np.empty((0, k), np.int64)]
        took_ms, surprises = [np.empty(0, np.float64)], []
        for xq in blocks:
            found = (
                _search(view, xq, k, groups, recall) if len(view.snapshot) else _nothing(len(xq), k)
            )
            D.append(found.scores)
            rows.append(found.ids)
            surprises.append(found.surprise)
            now = time.perf_counter()
            took_ms.append(np.full(len(xq), (now - last) * 1000 / len(xq)))
            last = now
        filter_share_ms = None if filter_ms is None else filter_ms / max(1, len(asked))
        return BatchResults(
            view,
            self.path,
            kinds[0],
            asked,
            like,
            np.concatenate(D),
            np.concatenate(rows),
            np.concatenate(took_ms) + (filter_share_ms or 0),
            filter_share_ms,
            _joined(surprises, D[1:]),
        )

    @overload  # a str is an Iterable of str, too: the first that fits decides
    def get(self, ids: str, *, vectors: bool = False) -> Hit | None: ...  # type: ignore[overload-overlap]
    @overload
    def get(self, ids: Iterable[str], *, vectors: bool = False) -> list[Hit | None]: ...
    def get(
        self, ids: str | Iterable[str], *, vectors: bool = False
    ) -> Hit | list[Hit | None] | None:
        """The part with an id, or None if there is none; for several ids a list, in their order.

        ids: of parts or items: an item's id is that of its first part. vectors: whether hits carry
        their ``vector``, float32 (d,) as it is stored: of unit length to within 0.001. In an index
        of several spaces it holds the vector of each, one after the other, and 0 for a space that
        the part is not in: it can be searched with or added as it is.
        A hit that was not searched for has rank 0 and score 1.
        Raises UsageError for what is no id, and IndexDamaged.
        """
        view, vectors = self._view, checked_flag(vectors, "vectors")
        wanted = [ids] if isinstance(ids, str) else listed(ids, "ids")
        for one in wanted:
            if not isinstance(one, str):
                raise UsageError(f"an id is a str, not {shown(one)}.")
        found = view.find({one for one in wanted if is_unicode(one)}, vectors)
        return found.get(ids) if isinstance(ids, str) else [found.get(one) for one in wanted]

    # -- inside -------------------------------------------------------------

    def _encoder_for(self, view: View) -> Encoder | None:
        """The encoder; None for an empty index that keeps none yet, as a run leaves it that was
        stopped before its first commit."""
        try:
            return self._load_encoder(view)
        except SpaceMismatch:
            if len(view.snapshot):
                raise
            return None

    def _own_encoder(self) -> Encoder | None:
        """The encoder of what is shown now, loaded once; None as for ``_encoder_for``."""
        return self._encoder_for(self._view)

    def _load_encoder(self, view: View) -> Encoder:
        space = view.snapshot.manifest.space
        if (encoder := self._encoder) is None or encoder.space.fingerprint != space.fingerprint:
            with self._encoder_lock:  # loaded once, whoever asks for it meanwhile
                encoder = self._encoder
                if encoder is None or encoder.space.fingerprint != space.fingerprint:
                    snapshot = view.snapshot
                    kept, check = snapshot.kept_space, partial(self._check_kept, snapshot)
                    encoder = self._encoder = encoder_of(space, kept, check, place=self._place)
        return encoder

    def _check_kept(self, snapshot: Snapshot) -> None:
        """Raises IndexDamaged, or SpaceMismatch where the index is in another space by now."""
        try:
            snapshot.check_kept_space()
        except IndexDamaged:
            now = store.manifest.read(self.path).space
            if now.fingerprint == snapshot.manifest.space.fingerprint:
                raise
            raise SpaceMismatch(
                f"{self.path} was encoded anew in {now} since it was opened: refresh() shows that."
            ) from None

    def _encoded(self, view: View, texts: Iterable[str], asked: list[str]) -> Iterator[Vectors]:
        """The texts' vectors, block by block; the texts of those made so far are in asked."""
        if isinstance(texts, Sequence):  # the last is known to be wrong before the first is asked
            for i, text in enumerate(texts):
                _check_text(text, i)
        left = iter(texts)
        while block := list(islice(left, _BLOCK_TEXTS)):
            for i, text in enumerate(block, len(asked)):
                _check_text(text, i)
            asked += block
            if (encoder := self._encoder_for(view)) is None:
                yield np.zeros((len(block), view.snapshot.manifest.space.dimension), np.float32)
                continue
            read = []
            for i, text in enumerate(block, len(asked) - len(block)):
                with _naming("texts", i):
                    read.append(readable(encoder, text)[0])
            yield encoder.encode(Modality.TEXT, read, asked=True)

    def _decoded(
        self, view: View, kind: str, name: str, things: Iterable[Any], asked: list[str]
    ) -> Iterator[Vectors]:
        """The vectors of pictures or sounds, block by block; what is kept of those made so far is
        in asked. kind: as ``Query`` names it. name: of the argument, for errors."""
        space, left = view.snapshot.manifest.space, iter(things)
        while block := list(islice(left, _BLOCK_FILES)):
            encoder = self._encoder_for(view)
            xq = np.zeros((len(block), space.dimension), np.float32)
            for i, thing in enumerate(block):
                with _naming(name, len(asked)):
                    if thing is None:
                        raise UsageError(f"there is none: give the {kind} to look for.")
                    query = Query.make(**{kind: thing})
                    if encoder is not None:
                        xq[i] = query.vector_in(space, encoder, self._decoder)[0]
                    asked.append(query.to_json()[kind])
            yield xq


def _decoder() -> IsolatedDecoder:
    from mmsearch.media.isolated import IsolatedDecoder

    return IsolatedDecoder()


def _check_text(text: Any, at: int) -> None:
    with _naming("texts", at):
        check_text(text)


@contextmanager
def _naming(name: str, at: int) -> Iterator[None]:
    """Puts before an error which of the things asked with it is about."""
    try:
        yield
    except MmsearchError as e:
        e.args = (f"{name}[{at}]: {e}", *e.args[1:])
        raise


def _search(
    view: View, xq: Vectors, k: int, groups: Sequence[Group], recall: float | None
) -> Found:
    """What ``View.search`` finds, its scores within [-1, 1].

    Vectors are stored as float16 and summed up in float32, so that a cosine of 1 can come out
    as 1.0001. Raises SpaceUnavailable for vectors that are not finite.
    """
    found = view.search(xq, k, groups, recall)
    D, rows = found.scores, found.ids
    if math.isfinite(D.sum()):  # where fewer than k were found it is not, and no error
        np.clip(D, -1, 1, out=D)
        return found
    if not (np.isfinite(xq).all() and np.isfinite(D[rows >= 0]).all()):
        raise SpaceUnavailable(
            f"{view.snapshot.manifest.space} gave vectors that are not finite: its weights are "
            "damaged. Train it again and index anew."
        )
    np.clip(D, -1, 1, out=D, where=rows >= 0)
    return found


def _nothing(nq: int, k: int) -> Found:
    return Found(np.full((nq, k), -np.inf, np.float32), np.full((nq, k), -1, np.int64))


def _joined(surprises: Sequence[Scores | None], scores: Sequence[Scores]) -> Scores | None:
    """Those of all blocks: one decides for itself where no lanes met in it."""
    if all(one is None for one in surprises):
        return None
    rows = [
        np.full(own.shape, np.nan, np.float32) if one is None else one
        for one, own in zip(surprises, scores, strict=True)
    ]
    return np.concatenate(rows)


def _timed_groups(
    view: View, to: Modality | None, where: Filter | None
) -> tuple[Sequence[Group], float | None]:
    """Which parts may answer, and the milliseconds that the filter took; None without one."""
    if where is None:
        return view.allowed(to), None
    started = time.perf_counter()
    groups = view.allowed(to, where)
    return groups, (time.perf_counter() - started) * 1000
