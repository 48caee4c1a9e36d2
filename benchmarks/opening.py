"""Opening a large index, and what its checks cost when a query first touches something.

    python benchmarks/opening.py [--rows 1000000] [--width 512] [--runs 9]

Writes an index of random unit vectors, each row with a text of 80 characters, and prints
what opening it takes, the checks of 100 candidates' vectors when they are touched for the
first time and afterwards, and looking up ten hits. With files in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common import Line, save, table
from mmsearch.store import PartRow, Segment, Snapshot, Writer
from mmsearch.types import Modality, Preprocess, Space

_COMMIT_ROWS = 65_536
CANDIDATES, HITS = 100, 10


def make(folder: Path, rows: int, width: int) -> None:
    """An index of that many rows, compacted."""
    space = Space("random", "0" * 64, width, tuple(Modality), Preprocess(224, 16000, 10.0))
    rng = np.random.default_rng(0)
    with Writer(folder, space) as writer:
        writer.root("/notes")
        for start in range(0, rows, _COMMIT_ROWS):
            xb = rng.standard_normal((min(_COMMIT_ROWS, rows - start), width), np.float32)
            xb /= np.linalg.norm(xb, axis=1, keepdims=True)
            writer.extend((part(n), v) for n, v in enumerate(xb, start))
            writer.commit()
        writer.compact()
        writer.finish()


def part(n: int) -> PartRow:
    """A row with a text of 80 characters."""
    text = f"{n:09d} the harbour at dawn, boats and gulls and a lamp over the wet stones of it"[:80]
    meta = {"title": f"note {n}"}
    numbers = (len(text), 1, 2, n, n.to_bytes(16, "little"))
    return PartRow(
        f"{n:016x}", 0, f"{n // 1000}/{n}.txt", Modality.TEXT, 0, None, None, text, meta, *numbers
    )


def us(work: Callable[[], object]) -> float:
    """Microseconds that one call takes."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def largest(folder: Path) -> Segment:
    """The largest segment, opened anew: nothing of it was checked yet, its pages are mapped."""
    segment = max(Snapshot.open(folder).segments, key=lambda s: s.ref.rows)
    for blocks in (segment.lanes[0].blocks, segment.arrow_blocks):
        np.add.reduce(blocks.data[::4096])
    return segment


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    took: dict[str, list[float]] = {}  # what -> microseconds of each run
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "ix"
        make(folder, options.rows, options.width)
        for _ in range(options.runs):
            took.setdefault("opening", []).append(us(lambda: Snapshot.open(folder)))
            segment = largest(folder)
            n = segment.ref.rows
            candidates = np.sort(rng.choice(n, CANDIDATES, replace=False))
            hits = rng.choice(n, HITS, replace=False).tolist()
            for what, work in (
                ("candidates", lambda: segment.lanes[0].check_rows(candidates)),  # noqa: B023
                ("hits", lambda: segment.rows(hits)),  # noqa: B023
            ):
                took.setdefault(f"{what}, first", []).append(us(work))
                took.setdefault(f"{what}, again", []).append(min(us(work) for _ in range(5)))
            took.setdefault("all vectors", []).append(us(segment.lanes[0].blocks.check_all))
            took.setdefault("all rows", []).append(us(segment.arrow_blocks.check_all))
        files = [f for s in Snapshot.open(folder).manifest.segments for f in s.files.items()]
    sidecars = sum(f.bytes for name, f in files if name.endswith(".blocks"))
    median = {what: statistics.median(times) for what, times in took.items()}
    lines = [
        Line("opening, ms", median["opening"] / 1000, goal=20, at_most=True, digits=2),
        Line("checks of blocks, read when opening, MB", sidecars / 1e6, digits=2),
        Line(f"checks of {CANDIDATES} vectors, first, µs", median["candidates, first"], digits=0),
        Line(f"checks of {CANDIDATES} vectors, again, µs", median["candidates, again"]),
        Line(f"{HITS} hits, first, a hit, µs", median["hits, first"] / HITS, digits=0),
        Line(f"{HITS} hits, again, a hit, µs", median["hits, again"] / HITS, goal=8, at_most=True),
        Line("checks of all vectors, ms", median["all vectors"] / 1000, digits=0),
        Line("checks of all rows, ms", median["all rows"] / 1000, digits=0),
    ]
    table(
        [("what", f"{options.rows:,} × {options.width}", "goal"), *(line.row() for line in lines)]
    )
    save(
        "opening",
        {
            "rows": options.rows,
            "width": options.width,
            "bytes": sum(f.bytes for _, f in files),
            "lines": [line.to_json() for line in lines],
            "raw_us": took,
        },
    )


if __name__ == "__main__":
    main()
