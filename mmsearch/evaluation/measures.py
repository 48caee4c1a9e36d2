"""From the ranks of the right answers to the measures of retrieval.

Relevance is binary: a target belongs to the query or it does not. Definitions are
those of TREC (``trec_eval``), which the tests compare with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Ranks = NDArray[np.int64]

KS = (1, 5, 10)
CURVE_KS = 100  # the recall curve goes from k = 1 to this
_CUT = 10  # of nDCG

# What is averaged over queries, in the order of the columns of ``per_query``.
MEANS = (*(f"recall@{k}" for k in KS), "mrr", f"ndcg@{_CUT}", "map")
MEDIAN = "median_rank"


def per_query(ranks: Sequence[Ranks]) -> tuple[Numbers, Ranks]:
    """Every measure for every query.

    ranks: for each query the ranks (1 is best) of all its right answers in the whole
    pool, at least one, in any order. Returns float64 (nq, 6), one column for each
    name in ``MEANS``, and int64 (nq,), the rank of each query's best right answer.

    ``recall@k`` is 1 where at least one right answer is among the first k (TREC's
    success@k; called recall in the literature of image-text retrieval). ``mrr`` is the
    reciprocal of the best rank. ``ndcg@10`` is the discounted gain of the first 10 over
    that of an ideal ranking, which has min(10, all right answers) at its head. ``map``
    is average precision: the mean, over all right answers, of the precision at each.
    """
    lengths = np.array([len(r) for r in ranks], np.int64)
    if not len(lengths) or lengths.min() < 1:
        raise ValueError("each query needs at least one right answer")
    flat = np.concatenate([np.sort(r) for r in ranks]).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    best = flat[starts]
    found = np.arange(len(flat)) - np.repeat(starts, lengths) + 1  # right answers so far
    precision = np.add.reduceat(found / flat, starts) / lengths
    gains = np.where(flat <= _CUT, 1 / np.log2(flat + 1.0), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(1, _CUT + 1) + 1.0))
    ndcg = np.add.reduceat(gains, starts) / ideal[np.minimum(lengths, _CUT) - 1]
    columns = [*(best <= k for k in KS), 1 / best, ndcg, precision]
    return np.stack(columns, axis=1).astype(np.float64), best


def recall_curve(best: Ranks) -> Numbers:
    """The share of queries answered within the first k, for k = 1 to ``CURVE_KS``.

    best: int64 (nq,) ranks. Returns float64 (CURVE_KS,).
    """
    counts = np.bincount(np.minimum(best, CURVE_KS + 1), minlength=CURVE_KS + 2)
    return np.cumsum(counts[1 : CURVE_KS + 1]) / len(best)
