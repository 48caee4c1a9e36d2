"""Even samples of what an index holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.store.segment import Segment
from mmsearch.types import Mask, Vectors

_BLOCK_ROWS = 16384


def row_sample(
    segments: Sequence[Segment],
    n: int,
    masks: Sequence[Mask] | None = None,
    lane: int = 0,
) -> Vectors:
    """An even sample of about n vectors, float32 (n, d): the same for the same snapshot.

    masks: which rows of each segment count; None is all that live. lane: of the space, whose
    vectors are taken.
    """
    return vectors_at(segments, sampled_rows(segments, n, masks, lane), lane)


def sampled_rows(
    segments: Sequence[Segment], n: int, masks: Sequence[Mask] | None = None, lane: int = 0
) -> list[NDArray[np.int64]]:
    """Which vectors of a lane ``row_sample`` takes: for each segment their numbers, ascending."""
    rng = np.random.default_rng(0)
    of = [segment.rows_of(lane) for segment in segments]
    wanted = [s.live for s in segments] if masks is None else masks
    counted = [
        np.flatnonzero(mask if rows is None else mask[rows])
        for mask, rows in zip(wanted, of, strict=True)
    ]
    share = min(1.0, n / max(1, sum(map(len, counted))))
    takes = [min(len(rows), int(np.ceil(share * len(rows)))) for rows in counted]
    return [
        np.sort(rng.choice(rows, take, replace=False))
        for rows, take in zip(counted, takes, strict=True)
    ]


def vectors_at(
    segments: Sequence[Segment], chosen: Sequence[NDArray[np.int64]], lane: int = 0
) -> Vectors:
    """Some vectors of a lane, float32 (n, d). chosen: their numbers in each segment."""
    d = segments[0].lanes[lane].vectors.shape[1]
    out = np.empty((sum(map(len, chosen)), d), np.float32)
    at = 0
    for segment, rows in zip(segments, chosen, strict=True):
        files = segment.lanes[lane]
        files.check_rows(rows)
        for start in range(0, len(rows), _BLOCK_ROWS):
            some = rows[start : start + _BLOCK_ROWS]
            out[at : at + len(some)] = files.vectors[some]
            at += len(some)
    return out
