"""Search with filters: what is found, and what the filter costs, beside LanceDB.

    python benchmarks/filters.py --base FILE.npy --queries FILE.npy [--count N]

The parts get a number (a permutation, so that ``meta.n < x`` keeps exactly x of them, anywhere)
and the cluster that their vector is in (k-means, 100 of them), so that there are filters that
know nothing of the vectors and filters that are all about them: most queries then lie far from
everything that may be found. Recall is against exact search among what the filter leaves.

For mmsearch, the vector stage (``took_ms`` less ``filter_ms``) of single queries, each asked
without and with the filter in turn; the predicate's first time, on a freshly opened index, and
its time when the index has seen it. LanceDB has the same vectors and columns, a B-tree and a
bitmap on these, filters first (``prefilter``) and gets, for each filter, the fastest of eight
settings (and of no vector index at all) that reaches 0.95; its time holds the predicate's.
Each engine builds and answers in processes of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from children import ChildFailed, columns, disk_bytes, files_under, read_once, run_child
from common import save
from search_truth import K, nearest

CLUSTERS = 100
WANTED, AT_MOST = 0.95, 3.0
PACKAGES = {"mmsearch": "mmsearch", "lancedb": "lancedb"}  # engine -> what it imports


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="float16 (n, d) .npy")
    parser.add_argument("--queries", type=Path, required=True, help="float32 (nq, d) .npy")
    parser.add_argument("--name", default="passages", help="of the data, in the results")
    parser.add_argument("--count", type=int, help="so many rows of the base; all if left out")
    parser.add_argument("--asked", type=int, default=1000, help="so many queries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", nargs="+", choices=sorted(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--work", type=Path, help="where indexes are built; beside the base")
    args = parser.parse_args()
    rows = np.load(args.base, mmap_mode="r").shape[0]
    args.count = min(args.count or rows, rows)
    args.asked = min(args.asked, np.load(args.queries, mmap_mode="r").shape[0])
    args.work = args.work or args.base.parent / "filters-work"
    args.work.mkdir(parents=True, exist_ok=True)
    return args


def made_columns(xb: NDArray[Any]) -> NDArray[np.int64]:
    """(n, 2): a random permutation of the row numbers, and the cluster of each vector."""
    import faiss

    rng = np.random.default_rng(0)
    n, d = xb.shape
    rows = np.sort(rng.choice(n, min(n, 256 * CLUSTERS), replace=False))
    kmeans = faiss.Kmeans(d, CLUSTERS, niter=10, spherical=True, seed=1)
    kmeans.train(np.asarray(xb[rows], np.float32))
    out = np.empty((n, 2), np.int64)
    out[:, 0] = rng.permutation(n)
    for start in range(0, n, 65_536):
        block = np.asarray(xb[start : start + 65_536], np.float32)
        out[start : start + len(block), 1] = kmeans.index.search(block, 1)[1][:, 0]
    return out


def chosen(of_rows: NDArray[np.int64]) -> list[tuple[str, str | None, NDArray[np.bool_]]]:
    """(name, condition, bool (n,)) of each filter; the first is none."""
    n = len(of_rows)
    number, cluster = of_rows.T
    out: list[tuple[str, str | None, NDArray[np.bool_]]] = [("none", None, np.ones(n, np.bool_))]
    for name, count in (
        ("50 %", n // 2),
        ("10 %", n // 10),
        ("1 %", n // 100),
        ("0.1 %", n // 1000),
        ("10 parts", 10),
    ):
        out.append((name, f"meta.n < {count}", number < count))
    sizes = np.bincount(cluster, minlength=CLUSTERS)
    by_size = np.argsort(sizes)
    middle = int(by_size[CLUSTERS // 2])
    ten = sorted(by_size[CLUSTERS // 2 - 5 : CLUSTERS // 2 + 5].tolist())
    quoted = ", ".join(f"'c{c}'" for c in ten)
    out.append(("a cluster", f"meta.kind = 'c{middle}'", cluster == middle))
    out.append(("ten clusters", f"meta.kind in ({quoted})", np.isin(cluster, ten)))
    half = sorted(by_size[: CLUSTERS // 2].tolist())
    quoted = ", ".join(f"'c{c}'" for c in half)
    out.append(("half of them", f"meta.kind in ({quoted})", np.isin(cluster, half)))
    return out


def prepared(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The filters with their exact answers, written below ``--work`` for the engines."""
    xb = np.load(args.base, mmap_mode="r")[: args.count]
    xq = np.ascontiguousarray(np.load(args.queries)[: args.asked], np.float32)
    of_rows = made_columns(xb)
    np.save(args.work / "columns.npy", of_rows)
    out = []
    for i, (name, where, mask) in enumerate(chosen(of_rows)):
        truth = args.work / f"truth-{i}.npy"
        np.save(truth, nearest(xb, xq, None if where is None else np.flatnonzero(mask)))
        kept = int(mask.sum())
        out.append({"name": name, "where": where, "kept": kept, "truth": str(truth)})
    (args.work / "filters.json").write_text(json.dumps(out))
    return out


def measured(args: argparse.Namespace, engine: str) -> dict[str, Any]:
    """An engine's index and its answers. Raises ChildFailed."""
    folder = args.work / engine
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    common = ["--folder", str(folder), "--base", str(args.base), "--queries", str(args.queries)]
    common += ["--filters", str(args.work / "filters.json"), "--count", str(args.count)]
    common += ["--asked", str(args.asked), "--threads", str(args.threads)]
    log, result = args.work / f"{engine}.log", args.work / f"{engine}.json"
    read_once([args.base])
    built = run_child(["filters_child.py", "build", engine, *common], result, args.threads, log)
    read_once([args.base, *files_under(folder)])
    asked = run_child(["filters_child.py", "ask", engine, *common], result, args.threads, log)
    bytes_on_disk = disk_bytes(folder)
    shutil.rmtree(folder)
    return {"build_s": built["build_s"], "disk_bytes": bytes_on_disk, **asked}


def rows(filters: list[dict[str, Any]], engines: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table, heading first."""
    out: list[tuple[str, ...]] = [
        ("filter", "keeps", "recall", "vector ms", "× none", "batch ms", "× none",
         "first predicate ms", "cached ms", "LanceDB recall", "ms", "× none", "setting")
    ]  # fmt: skip
    for i, one in enumerate(filters):
        cells = [one["name"], f"{one['kept']:,}"]
        if "mmsearch" in engines:
            r = engines["mmsearch"]["filters"][i]
            first = r["first_filter_ms"]
            cells += [
                f"{r['recall']:.4f}",
                f"{r['vector_ms']:.2f}",
                f"{r['vector_ms'] / r['unfiltered_ms']:.2f}",
                f"{r['batch_ms']:.2f}",
                f"{r['batch_ms'] / r['unfiltered_batch_ms']:.2f}",
                "–" if first is None else f"{first:.0f}",
                "–" if first is None else f"{r['cached_filter_ms']:.3f}",
            ]
        else:
            cells += ["–"] * 7
        if "lancedb" in engines:
            r, plain = engines["lancedb"]["filters"][i], engines["lancedb"]["filters"][0]
            setting = r["setting"]
            cells += [
                f"{r['recall']:.4f}",
                f"{r['total_ms']:.2f}",
                f"{r['total_ms'] / plain['total_ms']:.2f}",
                setting if isinstance(setting, str) else f"{setting[0]}, {setting[1]}",
            ]
        else:
            cells += ["–"] * 4
        out.append(tuple(cells))
    return out


def main() -> None:
    args = arguments()
    print("columns and exact answers first", flush=True)
    filters = prepared(args)
    engines: dict[str, Any] = {}
    skipped = {}  # engine -> why
    for engine in args.engines:
        if importlib.util.find_spec(PACKAGES[engine]) is None:
            skipped[engine] = "not installed here"
        else:
            try:
                engines[engine] = measured(args, engine)
            except ChildFailed as e:
                skipped[engine] = str(e)
        if engine in skipped:
            print(f"{engine}: skipped: {skipped[engine]}")
    save(
        "filters" if args.name == "passages" else f"filters_{args.name}",
        {
            "data": args.name,
            "rows": args.count,
            "queries": args.asked,
            "k": K,
            "threads": args.threads,
            "filters": [{k: v for k, v in f.items() if k != "truth"} for f in filters],
            "engines": engines,
            "skipped": skipped,
        },
    )
    print()
    columns(rows(filters, engines))
    if "mmsearch" not in engines:
        return
    ours = engines["mmsearch"]["filters"]
    least = min(range(len(ours)), key=lambda i: ours[i]["recall"])
    most = max(range(1, len(ours)), key=lambda i: ours[i]["vector_ms"] / ours[i]["unfiltered_ms"])
    low = ours[least]["recall"]
    ratio = ours[most]["vector_ms"] / ours[most]["unfiltered_ms"]
    verdict = {True: "kept", False: "missed"}
    print(
        f"recall@10 ≥ {WANTED:g} at each: least {low:.4f} ({filters[least]['name']}): "
        f"{verdict[low >= WANTED]}"
    )
    print(
        f"vector stage never more than {AT_MOST:g} × the unfiltered one: most {ratio:.2f} "
        f"({filters[most]['name']}): {verdict[ratio <= AT_MOST]}"
    )


if __name__ == "__main__":
    main()
