"""A cold query, as a whole process, against the bare imports that it cannot do without.

    python benchmarks/cold.py [--parts 10000] [--runs 9] [--index FOLDER]

Makes an index of that many parts (short texts), then runs in turn
``mmsearch query … --json`` and ``python -c "import …"``, and prints the median
ratio of their wall times and the query's peak resident memory. With ``--index`` it asks that
one instead: one in the space of a large model, where PyTorch is not installed
(``benchmarks/pipeline.py --work WORK`` leaves one of ViT-B-32 at WORK/vit-ix).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mmsearch
from common import save, table

FLOOR = "import numpy, faiss, onnxruntime, tokenizers, pyarrow.parquet"
COLOURS = "red blue green black white brown yellow old small large".split()
THINGS = "dog cat boat house tree car horse bird bridge tower".split()
DOINGS = "running sleeping standing burning shining waiting falling moving lying hiding".split()
PLACES = "beach street field river forest city harbour garden mountain kitchen".split()


def make(folder: Path, parts: int) -> None:
    """An index of different short texts."""
    (folder / "none").mkdir()
    index = mmsearch.index(folder / "none", folder / "ix")
    texts = (
        f"a {c} {t} {d} in the {p}, {n}"
        for n, (c, t, d, p) in enumerate(itertools.product(COLOURS, THINGS, DOINGS, PLACES))
    )
    index.add([{"text": text} for text in itertools.islice(texts, parts)])


def timed(command: list[str]) -> tuple[float, float, float]:
    """(wall seconds, peak resident MB, CPU seconds) of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"{command} failed")
    return wall, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def in_turn(commands: list[list[str]], runs: int) -> list[list[tuple[float, float, float]]]:
    """For each command what ``timed`` gives, ``runs`` times, one after the other; a first round,
    which brings files into memory, is not counted.

    A small process starts them: the peak memory that the system tells of a process is at least
    that of the one that started it.
    """
    script = (
        "import json, sys; from cold import timed\n"
        "commands, runs = json.load(sys.stdin)\n"
        "print(json.dumps([[timed(one) for one in commands] for _ in range(runs + 1)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([commands, runs]),
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        # Byte code is kept, as where people install it (the first round writes it).
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    rounds = json.loads(done.stdout)[1:]
    return [[tuple(figures) for figures in one] for one in zip(*rounds, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--index", type=Path)
    args = parser.parse_args()
    given = args.index is not None
    goal, most_mb = (3.0, "") if given else (2.2, "< 350")
    with tempfile.TemporaryDirectory() as work:
        if given:
            args.parts = len(mmsearch.open(args.index))
        else:
            make(Path(work), args.parts)
        query = [sys.executable, "-m", "mmsearch", "query", "a dog on a beach", "--json"]
        query += ["--index", str(args.index or Path(work) / "ix")]
        floor = [sys.executable, "-c", FLOOR]
        pairs = list(zip(*in_turn([query, floor], args.runs), strict=True))
    ratio = statistics.median(q[0] / f[0] for q, f in pairs)
    wall = statistics.median(q[0] for q, _ in pairs)
    memory = max(q[1] for q, _ in pairs)
    save(
        "cold-model" if given else "cold",
        {
            "torch_installed": importlib.util.find_spec("torch") is not None,
            "parts": args.parts,
            "ratio": ratio,
            "query_s": [q[0] for q, _ in pairs],
            "floor_s": [f[0] for _, f in pairs],
            "peak_resident_mb": memory,
        },
    )
    table(
        [
            ("what", "figure", "goal"),
            (f"cold query on {args.parts:,} parts / bare imports", f"{ratio:.2f}", f"<= {goal:g}"),
            ("the same, seconds", f"{wall:.2f}", ""),
            ("peak resident MB", f"{memory:.0f}", most_mb),
        ]
    )


if __name__ == "__main__":
    main()
