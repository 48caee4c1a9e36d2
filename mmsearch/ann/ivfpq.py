"""Approximate search: FAISS IVF with 4-bit fast-scan PQ, re-ranked exactly.

One trained, empty quantiser serves all segments; each has its own lists, so an
add never rewrites old codes. IVF-PQ gives k' candidates, whose inner products
are then computed from the stored float16 vectors.
Source: Jégou et al. 2011, doi:10.1109/TPAMI.2010.57; André et al. 2017 (fast scan).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.flat import Flat, _nothing
from mmsearch.ann.topk import rescored
from mmsearch.errors import IndexDamaged, UsageError
from mmsearch.types import CheckRows, Ids, Mask, Scores, Vectors

# Below this exact search answers in a few tens of milliseconds and is exact.
AUTO_MIN = 50_000
# The fewest vectors a quantiser is trained from, even when it is asked for:
# FAISS wants 39 for each of the 16 centroids of a 4-bit code.
MIN_TRAIN = 39 * 16
# FAISS needs 39 points a list; more than 64 does not improve the lists.
_TRAIN_PER_LIST = 64
# The corpus may grow this much before the lists are trained anew.
_RETRAIN_GROWTH = 4
_SUB_DIM = 4  # components a 4-bit code stands for: 64 bytes a part at d = 512
# With fewer allowed rows than this, looking at each is as fast as the lists.
_EXACT_ROWS = 20_000
_MIN_CANDIDATES = 400
# Where a filter leaves only what is far from the query (more than so many times the usual
# lists are needed), scores lie close together, and lists and codes order them badly. Up to
# this many rows are then looked at each (50 ms at d = 512), ...
_FAR = 2
_EXACT_FAR_ROWS = 100_000
_FAR_SHARE = 4  # ... and above it, so many times the lists, ...
_MAX_WIDER = 8  # ... and at most so many times the candidates.


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise UsageError(
            "FAISS is not installed, and approximate search needs it: "
            "pip install 'mmsearch[cpu]' (or [gpu]), or index with --ann flat."
        ) from None
    return faiss


def wanted(kind: str, live: int, trained_on: int | None) -> str:
    """What to do about the quantiser: ``none``, ``keep`` or ``train``.

    kind: ``auto``, ``flat`` or ``ivfpq``. live: parts in the index.
    trained_on: parts there were when the present one was trained, or None.
    """
    # a corpus that hovers about the threshold must not train and drop in turns
    least = AUTO_MIN if trained_on is None else AUTO_MIN // 2
    if kind == "flat" or live < MIN_TRAIN or (kind == "auto" and live < least):
        return "none"
    if trained_on is not None and live <= _RETRAIN_GROWTH * trained_on:
        return "keep"
    return "train"


def train(n: int, d: int, sample: Vectors) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """A trained, empty quantiser for about n vectors, serialised, and its facts.

    sample: float32 (m, d) of the vectors to come, at least ``MIN_TRAIN``.
    """
    faiss = _faiss()
    nlist = nlist_for(n)
    factory = f"IVF{nlist},PQ{max(1, d // _SUB_DIM)}x4fs"
    index: Any = faiss.index_factory(d, factory, faiss.METRIC_INNER_PRODUCT)
    index.verbose = False
    index.cp.seed = 1
    index.train(np.ascontiguousarray(sample))
    # a first choice; benchmarks/ann.py measures what it loses on queries of another kind
    nprobe = max(1, min(nlist, round(nlist * 0.08) + 8))
    facts = {"factory": factory, "nlist": nlist, "nprobe": nprobe}
    return faiss.serialize_index(index), facts


def nlist_for(n: int) -> int:
    """The number of lists for n vectors: 4·√n, as far as there is enough to train on."""
    return max(1, min(round(4 * math.sqrt(n)), n // 39))


def sample_size(n: int) -> int:
    """How many vectors ``train`` wants for a corpus of n."""
    return min(n, max(MIN_TRAIN, _TRAIN_PER_LIST * nlist_for(n)))


def encode(
    quantiser: NDArray[np.uint8], chunks: Iterable[NDArray[np.float16]]
) -> NDArray[np.uint8]:
    """A segment's lists: the vectors' codes under a trained quantiser, serialised.

    chunks: float16 (m, d) blocks in row order; row r gets id r.
    """
    faiss = _faiss()
    index = faiss.deserialize_index(quantiser)
    for chunk in chunks:
        index.add(chunk.astype(np.float32))
    out: NDArray[np.uint8] = faiss.serialize_index(index)
    return out


class IvfPq:
    """A segment's IVF-PQ lists, with the float16 vectors (n, d) for re-ranking.

    check_rows: told the rows of vectors that are about to be read, and check_codes called
    before the lists are; they raise where these are damaged.
    """

    def __init__(
        self,
        vectors: NDArray[np.float16],
        codes: NDArray[np.uint8],
        facts: dict[str, Any],
        check_rows: CheckRows = lambda rows: None,
        check_codes: Callable[[], None] = lambda: None,
    ) -> None:
        self._xb = vectors
        self._codes = codes
        self._check_rows, self._check_codes = check_rows, check_codes
        self._facts = facts
        self._index: Any = None
        self._flat = Flat(vectors, check_rows)
        self._last: tuple[Mask, NDArray[np.int64]] | None = None  # a mask, its rows a list

    def search(self, xq: Vectors, k: int, allowed: Mask | None) -> tuple[Scores, Ids]:
        """See ``ann.SegmentIndex``; scores are exact, a neighbour may be missed."""
        faiss = _faiss()
        n = len(self._xb)
        if n == 0:
            return _nothing(len(xq), k)
        n_allowed = n if allowed is None else int(np.count_nonzero(allowed))
        candidates = max(_MIN_CANDIDATES, 10 * k)
        if n_allowed <= max(_EXACT_ROWS, candidates) and n_allowed < n:
            return self._flat.search(xq, k, allowed)
        parameters: dict[str, Any] = {"nprobe": self._facts["nprobe"]}
        if allowed is not None and n_allowed < n:
            parameters["nprobe"] = self._nprobe(xq, allowed, n_allowed)
            wider = parameters["nprobe"] / self._facts["nprobe"]
            if wider > _FAR and n_allowed <= _EXACT_FAR_ROWS:
                return self._flat.search(xq, k, allowed)
            candidates = min(round(candidates * min(wider, _MAX_WIDER)), n_allowed)
            bits = np.packbits(allowed, bitorder="little")
            parameters["sel"] = faiss.IDSelectorBitmap(n, faiss.swig_ptr(bits))
        _, ids = self._open().search(
            np.ascontiguousarray(xq),
            min(candidates, n),
            params=faiss.SearchParametersIVF(**parameters),
        )
        self._check_rows(ids[ids >= 0])
        return rescored(xq, self._xb, ids, k)

    def _nprobe(self, xq: Vectors, allowed: Mask, n_allowed: int) -> int:
        """How many lists to look into, so that filtering costs no recall.

        What is allowed may lie far from the query (pictures of snow, asked for a beach): the
        nearest lists then hold none of it. So as many lists, nearest first, as hold the same
        share of the allowed rows as the usual ones do of all rows (where that is far, and the
        order of the lists says less, ``_FAR_SHARE`` times as much); for the query that needs most.
        """
        nlist, usual = self._facts["nlist"], self._facts["nprobe"]
        last = self._last  # the same filter is asked again and again
        if last is None or last[0] is not allowed:
            last = self._last = allowed, np.bincount(self._lists[allowed], minlength=nlist)
        _, nearest = self._open().quantizer.search(np.ascontiguousarray(xq), nlist)
        seen = np.cumsum(last[1][nearest], axis=1)
        share = n_allowed * usual / nlist
        needed = (seen < share).sum(axis=1).max() + 1
        if needed > _FAR * usual:
            needed = (seen < min(_FAR_SHARE * share, n_allowed)).sum(axis=1).max() + 1
        return int(min(nlist, max(usual, needed)))

    @cached_property
    def _lists(self) -> NDArray[np.int32]:
        """int32 (n,): the list that each row is in."""
        faiss = _faiss()
        held = self._open().invlists
        lists = np.empty(len(self._xb), np.int32)
        for i in range(self._facts["nlist"]):
            if size := held.list_size(i):
                lists[faiss.rev_swig_ptr(held.get_ids(i), size)] = i
        return lists

    def _open(self) -> Any:
        if self._index is None:
            faiss = _faiss()
            self._check_codes()
            try:
                self._index = faiss.deserialize_index(np.asarray(self._codes))
            except RuntimeError as e:
                raise IndexDamaged(f"the IVF-PQ lists cannot be read: {e}") from e
        return self._index
