"""Trains the quantiser that an index's segments share, and codes vectors under it.

Lists are found by a coarse quantiser that is itself searched with 4-bit codes and
exact float16 centroids behind them: at 4,096 lists that costs a third of comparing
a query with each centroid, and training and coding spend most of their time there.
Source: Jégou et al. 2011, doi:10.1109/TPAMI.2010.57; André et al. 2017 (fast scan).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch import forks
from mmsearch.ann import lists
from mmsearch.ann.library import faiss_module
from mmsearch.ann.trained import COARSE_FACTOR, Trained, refined
from mmsearch.errors import IndexDamaged, UsageError
from mmsearch.types import Vectors

# The fewest vectors a quantiser is trained from, even when it is asked for:
# FAISS wants 39 for each of the 16 centroids of a 4-bit code.
MIN_TRAIN = 39 * 16
_TRAIN_PER_LIST = 40  # more than FAISS's 39 does not improve the lists
_ITERATIONS = 10  # of k-means: the objective moves by less than 0.1 % after these
_CODES_TRAIN = 65_536  # vectors that the codes' centroids are trained from
# Components a 4-bit code stands for: 64 bytes a part at d = 512. Half as many codes are
# compared faster and need three times the candidates: slower on texts, not on captions
# (benchmarks/codes.py). Where memory is short, the wider ones must do.
_CODE_DIMS = (4, 8, 16)
_ERROR_ROWS = 512  # of a chunk: from so many it is known how well it fits the lists
_ID_BYTES = 8  # of a row's number in the lists
_LISTS_COMPARED = 256  # so few centroids are all compared with a query
_COARSE_CODE_DIM = 4
# Centroids that are compared exactly for each list wanted. Of many lists the last ones matter
# little, and comparing would take as long as scanning them: (lists from, factor).
_COARSE_FACTORS = ((128, 1.5), (32, 2.0), (0, COARSE_FACTOR))


def nlist_for(n: int) -> int:
    """The number of lists for n vectors: 4·√n, as far as there is enough to train on."""
    return max(1, min(round(4 * math.sqrt(n)), n // 39))


def sample_size(n: int) -> int:
    """How many vectors ``train`` wants for a corpus of n."""
    return min(n, max(MIN_TRAIN, _TRAIN_PER_LIST * nlist_for(n), min(n, _CODES_TRAIN)))


def code_bytes(n: int, d: int, memory_bytes: int | None) -> int:
    """Bytes of a vector's code: as many as serve recall best, or as memory allows.

    memory_bytes: what the lists of n vectors may take once all are loaded; None is no limit.
    Raises UsageError where not even the shortest codes fit.
    """
    fixed = nlist_for(n) * d * 3  # the lists' centroids, as float16 and as codes
    for width in _CODE_DIMS:
        size = (_pieces(d, width) + 1) // 2
        needed = n * (size + _ID_BYTES) + fixed
        if memory_bytes is None or needed <= memory_bytes:
            return size
    raise UsageError(
        f"the lists of {n:,} vectors take at least {needed / 1e3:,.0f} kB in memory; "
        f"{(memory_bytes or 0) / 1e3:,.1f} kB are allowed. Allow more with --memory, or search "
        "exactly with --ann flat, which keeps nothing in memory."
    )


@forks.native
def train(
    n: int, d: int, sample: Vectors, memory_bytes: int | None = None
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """A trained, empty quantiser for about n vectors, as its file (see ``trained``), and its facts.

    sample: float32 (m, d) of the vectors to come, at least ``MIN_TRAIN``. The facts say
    ``nlist`` and ``code_bytes`` a vector.
    """
    faiss = faiss_module()
    _check_finite(sample)
    nlist = nlist_for(n)
    sample = np.ascontiguousarray(sample)
    centroids = _clustered(sample, nlist)
    coarse = _coarse(centroids, sample)
    size = code_bytes(n, d, memory_bytes)
    m = next(m for m in (_pieces(d, width) for width in _CODE_DIMS) if (m + 1) // 2 == size)
    index: Any = faiss.IndexIVFPQFastScan(coarse, d, nlist, m, 4, faiss.METRIC_INNER_PRODUCT)
    with one_thread():
        index.train(sample[:_CODES_TRAIN])
    facts = {"nlist": nlist, "code_bytes": size}
    return Trained.of(index).to_bytes(), facts


def coarse_parameters(index: Any, nprobe: int) -> Any:
    """What FAISS needs to know to find that many lists; None where every centroid is compared."""
    faiss = faiss_module()
    if not isinstance(faiss.downcast_index(index.quantizer), faiss.IndexRefine):
        return None
    factor = next(factor for least, factor in _COARSE_FACTORS if nprobe >= least)
    return faiss.IndexRefineSearchParameters(k_factor=factor)


def error(index: Any, vectors: Vectors) -> float:
    """The mean squared distance of unit vectors (m, d) to the centroids of their lists."""
    _, nearest = index.quantizer.search(np.ascontiguousarray(vectors), 1)
    centroids = index.quantizer.reconstruct_batch(nearest[:, 0])
    return float(((vectors - centroids) ** 2).sum(axis=1).mean())


@forks.native
def encode(
    quantiser: NDArray[np.uint8], chunks: Iterable[NDArray[np.float16]]
) -> tuple[Iterator[NDArray[np.uint8]], float]:
    """A segment's lists under a trained quantiser, in pieces of their file, and its error.

    chunks: float16 (m, d) blocks in row order; row r gets id r. The error is the mean
    squared distance of an even part of them to the centroids of their lists: how well
    vectors fit the lists, which later ones are compared with.
    """
    made = Trained.read(quantiser)
    index = made.index()
    on_gpu = _on_gpu(index.quantizer)
    if on_gpu is not None:
        index.quantizer, index.own_fields = on_gpu, False
    total = 0.0
    for chunk in chunks:
        if chunk.shape[1] != index.d:
            raise IndexDamaged("the trained quantiser does not belong to this index.")
        xb = chunk.astype(np.float32)
        _check_finite(xb)
        index.add(xb)
        total += error(index, xb[:: 1 + len(xb) // _ERROR_ROWS]) * len(xb)
    return lists.packed(index), total / max(1, index.ntotal)


def _check_finite(vectors: Vectors) -> None:
    if not np.isfinite(vectors).all():
        raise IndexDamaged("there are vectors that are not finite: `mmsearch verify` names them.")


def _pieces(d: int, width: int) -> int:
    """Into how many equal pieces of about ``width`` components a vector is cut."""
    return next(m for m in range(max(1, d // width), 0, -1) if d % m == 0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run FAISS on this thread alone: for work that is too small to share.

    On a busy machine each wait for threads without work takes milliseconds. Training codes runs
    many small k-means, each with such waits: 30 s for 0.5 s of work. (OpenMP keeps the number of
    threads for each calling thread.)
    """
    faiss = faiss_module()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _clustered(sample: Vectors, nlist: int) -> Vectors:
    """The centroids (nlist, d) of the lists: spherical k-means, on a GPU where there is one."""
    faiss = faiss_module()
    d = sample.shape[1]
    means = faiss.Clustering(d, nlist)
    means.niter, means.spherical, means.seed = _ITERATIONS, True, 1
    means.min_points_per_centroid = 1  # nlist_for sees to it: no warning on stderr
    means.max_points_per_centroid = max(1, len(sample))
    assign = _on_gpu(faiss.IndexFlatIP(d)) or _empty_coarse(d, nlist, sample)
    means.train(sample, assign)
    centroids: Vectors = faiss.vector_to_array(means.centroids).reshape(nlist, d)
    return centroids


def _coarse(centroids: Vectors, sample: Vectors) -> Any:
    """The index that finds a vector's lists."""
    coarse = _empty_coarse(centroids.shape[1], len(centroids), sample)
    coarse.add(np.ascontiguousarray(centroids))
    return coarse


def _empty_coarse(d: int, nlist: int, sample: Vectors) -> Any:
    faiss = faiss_module()
    exact = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    exact.is_trained = True  # float16 has nothing to learn
    if nlist <= _LISTS_COMPARED:
        return exact
    m = _pieces(d, _COARSE_CODE_DIM)
    codes = faiss.IndexPQFastScan(d, m, 4, faiss.METRIC_INNER_PRODUCT)
    with one_thread():
        codes.train(sample[:_CODES_TRAIN])
    return refined(codes, exact)


def _on_gpu(index: Any) -> Any:
    """The same index on every GPU that FAISS sees, or None where it sees none.

    Fast-scan codes have no form there, so a GPU gets the exact centroids of a coarse
    quantiser; the codes are packed on the CPU.
    """
    faiss = faiss_module()
    if not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0:
        return None
    exact = faiss.IndexFlatIP(index.d)
    if index.ntotal:
        exact.add(index.reconstruct_n(0, index.ntotal))
    return faiss.index_cpu_to_all_gpus(exact)
