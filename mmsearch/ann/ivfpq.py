"""Approximate search: FAISS IVF with 4-bit fast-scan PQ, re-ranked exactly.

One trained, empty quantiser serves all segments; each has its own lists, so an
add never rewrites old codes. The lists give k' candidates, whose inner products
are then computed from the stored float16 vectors, where they are mapped.
Lists are loaded when first wanted; until then, and until every vector has been
checked, the steps are taken one by one, so that nothing unchecked is compared.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch import forks
from mmsearch.ann import exact
from mmsearch.ann.effort import Effort, effort_for
from mmsearch.ann.library import faiss_module
from mmsearch.ann.lists import Lists
from mmsearch.ann.masked import Masked, Masks
from mmsearch.ann.quantiser import coarse_parameters
from mmsearch.ann.topk import nothing, ordered
from mmsearch.ann.trained import Trained
from mmsearch.once import once
from mmsearch.types import Checked, Ids, Mask, Scores, Vectors

# With fewer allowed rows than this, looking at each costs no more than the lists do.
_EXACT_ROWS = 2_000
_TAKEN_ROWS = 20_000  # so many are checked and compared alone, not the whole file
# Where a filter leaves only what is far from the query (more than so many times the lists
# that its share asks for), scores lie close together, and lists and codes order them badly.
# Up to so many rows are then compared each (a few ms); above it so many times the lists are
# looked into (and that at least of a share of all), and at most so many times the candidates
# compared (and at least some).
_FAR, _EXACT_FAR_ROWS, _FAR_SHARE, _FAR_LISTS = 2, 100_000, 4, 0.05
_MAX_WIDER, _FAR_CANDIDATES = 8, 2000
_BATCH_QUERIES = 1024  # bounds the memory of a batch: some 10 MB at 200 candidates
# A query may touch lists and vectors that nobody touched before; so many queries at once
# touch so many of them that all are read and checked in one go.
_MANY_QUERIES = 256
# Each search before that also goes through a little more of the rest.
_AHEAD_BYTES, _AHEAD_LISTS = 1 << 20, 16


class IvfPq:
    """A segment's lists, with the float16 vectors (n, d) for re-ranking.

    vector_file, list_file: the mapped files, whose blocks are checked on first touch.
    quantiser: the file of what was trained, see ``trained``. facts: see ``quantiser.train``
    and ``tune.tuned``. Raises IndexDamaged where the lists cannot be read.
    """

    def __init__(
        self,
        vectors: NDArray[np.float16],
        vector_file: Checked,
        list_file: Checked,
        quantiser: Checked,
        facts: dict[str, Any],
    ) -> None:
        self._xb = vectors
        self._vector_file = vector_file
        self._vectors_at = len(vector_file.data) - vectors.nbytes
        self._facts = facts
        self._list_file, self._quantiser = list_file, quantiser
        self._parts: tuple[Lists, Any, Any] | None = None
        self._lock = threading.Lock()
        self._asked: dict[tuple[Effort, int], Any] = {}  # what FAISS is told for an effort
        self._masks = Masks()
        forks.renewed(self, IvfPq._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        self._lock = threading.Lock()
        if self._parts is not None:
            if self._parts[0].loading:  # FAISS's lists are half changed: others are loaded
                forks.abandon(*self._parts)
                self._parts = None
            else:
                self._parts[0].renew()

    def search(
        self, xq: Vectors, k: int, allowed: Mask | None, recall: float | None = None
    ) -> tuple[Scores, Ids]:
        """See ``ann.SegmentIndex``; scores are exact, a neighbour may be missed."""
        found = [
            self._search(xq[at : at + _BATCH_QUERIES], k, allowed, recall)
            for at in range(0, max(1, len(xq)), _BATCH_QUERIES)
        ]
        if len(found) == 1:
            return found[0]
        return np.concatenate([D for D, _ in found]), np.concatenate([i for _, i in found])

    # -- for the tuner ---------------------------------------------------------

    @property
    def vectors(self) -> NDArray[np.float16]:
        """The vectors (n, d)."""
        return self._xb

    @property
    def nlist(self) -> int:
        """How many lists there are."""
        return self._open()[0].nlist

    @property
    def list_of_row(self) -> NDArray[np.int32]:
        """int32 (n,): the list that each row is in."""
        return self._open()[0].of_row

    def nearest_lists(self, xq: Vectors) -> Ids:
        """int64 (nq, nlist): all lists, nearest first."""
        ids: Ids = _nearest(self._open()[1], xq, self.nlist)[1]
        return ids

    def candidates(self, xq: Vectors, allowed: Mask | None, effort: Effort) -> Ids:
        """int64 (nq, effort.candidates): the rows that would be compared, best codes first."""
        lists, index, _ = self._open()
        lists.load(None, index)
        near, wanted = _nearest(index, xq, effort.nprobe)
        selector = None if allowed is None else self._masks.of(allowed).selector
        return _candidates(index, xq, near, wanted, effort, selector)

    # -- inside ----------------------------------------------------------------

    def _search(
        self, xq: Vectors, k: int, allowed: Mask | None, recall: float | None
    ) -> tuple[Scores, Ids]:
        n = len(self._xb)
        only = None if allowed is None else self._masks.of(allowed)
        n_allowed = n if only is None else only.n
        if len(xq) == 0 or n_allowed == 0:
            return nothing(len(xq), k)
        xq = np.ascontiguousarray(xq, np.float32)
        if n_allowed <= _EXACT_ROWS or k + exact.SPARE > n_allowed // 2 or recall == 1:
            return self._exactly(xq, k, only)
        self._open()
        effort = effort_for(self._facts, recall, k, n_allowed / n)
        if only is not None and n_allowed < n:
            usual = effort
            effort = self._widened(xq, only, usual)
            if effort.nprobe > _FAR * usual.nprobe and n_allowed <= _EXACT_FAR_ROWS:
                return self._exactly(xq, k, only)
        return self.search_with(effort, xq, k, allowed)

    def search_with(
        self, effort: Effort, xq: Vectors, k: int, allowed: Mask | None
    ) -> tuple[Scores, Ids]:
        """As ``search``, with a given effort."""
        lists, index, _ = self._open()
        n = len(self._xb)
        effort = Effort(effort.nprobe, min(max(effort.candidates, k + exact.SPARE), n))
        selector = None if allowed is None else self._masks.of(allowed).selector
        if len(xq) >= _MANY_QUERIES:
            lists.load(None, index)
            self._vector_file.check_all()
        if lists.complete and self._vector_file.whole:
            return self._at_once(xq, k, effort, selector)
        return self._step_by_step(xq, k, effort, selector)

    def _at_once(self, xq: Vectors, k: int, effort: Effort, selector: Any) -> tuple[Scores, Ids]:
        _, index, refined = self._open()
        k_found = min(k + exact.SPARE, effort.candidates)
        asked = (effort, k_found)
        parameters = self._asked.get(asked) if selector is None else None
        if parameters is None:
            faiss = faiss_module()
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=(effort.candidates + 0.5) / k_found,  # FAISS cuts the product
                base_index_params=_parameters(index, effort, selector),
            )
            if selector is None:  # the same are asked for again and again
                self._asked = {**self._asked, asked: parameters} if len(self._asked) < 64 else {}
        D, ids = refined.search(xq, k_found, params=parameters)
        return ordered(D, ids, k)

    def _step_by_step(
        self, xq: Vectors, k: int, effort: Effort, selector: Any
    ) -> tuple[Scores, Ids]:
        lists, index, _ = self._open()
        near, wanted = _nearest(index, xq, effort.nprobe)
        lists.load(wanted, index)
        candidates = _candidates(index, xq, near, wanted, effort, selector)
        found = [
            self._compare(q[None], np.sort(ids[ids >= 0]), k)
            for q, ids in zip(xq, candidates, strict=True)
        ]
        lists.load_ahead(_AHEAD_LISTS, index)
        self._vector_file.check_more(_AHEAD_BYTES)
        return np.concatenate([D for D, _ in found]), np.concatenate([i for _, i in found])

    def _exactly(self, xq: Vectors, k: int, only: Masked | None) -> tuple[Scores, Ids]:
        if only is not None and only.n <= _TAKEN_ROWS and not self._vector_file.whole:
            return self._compare(xq, only.rows, k)
        self._vector_file.check_all()
        return exact.nearest(xq, self._exact, self._xb, k, only)

    def _compare(self, xq: Vectors, rows: NDArray[np.int64], k: int) -> tuple[Scores, Ids]:
        """The k best of some rows, checked first, by their exact scores."""
        if not len(rows):
            return nothing(len(xq), k)
        if self._vector_file.whole:
            return exact.among(xq, self._xb[rows], rows, k)
        width = self._xb.shape[1] * self._xb.itemsize
        some = self._vector_file.take(self._vectors_at + rows * width, width)
        return exact.among(xq, some.view(np.float16), rows, k)

    def _widened(self, xq: Vectors, only: Masked, effort: Effort) -> Effort:
        """The effort that costs a filtered search no recall.

        What is allowed may lie far from the query (pictures of snow, asked for a beach): the
        nearest lists then hold none of it. So as many lists, nearest first, as hold the same
        share of the allowed rows as the usual ones do of all rows (where that is far, and the
        order of the lists says less, ``_FAR_SHARE`` times as much); for the query that needs most.
        """
        lists, index, _ = self._open()
        nlist = lists.nlist
        held = only.held(lists)
        if (held * 2 >= lists.sizes).all():
            return effort  # such as after some deletions: every list keeps most of its rows
        looked = min(nlist, _FAR_SHARE * _FAR * effort.nprobe)
        _, nearest = _nearest(index, xq, looked)
        seen = np.cumsum(held[nearest], axis=1)
        share = only.n * effort.nprobe / nlist
        needed = int((seen < share).sum(axis=1).max()) + 1
        if needed <= _FAR * effort.nprobe:
            return Effort(max(effort.nprobe, min(needed, nlist)), effort.candidates)
        if looked < nlist:
            _, nearest = _nearest(index, xq, nlist)
            seen = np.cumsum(held[nearest], axis=1)
        share = _FAR_SHARE * max(share, only.n * _FAR_LISTS)
        needed = int((seen < min(share, only.n)).sum(axis=1).max()) + 1
        wider = min(needed / effort.nprobe, _MAX_WIDER)
        candidates = max(round(effort.candidates * wider), _FAR_CANDIDATES)
        return Effort(min(needed, nlist), candidates)

    @once
    def _exact(self) -> Any:
        """The vectors as a FAISS index, which only points to them."""
        return exact.view(self._xb)

    def _open(self) -> tuple[Lists, Any, Any]:
        """The lists, the FAISS index that they are loaded into, and that with exact scores."""
        if self._parts is None:
            with self._lock:  # FAISS points into what Python keeps: it must be made once
                if self._parts is None:
                    self._parts = self._opened()
        return self._parts

    def _opened(self) -> tuple[Lists, Any, Any]:
        n, d = self._xb.shape
        self._quantiser.check_all()
        self._trained = Trained.read(self._quantiser.data, d, self._facts["nlist"])
        index = self._trained.index()
        lists = Lists(self._list_file, n, index)
        index.ntotal = n
        return lists, index, faiss_module().IndexRefine(index, self._exact)


def _nearest(index: Any, xq: Vectors, n: int) -> tuple[Scores, Ids]:
    """The n nearest lists of each query: scores and numbers, (nq, n)."""
    found: tuple[Scores, Ids] = index.quantizer.search(xq, n, params=coarse_parameters(index, n))
    return found


def _parameters(index: Any, effort: Effort, selector: Any) -> Any:
    faiss = faiss_module()
    more = {} if selector is None else {"sel": selector}
    if (coarse := coarse_parameters(index, effort.nprobe)) is not None:
        more["quantizer_params"] = coarse
    return faiss.SearchParametersIVF(nprobe=effort.nprobe, **more)


def _candidates(
    index: Any, xq: Vectors, near: Scores, wanted: Ids, effort: Effort, selector: Any
) -> Ids:
    """int64 (nq, candidates): rows out of the lists ``wanted``, -1 where there are fewer."""
    faiss = faiss_module()
    scores = np.empty((len(xq), effort.candidates), np.float32)
    ids = np.empty((len(xq), effort.candidates), np.int64)
    pointer = faiss.swig_ptr
    index.search_preassigned_c(
        len(xq), pointer(xq), effort.candidates, pointer(wanted), pointer(near),
        pointer(scores), pointer(ids), False, _parameters(index, effort, selector),
    )  # fmt: skip
    return ids
