"""Threads that ask one index new filters at the same moment, on the Python that runs this:

    PYTHONMALLOC=debug MALLOC_PERTURB_=165 python tests/stress.py [--searches 10000] [--threads 8]

In each round every thread asks with a filter that nobody has asked before: in one round all the
same, in the next each its own. Each search must give what a thread alone gets from the same index;
memory that was freed too early gives something else under the two variables above. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from filter_parts import part
from mmsearch import Index
from mmsearch.indexer.quantise import update_ann
from mmsearch.store import Writer
from mmsearch.types import Modality, Preprocess, Space

D = 32
PARTS = 20_000  # as bits, the mask of a segment is more than the 1,024 bytes that NumPy keeps
SPACE = Space("test", "0" * 64, D, tuple(Modality), Preprocess(224, 16000, 10.0))
SEGMENTS = 2


def filled(folder: Path) -> Index:
    """An index with lists, in two segments; ``size`` numbers the parts."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((40, D))
    xb = centres[rng.integers(40, size=PARTS)] + 0.6 * rng.standard_normal((PARTS, D))
    xb /= np.linalg.norm(xb, axis=1, keepdims=True)
    with Writer(folder, SPACE) as writer:
        writer.root("/files")
        writer.want("ivfpq")
        for i in range(SEGMENTS):
            for n in range(i, PARTS, SEGMENTS):
                row = part(f"{n:05d}", list(Modality)[n % 3], f"{n}.txt", size=n)
                writer.extend([(row, xb[n])])
            writer.commit()
            update_ann(writer)
    return Index(folder)


def filters(round_no: int, threads: int) -> list[str]:
    """A filter for each thread that keeps most parts, none asked before."""
    own = [0] * threads if round_no % 2 else range(threads)
    return [f"(size + {round_no}) % 89 <> {n} and size <> {round_no}" for n in own]


def asked(index: Index, where: str, xq: np.ndarray, to: str | None) -> list[Any]:
    found = index.search(vector=xq, where=where, to=to, k=10)
    return [(hit.id, hit.score) for hit in found]


def stress(index: Index, alone: Index, searches: int, threads: int) -> list[str]:
    """What went wrong, a line each."""
    rng = np.random.default_rng(2)
    wrong: list[str] = []
    at_once = threading.Barrier(threads)

    def ask(i: int, where: str, xq: np.ndarray, to: str | None, into: list[Any]) -> None:
        at_once.wait()
        try:
            into[i] = asked(index, where, xq, to)
        except Exception as e:
            into[i] = f"{type(e).__name__}: {e}"

    for round_no in range(-(-searches // threads)):
        wheres = filters(round_no, threads)
        to = [None, "image", "text"][round_no // 2 % 3]
        xq = rng.standard_normal((threads, D)).astype(np.float32)
        found: list[Any] = [None] * threads
        each = [
            threading.Thread(target=ask, args=(i, wheres[i], xq[i], to, found))
            for i in range(threads)
        ]
        for thread in each:
            thread.start()
        for thread in each:
            thread.join()
        for i in range(threads):
            if found[i] != (right := asked(alone, wheres[i], xq[i], to)):
                wrong.append(f"{wheres[i]} to {to}: {found[i]} and not {right}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    args = parser.parse_args()
    sys.setswitchinterval(1e-5)  # so that threads take turns in the middle of everything
    with tempfile.TemporaryDirectory() as folder:
        index = filled(Path(folder) / "ix")
        wrong = stress(index, Index(index.path), args.searches, args.threads)
    print(*wrong[:5], sep="\n", file=sys.stderr)
    python = ".".join(map(str, sys.version_info[:3]))
    print(json.dumps({"python": python, "searches": args.searches, "wrong": len(wrong)}))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
