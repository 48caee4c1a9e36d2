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
from mmsearch.searcher.masks import Group
from mmsearch.store import Writer
from mmsearch.types import Modality, Preprocess, Space

D, K = 32, 10
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


def filters(round_no: int, threads: int) -> list[int]:
    """For each thread what tells its filter from the others of the round."""
    return [0] * threads if round_no % 2 else list(range(threads))


def where(round_no: int, n: int) -> str:
    """A filter that keeps most parts and that no other round asks."""
    return f"(size + {round_no}) % 89 <> {n} and size <> {round_no}"


def right(alone: Index, xq: np.ndarray, to: str | None, round_no: int, n: int) -> list[Any]:
    """What one thread finds, with a mask that NumPy made instead of the filter."""
    masks = []
    for segment in alone.snapshot.segments:
        size = np.concatenate([batch["size"].to_numpy() for batch in segment.batches(["size"])])
        mask = ((size + round_no) % 89 != n) & (size != round_no)
        if to is not None:
            mask &= segment.modality_codes == list(Modality).index(Modality(to))
        masks.append(mask)
    found = alone._view.search(xq[None], K, [Group(0, None, masks, 1)])
    hits = alone._view.hits(np.clip(found.scores[0], -1, 1), found.ids[0])
    return [(hit.id, hit.score) for hit in hits]


def stress(index: Index, alone: Index, searches: int, threads: int) -> list[str]:
    """What went wrong, a line each."""
    rng = np.random.default_rng(2)
    wrong: list[str] = []
    at_once = threading.Barrier(threads)

    def ask(i: int, asked: dict[str, Any], into: list[Any]) -> None:
        at_once.wait()
        try:
            into[i] = [(hit.id, hit.score) for hit in index.search(**asked, k=K)]
        except Exception as e:
            into[i] = f"{type(e).__name__}: {e}"

    for round_no in range(-(-searches // threads)):
        own = filters(round_no, threads)
        to = [None, "image", "text"][round_no // 2 % 3]
        xq = rng.standard_normal((threads, D)).astype(np.float32)
        xq /= np.linalg.norm(xq, axis=1, keepdims=True)
        found: list[Any] = [None] * threads
        each = []
        for i, n in enumerate(own):
            asked = {"vector": xq[i], "where": where(round_no, n), "to": to}
            each.append(threading.Thread(target=ask, args=(i, asked, found)))
        for thread in each:
            thread.start()
        for thread in each:
            thread.join()
        for i, n in enumerate(own):
            if found[i] != (truth := right(alone, xq[i], to, round_no, n)):
                wrong.append(f"{where(round_no, n)} to {to}: {found[i]} and not {truth}")
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
