"""Measures how recall and speed of an index go together, on queries of the kind it will get.

Text queries lie far from the vectors of pictures: measured with stored vectors, recall
comes out higher than users see it. So the queries are given, and each is also answered
exactly, by comparing it with every live vector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch import forks
from mmsearch.ann.effort import TARGET, Effort, K
from mmsearch.ann.flat import Flat
from mmsearch.ann.ivfpq import IvfPq
from mmsearch.ann.topk import merge, nothing
from mmsearch.types import Ids, Mask, Scores, Vectors

_COMPARED_QUERIES = 64  # with their candidates: 400,000 comparisons at a time
_CANDIDATES = (20, 40, 60, 80, 100, 140, 200, 300, 400, 600, 1000)
_MORE_CANDIDATES = (2000, 4000)  # where neighbours lie so close that codes do not tell them
_LEAST = 0.8  # less recall than this is of no use, and its speed is not measured
_TIMED_QUERIES = 250
_ENOUGH = 0.995  # recall at which looking into more lists is not tried
_DEPTHS = (30, 100, 300, 1000)
_DEPTH_QUERIES = 100
# A step of the curve must gain this much recall: nearer points are noise.
_STEP = 0.004


def exact_nearest(
    vectors: Sequence[NDArray[np.float16]], masks: Sequence[Mask | None], xq: Vectors, k: int
) -> tuple[Scores, Ids]:
    """The k nearest live rows of all segments to each query, compared with every one.

    vectors: float16 (n, d) of each segment; masks: which rows count, None for all.
    Returns D float32 and I int64 (nq, k); ids count rows over all segments.
    """
    found, first = [], 0
    for xb, mask in zip(vectors, masks, strict=True):
        D, ids = Flat(xb).search(xq, k, mask)
        found.append((D, np.where(ids >= 0, ids + first, -1)))
        first += len(xb)
    return merge(found, k) if found else nothing(len(xq), k)


@forks.native
def tuned(
    indexes: Sequence[IvfPq],
    masks: Sequence[Mask | None],
    xq: Vectors,
    target: float = TARGET,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The facts of a quantiser that say how much effort a recall costs.

    indexes: of all segments, under one quantiser; masks: which rows are live.
    xq: float32 (nq, d) queries. Returns ``curve``: points of ``recall``, ``nprobe``,
    ``candidates`` and ``queries_per_s`` (all of xq asked at once), each with more recall
    and fewer queries a second than the one before; ``depths``: how many times the lists
    of the 10 nearest hold the 30, 100, … nearest as well; ``target`` and ``queries``.
    """
    progress("exact answers")
    vectors = [index.vectors for index in indexes]
    _, truth = exact_nearest(vectors, masks, xq, K)
    tries: list[list[tuple[float, Effort]]] = []  # recall of each effort that was tried
    nlist = indexes[0].nlist
    for counts in (_CANDIDATES, _MORE_CANDIDATES):
        tries.append(reached := [])
        for nprobe in _probes(nlist):
            progress(f"{nprobe} of {nlist} lists, {max(counts):,} candidates")
            ranks = _ranks(indexes, masks, xq, truth, Effort(nprobe, max(counts)))
            tried = [(float((ranks < c).mean()), Effort(nprobe, c)) for c in counts]
            reached += [point for point in tried if point[0] >= _LEAST or nprobe == nlist]
            if tried[-1][0] >= _ENOUGH:
                break
        if max(recall for recall, _ in reached) >= _ENOUGH:
            break
    progress("speed")
    few = xq[:_TIMED_QUERIES]

    def speed(effort: Effort) -> float:
        return len(few) / _timed(indexes, masks, few, effort)

    guessed = []
    for reached in tries:  # apart: one plane does not fit both few candidates and thousands
        cost = _cost([effort for _, effort in reached], speed)
        guessed += [(recall, 1 / cost(effort), effort) for recall, effort in reached]
    likely = _frontier(guessed)
    points = [(recall, speed(effort), effort) for recall, _, effort in likely]
    progress("lists of the further ones")
    return {
        "target": target,
        "queries": len(xq),
        "curve": [
            {
                "recall": round(recall, 4),
                "nprobe": effort.nprobe,
                "candidates": effort.candidates,
                "queries_per_s": round(per_s, 1),
            }
            for recall, per_s, effort in _frontier(points)
        ],
        "depths": _depths(indexes, masks, xq[:_DEPTH_QUERIES], target),
    }


def _probes(nlist: int) -> Iterable[int]:
    """Numbers of lists to try: three steps in each doubling, up to all."""
    tried, nprobe = 0, 1.0
    while tried < nlist:
        now = min(nlist, round(nprobe))
        if now > tried:
            yield now
            tried = now
        nprobe *= 2 ** (1 / 3)


def _ranks(
    indexes: Sequence[IvfPq],
    masks: Sequence[Mask | None],
    xq: Vectors,
    truth: Ids,
    effort: Effort,
) -> NDArray[np.int64]:
    """int64, the shape of truth: each true neighbour's place among its segment's candidates."""
    ranks = np.full(truth.shape, effort.candidates, np.int64)
    first = 0
    for index, mask in zip(indexes, masks, strict=True):
        ids = index.candidates(xq, mask, effort)
        ids = np.where(ids >= 0, ids + first, -1)
        for at in range(0, len(xq), _COMPARED_QUERIES):
            some = slice(at, at + _COMPARED_QUERIES)
            same = truth[some, :, None] == ids[some, None, :]
            found = same.any(axis=2)
            ranks[some][found] = same.argmax(axis=2)[found]
        first += len(index.vectors)
    return ranks


def _timed(
    indexes: Sequence[IvfPq], masks: Sequence[Mask | None], xq: Vectors, effort: Effort
) -> float:
    """Seconds that all segments take for the queries, the faster of two."""
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        for index, mask in zip(indexes, masks, strict=True):
            index.search_with(effort, xq, K, mask)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _cost(efforts: Sequence[Effort], speed: Callable[[Effort], float]) -> Callable[[Effort], float]:
    """About how long a query takes with an effort, in seconds.

    A plane through measured corners: so much for a query, for each list, for each
    candidate. It says which efforts are worth measuring themselves.
    """
    corners = {
        Effort(probes, candidates)
        for probes in {min(e.nprobe for e in efforts), max(e.nprobe for e in efforts)}
        for candidates in {min(e.candidates for e in efforts), max(e.candidates for e in efforts)}
    }
    rows = np.array([[1.0, e.nprobe, e.candidates] for e in corners])
    taken = np.array([1 / speed(e) for e in corners])
    each, *_ = np.linalg.lstsq(rows, taken, rcond=None)
    each = np.maximum(each, 1e-9)  # noise must not make work look free
    return lambda e: float(each @ (1.0, e.nprobe, e.candidates))


def _frontier(points: Iterable[tuple[float, float, Effort]]) -> list[tuple[float, float, Effort]]:
    """The points (recall, speed, effort) that no other beats in both, by recall."""
    kept: list[tuple[float, float, Effort]] = []
    for point in sorted(points, key=lambda p: (-p[1], p[0])):  # the fastest first
        if not kept or point[0] >= kept[-1][0] + _STEP:
            kept.append(point)
    return kept


def _depths(
    indexes: Sequence[IvfPq], masks: Sequence[Mask | None], xq: Vectors, target: float
) -> dict[str, float]:
    """How many times the lists of the 10 nearest hold the n nearest as well, for each n."""
    live = sum(
        len(i.vectors) if m is None else int(np.count_nonzero(m))
        for i, m in zip(indexes, masks, strict=True)
    )
    depths = [depth for depth in (K, *_DEPTHS) if depth <= live // 10]
    if not depths:
        return {}
    _, truth = exact_nearest([i.vectors for i in indexes], masks, xq, depths[-1])
    lists = np.concatenate([i.list_of_row for i in indexes])[truth]
    order = indexes[0].nearest_lists(xq)
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(order.shape[1])[None], axis=1)
    places = np.take_along_axis(place, lists.astype(np.int64), axis=1)
    needed = [float(np.quantile(places[:, :depth], target)) + 1 for depth in depths]
    return {str(n): round(at / needed[0], 2) for n, at in zip(depths, needed, strict=True)}
