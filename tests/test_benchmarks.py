"""What the search benchmark reads off its measurements."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from search_plot import front, speed_at, verdicts
from search_truth import TRUTH, nearest, recall


def point(recall: float, qps: float, anon: float = 0, file: float = 0) -> dict[str, Any]:
    return {"recall": recall, "qps": qps, "anon": anon, "file": file}


def test_speed_at_a_recall_lies_between_two_measured_points_in_its_logarithm() -> None:
    points = [point(0.90, 8000), point(1.0, 2000)]
    assert speed_at(points, 0.95) == pytest.approx(4000)
    assert speed_at(points, 0.90) == pytest.approx(8000)
    assert speed_at(points, 0.92) == pytest.approx(8000 * math.exp(-0.2 * math.log(4)))


def test_speed_is_never_read_beyond_what_was_measured() -> None:
    points = [point(0.96, 500), point(0.98, 300)]
    assert speed_at(points, 0.99) is None
    assert speed_at(points, 0.95) == 500  # the fastest that reaches it


def test_a_point_that_another_beats_in_both_does_not_bend_the_curve() -> None:
    slow = point(0.94, 100)
    points = [point(0.90, 8000), slow, point(1.0, 2000)]
    assert slow not in front(points)
    assert speed_at(points, 0.95) == pytest.approx(4000)


def contender(curve: list[dict[str, Any]], build_s: float) -> dict[str, Any]:
    return {"points": curve, "build_s": build_s}


def test_verdicts_compare_with_the_fastest_peer_and_at_99_with_the_small_ones_alone() -> None:
    results = {
        "mmsearch": contender([point(0.95, 300, 10, 100), point(0.99, 100, 10, 100)], 5),
        "big": contender([point(0.95, 150, 90, 0), point(0.99, 140, 90, 0)], 30),
        "small": contender([point(0.95, 100, 30, 0), point(0.99, 90, 35, 0)], 1),
    }
    assert [v.kept for v in verdicts(results)] == [True, True, True, False]
    # with pages of files counted, big is small enough to be compared with
    assert verdicts(results)[3].measured.startswith("0.71 × big")
    results["big"]["points"][0]["qps"] = 250
    assert [v.kept for v in verdicts(results)] == [False, True, True, False]
    del results["mmsearch"]
    assert [v.kept for v in verdicts(results)] == [None] * 4


def test_recall_counts_ties_as_right_and_no_row_twice() -> None:
    truth = np.array([[(3, 0.9), (1, 0.8), (7, 0.8), (2, 0.5)]], TRUTH)
    assert recall(np.array([[3, 7]]), truth, k=2) == 1.0
    assert recall(np.array([[3, 2]]), truth, k=2) == 0.5
    assert recall(np.array([[7, 7]]), truth, k=2) == 0.5
    assert recall(np.array([[-1, -1]]), truth, k=2) == 0.0


def test_exact_answers_are_those_of_numpy_among_the_allowed_rows() -> None:
    rng = np.random.default_rng(0)
    xb = rng.standard_normal((70_000, 8)).astype(np.float16)  # more than one block
    xq = rng.standard_normal((5, 8)).astype(np.float32)
    scores = xq @ xb.astype(np.float32).T
    truth = nearest(xb, xq, None)
    assert (truth["row"][:, :10] == np.argsort(-scores, axis=1)[:, :10]).all()
    rows = np.arange(1, 70_000, 7)
    truth = nearest(xb, xq, rows)
    assert (truth["row"][:, :10] == rows[np.argsort(-scores[:, rows], axis=1)[:, :10]]).all()
    few = nearest(xb, xq, np.array([5, 9]))
    assert {*few["row"][0].tolist()} == {5, 9}
    assert recall(np.full((5, 10), -1), few) == 0.0
    assert recall(np.tile([5, 9] + [-1] * 8, (5, 1)), few) == 1.0
