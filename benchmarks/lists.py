"""How many lists must be looked into, and whether a query can tell: what is in CONTRIBUTING.md.

    python benchmarks/lists.py --base FILE.npy --queries FILE.npy [--lists 4000 …] [--asked 2000]

FILE.npy: float16 (n, d) and float32 (nq, d), rows of unit length (``search_data.py`` makes
them). For each number of lists: how many the nearest-first order needs until they hold a share
of the true ten nearest of all queries; the same where each query stops by a rule on the lists'
scores; and where each query knew beforehand.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from children import columns
from common import save
from mmsearch.ann import quantiser
from search_truth import kept_truth

TARGETS = (0.9, 0.95, 0.98)
BLOCK = 16_384
Rows = list[tuple[str, ...]]


def filled(
    xb: NDArray[np.float16], nlist: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], float]:
    """The centroids (nlist, d), the list of each row (n,), and the seconds that both took."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(xb), min(len(xb), 40 * nlist), replace=False))
    sample = np.asarray(xb[rows], np.float32)
    started = time.perf_counter()
    centroids = quantiser._clustered(sample, nlist)
    coarse = quantiser._coarse(centroids, sample)
    of = np.empty(len(xb), np.int32)
    for at in range(0, len(xb), BLOCK):
        x = np.asarray(xb[at : at + BLOCK], np.float32)
        of[at : at + len(x)] = coarse.search(x, 1)[1][:, 0]
    return centroids, of, time.perf_counter() - started


def known_beforehand(places: NDArray[np.int64], target: float) -> float:
    """Lists a query on average, each as many as serves the whole best: a Lagrange multiplier."""
    ordered = np.sort(places, axis=1) + 1
    k = ordered.shape[1]
    taken = np.zeros(len(ordered), np.int64)
    for price in np.geomspace(1, 1e-6, 300):
        gain = np.arange(k + 1) - price * np.pad(ordered, ((0, 0), (1, 0)))
        taken = gain.argmax(axis=1)
        if taken.mean() >= target * k:
            break
    return float(np.pad(ordered, ((0, 0), (1, 0)))[np.arange(len(ordered)), taken].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--lists", type=int, nargs="+", help="default: as many as an index has")
    parser.add_argument("--asked", type=int, default=2_000)
    args = parser.parse_args()
    xb = np.load(args.base, mmap_mode="r")
    xq = np.ascontiguousarray(np.load(args.queries, mmap_mode="r")[: args.asked], np.float32)
    kept = kept_truth(args.base, args.queries, len(xb), len(xq), args.base.parent)
    truth = np.load(kept)["row"][: len(xq), :10]
    table: Rows = [("lists", "of the ten", "rule", "looked into", "rows in them")]
    found = []
    for nlist in args.lists or [quantiser.nlist_for(len(xb))]:
        centroids, of, seconds = filled(xb, nlist)
        print(f"{nlist:,} lists: trained and filled in {seconds:.0f} s", flush=True)
        sizes = np.bincount(of, minlength=nlist).astype(np.float64)
        scores = xq @ centroids.T
        order = np.argsort(-scores, axis=1)
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.arange(nlist)[None], axis=1)
        ranked = np.take_along_axis(scores, order, axis=1)
        mean, spread = scores.mean(axis=1, keepdims=True), scores.std(axis=1, keepdims=True)
        far = {  # how far a list is, by each rule
            "the same number": place.astype(np.float32),
            "below the best": ranked[:, :1] - scores,
            "below the tenth": ranked[:, 9:10] - scores,
            "share of the tenth": -scores / ranked[:, 9:10],
            "deviations": -(scores - mean) / spread,
        }
        for target in TARGETS:
            for rule, distance in far.items():
                limit = np.quantile(np.take_along_axis(distance, of[truth], axis=1), target)
                looked = distance <= limit
                lists, rows = looked.sum(axis=1).mean(), (looked @ sizes).mean()
                table.append((f"{nlist:,}", f"{target:g}", rule, f"{lists:.0f}", f"{rows:,.0f}"))
                found.append([nlist, target, rule, float(lists), float(rows)])
            least = known_beforehand(np.take_along_axis(place, of[truth], axis=1), target)
            table.append((f"{nlist:,}", f"{target:g}", "known beforehand", f"{least:.0f}", "–"))
            found.append([nlist, target, "known beforehand", least, None])
    save("lists", {"rows": len(xb), "queries": len(xq), "found": found})
    columns(table)


if __name__ == "__main__":
    main()
