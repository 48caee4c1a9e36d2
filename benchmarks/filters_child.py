"""One engine with filters in its own process: ``build`` or ``ask``. Started by filters.py."""

from __future__ import annotations

import argparse
import inspect
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from children import grown, memory, pin
from search_peers import Found, Mmsearch, blocks
from search_peers_more import Lance, rows_of_fragments
from search_truth import K, recall

OPENINGS = 3  # how often the first time of a filter is measured, each with a fresh index
TUNING = 200  # queries that settings are chosen with, ...
TUNING_S = 5.0  # ... or as many as this time allows
LONGEST_MS = 60_000  # a filter gets so long, of fewer queries if need be
WANTED = 0.95


class Filtered(Mmsearch):
    """This project, asked with ``where=``."""

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Any) -> dict[str, Any]:
        from search_index import index_of

        columns = np.load(folder.parent / "columns.npy")
        meta = [{"n": n, "kind": f"c{c}"} for n, c in columns.tolist()]
        return index_of(xb, folder, meta)

    def ask(self, args: argparse.Namespace, one: dict[str, Any]) -> dict[str, Any]:
        """What a filter costs and finds; see filters.py."""
        xq, truth = queries(args), np.load(one["truth"])
        where = one["where"]
        first_ms, first_vector_ms = [], []
        for _ in range(OPENINGS):
            self.open(args.folder, args.threads)
            for x in xq[:20]:
                self._index.search(vector=x)  # so that the first filtered one opens nothing
            if where is not None:
                result = self._index.search(vector=xq[0], where=where, k=K)
                first_ms.append(result.filter_ms)
                first_vector_ms.append(result.took_ms - result.filter_ms)
        cached, with_filter, without = [], [], []
        for x in xq:
            without.append(self._index.search(vector=x, k=K).took_ms)
            result = self._index.search(vector=x, where=where, k=K)
            cached.append(result.filter_ms or 0.0)
            with_filter.append(result.took_ms - (result.filter_ms or 0.0))
        found, batch_s = self._batch(xq, where)
        _, plain_s = self._batch(xq, None)
        return {
            "recall": recall(found, truth),
            "vector_ms": float(np.median(with_filter)),
            "vector_p95_ms": float(np.percentile(with_filter, 95)),
            "unfiltered_ms": float(np.median(without)),
            "batch_ms": batch_s * 1000 / len(xq),
            "unfiltered_batch_ms": plain_s * 1000 / len(xq),
            "first_filter_ms": float(np.median(first_ms)) if first_ms else None,
            "first_vector_ms": float(np.median(first_vector_ms)) if first_ms else None,
            "cached_filter_ms": float(np.median(cached)),
        }

    def _batch(self, xq: NDArray[np.float32], where: str | None) -> tuple[Found, float]:
        """Row numbers, and the seconds of the faster of three passes."""
        if "vectors" in inspect.signature(self._index.search_batch).parameters:

            def ask() -> Found:
                return np.asarray(self._index.search_batch(vectors=xq, k=K, where=where).rows)
        else:
            view = self._index._view

            def ask() -> Found:
                return np.asarray(view.search(xq, K, view.allowed(None, where))[1])

        return fastest(ask)


class LanceFiltered(Lance):
    """LanceDB with a B-tree on the number and a bitmap on the cluster; filters before search."""

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Any) -> dict[str, Any]:
        n, d = xb.shape
        pa = self._pa
        columns = np.load(folder.parent / "columns.npy")
        schema = pa.schema(
            [("vector", pa.list_(pa.float32(), d)), ("n", pa.int64()), ("kind", pa.string())]
        )

        def batches() -> Iterator[Any]:
            for start, block in blocks(xb, lambda share: None):
                values = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), d)
                of_block = columns[start : start + len(block)]
                kinds = pa.array([f"c{c}" for c in of_block[:, 1].tolist()])
                numbers = pa.array(np.ascontiguousarray(of_block[:, 0]))
                yield pa.record_batch([values, numbers, kinds], schema=schema)

        table = self._lancedb.connect(str(folder)).create_table("t", batches(), schema=schema)
        table.create_index("vector", config=self._config(n, d))
        table.create_index("n", config=self._lancedb.index.BTree())
        table.create_index("kind", config=self._lancedb.index.Bitmap())
        ids = table.search().with_row_id(True).select(["_rowid"]).limit(n).to_arrow()["_rowid"]
        np.save(folder / "first.npy", rows_of_fragments(ids.to_numpy()))
        return {}

    def ask(self, args: argparse.Namespace, one: dict[str, Any]) -> dict[str, Any]:
        """The fastest setting that reaches the wanted recall; else the one with the best."""
        xq, truth = queries(args), np.load(one["truth"])
        where = None if one["where"] is None else one["where"].replace("meta.", "")
        self.open(args.folder, args.threads)
        settings: list[Any] = list(self.knobs(args.count))
        if one["kept"] <= 0.1 * args.count:
            settings.append("no index")  # of the vectors: every row that the filter leaves
        tried = []
        for knob in settings:
            self._one(xq[0], knob, where)  # warms up
            found, each_ms = self._some(xq[:TUNING], knob, where)
            tried.append((recall(found, truth[: len(found)]), each_ms, knob))
        good = [t for t in tried if t[0] >= WANTED]
        best = min(good, key=lambda t: t[1]) if good else max(tried, key=lambda t: t[0])
        times, rows = [], []
        for x in xq:
            started = time.perf_counter()
            rows.append(self._one(x, best[2], where))
            times.append((time.perf_counter() - started) * 1000)
            if sum(times) > LONGEST_MS:
                break
        return {
            "recall": recall(np.stack(rows), truth[: len(rows)]),
            "queries": len(rows),
            "total_ms": float(np.median(times)),
            "total_p95_ms": float(np.percentile(times, 95)),
            "setting": best[2],
            "tried": [{"knob": k, "recall": r, "ms": ms} for r, ms, k in tried],
        }

    def _some(self, xq: NDArray[np.float32], knob: Any, where: str | None) -> tuple[Found, float]:
        """Row numbers for as many queries as there is time for, and milliseconds of each."""
        rows: list[Found] = []
        started = time.perf_counter()
        while len(rows) < len(xq) and time.perf_counter() - started < TUNING_S:
            rows.append(self._one(xq[len(rows)], knob, where))
        return np.stack(rows), (time.perf_counter() - started) * 1000 / len(rows)

    def _one(self, x: NDArray[np.float32], knob: Any, where: str | None) -> Found:
        """Row numbers (k,) of one query's answer, -1 for none."""
        if knob == "no index":
            asked = self.asking(x[None], K, (1, 1)).bypass_vector_index()
        else:
            asked = self.asking(x[None], K, knob)
        if where is not None:
            asked = asked.where(where, prefilter=True)
        out = np.full((1, K), -1, np.int64)
        self._place(asked.with_row_id(True).select(["_distance", "_rowid"]).to_arrow(), out)
        found: Found = out[0]
        return found


def fastest(ask: Callable[[], Found]) -> tuple[Found, float]:
    """(what it found, seconds of the faster of three)."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        found = ask()
        seconds.append(time.perf_counter() - started)
    return found, min(seconds)


def queries(args: argparse.Namespace) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.load(args.queries)[: args.asked], np.float32)


ENGINES: dict[str, type[Filtered] | type[LanceFiltered]] = {
    "mmsearch": Filtered,
    "lancedb": LanceFiltered,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("build", "ask"))
    parser.add_argument("engine", choices=sorted(ENGINES))
    for name in ("folder", "base", "queries", "filters", "result"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("count", "asked", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    pin(args.threads)
    engine = ENGINES[args.engine]()
    engine.load()
    before = memory()
    result: dict[str, Any]
    if args.step == "build":
        started = time.perf_counter()
        xb = np.load(args.base, mmap_mode="r")[: args.count]
        facts = engine.build(xb, args.folder, args.threads, lambda share: None)
        result = {"build_s": time.perf_counter() - started, **facts}
    else:
        result = {"filters": []}
        for one in json.loads(args.filters.read_text()):
            result["filters"].append(engine.ask(args, one))
            print(
                f"  {args.engine}: {one['name']}: {result['filters'][-1]['recall']:.4f}", flush=True
            )
    args.result.write_text(json.dumps({**result, **grown(before)}))


if __name__ == "__main__":
    main()
