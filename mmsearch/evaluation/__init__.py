"""How well an index finds: retrieval and naming, measured on pairs.

from mmsearch.evaluation import evaluate, compare

found = evaluate("photos", "pairs.jsonl")
found.directions[0].measures["recall@1"].value
"""

from __future__ import annotations

from mmsearch.evaluation.results import (
    Classification,
    Comparison,
    Difference,
    Differences,
    Direction,
    Evaluation,
    Measure,
)
from mmsearch.evaluation.run import compare, evaluate

__all__ = [
    "Classification",
    "Comparison",
    "Difference",
    "Differences",
    "Direction",
    "Evaluation",
    "Measure",
    "compare",
    "evaluate",
]
