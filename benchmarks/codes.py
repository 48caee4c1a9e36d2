"""Which codes and how many lists: what the choices in ``mmsearch/ann/quantiser.py`` rest on.

    python benchmarks/codes.py --base FILE.npy --queries FILE.npy [--count 200000]

FILE.npy: float16 (n, d) and float32 (nq, d), rows of unit length (``search_data.py`` makes
them). Builds FAISS indexes side by side on the same vectors and asks them the same queries,
candidates compared with the float16 vectors: by lists (half, once, twice and four times the
usual number), by codes (4-bit product codes of 4, 8 and 2 components, with and without OPQ,
RaBitQ's one bit), and by the coarse quantiser (all centroids compared, or found by codes of
their own). Of each the fastest setting that reaches each recall, of a grid.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from children import columns
from common import save
from mmsearch.ann import exact, quantiser, tune
from mmsearch.types import Ids, Vectors

TARGETS = (0.8, 0.9, 0.95)
CANDIDATES = (60, 100, 200, 400, 800)
PASSES = 3
IP = faiss.METRIC_INNER_PRODUCT


def turned(xb: Vectors, m: int) -> Vectors:
    """The rotation (d, d) that OPQ learns for m codes."""
    opq = faiss.OPQMatrix(xb.shape[1], m)
    opq.niter = 20
    opq.train(xb[:65_536])
    rotation: Vectors = faiss.vector_to_array(opq.A).reshape(xb.shape[1], xb.shape[1])
    return rotation


def built(xb: Vectors, centroids: Vectors, code: str, all_compared: bool) -> tuple[Any, float]:
    """A filled IVF index with those lists and codes, and the seconds that filling took."""
    nlist, d = centroids.shape
    if all_compared:
        coarse: Any = faiss.IndexFlatIP(d)
        coarse.add(centroids)
    else:
        coarse = quantiser._coarse(centroids, xb[:65_536])
    if code == "RaBitQ":
        index: Any = faiss.IndexIVFRaBitQFastScan(coarse, d, nlist, IP)
    else:
        index = faiss.IndexIVFPQFastScan(coarse, d, nlist, d // int(code), 4, IP)
    index.train(xb[:65_536])
    started = time.perf_counter()
    index.add(xb)
    return index, time.perf_counter() - started


def fastest(index: Any, xb: np.ndarray, xq: Vectors, truth: Ids) -> dict[str, float]:
    """Queries a second of the fastest setting that reaches each recall; 0 where none does."""
    best = dict.fromkeys(map(str, TARGETS), 0.0)
    refined = faiss.IndexRefine(index, view := exact.view(xb))
    nprobe = max(1, index.nlist // 64)
    while nprobe <= index.nlist // 2:
        near = faiss.SearchParametersIVF(nprobe=nprobe)
        for candidates in CANDIDATES:
            more = faiss.IndexRefineSearchParameters(
                k_factor=candidates / 10, base_index_params=near
            )
            taken = []
            for _ in range(PASSES):
                started = time.perf_counter()
                _, ids = refined.search(xq, 10, params=more)
                taken.append(time.perf_counter() - started)
            pairs = zip(truth, ids, strict=True)
            recall = float(np.mean([len({*a} & {*b}) / 10 for a, b in pairs]))
            for target in TARGETS:
                if recall >= target:
                    best[str(target)] = max(best[str(target)], len(xq) / min(taken))
        nprobe = round(nprobe * 1.5) + 1
    del view
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--asked", type=int, default=2_000)
    args = parser.parse_args()
    x16 = np.load(args.base, mmap_mode="r")[: args.count]
    xq = np.ascontiguousarray(np.load(args.queries)[: args.asked], np.float32)
    _, truth = tune.exact_nearest([x16], [None], xq, 10)
    xb = x16.astype(np.float32)
    usual = quantiser.nlist_for(len(xb))
    # lists, code, OPQ, all centroids compared
    tried = [(usual, code, False, False) for code in ("4", "8", "2", "RaBitQ")]
    tried += [(usual, "4", True, False), (usual, "8", True, False), (usual, "4", False, True)]
    tried += [(round(usual * share), "4", False, False) for share in (0.5, 2, 4)]
    results, rows = [], [("lists", "code", "", *(f"q/s at {t}" for t in TARGETS), "coded in s")]
    for nlist, code, opq, all_compared in tried:
        base, asked, stored = xb, xq, x16
        if opq:
            rotation = turned(xb, xb.shape[1] // int(code))
            base, asked = xb @ rotation.T, np.ascontiguousarray(xq @ rotation.T)
            stored = base.astype(np.float16)
        sample = base[: min(len(base), 40 * nlist)]
        index, taken_s = built(base, quantiser._clustered(sample, nlist), code, all_compared)
        found = fastest(index, stored, asked, truth)
        words = ("OPQ" if opq else "") + ("all centroids compared" if all_compared else "")
        results.append({"nlist": nlist, "code": code, "how": words, "coded_s": taken_s, **found})
        speeds = [f"{found[str(t)]:,.0f}" if found[str(t)] else "–" for t in TARGETS]
        rows.append((f"{nlist:,}", code, words, *speeds, f"{taken_s:.1f}"))
        print(" · ".join(rows[-1]), flush=True)
    save("codes", {"rows": len(xb), "queries": len(xq), "tried": results})
    columns(rows)


if __name__ == "__main__":
    main()
