"""What a filter costs that is given many values: ``id in ?`` with 100,000 ids and more.

    python benchmarks/filter_values.py [--rows 200000] [--width 512] [--runs 5]

Writes an index of random unit vectors, and asks it each filter on a freshly opened index, so
that no mask is kept. Half of the ids that are asked for are held, half are not. A search is
timed whole: its values are checked, the filter is evaluated, and what it leaves is searched. The
filter's own share stands beside it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from common import Line, save, table
from mmsearch import Index
from mmsearch.store import PartRow, Writer
from mmsearch.types import Modality, Preprocess, Space

_COMMIT_ROWS = 65_536
GOAL_S = 0.5


def part(n: int) -> PartRow:
    """A row with an id of 32 characters and two keys of meta."""
    meta = {"sku": f"sku-{n:09d}", "n": n}
    numbers = (0, 1, 2, n, n.to_bytes(16, "little"))
    return PartRow(name(n), 0, None, Modality.TEXT, 0, None, None, f"note {n}", meta, *numbers)


def name(n: int) -> str:
    return f"{random.Random(n).getrandbits(128):032x}"


def make(folder: Path, rows: int, width: int) -> None:
    """An index of that many rows, compacted."""
    space = Space("random", "0" * 64, width, tuple(Modality), Preprocess(224, 16000, 10.0))
    rng = np.random.default_rng(0)
    with Writer(folder, space) as writer:
        writer.root("")
        for start in range(0, rows, _COMMIT_ROWS):
            xb = rng.standard_normal((min(_COMMIT_ROWS, rows - start), width), np.float32)
            xb /= np.linalg.norm(xb, axis=1, keepdims=True)
            writer.extend((part(n), v) for n, v in enumerate(xb, start))
            writer.commit()
        writer.compact()
        writer.finish()


def asked(rows: int) -> dict[str, tuple[str, list[Any]]]:
    """What is asked -> the condition and its values."""
    rng = random.Random(0)

    def some(count: int) -> list[int]:
        return rng.sample(range(count), count)  # of these numbers half are of rows

    numbers = [n if n % 2 else rows + n for n in some(100_000)]
    million = [n if n < rows else -n for n in some(1_000_000)]
    ids = [name(n) for n in numbers]
    return {
        "one id": ("id = ?", ids[:1]),
        "500 ids": ("id in ?", [ids[:500]]),
        "100,000 ids": ("id in ?", [ids]),
        "all but 100,000 ids": ("id not in ?", [ids]),
        "100,000 texts of meta": ("meta.sku in ?", [[f"sku-{n:09d}" for n in numbers]]),
        "100,000 numbers of meta": ("meta.n in ?", [numbers]),
        "1,000,000 ids": ("id in ?", [[f"{n:032x}" if n < 0 else name(n) for n in million]]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "ix"
        make(folder, options.rows, options.width)
        q = np.eye(options.width, dtype=np.float32)[0]
        lines, raw = [], {}
        for what, (where, params) in asked(options.rows).items():
            whole, filtering = [], []
            for _ in range(options.runs):
                index = Index(folder)
                index.search(vector=q, where="id is not null")  # DuckDB and vectors are loaded
                started = perf_counter()
                results = index.search(vector=q, where=where, params=params)
                whole.append(perf_counter() - started)
                filtering.append((results.filter_ms or 0) / 1000)
            share = f"the filter {statistics.median(filtering):.2f}"
            goal = GOAL_S if "100,000" in what else None
            seconds = statistics.median(whole)
            lines.append(Line(f"{what}, s", seconds, goal=goal, at_most=True, digits=2, note=share))
            raw[what] = {"whole_s": whole, "filter_s": filtering}
    table(
        [("what", f"{options.rows:,} × {options.width}", "goal"), *(line.row() for line in lines)]
    )
    save(
        "filter_values",
        {
            "rows": options.rows,
            "width": options.width,
            "lines": [line.to_json() for line in lines],
            "raw": raw,
        },
    )


if __name__ == "__main__":
    main()
