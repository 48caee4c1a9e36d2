"""Exact scores of some rows: FAISS compares the float16 vectors where they are mapped.

FAISS computes each inner product alone, whatever else is asked: a part has the same
score in every batch and from every way of finding it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.library import faiss_module
from mmsearch.ann.topk import ordered
from mmsearch.types import Ids, Scores, Vectors

# Equal scores at the border come from FAISS in any order: these more are looked at.
SPARE = 8


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


def among(
    xq: Vectors, some: NDArray[np.float16], rows: NDArray[np.int64], k: int
) -> tuple[Scores, Ids]:
    """The k best of some rows for each query, best first, equal scores in row order.

    some: float16 (m, d), the vectors of the rows; rows: int64 (m,), ascending.
    Returns D float32 (nq, k) and I int64 (nq, k), padded with -inf and -1.
    """
    D, at = view(some).search(np.ascontiguousarray(xq), min(k + SPARE, len(rows)))
    return ordered(D, np.where(at >= 0, rows[at], -1), k)
