"""How building and asking grow from a million vectors to ten: steps, memory, time of a query.

    python benchmarks/growth.py --base FILE.npy --queries FILE.npy [--counts 1000000 10000000]

FILE.npy: float16 (n, d) and float32 (nq, d), rows of unit length (``search_data.py`` makes
them). What is indexed is interpolated between random pairs of those rows, projected to 384
numbers (``search_data.py interpolated``): no real corpus, only a large one. The smaller indexes
hold the first of the same rows. The queries are the real ones, projected likewise; such vectors
have no encoder that could make queries to tune with, so each index is tuned with others of
these. It is built in a process of its own and asked in another, as ``search.py`` does it;
``--work`` needs some 30 GB for ten million. What is there already is used again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from common import Line, save, table
from mmsearch.indexer.quantise import tune_ann
from mmsearch.store import Writer
from mmsearch.types import Vectors
from search import Run
from search_data import save_rows, unit
from search_index import STEPS
from search_plot import OURS, speed_at, used

RECALLS = (0.85, 0.9, 0.95)
TUNED_WITH = 400  # queries
MAX_TIMES, MAX_BYTES = 4.0, 6e9


def vectors(args: argparse.Namespace) -> tuple[Path, Path, Vectors]:
    """The files of the interpolated vectors and of the queries, made if they are not there,
    and the queries to tune with."""
    count = max(args.counts)
    rows = args.work / f"interpolated-{count}-{args.dimension}.npy"
    if not rows.exists():
        command = [str(Path(__file__).with_name("search_data.py")), "interpolated"]
        command += ["--base", str(args.base), "--count", str(count)]
        command += ["--dimension", str(args.dimension), "--out", str(rows)]
        subprocess.run([sys.executable, *command], check=True)
    asked = rows.with_name(f"{rows.stem}-queries.npy")
    projection = np.load(rows.with_name(f"{rows.stem}-projection.npy"))
    real = unit(np.load(args.queries)[: args.asked + TUNED_WITH], projection)
    if not asked.exists() or not np.array_equal(np.load(asked), real[: args.asked]):
        save_rows(asked, real[: args.asked], np.float32)  # a new file would undo what is kept
    return rows, asked, real[args.asked :]


def measured(
    args: argparse.Namespace, base: Path, queries: Path, known: Vectors, count: int
) -> dict[str, Any]:
    """What ``search.py`` measures of mmsearch on the first ``count`` rows."""
    work = args.work / str(count)
    work.mkdir(parents=True, exist_ok=True)
    run = Run(
        argparse.Namespace(
            base=base,
            queries=queries,
            count=count,
            asked=args.asked,
            threads=args.threads,
            dimension=args.dimension,
            work=work,
            keep=True,
            resume=True,
        )
    )
    run._build(OURS)
    folder = run._folder(OURS)
    print("  tuning", flush=True)
    with Writer(folder, mmsearch.open(folder).space) as writer:
        tune_ann(writer, queries=known)
    run.contender(OURS)
    if OURS not in run.results:
        raise SystemExit(run.skipped[OURS])
    return run.results[OURS]


def lines(results: dict[int, dict[str, Any]]) -> list[Line]:
    """The figures that are printed, with their goals."""
    out: list[Line] = []
    for count, result in results.items():
        steps = result["build_facts"]
        said = ", ".join(f"{name} {steps[name]:,.0f}" for name in STEPS)
        out += [
            Line(f"{count:,}: built, s", result["build_s"], digits=0, note=said),
            Line(f"{count:,}: most of its own memory while building, MB",
                 result["build_peak_anon_bytes"] / 1e6, goal=MAX_BYTES / 1e6, digits=0,
                 at_most=True, note=f"with mapped files {result['peak_rss_bytes'] / 1e6:,.0f}"),
            Line(f"{count:,}: on disk, MB", result["disk_bytes"] / 1e6, digits=0),
            Line(f"{count:,}: memory after the queries at 0.95, MB",
                 (used(result) or result["points"][-1])["anon"] / 1e6, digits=0),
        ]  # fmt: skip
        for recall in RECALLS:
            speed = speed_at(result["points"], recall)
            missed = "" if speed else "not reached"
            out.append(Line(f"{count:,}: queries/s at {recall:g}", speed, digits=0, note=missed))
        if result["alone"]:
            out.append(Line(f"{count:,}: a query alone, ms", result["alone"]["median_ms"],
                            digits=2, note=f"at {result['alone']['knob']:g}"))  # fmt: skip
    few, many = min(results), max(results)
    for recall in RECALLS:
        speeds = [speed_at(results[count]["points"], recall) for count in (few, many)]
        if many > few and speeds[0] and speeds[1]:
            out.append(Line(f"time of a query on {many:,} / on {few:,}, at recall {recall:g}",
                            speeds[0] / speeds[1], goal=MAX_TIMES, digits=2,
                            at_most=True))  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="float16 (n, d) .npy")
    parser.add_argument("--queries", type=Path, required=True, help="float32 (nq, d) .npy")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--asked", type=int, default=1000, help="so many queries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where all is built; beside the base")
    args = parser.parse_args()
    args.work = args.work or args.base.parent / "growth-work"
    args.work.mkdir(parents=True, exist_ok=True)
    base, queries, known = vectors(args)
    results = {n: measured(args, base, queries, known, n) for n in sorted(args.counts)}
    figures = lines(results)
    save("growth", {
        "dimension": args.dimension,
        "queries": args.asked,
        "threads": args.threads,
        "results": {str(count): result for count, result in results.items()},
        "figures": [line.to_json() for line in figures],
    })  # fmt: skip
    table([("what", "figure", "goal"), *(line.row() for line in figures)])


if __name__ == "__main__":
    main()
