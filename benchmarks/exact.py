"""Exact search beside FAISS's own scan of the same vectors.

    python benchmarks/exact.py [--vectors FILE.npy] [--queries FILE.npy] [--before COMMIT]
        [--sizes 1000 10000 50000 200000] [--segments 1 20] [--seconds 0.5] [--index FOLDER]

Makes an index of each size, in one segment and in several equal ones, from float16 (n, d)
vectors or made-up ones, and searches it as ``Index`` does, without reading hits. The same
queries are asked of a bare ``IndexScalarQuantizer`` over each segment's mapped vectors, one
after the other, with a bitmap where a mask leaves out rows. With ``--before`` the exact search
of that commit is asked, too. All take turns in one process; a ratio is the median over the
turns. With one thread that is of the processor time, with all cores of the time that passed.

Then what decides how many queries go through matrix products and which rows are copied, what
one query costs without FAISS and what loading FAISS costs, and the exact answers of the tuner.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import Line, cores, save, table
from filled import fill, made_up, questions, texts_of
from mmsearch.types import Mask, Vectors

K = 10
QUERIES = (1, 8, 32, 256)
SHARES = (1.0, 0.01, 0.25, 0.9)  # of the rows that may be found
GOAL = 1.3  # times the bare scan
LEAST_TURNS, TURN_S = 3, 0.002
WAYS_ROWS = (1000, 2500, 10_000, 50_000)
WAYS_QUERIES = (8, 16, 24, 32, 48, 64)
COPY_ROWS = (10_000, 50_000, 200_000)
COPY_SHARES = (0.005, 0.01, 0.02, 0.05)
TUNED_QUERIES = 1000
LOADING = (
    "import time, numpy, mmsearch.searcher; t, c = time.perf_counter(), time.process_time(); "
    "import faiss; print(time.perf_counter() - t, time.process_time() - c)"
)
Way = Callable[[], Any]


def in_turn(ways: dict[str, Way], threads: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each way, in each turn."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    for way in ways.values():
        way()
    started = clock()
    next(iter(ways.values()))()
    times = max(1, round(TURN_S / max(clock() - started, 1e-6)))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(taken["bare"]) < LEAST_TURNS:
        for name, way in ways.items():
            started = clock()
            for _ in range(times):
                way()
            taken[name].append(round((clock() - started) * 1000 / times, 4))
    return taken


def ratio(taken: dict[str, list[float]], a: str, b: str) -> float:
    """The median over the turns of how many times as long a took as b."""
    return statistics.median(x / y for x, y in zip(taken[a], taken[b], strict=True))


def earlier(commit: str) -> types.SimpleNamespace:
    """``Flat``, ``merge`` and ``exact_nearest`` as they were in a commit."""

    def load(name: str) -> dict[str, Any]:
        show = ["git", "show", f"{commit}:mmsearch/ann/{name}.py"]
        here = Path(__file__).parent
        source = subprocess.run(show, capture_output=True, text=True, check=True, cwd=here).stdout
        module = types.ModuleType(f"earlier_{name}")
        sys.modules[module.__name__] = module
        source = source.replace("mmsearch.ann.topk", "earlier_topk")
        exec(compile(source, f"{commit}:{name}.py", "exec"), module.__dict__)
        return module.__dict__

    merge = load("topk")["merge"]
    return types.SimpleNamespace(
        merge=merge, Flat=load("flat")["Flat"], exact_nearest=load("tune")["exact_nearest"]
    )


def masks_of(sizes: Sequence[int], share: float) -> list[Mask | None]:
    """A mask for each segment that allows so large a share of its rows; None for all."""
    if share == 1:
        return [None] * len(sizes)
    rng = np.random.default_rng(5)
    masks: list[Mask | None] = []
    for n in sizes:
        mask = np.zeros(n, np.bool_)
        mask[rng.permutation(n)[: max(1, round(n * share))]] = True
        masks.append(mask)
    return masks


def ways_of(folder: Path, share: float, xq: Vectors, before: Any) -> dict[str, Way]:
    """The bare scan, the index's own search, and with ``before`` that of an earlier commit."""
    import faiss

    import mmsearch
    from mmsearch.ann import exact
    from mmsearch.searcher.view import Group

    view = mmsearch.open(folder)._view
    lanes = [segment.lanes[0] for segment in view.snapshot.segments]
    masks = masks_of([len(lane.vectors) for lane in lanes], share)
    groups = [Group(0, None, masks, 1)]
    scans = []
    for lane, mask in zip(lanes, masks, strict=True):
        lane.blocks.check_all()
        told = None
        if mask is not None:
            bits = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            told = faiss.SearchParameters(sel=bits)
        scans.append((exact.view(lane.vectors), told))

    def bare() -> list[Any]:
        return [index.search(xq, K, params=told) for index, told in scans]

    ways: dict[str, Way] = {"bare": bare, "ours": lambda: view.search(xq, K, groups)}
    if before is not None:
        flats = [before.Flat(lane.vectors, lane.check_rows) for lane in lanes]

        def old() -> Any:
            found = []
            for flat, first, mask in zip(flats, view.first, masks, strict=True):
                D, ids = flat.search(xq, K, mask)
                found.append((D, np.where(ids >= 0, ids + first, -1) if first else ids))
            return found[0] if len(found) == 1 else before.merge(found, K)

        ways["before"] = old
    same(ways, view.first)
    return ways


def same(ways: dict[str, Way], first: Sequence[int]) -> None:
    """Raises SystemExit where the ways find different rows (equal to a rounding may differ)."""
    found = [(D, np.where(ids >= 0, ids + at, -1)) for (D, ids), at in
             zip(ways["bare"](), first, strict=True)]  # fmt: skip
    D, ids = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    order = np.lexsort((ids, np.where(ids >= 0, -D, np.inf)), axis=1)[:, :K]
    scores, rows = np.take_along_axis(D, order, 1), np.take_along_axis(ids, order, 1)
    for name in ways.keys() - {"bare"}:
        ours = ways[name]()
        wrong = (ours[1] != rows) & (np.abs(ours[0] - scores) > 1e-6)
        if wrong.any():
            raise SystemExit(f"{name} found other rows than the bare scan")


def compared(args: argparse.Namespace, before: Any, folder: Path, xq: Vectors) -> list[Any]:
    """Each size, number of segments, mask and number of queries."""
    out = []
    for parts in args.sizes:
        for segments in args.segments:
            for share in SHARES:
                for nq in QUERIES:
                    ways = ways_of(folder / f"{parts}-{segments}", share, xq[:nq], before)
                    taken = in_turn(ways, args.threads, args.seconds)
                    case = {"parts": parts, "segments": segments, "allowed": share, "queries": nq}
                    medians = {name: statistics.median(ms) for name, ms in taken.items()}
                    ratios = {name: round(ratio(taken, name, "bare"), 3) for name in taken}
                    out.append({**case, "ms": medians, "times_bare": ratios, "turns_ms": taken})
                    print(case, ratios, file=sys.stderr)
    return out


def products_over_scan(xb: NDArray[np.float16], xq: Vectors, seconds: float) -> float:
    """How many times as long matrix products take as a scan, on one thread."""
    from mmsearch.ann import exact, products

    index = exact.view(xb)
    ways: dict[str, Way] = {
        "bare": lambda: exact.scanned(xq, exact.Scan.of(index, None), K),
        "ours": lambda: products.nearest(xq, xb, K, None),
    }
    return round(ratio(in_turn(ways, 1, seconds), "ours", "bare"), 3)


def copy_over_scan(xb: NDArray[np.float16], xq: Vectors, share: float, seconds: float) -> float:
    """How many times as long copying the rows of a mask takes as a scan that asks the mask."""
    from mmsearch.ann import exact
    from mmsearch.ann.masked import Masked

    index = exact.view(xb)
    mask = masks_of([len(xb)], share)[0]
    if mask is None:
        raise ValueError("a share below 1 is wanted")
    only = Masked(mask)
    ways: dict[str, Way] = {
        "bare": lambda: exact.scanned(xq, exact.Scan.of(index, only), K),
        "ours": lambda: exact.among(xq, xb[only.rows], only.rows, K),
    }
    return round(ratio(in_turn(ways, 1, seconds), "ours", "bare"), 3)


def constants(seconds: float, xb: NDArray[np.float16], xq: Vectors) -> dict[str, Any]:
    """What the choice between the ways rests on, in processor time of one thread."""
    from mmsearch.ann import without_faiss

    products = {
        f"{n} rows, {nq} queries": products_over_scan(xb[:n], xq[:nq], seconds)
        for n in WAYS_ROWS if n <= len(xb) for nq in WAYS_QUERIES
    }  # fmt: skip
    copies = {
        f"{share:.1%} of {n} rows, {nq} queries": copy_over_scan(xb[:n], xq[:nq], share, seconds)
        for n in COPY_ROWS if n <= len(xb) for share in COPY_SHARES for nq in (1, 8)
    }  # fmt: skip
    n = min(50_000, len(xb))
    alone = in_turn({"bare": lambda: without_faiss.nearest(xq[:1], xb[:n], K, None)}, 1, 1)
    loading = []
    for _ in range(9):
        done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True)
        loading.append([round(float(s) * 1000, 1) for s in done.stdout.split()])
    return {
        "products_over_scan": products,
        "copy_over_scan": copies,
        "numpy_us_a_row": round(statistics.median(alone["bare"]) * 1000 / n, 3),
        "loading_faiss_ms": {"wall": [w for w, _ in loading], "cpu": [c for _, c in loading]},
    }


def tuned(args: argparse.Namespace, before: Any, xb: NDArray[np.float16], xq: Vectors) -> Any:
    """Seconds that the tuner's exact answers take."""
    from mmsearch.ann.tune import exact_nearest

    asked = np.tile(xq, (-(-TUNED_QUERIES // len(xq)), 1))[:TUNED_QUERIES]
    ways: dict[str, Way] = {"bare": lambda: exact_nearest([xb], [None], asked, K)}
    if before is not None:
        ways["before"] = lambda: before.exact_nearest([xb], [None], asked, K)
    taken = in_turn(ways, args.threads, 1)
    return {
        "parts": len(xb),
        "queries": TUNED_QUERIES,
        "ours_s": round(statistics.median(taken["bare"]) / 1000, 3),
        "before_s": round(statistics.median(taken["before"]) / 1000, 3) if before else None,
    }


def child(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What one process with that many threads measures."""
    import faiss

    faiss.omp_set_num_threads(args.threads)
    before = None if args.before is None else earlier(args.before)
    xb, xq = np.load(folder / "xb.npy", mmap_mode="r"), np.load(folder / "xq.npy")
    found: dict[str, Any] = {"cases": compared(args, before, folder, xq)}
    found["tuner"] = tuned(args, before, np.asarray(xb[:50_000]), xq)
    if args.threads == 1:
        found["constants"] = constants(args.seconds, np.asarray(xb), xq)
    return found


def run(args: argparse.Namespace, folder: Path, threads: int) -> dict[str, Any]:
    """``child`` in a process of its own."""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    with tempfile.NamedTemporaryFile() as out:
        command = [sys.executable, __file__, "--index", str(folder), "--threads", str(threads)]
        command += ["--sizes", *map(str, args.sizes), "--segments", *map(str, args.segments)]
        command += ["--seconds", str(args.seconds), "--out", out.name]
        command += ["--before", args.before] if args.before else []
        subprocess.run(command, check=True, env=os.environ | dict.fromkeys(limits, str(threads)))
        found: dict[str, Any] = json.loads(Path(out.name).read_text())
        return found


def make(args: argparse.Namespace, folder: Path) -> None:
    """The indexes, and the vectors and queries that the children read."""
    most = max(args.sizes)
    if args.vectors is None:
        xb = made_up(most + 1000, 512)
    else:
        xb = np.load(args.vectors, mmap_mode="r")
        if len(xb) < most:
            raise SystemExit(f"{args.vectors} has {len(xb):,} vectors; {most:,} are wanted")
    if args.queries is None:
        xq = questions(np.asarray(xb), most, max(QUERIES))
    else:
        xq = np.load(args.queries)[: max(QUERIES)].astype(np.float32)
    np.save(folder / "xb.npy", np.asarray(xb[:most]))
    np.save(folder / "xq.npy", xq)
    for parts in args.sizes:
        for segments in args.segments:
            if not (where := folder / f"{parts}-{segments}").exists():
                fill(where, np.asarray(xb[:parts]), texts_of(None), "flat", segments)


def lines(found: dict[str, Any], threads: int) -> list[Line]:
    """The worst ratio of each size and number of segments, over all masks."""
    out = []
    groups = sorted({(case["parts"], case["segments"]) for case in found["cases"]})
    for parts, segments in groups:
        for nq in QUERIES:
            mine = [c for c in found["cases"] if (c["parts"], c["segments"]) == (parts, segments)
                    and c["queries"] == nq]  # fmt: skip
            worst = max(mine, key=lambda c: c["times_bare"]["ours"])
            each = ", ".join(f"{c['times_bare']['ours']:.2f}" for c in mine)
            note = f"all and {', '.join(f'{s:.0%}' for s in SHARES[1:])}: {each}"
            if "before" in worst["times_bare"]:
                old = ", ".join(f"{c['times_bare']['before']:.1f}" for c in mine)
                note += f"; before: {old}"
            note += f"; {mine[0]['ms']['ours']:.3g} ms"
            out.append(Line(f"{threads} thread{'s' * (threads > 1)}, {parts:,} parts in "
                            f"{segments}, {nq} queries", worst["times_bare"]["ours"], goal=GOAL,
                            at_most=True, digits=2, note=note))  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vectors", type=Path, help="float16 (n, d); made up if left out")
    parser.add_argument("--queries", type=Path, help="vectors to ask with, (nq, d)")
    parser.add_argument("--before", help="commit whose exact search is asked, too")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 50_000, 200_000])
    parser.add_argument("--segments", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each case, at least")
    parser.add_argument("--index", type=Path, help="keep the indexes in this folder")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.out is not None:
        args.out.write_text(json.dumps(child(args, args.index)))
        return
    with tempfile.TemporaryDirectory() as work:
        folder = args.index or Path(work)
        folder.mkdir(exist_ok=True)
        make(args, folder)
        results = {threads: run(args, folder, threads) for threads in sorted({1, cores()})}
    figures = [line for threads, found in results.items() for line in lines(found, threads)]
    save("exact", {
        "k": K, "made_up": args.vectors is None, "before": args.before,
        "threads": results, "figures": [line.to_json() for line in figures],
    })  # fmt: skip
    table([("times the bare scan", "worst", "goal"), *(line.row() for line in figures)])
    one = results[1]
    for name, more in one["constants"].items():
        print(name, json.dumps(more, indent=1))
    print("exact answers for the tuner", json.dumps({t: r["tuner"] for t, r in results.items()}))


if __name__ == "__main__":
    main()
