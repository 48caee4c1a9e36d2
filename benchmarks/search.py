"""Approximate search against its peers: recall and speed, memory, disk and build time.

    make bench-search DATA=folder           # an environment of its own, then:
    python benchmarks/search.py --base FILE.npy --queries FILE.npy [--name passages]

FILE.npy: float16 (n, d) and float32 (nq, d), rows of unit length (``search_data.py`` makes
them). Every contender builds in a process of its own and answers in another, on the same
vectors, with the same queries, on the same cores, one after the other. Each point of a curve:
recall@10 against exact search (ties count), the best of three passes over 10,000 queries in one
batch call. Memory is what the answering process has grown by after opening the index and
answering 10,000 queries at the first setting that reaches 0.95: ``anon`` its own, ``file`` pages
of mapped files, which the system may drop. ``build`` runs from the vectors, mapped and read
once, to the saved index; ``peak`` is that process's whole resident memory.

Figures at a recall are read off between measured points, log speed linear in recall. What is
built is kept below ``--work`` until the contender is done, with ``--keep`` for good;
``--resume`` takes over what an earlier run with the same files built and measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from children import ChildFailed, columns, disk_bytes, files_under, read_once, run_child
from common import RESULTS, save
from search_peers_more import CONTENDERS
from search_plot import OURS, draw, rows, used, verdicts
from search_truth import K, kept_truth

ASK_S = 150  # about how long walking along a knob takes, at 200,000 rows or a million


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="float16 (n, d) .npy")
    parser.add_argument("--queries", type=Path, required=True, help="float32 (nq, d) .npy")
    parser.add_argument("--name", default="passages", help="of the data, in the results")
    parser.add_argument("--count", type=int, help="so many rows of the base; all if left out")
    parser.add_argument("--asked", type=int, default=10_000, help="so many queries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contenders", nargs="+", choices=sorted(CONTENDERS), metavar="NAME",
                        default=list(CONTENDERS), help=", ".join(CONTENDERS))  # fmt: skip
    parser.add_argument("--work", type=Path, help="where indexes are built; beside the base")
    parser.add_argument("--keep", action="store_true", help="leave the built indexes there")
    parser.add_argument("--resume", action="store_true", help="take over what was measured")
    args = parser.parse_args()
    shape = np.load(args.base, mmap_mode="r").shape
    args.count = min(args.count or shape[0], shape[0])
    args.asked = min(args.asked, np.load(args.queries, mmap_mode="r").shape[0])
    args.dimension = shape[1]
    args.work = args.work or args.base.parent / "search-work"
    args.work.mkdir(parents=True, exist_ok=True)
    return args


class Run:
    """One run over all contenders; ``results`` is filled as they finish."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.results: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}  # contender -> why it has no figures
        self._truth = kept_truth(args.base, args.queries, args.count, args.asked, args.base.parent)
        self._builds: dict[str, dict[str, Any]] = {}  # name of the index -> its figures

    def contender(self, name: str) -> None:
        """Builds, unless another contender has, asks, and keeps what was measured."""
        kept = self.args.work / f"{self._key(name)}.json"
        if self.args.resume and kept.exists():
            self.results[name] = {**json.loads(kept.read_text()), "resumed": True}
            print(f"{name}: as measured before")
            return
        kind = CONTENDERS[name]
        if importlib.util.find_spec(kind.package) is None:
            self._skip(name, f"{kind.package} is not installed here")
            return
        scale = self.args.count * self.args.dimension / (1_000_000 * 512)
        minutes = (kind.build_s * scale * (kind.index not in self._builds) + ASK_S) / 60
        print(f"{name}: {kind.about}; about {minutes:.0f} minutes", flush=True)
        try:
            build = self._build(name)
            read_once([self.args.base, *files_under(self._folder(name))])
            asked = self._child("ask", name)
        except ChildFailed as e:
            self._skip(name, str(e))
            return
        asked["asking_peak_anon_bytes"] = asked.pop("peak_anon_bytes")
        self.results[name] = {"about": kind.about, **build, **asked}
        kept.write_text(json.dumps(self.results[name]))

    def clean(self, remaining: list[str]) -> None:
        """Removes indexes that no remaining contender asks."""
        wanted = {CONTENDERS[name].index for name in remaining}
        for index in self._builds:
            if index not in wanted and not self.args.keep:
                shutil.rmtree(self.args.work / index, ignore_errors=True)

    def _build(self, name: str) -> dict[str, Any]:
        index, folder = CONTENDERS[name].index, self._folder(name)
        kept = self.args.work / f"{self._key(index)}.build.json"
        if index not in self._builds and self.args.resume and kept.exists() and folder.exists():
            self._builds[index] = json.loads(kept.read_text())
        if index not in self._builds:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            read_once([self.args.base])
            built = self._child("build", name)
            built["build_peak_anon_bytes"] = built.pop("peak_anon_bytes")
            built["disk_bytes"] = disk_bytes(folder)
            print(
                f"  built in {built['build_s']:,.0f} s, {built['disk_bytes'] / 1e6:,.0f} MB",
                flush=True,
            )
            self._builds[index] = built
            kept.write_text(json.dumps(built))
        return self._builds[index]

    def _child(self, step: str, name: str) -> dict[str, Any]:
        args = self.args
        command = ["search_child.py", step, name, "--folder", str(self._folder(name))]
        command += ["--base", str(args.base), "--queries", str(args.queries)]
        command += ["--truth", str(self._truth), "--count", str(args.count)]
        command += ["--asked", str(args.asked), "--threads", str(args.threads)]
        log = args.work / f"{name}.log"
        return run_child(command, args.work / f"{name}.{step}.json", args.threads, log)

    def _folder(self, name: str) -> Path:
        return Path(self.args.work / CONTENDERS[name].index)

    def _key(self, name: str) -> str:
        return f"{self._truth.stem}-{self.args.threads}-{name}"

    def _skip(self, name: str, why: str) -> None:
        self.skipped[name] = why
        print(f"{name}: skipped: {why}", flush=True)


def main() -> None:
    args = arguments()
    started = time.time()
    print("exact answers first", flush=True)
    run = Run(args)
    for i, name in enumerate(args.contenders):
        run.contender(name)
        run.clean(args.contenders[i + 1 :])
    minutes = (time.time() - started) / 60
    file = "search" if args.name == "passages" else f"search_{args.name}"
    judged = verdicts(run.results)
    save(
        file,
        {
            "data": args.name,
            "rows": args.count,
            "dimension": args.dimension,
            "queries": args.asked,
            "k": K,
            "threads": args.threads,
            "minutes": minutes,
            "skipped": run.skipped,
            "verdicts": [vars(v) for v in judged],
            "contenders": run.results,
        },
    )
    if not run.results:
        raise SystemExit("nothing was measured")
    title = f"{args.name}: {args.count:,} × {args.dimension}, {args.threads} threads, one batch"
    draw(run.results, title, RESULTS / f"{file}.svg")
    print()
    columns(rows(run.results))
    print("ratio: of mmsearch's speed; speeds between measured points, log linear in recall.")
    if any(used(result) is None for result in run.results.values()):
        print("*: never reached 0.95; memory at its last point.")
    if OURS in run.results and len(run.results[OURS]["points"]) == 1:
        print("mmsearch has one point: its speed stands for every recall below that.")
    for verdict in judged:
        said = {True: "kept", False: "missed", None: "not judged"}[verdict.kept]
        print(f"{verdict.promise}: {verdict.measured}: {said}")
    print(f"{minutes:.0f} minutes")


if __name__ == "__main__":
    main()
