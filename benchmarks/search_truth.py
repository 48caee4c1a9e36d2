"""The right answers, by exact search, and what share of them was found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 10
_KEPT = 40  # neighbours kept of each query: K and what ties with the last of them
_BLOCK_ROWS = 65_536
# Of unit vectors: sums of 512 products in another order differ by less than this
_TIE = 1e-6
TRUTH = np.dtype([("row", np.int64), ("score", np.float32)])

Truth = NDArray[Any]  # TRUTH (nq, kept), best first


def nearest(xb: NDArray[Any], xq: NDArray[np.float32], rows: NDArray[np.intp] | None) -> Truth:
    """The rows nearest to each query by inner product, exactly.

    xb: float16 or float32 (n, d). rows: the only ones that may be found, ascending; None for all.
    Returns TRUTH (nq, min(n, 40)), best first.
    """
    import faiss

    n = len(xb) if rows is None else len(rows)
    k = min(n, _KEPT)
    best_D = np.full((len(xq), k), -np.inf, np.float32)
    best_I = np.full((len(xq), k), -1, np.int64)
    for start in range(0, n, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, n)
        some = np.arange(start, stop) if rows is None else rows[start:stop]
        block = xb[start:stop] if rows is None else xb[some]
        D, at = faiss.knn(
            xq,
            np.ascontiguousarray(block, np.float32),
            min(k, stop - start),
            metric=faiss.METRIC_INNER_PRODUCT,
        )
        D = np.concatenate([best_D, D], axis=1)
        ids = np.concatenate([best_I, some[at]], axis=1)
        order = np.argsort(-D, axis=1, kind="stable")[:, :k]
        best_D = np.take_along_axis(D, order, axis=1)
        best_I = np.take_along_axis(ids, order, axis=1)
    out = np.empty((len(xq), k), TRUTH)
    out["row"], out["score"] = best_I, best_D
    return out


def kept_truth(base: Path, queries: Path, count: int, asked: int, folder: Path) -> Path:
    """The file of the exact answers to the first ``asked`` queries among ``count`` rows.

    It is made once, in ``folder``: its name stands for size, time and first bytes of both files.
    """
    facts: list[Any] = [count, asked, _KEPT]
    for path in (base, queries):
        with path.open("rb") as f:
            head = f.read(65_536)
        seen = path.stat()
        facts += [seen.st_size, seen.st_mtime_ns, hashlib.sha256(head).hexdigest()]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    file = folder / f"truth-{base.stem}-{key}.npy"
    if not file.exists():
        xb = np.load(base, mmap_mode="r")[:count]
        xq = np.load(queries)[:asked].astype(np.float32)
        beside = file.with_suffix(".part")
        with beside.open("wb") as f:
            np.save(f, nearest(xb, xq, None))
        beside.replace(file)
    return file


def recall(found: NDArray[np.int64], truth: Truth, k: int = K) -> float:
    """Share of the k nearest that were found, mean over queries.

    found: row numbers (nq, at least k columns, or fewer), -1 for none. What scores the same as
    the k-th counts as right, but no row twice; where fewer than k rows exist, all of them are
    the answer.
    """
    k = min(k, truth.shape[1])
    right = 0
    for row, of_query in zip(found[:, :k].tolist(), truth, strict=True):
        good = of_query["row"][of_query["score"] >= of_query["score"][k - 1] - _TIE]
        right += min(k, len(set(row).intersection(good.tolist())))
    return right / (k * len(truth))
