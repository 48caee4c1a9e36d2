"""How much of the lists a search looks at, for the recall that is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

TARGET = 0.95  # the recall that is aimed at where none is asked for
K = 10  # the hits that the curve's recall counts: recall@10
# Before a tuner has measured: such a share of the lists, and candidates.
_UNTUNED_SHARE, _UNTUNED_LEAST, _UNTUNED_CANDIDATES = 0.08, 16, 400

_USED = ("nlist", "target", "curve", "depths")  # of a quantiser's facts


@dataclass(frozen=True)
class Effort:
    """Lists looked into (``nprobe``) and rows compared exactly (``candidates``, k')."""

    nprobe: int
    candidates: int


def effort_for(facts: dict[str, Any], recall: float | None, k: int, share: float) -> Effort:
    """The least effort that reached a recall when the quantiser was tuned.

    facts: of the quantiser, with the tuner's ``curve`` (points of recall, nprobe and
    candidates, ascending) and ``depths``. recall: None is ``facts["target"]``; more than
    the curve's best gets that. share: of the rows that may be found, in (0, 1]; the 10
    nearest of a hundredth of the rows lie as far away as the 1,000 nearest of all.
    """
    nlist = facts["nlist"]
    wanted = facts.get("target", TARGET) if recall is None else recall
    curve = facts.get("curve") or []
    point = next((p for p in curve if p["recall"] >= wanted), curve[-1] if curve else None)
    if point is None:
        nprobe = max(_UNTUNED_LEAST, math.ceil(nlist * _UNTUNED_SHARE))
        candidates = _UNTUNED_CANDIDATES
    else:
        nprobe, candidates = point["nprobe"], point["candidates"]
    nprobe = math.ceil(nprobe * _deeper(facts, k / share) - 1e-6)  # 27, not 28, of 9 × 3.0000001
    return Effort(min(nlist, nprobe), math.ceil(candidates * max(1, k / K)))


def same_effort(facts: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether two quantisers' facts give every search the same effort."""
    return all(facts.get(name) == others.get(name) for name in _USED)


def _deeper(facts: dict[str, Any], depth: float) -> float:
    """How many times the lists of the 10 nearest hold the ``depth`` nearest as well.

    Measured by the tuner at depths of 10, 100, …; beyond the deepest it goes on as
    between the last two. Before that: the cube root, which is about what they measure.
    """
    if depth <= K:
        return 1.0
    depths = facts.get("depths") or {}
    known = sorted((math.log(int(at)), math.log(times)) for at, times in depths.items())
    if len(known) < 2:
        return float((depth / K) ** (1 / 3))
    x, y = np.array(known).T
    at = math.log(depth)
    if at > x[-1]:
        slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
        return float(np.exp(y[-1] + slope * (at - x[-1])))
    return float(np.exp(np.interp(at, x, y)))
