"""What a query costs beside FAISS: alone, in batches, and as a cold process.

    python benchmarks/latency.py [--parts 1000000] [--vectors FILE.npy --texts FILE.parquet]
        [--queries FILE.npy] [--index FOLDER] [--count 4000] [--batches 30] [--runs 9]

Writes an index of that many text passages straight into the store, from float16 (n, d) vectors
and a Parquet column ``text`` or from made-up ones, and one of 10,000 to compare cold processes
with. ``--index`` keeps both in that folder, and uses what it finds there. Then asks with
vectors (of ``--queries``; or those after the parts), in one process on warm files, and says
what is spent beside FAISS in the same calls: of the first queries, which check what they read
and some more, and of those after everything was checked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from clock import Clock, clocks
from cold import in_turn
from common import Line, save, table
from filled import fill, made_up, questions, texts_of
from mmsearch import Index
from mmsearch.types import Vectors

SMALL = 10_000  # parts of the index that cold processes are compared with
BATCH = 1000
FIRST = 400  # queries of the first figures, half of them for each side
MOST_WARMING = 100_000
IMPORTED = "import time; t = time.perf_counter(); import mmsearch.searcher as s; "
OPENING = {
    "import_ms": "importing mmsearch.searcher",
    "open_ms": "opening the index",
    "first_query_ms": "the first query",
}
OPENED = IMPORTED + (
    "import sys, numpy; from pathlib import Path; i = time.perf_counter(); "
    "ix = s.Index(Path(sys.argv[1])); o = time.perf_counter(); "
    "list(ix.search(vector=numpy.ones(ix.space.dimension))); "
    "print(i - t, o - i, time.perf_counter() - o)"
)


def made(folder: Path, parts: int, vectors: np.ndarray | None, texts: Path | None) -> Path:
    """The index of so many parts in that folder, made if it is not there."""
    where = folder / str(parts)
    if not (where / "manifest.json").exists():
        print(f"making an index of {parts:,} parts", file=sys.stderr)
        started = time.perf_counter()
        some = made_up(parts, 512) if vectors is None else vectors[:parts]
        fill(where, some, texts_of(texts))
        print(f"made in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return where


def spread(values: Any) -> dict[str, float]:
    """Quantiles, for the result file."""
    cuts = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    return dict(zip(("p5", "p25", "median", "p75", "p95", "p99"), cuts.tolist(), strict=True))


def warmed(index: Index, xq: Vectors, k: int) -> int:
    """Asks until all that queries read has been checked; how many queries that took."""
    segments = index.snapshot.segments
    files = [f for s in segments for f in (s.lanes[0].blocks, s.arrow_blocks)]
    asked = 0
    while not all(f.whole for f in files):
        list(index.search(vector=xq[asked % len(xq)], k=k))
        asked += 1
        if asked > MOST_WARMING:
            raise SystemExit(f"after {asked:,} queries there is still something to check")
    return asked


def alone(index: Index, xq: Vectors, inside: Clock, faiss: Clock, k: int) -> dict[str, Any]:
    """Milliseconds of one query after the other.

    Every other one is asked of the segment indexes directly, for what they take undisturbed.
    """
    view, times = index._view, []  # (whole, inside the segment indexes, inside FAISS)
    masks, bare = view.allowed(None), []
    for n, v in enumerate(xq):
        inside.read(), faiss.read()
        if n % 2:
            started = time.perf_counter()
            view.search(v[None], k, masks)
            bare.append((time.perf_counter() - started) * 1000)
            continue
        started = time.perf_counter()
        read = [(hit.path, hit.meta["title"]) for hit in index.search(vector=v, k=k)]
        whole = time.perf_counter() - started
        if len(read) != k:
            raise SystemExit(f"{len(read)} hits for {k}")
        times.append((whole * 1000, inside.read() * 1000, faiss.read() * 1000))
    whole_ms, inside_ms, faiss_ms = np.array(times).T
    return {
        "whole_ms": spread(whole_ms),
        "segments_ms": spread(inside_ms),
        "faiss_ms": spread(faiss_ms),
        "over_segments_ms": spread(whole_ms - inside_ms),
        "over_faiss_ms": spread(whole_ms - faiss_ms),
        "segments_asked_directly_ms": spread(bare),
    }


def batched(
    index: Index, xq: Vectors, inside: Clock, faiss: Clock, k: int, runs: int
) -> dict[str, Any]:
    """Milliseconds of batches of ``BATCH``, each followed by the segment indexes alone."""
    view = index._view
    masks, times = view.allowed(None), []
    for n in range(runs):
        some = np.roll(xq, n * 337, axis=0)[:BATCH]
        direct = []
        if n % 2:
            started = time.perf_counter()
            view.search(some, k, masks)
            direct.append(time.perf_counter() - started)
        inside.read(), faiss.read()
        started = time.perf_counter()
        found = index.search_batch(vectors=some, k=k)
        whole = time.perf_counter() - started
        parts = whole, inside.read(), faiss.read()
        started = time.perf_counter()
        ids = found.ids()
        with_ids = time.perf_counter()
        read = [(hit.path, hit.meta["title"]) for results in found for hit in results]
        with_hits = time.perf_counter()
        if len(read) != sum(map(len, ids)) or len(read) != k * len(some):
            raise SystemExit("hits are missing")
        if not direct:
            started_direct = time.perf_counter()
            view.search(some, k, masks)
            direct.append(time.perf_counter() - started_direct)
        times.append((*parts, direct[0], with_ids - started, with_hits - with_ids))
    names = "whole segments faiss segments_asked_directly ids hits".split()
    return {
        f"{name}_ms": (np.array(column) * 1000).tolist()
        for name, column in zip(names, zip(*times, strict=True), strict=True)
    }


def opening(folder: Path, runs: int) -> dict[str, list[float]]:
    """Milliseconds of importing, opening and a first query, in processes of their own."""
    times = []
    for _ in range(runs):
        command = [sys.executable, "-c", OPENED, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append([float(s) * 1000 for s in done.stdout.split()])
    return dict(zip(OPENING, (list(c) for c in zip(*times, strict=True)), strict=True))


def cold(large: Path, small: Path, runs: int) -> dict[str, list[float]]:
    """Wall and CPU seconds and peak MB of `mmsearch query` as a process, on both in turn."""
    query = [sys.executable, "-m", "mmsearch", "query", "a dog on a beach", "--json", "--index"]
    both = in_turn([[*query, str(large)], [*query, str(small)]], runs)
    return {
        f"{name}_{what}": list(column)
        for name, figures in zip(("large", "small"), both, strict=True)
        for what, column in zip(
            ("wall_s", "resident_mb", "cpu_s"), zip(*figures, strict=True), strict=True
        )
    }


def lines(parts: int, result: dict[str, Any]) -> list[Line]:
    """The figures that are printed, with their goals."""
    one, many, first = result["alone"], result["batches"], result["first"]
    process, opened = result["cold"], result["opening"]

    def ratio(a: str, b: str, of: dict[str, list[float]]) -> float:
        return statistics.median(x / y for x, y in zip(of[a], of[b], strict=True))

    over = one["over_faiss_ms"]
    ms: dict[str, Any] = {"digits": 3, "at_most": True}
    return [
        Line(f"a query over {parts:,} parts with its hits, ms", one["whole_ms"]["median"],
             note=f"p95 {one['whole_ms']['p95']:.2f}", **ms),
        Line("of it inside the segment indexes", one["segments_ms"]["median"],
             note=f"asked directly {one['segments_asked_directly_ms']['median']:.3f}", **ms),
        Line("of it inside FAISS", one["faiss_ms"]["median"], **ms),
        Line("over FAISS, ms", over["median"], goal=0.3, note=f"p95 {over['p95']:.3f}", **ms),
        Line(f"over FAISS, ms, the first {FIRST // 2} of a process",
             first["over_faiss_ms"]["median"],
             note=f"{result['warming']:,} until all is checked", **ms),
        Line("over the segment indexes, ms", one["over_segments_ms"]["median"],
             note=f"p95 {one['over_segments_ms']['p95']:.3f}", **ms),
        Line(f"a batch of {BATCH:,}, ms", statistics.median(many["whole_ms"]), digits=2),
        Line("batch / FAISS", ratio("whole_ms", "faiss_ms", many), goal=1.1, **ms),
        Line("batch / the segment indexes in it", ratio("whole_ms", "segments_ms", many), **ms),
        Line("batch / the segment indexes asked directly",
             ratio("whole_ms", "segments_asked_directly_ms", many), **ms),
        Line("a batch's ids, ms more", statistics.median(many["ids_ms"]), digits=2),
        Line("a batch's hits, ms more", statistics.median(many["hits_ms"]), digits=2),
        *(Line(f"{what}, ms in a new process", statistics.median(opened[key]))
          for key, what in OPENING.items()),
        Line(f"cold `mmsearch query` / the same on {SMALL:,} parts, wall",
             ratio("large_wall_s", "small_wall_s", process), goal=1.3, digits=2, at_most=True,
             note=f"{statistics.median(process['large_wall_s']):.2f} s"),
        Line("the same, CPU", ratio("large_cpu_s", "small_cpu_s", process), digits=2),
        Line("peak resident MB", max(process["large_resident_mb"]), goal=350, at_most=True,
             digits=0, note=f"on {SMALL:,} parts {max(process['small_resident_mb']):.0f}"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=Path, help="float16 (n, d); made up if left out")
    parser.add_argument("--texts", type=Path, help="Parquet with a column text")
    parser.add_argument("--index", type=Path, help="keep the indexes in this folder")
    parser.add_argument("--queries", type=Path, help="vectors to ask with, (n, d)")
    parser.add_argument("--count", type=int, default=4000, help="queries, half for each side")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--runs", type=int, default=9, help="of each process")
    parser.add_argument("-k", type=int, default=10)
    args = parser.parse_args()
    given = None if args.vectors is None else np.load(args.vectors, mmap_mode="r").view(np.ndarray)
    with tempfile.TemporaryDirectory() as work:
        folder = args.index or Path(work)
        large = made(folder, args.parts, given, args.texts)
        small = made(folder, SMALL, given, args.texts)
        if args.queries is not None:
            asked = np.load(args.queries)
            xq = questions(asked, 0, min(args.count, len(asked)))
        elif given is None:
            xq = questions(made_up(args.count, 512, seed=1), 0, args.count)
        else:
            xq = questions(given, args.parts, args.count)
        with clocks() as (inside, faiss):
            index = mmsearch.open(large)
            first = alone(index, xq[:FIRST], inside, faiss, args.k)
            warming = FIRST // 2 + warmed(index, xq[FIRST:], args.k)
            one = alone(index, xq, inside, faiss, args.k)
            many = batched(index, xq, inside, faiss, args.k, args.batches)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed: compiled once
        result: dict[str, Any] = {
            "parts": args.parts,
            "made_up": given is None,
            "k": args.k,
            "queries": len(xq),
            "segments": len(index.snapshot.segments),
            "ann": index.snapshot.manifest.ann and index.snapshot.manifest.ann.facts,
            "first": first,
            "warming": warming,
            "alone": one,
            "batches": many,
            "opening": opening(large, args.runs),
            "cold": cold(large, small, args.runs),
        }
    figures = lines(args.parts, result)
    save("latency" if args.parts > SMALL else "latency-small",
         {**result, "figures": [line.to_json() for line in figures]})  # fmt: skip
    table([("what", "figure", "goal"), *(line.row() for line in figures)])


if __name__ == "__main__":
    main()
