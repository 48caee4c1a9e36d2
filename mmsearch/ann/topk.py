"""The best k of what was found, the same way everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmsearch.types import Ids, Scores


def nothing(nq: int, k: int) -> tuple[Scores, Ids]:
    """Return what a search returns that found nothing."""
    return np.full((nq, k), -np.inf, np.float32), np.full((nq, k), -1, np.int64)


def merge(found: Sequence[tuple[Scores, Ids]], k: int) -> tuple[Scores, Ids]:
    """Keep the best k of several segments' answers, equal scores by id.

    found: of each (nq, m) scores and ids, -inf and -1 for none; no id is in two of them.
    """
    scores = np.concatenate([D for D, _ in found], axis=1)
    ids = np.concatenate([ids for _, ids in found], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")  # quick if each answer is in order
    rows = np.arange(len(order))[:, None]
    best = scores[rows, order[:, : k + 1]]
    if ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -np.inf)).any():  # rare
        order = np.lexsort((ids, -scores), axis=1)
    order = order[:, :k]
    return _padded(scores[rows, order], ids[rows, order], k)


def ordered(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    """The first k of what FAISS found, equal scores by id, padded with -inf and -1.

    scores, ids: (nq, m), best first; an id of -1 is no row.
    """
    width = scores.shape[1]
    full = len(scores) == 1 and width >= k and ids.item(-1) >= 0
    if full and len(set(scores[0].tolist())) == width:  # one query: in few steps, it waits
        return scores[:, :k], ids[:, :k]
    scores = np.where(ids >= 0, scores, np.float32(-np.inf))
    if (scores[:, 1:] == scores[:, :-1]).any():  # rare: only equal scores need sorting
        order = np.lexsort((ids, -scores), axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        ids = np.take_along_axis(ids, order, axis=1)
    return _padded(scores[:, :k], ids[:, :k], k)


def _padded(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    width = scores.shape[1]
    if width == k:
        return scores, ids
    D, rows = nothing(len(scores), k)
    D[:, :width], rows[:, :width] = scores, ids
    return D, rows
