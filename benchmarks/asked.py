"""What the tuner asks beside what people ask: what is in CONTRIBUTING.md.

    python benchmarks/asked.py --base FILE.npy --queries FILE.npy [--count 25000]

FILE.npy: float16 (n, 512) pictures and float32 (nq, 512) captions of ``mini``'s space
(``search_data.py crops`` makes them). For captions and for several kinds of made-up texts: which
share of the ten nearest lies in so many lists, and how far away the nearest are.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import faiss
import numpy as np

import mmsearch
from children import columns
from common import save
from mmsearch import sample_queries
from mmsearch.ann import quantiser
from mmsearch.ann.trained import Trained
from mmsearch.types import Vectors

ASKED = 1_000
LISTS = (4, 8, 16, 32, 64)
KINDS = {
    "scenes": sample_queries._scene,
    "single things": sample_queries._thing,
    "sounds": sample_queries._sound,
    "topics": sample_queries._topic,
    "Chinese scenes": sample_queries._scene_zh,
}


def nearest_half(xq: Vectors, xb: Vectors, share: int) -> Vectors:
    """Of the first share × ``ASKED`` queries those whose ten nearest are nearest."""
    some = xb[np.random.default_rng(3).choice(len(xb), min(len(xb), 5_000), replace=False)]
    pool = xq[: share * ASKED]
    near = np.sort(pool @ some.T, axis=1)[:, -10:].mean(axis=1)
    found: Vectors = pool[np.argsort(-near)[:ASKED]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--count", type=int, default=25_000)
    args = parser.parse_args()
    xb = np.asarray(np.load(args.base, mmap_mode="r")[: args.count], np.float32)
    captions = np.load(args.queries, mmap_mode="r")
    space = mmsearch.load_space("mini")
    step = max(1, len(captions) // ASKED)
    asked = {"captions": np.ascontiguousarray(captions[::step][:ASKED], np.float32)}
    rng = random.Random(5)
    for name, make in KINDS.items():
        asked[name] = space.encode_document(
            list(dict.fromkeys(make(rng) for _ in range(600)))[:400]
        )
    pool = space.encode_document(sample_queries.sample_queries(4 * ASKED))
    asked["made-up texts, all"] = pool[:ASKED]
    for share in (2, 4):
        asked[f"the nearest of {share}"] = nearest_half(pool, xb, share)
    rows = np.random.default_rng(0).choice(len(xb), quantiser.sample_size(len(xb)), replace=False)
    trained, facts = quantiser.train(len(xb), xb.shape[1], xb[np.sort(rows)])
    kept = Trained.read(trained)
    index = kept.index()
    index.add(xb)
    table: list[tuple[str, ...]] = [("queries", "nearest", *(f"{n} lists" for n in LISTS))]
    found = {}
    for name, xq in asked.items():
        D, truth = faiss.knn(xq, xb, 10, faiss.METRIC_INNER_PRODUCT)
        shares = []
        for nprobe in LISTS:
            coarse = quantiser.coarse_parameters(index, nprobe)
            more = {} if coarse is None else {"quantizer_params": coarse}
            asked_so = faiss.SearchParametersIVF(nprobe=nprobe, **more)
            got = index.search(xq, 400, params=asked_so)[1]
            pairs = zip(truth, got, strict=True)
            shares.append(float(np.mean([len({*a} & {*b}) / 10 for a, b in pairs])))
        table.append((name, f"{D[:, 0].mean():.3f}", *(f"{one:.3f}" for one in shares)))
        found[name] = {"nearest": float(D[:, 0].mean()), "shares": shares}
    save("asked", {"rows": len(xb), "nlist": facts["nlist"], "lists": LISTS, "found": found})
    columns(table)


if __name__ == "__main__":
    main()
