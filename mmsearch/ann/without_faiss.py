"""Exact search by NumPy alone, in a process that has not loaded FAISS, or cannot.

Loading FAISS takes a tenth of a second. A process that asks one question of a small index
would spend it for nothing. Scores are summed up in FAISS's own order, so they stay the same to
the last digit when a later query loads it. If FAISS is not installed, every query is answered
here.
"""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann.half import widened
from mmsearch.ann.topk import ordered
from mmsearch.types import Ids, Scores, Vectors

# A process compares so many rows in this way before it loads FAISS. That takes 0.5 µs a row, so
# no longer than loading it (benchmarks/exact.py).
_MOST_ROWS = 150_000
_BLOCK_ROWS = 512  # widened at a time: 1 MB at d = 512 stays in the processor's cache
_SPARE = 8  # more rows than wanted are scored, for a product's rounding may swap neighbours
_MORE = 8  # times as many, if so many were not enough
_ANY_LANES = 8  # sums side by side if FAISS's number is not known

_compared = 0  # rows that this process has compared so far


def serves(nq: int, m: int, d: int) -> bool:
    """Say whether nq queries over m rows of d numbers are answered here, and not by FAISS."""
    if "faiss" in sys.modules:
        return False
    if not _installed():
        return True
    return nq == 1 and _compared + m <= _MOST_ROWS and _lanes(d) > 0


@cache
def _installed() -> bool:
    return find_spec("faiss") is not None


def nearest(
    xq: Vectors, xb: NDArray[np.float16], k: int, rows: NDArray[np.int64] | None
) -> tuple[Scores, Ids] | None:
    """Find what ``exact.nearest`` finds; None if rounding leaves it open and FAISS can tell.

    rows: int64 (m,), ascending, those that may be found, at least one; None is all.
    """
    global _compared
    _compared += len(xb) if rows is None else len(rows)
    found = []
    for q in xq:
        if (one := _nearest(q, xb, k, rows)) is None:
            return None
        found.append(one)
    return np.concatenate([D for D, _ in found]), np.concatenate([ids for _, ids in found])


def _nearest(
    q: NDArray[np.float32], xb: NDArray[np.float16], k: int, rows: NDArray[np.int64] | None
) -> tuple[Scores, Ids] | None:
    m, d = len(xb) if rows is None else len(rows), xb.shape[1]
    products = _products(q, xb, rows)
    # each sum of d products is off by at most d times half a unit in the last place
    error = 2 * d * 2.0**-24 * float(np.linalg.norm(q))
    kept = min(k + _SPARE, m)
    while True:
        chosen = np.sort(np.argpartition(-products, kept - 1)[:kept])
        ids = chosen if rows is None else rows[chosen]
        scores = _as_faiss(q, xb[ids], _lanes(d) or _ANY_LANES)
        order = np.argsort(-scores, kind="stable")
        if kept == m or scores[order[k - 1]] > products[chosen].min() + error:
            return ordered(scores[order][None], ids[order][None], k)
        if _installed():
            return None
        kept = min(kept * _MORE, m)  # rounding might have left out a row


def _products(q: NDArray[np.float32], xb: NDArray[np.float16], rows: Ids | None) -> Scores:
    """Compute the inner products, rounded in any way: float32 (m,)."""
    m, d = len(xb) if rows is None else len(rows), xb.shape[1]
    out = np.empty(m, np.float32)
    bits = np.empty((_BLOCK_ROWS, d), np.int32)
    for start in range(0, m, _BLOCK_ROWS):
        some = slice(start, start + _BLOCK_ROWS)
        block = xb[some] if rows is None else xb[rows[some]]
        np.dot(widened(block, bits), q, out=out[some])
    return out


def _as_faiss(q: NDArray[np.float32], some: NDArray[np.float16], lanes: int) -> Scores:
    """Compute the inner products with some rows as FAISS does, digit by digit: float32 (m,).

    FAISS keeps ``lanes`` partial sums, and adds each product to one of them before rounding. Then
    it adds the upper half of the sums to the lower half, until one is left. A product of float16
    and float32 is exact in float64.
    """
    sums = np.zeros((len(some), lanes), np.float32)
    if lack := -len(q) % lanes:
        q, some = np.pad(q, (0, lack)), np.pad(some, ((0, 0), (0, lack)))
    for at in range(0, len(q), lanes):
        part = slice(at, at + lanes)
        sums = (sums + some[:, part].astype(np.float64) * q[part]).astype(np.float32)
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


@cache
def _lanes(d: int) -> int:
    """Say how many products FAISS sums side by side on this machine; 0 if that is not known.

    It uses AVX-512 if d is a multiple of 16, else AVX2 if d is a multiple of 8.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return 0
    known = np.show_config(mode="dicts")["SIMD Extensions"]
    found = {*known.get("baseline", ()), *known.get("found", ())}
    if d % 16 == 0 and found & {"AVX512_SKX", "X86_V4"}:
        return 16
    return 8 if d % 8 == 0 and found & {"AVX2", "X86_V3"} else 0
