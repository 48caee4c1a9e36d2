"""What an evaluation found, as plain values. Shares are fractions in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsearch.evaluation.intervals import DRAWS, LEVEL_PERCENT, SEED

SCHEMA = 1  # of Evaluation.to_json and Comparison.to_json

_INTERVALS = {  # how every low and high was found
    "percent": LEVEL_PERCENT,
    "method": "percentile bootstrap over independent groups of queries",
    "where all queries are alike": "Wilson's score interval over the groups",
    "draws": DRAWS,
    "seed": SEED,
}


@dataclass(frozen=True)
class Measure:
    """A figure with the ends of its 95% interval; None where there are too few units."""

    value: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Difference(Measure):
    """B's figure less A's on the same queries, with a paired interval."""

    @property
    def real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "real": self.real}


@dataclass(frozen=True)
class Direction:
    """One direction's figures. ``measures``: recall@1, recall@5, recall@10, mrr, ndcg@10,
    map and median_rank of the exact ranking; ``ann``: recall@k of the index's own search,
    None where that is exact."""

    query: str  # image, audio, text or a language
    target: str
    queries: int
    unanswerable: int  # queries none of whose right answers is in the pool; left out
    units: int  # independent groups of queries
    pool: int  # targets that each query is ranked against
    pool_of: str  # what they are
    measures: dict[str, Measure]
    recall_curve: tuple[float, ...]  # for k = 1 to 100
    ann: dict[str, Measure] | None

    @property
    def name(self) -> str:
        return f"{self.query} → {self.target}"

    def to_json(self) -> dict[str, Any]:
        return {
            "query": self.query,
            "target": self.target,
            "queries": self.queries,
            "unanswerable": self.unanswerable,
            "units": self.units,
            "pool": self.pool,
            "pool_of": self.pool_of,
            "measures": {name: m.to_json() for name, m in self.measures.items()},
            "ann": None if self.ann is None else {n: m.to_json() for n, m in self.ann.items()},
            "recall_curve": list(self.recall_curve),
        }


@dataclass(frozen=True)
class Classification:
    """How often the nearest label's text is the right one."""

    modality: str
    items: int
    classes: int
    accuracy: Measure

    def to_json(self) -> dict[str, Any]:
        return {
            "modality": self.modality,
            "items": self.items,
            "classes": self.classes,
            "accuracy": self.accuracy.to_json(),
        }


@dataclass(frozen=True)
class Evaluation:
    """One index's figures on one pairs file."""

    index: Path
    space: str
    pairs: Path
    rows: int
    search: str  # ``exact``, or the kind of approximate index
    directions: tuple[Direction, ...]
    classifications: tuple[Classification, ...]
    not_in_index: dict[str, int]  # image, audio -> files of the pairs that it does not hold
    unreadable: dict[str, int]  # image, audio -> files of the pairs that were left out
    seen_in_training: int | None  # rows that the space was trained on; None if it does not tell
    notes: tuple[str, ...]  # what a reader must know, one sentence each

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch eval --json`` prints; its form is ``schema``."""
        return {
            "schema": SCHEMA,
            "index": str(self.index),
            "space": self.space,
            "pairs": str(self.pairs),
            "rows": self.rows,
            "search": self.search,
            "directions": [d.to_json() for d in self.directions],
            "classifications": [c.to_json() for c in self.classifications],
            "intervals": dict(_INTERVALS),
            "not_in_index": dict(self.not_in_index),
            "unreadable": dict(self.unreadable),
            "seen_in_training": self.seen_in_training,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Differences:
    """B less A in one direction (or, with ``target`` label, in naming)."""

    query: str
    target: str
    queries: int  # those that both could answer
    units: int
    measures: dict[str, Difference]

    @property
    def name(self) -> str:
        return f"{self.query} → {self.target}"

    def to_json(self) -> dict[str, Any]:
        return {
            "query": self.query,
            "target": self.target,
            "queries": self.queries,
            "units": self.units,
            "measures": {name: m.to_json() for name, m in self.measures.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """Two indexes on one pairs file, and how B differs from A."""

    a: Evaluation
    b: Evaluation
    differences: tuple[Differences, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch eval --compare --json`` prints."""
        return {
            "schema": SCHEMA,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "differences": [d.to_json() for d in self.differences],
        }
