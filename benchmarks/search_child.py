"""One contender in its own process: ``build`` or ``ask``. Started by search.py."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from children import grown, memory, pin
from search_peers import Contender
from search_peers_more import CONTENDERS
from search_truth import K, Truth, recall

PASSES = 3  # or more, while they took less than ...
LEAST_S = 2.0  # ... so long together: a short pass is at the mercy of what else runs
POINT_S = 60  # a point of a curve gets so many seconds, of fewer queries or passes if need be
FEWEST = 1_000
LATENCY_QUERIES = 500
LATENCY_RECALL = 0.95
ENOUGH = 0.997  # nothing is read off a curve above 0.99


def build(contender: Contender, args: argparse.Namespace) -> dict[str, Any]:
    """Builds and saves; times it and says what memory it needed."""
    xb = np.load(args.base, mmap_mode="r")[: args.count]
    before = memory()
    started = time.perf_counter()
    said = 0.0

    def note(share: float) -> None:
        nonlocal said
        now = time.perf_counter() - started
        if share - said >= 0.2 and now > 20:
            said = share
            left = now / share * (1 - share) / 60
            print(f"  {share:.0%} built, {left:.1f} minutes left", flush=True)

    facts = contender.build(xb, args.folder, args.threads, note)
    seconds = time.perf_counter() - started
    return {
        "build_s": seconds,
        "build_facts": facts,
        "peak_rss_bytes": memory()["peak"],
        "before": before,
    }


def ask(contender: Contender, args: argparse.Namespace) -> dict[str, Any]:
    """Opens what was saved and walks along its knob."""
    xq = np.ascontiguousarray(np.load(args.queries)[: args.asked], np.float32)
    truth = np.load(args.truth)[: args.asked]
    before = memory()
    started = time.perf_counter()
    contender.open(args.folder, args.threads)
    open_s = time.perf_counter() - started
    points: list[dict[str, Any]] = []
    alone: dict[str, Any] | None = None
    for knob in contender.knobs(args.count):
        point = {**measured(contender, xq, truth, knob), **grown(before)}
        points.append(point)
        print(
            f"  {contender.name:19} {knob!s:12} recall {point['recall']:.4f}"
            f"  {point['qps']:8,.0f} a second  anon {point['anon'] / 1e6:,.0f} MB",
            flush=True,
        )
        if alone is None and point["recall"] >= LATENCY_RECALL:
            alone = {"knob": knob, **one_by_one(contender, xq[:LATENCY_QUERIES], knob)}
        if point["recall"] >= ENOUGH:
            break
    return {"open_s": open_s, "before": before, "points": points, "alone": alone}


def measured(
    contender: Contender, xq: NDArray[np.float32], truth: Truth, knob: Any
) -> dict[str, Any]:
    """Recall and speed of one setting: the best and the median of its passes."""
    few = xq[:FEWEST]
    contender.search(few, K, knob)  # warms up
    started = time.perf_counter()
    contender.search(few, K, knob)
    each_s = (time.perf_counter() - started) / len(few)
    n = min(len(xq), max(FEWEST, int(POINT_S / 2 / each_s)))
    found = np.empty((0, K), np.int64)
    passes: list[float] = []
    while not passes or (
        (len(passes) < PASSES or sum(passes) < LEAST_S) and sum(passes) + passes[-1] < POINT_S
    ):
        started = time.perf_counter()
        found = contender.search(xq[:n], K, knob)
        passes.append(time.perf_counter() - started)
    return {
        "knob": knob,
        "recall": recall(found, truth[:n]),
        "qps": n / min(passes),
        "qps_median": n / statistics.median(passes),
        "queries": n,
        "passes_s": passes,
    }


def one_by_one(contender: Contender, xq: NDArray[np.float32], knob: Any) -> dict[str, float]:
    """Milliseconds of single queries: median and 95th of a hundred."""
    times = []
    for i in range(len(xq)):
        started = time.perf_counter()
        contender.search(xq[i : i + 1], K, knob)
        times.append((time.perf_counter() - started) * 1000)
    return {"median_ms": float(np.median(times)), "p95_ms": float(np.percentile(times, 95))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("build", "ask"))
    parser.add_argument("contender", choices=sorted(CONTENDERS))
    for name in ("folder", "base", "queries", "truth", "result"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("count", "asked", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    pin(args.threads)
    contender = CONTENDERS[args.contender]()
    contender.load()
    result = (build if args.step == "build" else ask)(contender, args)
    args.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
