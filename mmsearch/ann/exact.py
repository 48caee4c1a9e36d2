"""Exact search: FAISS compares the float16 vectors where they are mapped.

FAISS computes each inner product alone, whatever else is asked: a part has the same
score in every batch and from every way of finding it. Matrix products serve many queries:
they choose the rows that FAISS then compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann import products
from mmsearch.ann.library import faiss_module
from mmsearch.ann.masked import Masked
from mmsearch.ann.quantiser import one_thread
from mmsearch.ann.topk import distinct, ordered
from mmsearch.types import Ids, Scores, Vectors

# FAISS may return any of several rows with equal scores at the border. So a search takes this many
# rows more, and is repeated only if their scores are all equal: so many copies of a part are rare.
SPARE = 8
_MORE_EQUALS = 8  # a repeated search takes so many times as many rows
# Copying a row takes as long as asking the mask for so many rows.
_ROWS_PER_COPY = 60
# A copy must spare the mask at least so many rows, for making an index of it takes 80 µs.
_ROWS_SPARED = 10_000
_COPIED_BYTES = 20 << 20  # the largest copy: 20,000 rows at d = 512


def view(vectors: NDArray[np.float16]) -> Any:
    """A FAISS index over the rows (n, d) as they lie in memory or in a mapped file.

    Nothing is copied: ``vectors`` must be kept for as long as the index is used.
    """
    faiss = faiss_module()
    n, d = vectors.shape
    index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    nobody = faiss.MaybeOwnedVectorUInt8()  # FAISS need not free what numpy mapped
    codes = faiss.MaybeOwnedVectorUInt8.create_view(
        faiss.cast_integer_to_void_ptr(vectors.ctypes.data), n * d * 2, nobody.owner
    )
    index.codes = codes
    index.is_trained, index.ntotal = True, n
    return index


class Scan(NamedTuple):
    """An exhaustive search of a FAISS index, over all rows or those of a mask."""

    search: Any  # the index's own method, without the checks of types that Python's adds
    m: int  # how many rows may be found, at least one
    parameters: Any  # which; None is all

    @classmethod
    def of(cls, index: Any, only: Masked | None) -> Scan:
        """A scan of a ``view`` for the rows of a mask, or for all."""
        if only is None:
            return cls(index.search_c, index.ntotal, None)
        return cls(index.search_c, only.n, only.parameters)


def nearest(
    xq: Vectors, index: Any, xb: NDArray[np.float16], k: int, only: Masked | None
) -> tuple[Scores, Ids]:
    """Find the k nearest rows to each query; every row that may be found is compared.

    xq: float32 (nq, d), in one piece. xb: float16 (n, d), checked by the caller; index: its
    ``view``. only: which rows may be found, at least one; None is all.
    Returns D float32 (nq, k), best first, equal scores in row order, and I int64 (nq, k),
    padded with -inf and -1.
    """
    n, d = xb.shape
    m = n if only is None else only.n
    if scans(len(xq), n, d, k, m):
        return scanned(xq, Scan.of(index, only), k)
    rows = None if only is None else only.rows
    if rows is not None and not products.worth(len(xq), k, m):
        return among(xq, xb[rows], rows, k)
    D, ids, sure = products.nearest(xq, xb, k, rows)
    if not sure.all():
        D[~sure], ids[~sure] = scanned(xq[~sure], Scan.of(index, only), k)
    return D, ids


def among(
    xq: Vectors, some: NDArray[np.float16], rows: NDArray[np.int64], k: int
) -> tuple[Scores, Ids]:
    """Find the k best of some rows for each query, as ``nearest`` does.

    some: float16 (m, d), the vectors of the rows; rows: int64 (m,), ascending.
    """
    index = view(some)
    D, at = scanned(xq, Scan.of(index, None), k)
    return D, np.where(at >= 0, rows[at], -1)


def scans(nq: int, n: int, d: int, k: int, m: int) -> bool:
    """Say whether a scan of n rows of d numbers is the fastest way to the k best of m of them.

    If not, ``nearest`` takes matrix products, or copies the m rows.
    """
    if products.worth(nq, k, m):
        return False
    spared = nq * n - m * _ROWS_PER_COPY
    return m == n or spared < _ROWS_SPARED or m * d * 2 > _COPIED_BYTES


def scanned(xq: Vectors, scan: Scan, k: int) -> tuple[Scores, Ids]:
    """Find the k best rows of one index for each query, as ``nearest`` does."""
    wanted = min(k + SPARE, scan.m)
    D, ids = _asked(xq, scan, wanted)
    if wanted >= k and distinct(D, ids):
        return D[:, :k], ids[:, :k]
    best, rows = ordered(D, ids, k)
    if wanted < scan.m:
        for i in np.flatnonzero(D[:, k - 1] == D[:, -1]).tolist():
            best[i], rows[i] = _with_equals(xq[i : i + 1], scan, k)
    return best, rows


def _with_equals(q: Vectors, scan: Scan, k: int) -> tuple[Scores, Ids]:
    """Find the k best rows if more rows have the kth score than the first search took."""
    wanted = k + SPARE
    while True:
        wanted = min(wanted * _MORE_EQUALS, scan.m)
        D, ids = _asked(q, scan, wanted)
        if wanted == scan.m or D[0, k - 1] != D[0, -1]:
            return ordered(D, ids, k)


def _asked(xq: Vectors, scan: Scan, k: int) -> tuple[Scores, Ids]:
    """Ask FAISS for the k best rows of each query, and for any of equal ones.

    FAISS shares queries out to threads, so one query gets one: waiting for the others, which
    have nothing to do, takes milliseconds on a busy machine.
    """
    faiss = faiss_module()
    pointer, nq = faiss.swig_ptr, len(xq)
    D, ids = np.empty((nq, k), np.float32), np.empty((nq, k), np.int64)
    asked = nq, pointer(xq), k, pointer(D), pointer(ids), scan.parameters
    if nq > 1 or faiss.omp_get_max_threads() == 1:
        scan.search(*asked)
    else:
        with one_thread():
            scan.search(*asked)
    return D, ids


def scanned_each(xq: Vectors, asked: Sequence[Scan], k: int) -> tuple[Scores, Ids]:
    """Find the k best rows of each of several indexes, and some more, for a few queries.

    Python's part of it takes less time for an index than comparing a hundred rows.
    xq: float32 (nq, d), in one piece. Returns float32 and int64 (indexes, nq, k'), in any
    order, padded with -inf and -1.
    """
    faiss = faiss_module()
    nq, wanted = len(xq), k + SPARE
    D = np.full((len(asked), nq, wanted), -np.inf, np.float32)
    ids = np.full((len(asked), nq, wanted), -1, np.int64)
    at, scores, rows = faiss.swig_ptr(xq), D.ctypes.data, ids.ctypes.data
    to_scores, to_rows = faiss.cast_integer_to_float_ptr, faiss.cast_integer_to_idx_t_ptr
    with one_thread() if nq == 1 else nullcontext():
        for search, m, parameters in asked:
            search(nq, at, min(wanted, m), to_scores(scores), to_rows(rows), parameters)
            scores, rows = scores + D.strides[0], rows + ids.strides[0]
    for i, scan in enumerate(asked if nq > 1 else ()):
        if scan.m < wanted:
            _spread(D[i], scan.m, -np.inf)
            _spread(ids[i], scan.m, -1)
    for i, n in np.argwhere(D[:, :, k - 1] == D[:, :, -1]).tolist():
        if asked[i].m > wanted:
            D[i, n, k:], ids[i, n, k:] = -np.inf, -1
            D[i, n, :k], ids[i, n, :k] = _with_equals(xq[n : n + 1], asked[i], k)
    D[ids < 0] = -np.inf  # FAISS has another number for what it did not find
    return D, ids


def _spread(block: NDArray[Any], m: int, empty: float) -> None:
    """Move rows of m values, which lie one after the other, to the starts of a block's rows."""
    narrow = block.reshape(-1)[: len(block) * m].reshape(len(block), m).copy()
    block[:, :m], block[:, m:] = narrow, empty
