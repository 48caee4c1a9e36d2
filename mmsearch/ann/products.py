"""Exact search of many queries at once: matrix products choose rows, FAISS scores them.

A matrix product rounds a sum differently with the number of rows and queries in it. So it only
chooses the rows that may be among the best. FAISS computes their scores one by one, and a query
is called unsure if rounding might have left out a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.half import widened
from mmsearch.ann.library import faiss_module
from mmsearch.ann.quantiser import one_thread
from mmsearch.ann.topk import ordered
from mmsearch.types import Ids, Scores, Vectors

# Rows that are widened to float32 at a time: 16 MB at d = 512. Smaller blocks are no faster, and
# threads wait for each other once a block.
_BLOCK_ROWS = 8192
_BLOCK_QUERIES = 512  # asked at a time: their scores with a block take 16 MB
_KEPT = 1 << 20  # candidates of all queries of a block: 12 MB
_SCORED_ROWS = 16_384  # candidates that are copied and scored at a time: 16 MB at d = 512
# So many rows more than wanted are scored, and at least an eighth more: then few queries are
# unsure, even if thousands are wanted that lie close together.
_SPARE, _SPARE_SHARE = 8, 8
# With fewer queries the scan is faster, whatever the number of rows (benchmarks/exact.py): here
# rows are widened first, and by one thread.
_LEAST_QUERIES, _QUERIES_PER_THREAD = 16, 8
# With fewer comparisons the scan is faster, too: its rows stay in the processor's cache from
# one query to the next.
_LEAST_COMPARED = 100_000
_ROWS_PER_CANDIDATE = 16  # scoring a candidate costs as much as so many rows of a product


def worth(nq: int, k: int, m: int) -> bool:
    """Say whether products find the k best of m rows faster than a scan, for nq queries."""
    if nq < _LEAST_QUERIES or nq * m < _LEAST_COMPARED:
        return False
    if nq < _QUERIES_PER_THREAD * faiss_module().omp_get_max_threads():
        return False
    return _candidates(k) * _ROWS_PER_CANDIDATE <= m


def nearest(
    xq: Vectors, xb: NDArray[np.float16], k: int, rows: NDArray[np.int64] | None
) -> tuple[Scores, Ids, NDArray[np.bool_]]:
    """Find the k nearest of some rows to each query, and say for which that is certain.

    xq: float32 (nq, d), in one piece. xb: float16 (n, d).
    rows: int64 (m,), ascending, those that may be found; None is all. ``worth(nq, k, m)`` holds.
    Returns D float32 (nq, k), I int64 (nq, k) and bool (nq,).
    """
    D = np.empty((len(xq), k), np.float32)
    ids = np.empty((len(xq), k), np.int64)
    sure = np.empty(len(xq), np.bool_)
    step = max(1, min(_BLOCK_QUERIES, _KEPT // _candidates(k)))
    for at in range(0, len(xq), step):
        some = slice(at, at + step)
        least, found = _chosen(xq[some], xb, _candidates(k), rows)
        D[some], ids[some] = _scored(xq[some], xb, found, k)
        # each sum of d products is off by at most d times half a unit in the last place
        error = 2 * xq.shape[1] * 2.0**-24 * np.linalg.norm(xq[some], axis=1)
        sure[some] = D[some, -1] > least + error
    return D, ids, sure


def _candidates(k: int) -> int:
    return k + max(_SPARE, k // _SPARE_SHARE)


def _chosen(
    xq: Vectors, xb: NDArray[np.float16], kept: int, rows: NDArray[np.int64] | None
) -> tuple[Scores, Ids]:
    """Find the rows with the largest products: the least of these (nq,), and ids (nq, kept).

    The ids ascend, -1 for none, so that mapped pages are read forwards.
    """
    faiss = faiss_module()
    pointer = faiss.swig_ptr
    scores = np.empty((len(xq), kept), np.float32)
    places = np.empty((len(xq), kept), np.int64)
    heaps = faiss.float_minheap_array_t()
    heaps.nh, heaps.k = places.shape
    heaps.val, heaps.ids = pointer(scores), pointer(places)
    m = len(xb) if rows is None else len(rows)
    bits = np.empty((min(_BLOCK_ROWS, m), xb.shape[1]), np.int32)
    with one_thread():
        heaps.heapify()
        for start in range(0, m, _BLOCK_ROWS):
            some = slice(start, start + _BLOCK_ROWS)
            block = xb[some] if rows is None else xb[rows[some]]
            found = xq @ widened(block, bits).T
            heaps.addn(len(block), pointer(found), start)
    ids = np.where(places >= 0, places if rows is None else rows[places], -1)
    ids.sort(axis=1)
    return scores.min(axis=1), ids


def _scored(xq: Vectors, xb: NDArray[np.float16], ids: Ids, k: int) -> tuple[Scores, Ids]:
    """Find the k best of each query's candidates by FAISS's scores: (nq, k) and (nq, k).

    ids: int64 (nq, kept), -1 for none. FAISS gets a list for each query, with its candidates.
    """
    faiss = faiss_module()
    pointer, d = faiss.swig_ptr, xb.shape[1]
    found = []
    step = max(1, _SCORED_ROWS // ids.shape[1])
    for at in range(0, len(xq), step):
        some = ids[at : at + step]
        lists = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(d), d, len(some), faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT, False,
        )  # fmt: skip
        lists.is_trained = True
        for i, rows in enumerate(some):
            rows = rows[rows >= 0]
            if len(rows):
                codes = xb[rows].view(np.uint8).reshape(-1)
                lists.invlists.add_entries(i, len(rows), pointer(rows), pointer(codes))
        own, near = np.arange(len(some))[:, None], np.zeros((len(some), 1), np.float32)
        D, best = lists.search_preassigned(xq[at : at + step], some.shape[1], own, near)
        found.append(ordered(D, best, k))
    return np.concatenate([D for D, _ in found]), np.concatenate([best for _, best in found])
