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


def distinct(scores: Scores, ids: Ids) -> bool:
    """Say whether all places are taken and no two scores of a query are equal.

    scores, ids: (nq, m), best first; an id of -1 is no row.
    """
    if len(scores) == 1:  # most often: in few steps, a query waits
        return ids.item(-1) >= 0 and len(set(scores[0].tolist())) == scores.shape[1]
    return bool(ids[:, -1].min() >= 0) and not (scores[:, 1:] == scores[:, :-1]).any()


def ordered(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    """Keep the first k of what FAISS found, equal scores by id, padded with -inf and -1.

    scores, ids: (nq, m), best first; an id of -1 is no row.
    """
    if not distinct(scores, ids):
        scores = np.where(ids >= 0, scores, np.float32(-np.inf))
        order = np.lexsort((ids, -scores), axis=1)
        rows = np.arange(len(order))[:, None]
        scores, ids = scores[rows, order], ids[rows, order]
    return _padded(scores[:, :k], ids[:, :k], k)


def _padded(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    width = scores.shape[1]
    if width == k:
        return scores, ids
    D, rows = nothing(len(scores), k)
    D[:, :width], rows[:, :width] = scores, ids
    return D, rows
