"""mmsearch as a backend of an application, beside Chroma, LanceDB and Qdrant's local mode.

    pip install chromadb lancedb qdrant-client '.[cpu]'
    python benchmarks/backends.py [--rows 10000] [--limit-s 240] [--only NAME]

The question: what do the same shop's adds and filtered searches cost with each library, and
what can each not do? ``backends_shops.py`` has the shop four times, as each library's own
documentation writes it. Vectors are made: 512 random numbers around one of 100 random centres,
of unit length, by a fixed seed; there are 10 tenants and 10 brands, drawn evenly. Every step
runs in a process of its own. What would take longer than the limit at the pace of its first
tenth is measured on that tenth only, and says so. After its last acknowledged add a process
kills itself with SIGKILL, and another one counts what is there. That shows whether an add
outlives its process; whether it outlives the power is told by the calls of fsync that strace
counts.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from backends_shops import SHOPS
from common import Line, save, table

_WIDTH, _CENTRES, _TENANTS, _BRANDS, _K, _BATCH = 512, 100, 10, 10, 10, 100
_HOSTILE = "x' OR 1=1 --"
_SYNCED_ADDS = 20


def make(folder: Path, rows: int) -> None:
    """Writes the shop's vectors and queries, and the metadata of both."""
    rng = np.random.default_rng(18)
    centres = rng.standard_normal((_CENTRES, _WIDTH), np.float32)
    for name in ("base", "queries"):
        x = centres[rng.integers(_CENTRES, size=rows)]
        x += rng.standard_normal(x.shape, np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        np.save(folder / f"{name}.npy", x)
        kinds = rng.integers([_TENANTS, _BRANDS], size=(rows, 2))
        prices = rng.uniform(1, 100, size=rows)
        metas = [
            {"tenant": f"tenant-{t}", "brand": f"brand-{b}", "price": float(price)}
            for (t, b), price in zip(kinds, prices, strict=True)
        ]
        (folder / f"{name}.json").write_text(json.dumps(metas))


def read(folder: Path, name: str) -> tuple[Any, list[dict[str, Any]]]:
    """The vectors and the metadata of a name."""
    return np.load(folder / f"{name}.npy"), json.loads((folder / f"{name}.json").read_text())


def item(n: int) -> str:
    return f"item-{n:06d}"


def peak_mb() -> float:
    """The most resident memory that this process ever had."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def disk_mb(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def paced(count: int, step: int, limit_s: float, each: Callable[[int], Any]) -> dict[str, Any]:
    """Calls each(start) for every step, or for a tenth of them if all would take too long."""
    started, cpu, done = perf_counter(), process_time(), 0
    while done < count:
        each(done)
        done += step
        if done == count // 10 and (perf_counter() - started) * 10 > limit_s:
            break
    return {"s": perf_counter() - started, "cpu_s": process_time() - cpu, "count": done}


class Steps:
    """What a child process does: one method a step, each returns what it measured."""

    def __init__(self, shop: str, folder: Path, data: Path, limit_s: float) -> None:
        self.kind, self.name, self.folder, self.data = SHOPS[shop], shop, folder, data
        self.limit_s = limit_s

    def bare(self) -> dict[str, Any]:
        """Memory of a process that opens an empty shop and holds the data."""
        read(self.data, "base")
        self.kind(self.folder).count()
        return {"disk_mb": disk_mb(self.folder)}

    def _add(self, step: int, count: int | None = None) -> dict[str, Any]:
        xb, metas = read(self.data, "base")
        shop = self.kind(self.folder)

        def each(n: int) -> None:
            shop.add([item(i) for i in range(n, n + step)], xb[n : n + step], metas[n : n + step])

        return paced(count or len(xb), step, self.limit_s, each)

    def singles(self) -> dict[str, Any]:
        return self._add(1)

    def batches(self) -> dict[str, Any]:
        return self._add(_BATCH)

    def synced(self) -> dict[str, Any]:
        """A few adds, for strace to count the calls of fsync."""
        self.limit_s = float("inf")
        return self._add(1, _SYNCED_ADDS)

    def opened(self) -> dict[str, Any]:
        """Seconds from a process without the library to the first answer; and what is held."""
        xq, metas = read(self.data, "queries")
        started = perf_counter()
        shop = self.kind(self.folder)
        shop.search(xq[0], metas[0]["tenant"], metas[0]["brand"])
        taken = perf_counter() - started
        return {"s": taken, "held": shop.count(), "disk_mb": disk_mb(self.folder)}

    def settled(self) -> dict[str, Any]:
        """What the documentation advises after loading."""
        shop = self.kind(self.folder)
        started = perf_counter()
        shop.settle()
        return {"s": perf_counter() - started, "disk_mb": disk_mb(self.folder)}

    def searches(self) -> dict[str, Any]:
        """Searches by tenant and brand, one after the other."""
        xq, metas = read(self.data, "queries")
        shop, found = self.kind(self.folder), []

        def each(n: int) -> None:
            found.append(shop.search(xq[n], metas[n]["tenant"], metas[n]["brand"], _K))

        each(0)
        found.clear()
        result = paced(len(xq), 1, self.limit_s, each)
        memory = peak_mb()
        return {**result, "peak_mb": memory, "recall": self._recall(found, xq, metas)}

    def cheaper(self) -> dict[str, Any]:
        """Searches by tenant and a price, each a filter that was never asked before."""
        xq, metas = read(self.data, "queries")
        shop = self.kind(self.folder)
        shop.cheaper(xq[0], metas[0]["tenant"], 50.0)
        return paced(
            len(xq) // 10,
            1,
            self.limit_s / 10,
            lambda n: shop.cheaper(xq[n], metas[n]["tenant"], metas[n]["price"]),
        )

    def _recall(self, found: list[list[str]], xq: Any, asked: list[dict[str, Any]]) -> float:
        xb, metas = read(self.data, "base")
        groups: dict[tuple[str, str], list[int]] = {}  # tenant, brand -> rows of the base
        for row, meta in enumerate(metas):
            groups.setdefault((meta["tenant"], meta["brand"]), []).append(row)
        hits = wanted = 0
        for names, q, meta in zip(found, xq, asked, strict=False):
            rows = np.asarray(groups.get((meta["tenant"], meta["brand"]), []), np.int64)
            best = np.argsort(-(xb[rows] @ q), kind="stable")[:_K]
            hits += len({item(rows[i]) for i in best} & set(names))
            wanted += len(best)
        return hits / wanted

    def verbs(self) -> dict[str, Any]:
        """Gets, updates of metadata alone, and a delete by filter; checks what they did."""
        xb, metas = read(self.data, "base")
        shop = self.kind(self.folder)
        get = paced(1000, 1, self.limit_s, lambda n: shop.get(item(n)))
        update = paced(100, 1, self.limit_s, lambda n: shop.update(item(n), {"price": 0.5}))
        tenant, brand = metas[7]["tenant"], metas[7]["brand"]
        meta = shop.get(item(7))
        kept = meta is not None and (meta["price"], meta["brand"]) == (0.5, brand)
        kept &= shop.search(xb[7], tenant, brand)[0] == item(7)
        before, started = shop.count(), perf_counter()
        shop.delete(tenant, brand)
        taken = perf_counter() - started
        gone = sum((meta["tenant"], meta["brand"]) == (tenant, brand) for meta in metas)
        return {
            "get_s": get["s"] / get["count"],
            "update_s": update["s"] / update["count"],
            "update keeps vector and other keys": kept,
            "delete_s": taken,
            "delete is right": shop.count() == before - gone and shop.get(item(7)) is None,
        }

    def tries(self) -> dict[str, Any]:
        """What else an application would try, on an empty shop, each as it turned out."""
        xb, metas = read(self.data, "base")
        shop, out = self.kind(self.folder), {}

        def attempt(what: str, do: Callable[[], Any]) -> None:
            try:
                out[what] = do()
            except Exception as error:
                out[what] = f"{type(error).__name__}: {str(error)[:160]}"

        def twice() -> dict[str, Any]:
            shop.add([item(0)], xb[:1], metas[:1])
            shop.add([item(0)], xb[:1], [{**metas[0], "brand": "second"}])
            meta = shop.get(item(0))
            return {"items": shop.count(), "brand": (meta or {}).get("brand")}

        def hostile() -> list[str]:
            return shop.search(xb[0], metas[0]["tenant"], _HOSTILE)

        def threads() -> dict[str, Any]:
            errors: list[str] = []
            before = shop.count()

            def some(start: int) -> None:
                try:
                    for n in range(start, start + 25):
                        shop.add([item(n)], xb[n : n + 1], metas[n : n + 1])
                except Exception as error:
                    errors.append(f"{type(error).__name__}: {str(error)[:160]}")

            running = [threading.Thread(target=some, args=(start,)) for start in (10, 40, 70, 100)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
            return {"lost": before + 100 - shop.count(), "errors": errors}

        def processes() -> dict[str, Any]:
            """Two processes, each with 50 adds at the same time."""
            before = shop.count()
            code, path = Path(__file__), self.folder.parent / "other.json"
            words = [sys.executable, str(code), "--child", "other", "--only", self.name]
            words += ["--folder", str(self.folder), "--data", str(self.data), "--out", str(path)]
            other = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            for n in range(200, 250):
                shop.add([item(n)], xb[n : n + 1], metas[n : n + 1])
            talk = other.communicate()[1].strip().splitlines()
            added = 100 if other.returncode == 0 else 50
            seen = shop.count()
            return {
                "other": "ok" if other.returncode == 0 else talk[-1].replace(str(self.folder), "…"),
                "missing in this process": before + added - seen,
                "to be held": before + added,
            }

        attempt("the same id again", twice)
        attempt("a hostile value as brand finds", hostile)
        attempt("four threads, 25 adds each", threads)
        attempt("two processes, 50 adds each", processes)
        return out

    def other(self) -> dict[str, Any]:
        xb, metas = read(self.data, "base")
        shop = self.kind(self.folder)
        for n in range(300, 350):
            shop.add([item(n)], xb[n : n + 1], metas[n : n + 1])
        return {}


def code_lines(shop: str) -> int:
    """Lines of a shop's class, without its docstring, its tools for this script, and blanks."""
    source = inspect.getsource(SHOPS[shop]).split("\n")
    lines = [x.strip() for x in source if x.strip()]
    return sum(not x.startswith(('"""', "#", "packages =")) for x in lines)


def child(step: str, shop: str, folder: Path, data: Path, limit_s: float, out: Path) -> None:
    """Does one step and writes what it measured; adds end with SIGKILL."""
    result = getattr(Steps(shop, folder, data, limit_s), step)()
    result.setdefault("peak_mb", peak_mb())
    out.write_text(json.dumps(result))
    if step in ("singles", "batches"):
        os.kill(os.getpid(), signal.SIGKILL)


def parent(shop: str, data: Path, work: Path, limit_s: float) -> dict[str, Any]:
    """All steps of one shop, each in a fresh process."""
    # No library reports its use, and mmsearch takes no index of the user's
    environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False", "MMSEARCH_HOME": str(work)}

    def step(name: str, folder: str, *before: str) -> dict[str, Any]:
        out = work / "out.json"
        out.unlink(missing_ok=True)
        words = [*before, sys.executable, __file__, "--child", name, "--only", shop]
        words += ["--folder", str(work / folder), "--data", str(data), "--out", str(out)]
        words += ["--limit-s", str(limit_s)]
        ran = subprocess.run(words, env=environment, capture_output=True, text=True)
        if not out.exists():
            raise SystemExit(f"{shop}: {name} failed:\n{ran.stderr[-2000:]}")
        print(f"{shop}: {name}: {out.read_text()[:600]}", file=sys.stderr)
        return json.loads(out.read_text())

    result: dict[str, Any] = {"lines": code_lines(shop), "empty": step("bare", "empty")}
    for name in ("singles", "batches"):
        result[name] = step(name, name)
        after = step("opened", name)
        result[name] |= {"held": after["held"], "disk_mb": after["disk_mb"]}
        result[name]["opened_s"] = after["s"]
    result["settled"] = step("settled", "batches")
    result["opened"] = step("opened", "batches")
    for name in ("searches", "cheaper", "verbs"):
        result[name] = step(name, "batches")
    result["tries"] = step("tries", "tries")
    result["tries"]["held"] = step("opened", "tries")["held"]
    if shutil.which("strace"):
        log = work / "strace"
        step("bare", "synced")
        calls = "trace=fsync,fdatasync,sync_file_range,msync"
        step("synced", "synced", "strace", "-f", "-o", str(log), "-e", calls)
        result["syncs an add"] = len(re.findall(r"sync\w*\(", log.read_text())) / _SYNCED_ADDS
    return result


def rows_of(results: dict[str, Any]) -> dict[str, list[Line]]:
    """The lines of each shop."""
    lines: dict[str, list[Line]] = {}
    for shop, r in results.items():
        lines[shop] = [
            *(
                Line(
                    f"{r[name]['count']:,} adds, {what}, s",
                    r[name]["s"],
                    note=f"CPU {r[name]['cpu_s']:.1f}, after SIGKILL {r[name]['held']:,} held",
                )
                for name, what in (("singles", "one by one"), ("batches", "in hundreds"))
            ),
            Line("calls of fsync an add, those of opening included", r.get("syncs an add")),
            Line("what its documentation advises after loading, s", r["settled"]["s"], digits=2),
            Line(
                f"{r['searches']['count']:,} filtered searches, s",
                r["searches"]["s"],
                note=f"CPU {r['searches']['cpu_s']:.1f}",
            ),
            Line("recall@10", r["searches"]["recall"], digits=4),
            Line(
                "a search with a filter never asked before, ms",
                r["cheaper"]["s"] / r["cheaper"]["count"] * 1e3,
                note=f"CPU {r['cheaper']['cpu_s'] / r['cheaper']['count'] * 1e3:.1f}",
            ),
            Line("import, open, first search, s", r["opened"]["s"], digits=2),
            Line("get, ms", r["verbs"]["get_s"] * 1e3, digits=2),
            Line("update of metadata, ms", r["verbs"]["update_s"] * 1e3, digits=2),
            Line("delete by filter, ms", r["verbs"]["delete_s"] * 1e3, digits=1),
            Line("peak memory: adds one by one, MB", r["singles"]["peak_mb"], digits=0),
            Line("peak memory: adds in hundreds, MB", r["batches"]["peak_mb"], digits=0),
            Line("peak memory: searches, MB", r["searches"]["peak_mb"], digits=0),
            Line("on disk after single adds, MB", r["singles"]["disk_mb"]),
            Line(
                f"on disk, {r['batches']['count']:,} in hundreds, settled, MB",
                r["settled"]["disk_mb"],
                note=f"an empty one {r['empty']['disk_mb']:.1f}",
            ),
            Line("lines of code", r["lines"], digits=0),
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--limit-s", type=float, default=240)
    parser.add_argument("--only", choices=tuple(SHOPS), action="append", help="leave out others")
    for name in ("child", "folder", "data", "out"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, data, out = Path(options.folder), Path(options.data), Path(options.out)
        child(options.child, options.only[0], folder, data, options.limit_s, out)
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as top:
        data = Path(top) / "data"
        data.mkdir()
        make(data, options.rows)
        for shop in options.only or SHOPS:
            work = Path(top) / shop.replace(" ", "-")
            work.mkdir()
            results[shop] = parent(shop, data, work, options.limit_s)
            shutil.rmtree(work)
    lines = rows_of(results)
    for shop, of in lines.items():
        table([(shop, "figure", ""), *(line.row() for line in of)])
        print()
    save(
        "backends",
        {
            "rows": options.rows,
            "width": _WIDTH,
            "filters": f"{_TENANTS} tenants × {_BRANDS} brands",
            "lines": {shop: [line.to_json() for line in of] for shop, of in lines.items()},
            "raw": results,
        },
    )


if __name__ == "__main__":
    main()
