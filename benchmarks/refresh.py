"""What the first query after a refresh costs, beside one of an index that takes nothing over.

    python benchmarks/refresh.py [--parts 100000] [--rounds 15] [--index FOLDER]

Writes an index of made-up text passages with lists, in a few segments. In each round one part is
added, and two open indexes show that: one by ``refresh``, the other as one that was just opened,
which is what ``refresh`` did before it kept anything. Both are asked the same, in turn: a
vector, and a vector with a filter that was asked before.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from common import Line, save, table
from filled import fill, made_up, questions, texts_of
from mmsearch import Index
from mmsearch.indexer.quantise import update_ann
from mmsearch.searcher.view import View
from mmsearch.store import Snapshot, Writer

WHERE = "size > 3 and path like '%7%'"
WARMING = 300  # queries before the first round: what they read is checked and loaded


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of the wall and of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000


def add_one(folder: Path, number: int, vector: np.ndarray) -> None:
    """Commits one more part in a segment of its own."""
    with Writer(folder, Snapshot.open(folder).manifest.space) as writer:
        row = writer.snapshot.segments[0].row(0)
        more = type(row)(**{name: getattr(row, name) for name in row.__slots__} | {
            "id": f"new{number}", "part_no": 0})  # fmt: skip
        writer.extend([(more, vector)])
        writer.commit()
        update_ann(writer)


def show_anew(index: Index) -> None:
    """Shows the newest snapshot and takes nothing over but open files."""
    index._view = View.over(Snapshot.open(index.path, index.snapshot))


def measured(folder: Path, parts: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of each kind of query: [wall, CPU] for each round."""
    xq = questions(made_up(parts, 512), parts, WARMING + rounds)
    kept, anew = mmsearch.open(folder), mmsearch.open(folder)
    for index in (kept, anew):
        for v in xq[:WARMING]:
            index.search(vector=v)
        index.search(vector=xq[0], where=WHERE)
    found: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, work: Callable[[], object]) -> None:
        found.setdefault(name, []).append(timed(work))

    for n in range(rounds):
        add_one(folder, n, xq[n])
        turns: list[tuple[str, Index, Callable[[], object]]] = [
            ("kept", kept, kept.refresh),
            ("anew", anew, lambda: show_anew(anew)),
        ]
        for name, index, show in turns if n % 2 else turns[::-1]:
            v = xq[WARMING + n]
            note(f"{name} refresh", show)
            note(f"{name} first", lambda index=index, v=v: index.search(vector=v))
            note(f"{name} next", lambda index=index, v=v: index.search(vector=v))
            note(f"{name} filter", lambda index=index, v=v: index.search(vector=v, where=WHERE))
            note(f"{name} same filter",
                 lambda index=index, v=v: index.search(vector=v, where=WHERE))  # fmt: skip
        a, b = (index.search(vector=xq[WARMING + n], where=WHERE) for index in (kept, anew))
        if [(h.id, h.score) for h in a] != [(h.id, h.score) for h in b]:
            raise SystemExit("the two answered differently")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--index", type=Path, help="keep the index in this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = args.index or Path(work) / "ix"
        if not (folder / "manifest.json").exists():
            print(f"making an index of {args.parts:,} parts", file=sys.stderr)
            fill(folder, made_up(args.parts, 512), texts_of(None), "ivfpq")
        times = measured(folder, args.parts, args.rounds)
    # of all cores, for what else runs on a machine changes the wall's time more
    cpu = {name: statistics.median(ms for _, ms in each) for name, each in times.items()}
    lines = [
        Line(f"{what}, CPU ms", cpu[f"kept {name}"], digits=2,
             note=f"{cpu[f'anew {name}']:.2f} when nothing is taken over")
        for name, what in {
            "refresh": "refresh itself",
            "first": "the first query after it",
            "next": "the next one",
            "filter": "one with a filter asked before",
            "same filter": "the same filter again",
        }.items()
    ]  # fmt: skip
    result = {"parts": args.parts, "rounds": args.rounds, "times_ms": times}
    save("refresh", {**result, "figures": [line.to_json() for line in lines]})
    table([("what", "figure", "goal"), *(line.row() for line in lines)])


if __name__ == "__main__":
    main()
