"""From how many parts on are lists worth training? Exact search beside IVF-PQ, by size.

    python benchmarks/auto.py --vectors FILE.npy --queries FILE.npy
        [--sizes 25000 50000 100000 200000] [--runs 7] [--index FOLDER]

Makes two indexes of each size from the first of the vectors, float16 (n, d), distinct and in no
order: one searched exactly, one by IVF-PQ as ``mmsearch index`` trains and tunes it. The same
queries, vectors that are in neither, are asked of both in turn: one by one, in batches of 1,000,
and as ``mmsearch query`` in a process of its own. Recall@10 is against the exact answers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from cold import in_turn
from common import Line, save, table
from filled import fill, texts_of
from mmsearch.types import Vectors

K = 10
ALONE = 200  # queries asked one by one in a turn
BATCH = 1000
KINDS = ("flat", "ivfpq")
SLOW_MS = 20.0  # more than this for one query is noticed beside encoding it


def asked(index: mmsearch.Index, xq: Vectors) -> tuple[float, float]:
    """Milliseconds a query, one by one (of this thread) and in a batch (that pass)."""
    started = time.thread_time()
    for q in xq[:ALONE]:
        index.search(vector=q, k=K)
    alone = (time.thread_time() - started) * 1000 / min(ALONE, len(xq))
    batch = np.resize(xq, (BATCH, xq.shape[1]))
    started = time.perf_counter()
    index.search_batch(vectors=batch, k=K)
    return alone, (time.perf_counter() - started) * 1000 / BATCH


def measured(folder: Path, xb: np.ndarray, xq: Vectors, runs: int) -> dict[str, Any]:
    """Both kinds over the same vectors."""
    out: dict[str, Any] = {"parts": len(xb)}
    for kind in KINDS:
        if not (folder / kind).exists():
            started = time.perf_counter()
            fill(folder / kind, xb, texts_of(None), kind)
            out[f"{kind}_built_s"] = round(time.perf_counter() - started, 1)
    indexes = {kind: mmsearch.open(folder / kind) for kind in KINDS}
    rows = {kind: index.search_batch(vectors=xq, k=K).rows for kind, index in indexes.items()}
    pairs = zip(rows["flat"], rows["ivfpq"], strict=True)
    out["recall"] = float(np.mean([len({*a.tolist()} & {*b.tolist()}) / K for a, b in pairs]))
    turns: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(runs):
        for kind, index in indexes.items():
            turns[kind].append(asked(index, xq))
    query = [sys.executable, "-m", "mmsearch", "query", "a dog on a beach", "--json", "--index"]
    cold = in_turn([[*query, str(folder / kind)] for kind in KINDS], runs)
    for kind, processes in zip(KINDS, cold, strict=True):
        alone, batch = zip(*turns[kind], strict=True)
        wall, resident, cpu = zip(*processes, strict=True)
        out[kind] = {"alone_ms": alone, "batch_ms": batch, "cold_wall_s": wall,
                     "cold_resident_mb": resident, "cold_cpu_s": cpu}  # fmt: skip
    ann = indexes["ivfpq"].snapshot.manifest.ann
    lists = [
        file.bytes
        for segment in indexes["ivfpq"].snapshot.segments
        for name, file in segment.ref.files.items()
        if name.startswith("codes-")
    ]
    out["lists_mb"] = round((sum(lists) + (ann.file.bytes if ann else 0)) / 1e6, 1)
    return out


def figures(found: dict[str, Any]) -> list[Line]:
    """What is printed of one size."""
    flat, lists, parts = found["flat"], found["ivfpq"], f"{found['parts']:,} parts: "

    def median(of: dict[str, Any], name: str) -> float:
        return statistics.median(of[name])

    wall = " and ".join(f"{median(of, 'cold_wall_s'):.2f}" for of in (flat, lists))
    return [
        Line(f"{parts}one query exactly, ms of one core", median(flat, "alone_ms"), goal=SLOW_MS,
             at_most=True, note=f"IVF-PQ {median(lists, 'alone_ms'):.2f}"),
        Line(f"{parts}one of a batch of {BATCH:,}, ms", median(flat, "batch_ms"), digits=2,
             note=f"IVF-PQ {median(lists, 'batch_ms'):.3f}"),
        Line(f"{parts}a cold query, s of one core", median(flat, "cold_cpu_s"), digits=2,
             note=f"IVF-PQ {median(lists, 'cold_cpu_s'):.2f}; that passed {wall}"),
        Line(f"{parts}recall@10 of IVF-PQ", found["recall"], digits=3,
             note=f"lists of {found['lists_mb']} MB, the index built in "
                  f"{found.get('ivfpq_built_s', 0):.0f} s, without lists in "
                  f"{found.get('flat_built_s', 0):.0f} s"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    sizes = [25_000, 50_000, 100_000, 200_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--index", type=Path, help="keep the indexes in this folder")
    args = parser.parse_args()
    xb = np.load(args.vectors, mmap_mode="r")
    xq = np.load(args.queries).astype(np.float32)
    if len(xb) < max(args.sizes):
        raise SystemExit(f"{args.vectors} has {len(xb):,} vectors; {max(args.sizes):,} are wanted")
    with tempfile.TemporaryDirectory() as work:
        folder = args.index or Path(work)
        results = []
        for n in args.sizes:
            (folder / str(n)).mkdir(parents=True, exist_ok=True)
            results.append(measured(folder / str(n), np.asarray(xb[:n]), xq, args.runs))
    lines = [line for found in results for line in figures(found)]
    save("auto", {"sizes": results, "figures": [line.to_json() for line in lines]})
    table([("what", "figure", "goal"), *(line.row() for line in lines)])


if __name__ == "__main__":
    main()
