"""Keeping the best k of many scores, the same way everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq

import numpy as np
from numpy.typing import NDArray

from mmsearch.types import Ids, Scores, Vectors


def best(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    """The k best of each row, best first, equal scores by id; padded with -inf and -1.

    scores: float32 (nq, m); ids: int64 (nq, m), -1 for a place without a candidate.
    Returns (nq, k) and (nq, k).
    """
    m = scores.shape[1]
    if m > 4 * k:  # a full sort of all candidates would dominate
        # one more than k, so that ties across the border are seen below
        kept = np.argpartition(-scores, k, axis=1)[:, : k + 1]
        border = np.take_along_axis(scores, kept[:, k:], axis=1)
        if (np.count_nonzero(scores >= border, axis=1) <= k + 1).all():
            scores = np.take_along_axis(scores, kept, axis=1)
            ids = np.take_along_axis(ids, kept, axis=1)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    scores = np.take_along_axis(scores, order, axis=1)
    ids = np.take_along_axis(ids, order, axis=1)
    if (short := k - scores.shape[1]) > 0:
        scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
        ids = np.pad(ids, ((0, 0), (0, short)), constant_values=-1)
    return scores, ids


def rescored(xq: Vectors, xb: NDArray[np.float16], ids: Ids, k: int) -> tuple[Scores, Ids]:
    """The k best of each query's candidates, by inner products computed one by one.

    A matrix product rounds a row's sum differently with the number of rows and
    queries in it. These sums do not: a part has the same score whatever else is
    asked or stored (and to the last digit that which FAISS computes, see ``exact.py``).
    ids: int64 (nq, m) rows of ``xb``, -1 for none. Returns (nq, k) and (nq, k).
    """
    scores = np.full(ids.shape, -np.inf, np.float32)
    ids = np.sort(ids, axis=1)  # so that mapped pages are read forwards
    for i, row in enumerate(ids):
        there = row >= 0
        scores[i, there] = (xb[row[there]].astype(np.float32) * xq[i]).sum(axis=1)
    return best(scores, ids, k)


def merge(found: Sequence[tuple[Scores, Ids]], k: int) -> tuple[Scores, Ids]:
    """The best k over several segments' answers; ids must not repeat between them."""
    return best(
        np.concatenate([D for D, _ in found], axis=1),
        np.concatenate([ids for _, ids in found], axis=1),
        k,
    )


def ordered(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    """The first k of what FAISS found, equal scores by id, padded with -inf and -1.

    scores, ids: (nq, m), best first; an id of -1 is no row.
    """
    if len(scores) == 1 and k <= scores.shape[1]:  # most often: in few steps, a query waits
        found = scores[0].tolist()
        if int(ids[0, -1]) >= 0 and not any(map(eq, found, found[1:])):
            return scores[:, :k], ids[:, :k]
    scores = np.where(ids >= 0, scores, np.float32(-np.inf))
    if (scores[:, 1:] == scores[:, :-1]).any():  # rare: only equal scores need sorting
        order = np.lexsort((ids, -scores), axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        ids = np.take_along_axis(ids, order, axis=1)
    scores, ids = scores[:, :k], ids[:, :k]
    if (short := k - scores.shape[1]) > 0:
        scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
        ids = np.pad(ids, ((0, 0), (0, short)), constant_values=-1)
    return scores, ids
