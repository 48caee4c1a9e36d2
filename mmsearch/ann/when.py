"""When an index gets a quantiser, keeps it, trains it anew or drops it."""

from __future__ import annotations

from mmsearch.ann.quantiser import MIN_TRAIN

# Up to here exact search answers one query in 20 ms of one core at d = 512, misses nothing and
# needs no training. Lists are faster from some thousand parts on (benchmarks/auto.py).
AUTO_MIN = 200_000
# The corpus may grow this much before the lists are trained anew: then there are
# half as many as it should have.
_RETRAIN_GROWTH = 4
# So much worse may the live vectors fit the lists than those that they were trained from.
_RETRAIN_DRIFT = 1.15


def wanted(kind: str, live: int, trained_on: int | None, drift: float = 1.0) -> str:
    """What to do about the quantiser: ``none``, ``keep`` or ``train``.

    kind: ``auto``, ``flat`` or ``ivfpq``. live: parts in the index.
    trained_on: parts there were when the present one was trained, or None.
    drift: the mean squared distance of the live vectors to the centroids of their
    lists, as a multiple of what it was for the vectors of training.
    """
    # a corpus that hovers about the threshold must not train and drop in turns
    least = AUTO_MIN if trained_on is None else AUTO_MIN // 2
    if kind == "flat" or live < MIN_TRAIN or (kind == "auto" and live < least):
        return "none"
    grown = trained_on is not None and live > _RETRAIN_GROWTH * trained_on
    if trained_on is None or grown or drift > _RETRAIN_DRIFT:
        return "train"
    return "keep"
