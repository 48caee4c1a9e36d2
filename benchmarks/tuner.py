"""Whether the recall that the tuner promises is the one that queries get which it never saw.

    python benchmarks/tuner.py --base FILE.npy --queries FILE.npy [--count N] [--name crops]

FILE.npy: float16 (n, d) and float32 (nq, d) of ``mini``'s space (``search_data.py`` makes
them; crops of photos with captions as queries are the cross-modal case). Builds one index and
tunes it three times: with the queries that the product makes up itself (sample texts, or
fragments where a Parquet file of the texts lies beside the base), with half of the real
queries, and with stored vectors. Each promise is then compared with the recall of the other
half of the real queries.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import mmsearch
from children import columns
from common import save
from mmsearch.ann import tune
from mmsearch.ann.effort import effort_for
from mmsearch.indexer.quantise import tune_ann
from mmsearch.store import Writer
from mmsearch.types import Vectors
from search_index import index_of, texts_beside

TARGETS = (0.9, 0.95, 0.97, 0.99)


def recalls(folder: Path, xq: Vectors, truth: np.ndarray) -> dict[float, tuple[float, float]]:
    """(promised, measured) recall@10 for each target."""
    index = mmsearch.open(folder)
    quantiser = index.snapshot.manifest.ann
    assert quantiser is not None
    found = {}
    for target in TARGETS:
        effort = effort_for(quantiser.facts, target, 10, 1.0)
        promised = next(
            p["recall"]
            for p in quantiser.facts["curve"]
            if (p["nprobe"], p["candidates"]) == (effort.nprobe, effort.candidates)
        )
        rows = index.search_batch(vectors=xq, k=10, recall=target).rows
        pairs = zip(truth, rows, strict=True)
        found[target] = promised, float(np.mean([len({*a} & {*b}) / 10 for a, b in pairs]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--asked", type=int, default=8_000)
    parser.add_argument("--name", default="passages", help="of the data, in the results")
    args = parser.parse_args()
    base = np.load(args.base, mmap_mode="r")
    xb = base[: args.count or len(base)]
    texts = texts_beside(base)
    # spread over all: captions of one photo stand side by side
    asked = np.load(args.queries, mmap_mode="r")
    rows = np.linspace(0, len(asked) - 1, min(args.asked, len(asked))).astype(np.int64)
    xq = np.ascontiguousarray(asked[np.random.default_rng(0).permutation(rows)], np.float32)
    known, unseen = xq[::2].copy(), xq[1::2].copy()
    results = []
    rows = [("tuned with", "aimed at", "promised", "measured", "difference")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ix"
        index_of(xb, folder, None, lambda share: None, texts)
        segments = mmsearch.open(folder).snapshot.segments
        _, truth = tune.exact_nearest(
            [s.lanes[0].vectors for s in segments], [None] * len(segments), unseen, 10
        )
        pick = np.random.default_rng(0).choice(len(xb), 1000, replace=False)
        stored = np.ascontiguousarray(xb[np.sort(pick)], np.float32)
        for kind, given in (("made up", None), ("real queries", known), ("stored vectors", stored)):
            with Writer(folder, mmsearch.open(folder).space) as writer:
                tune_ann(writer, queries=given)
            for target, (promised, measured) in recalls(folder, unseen, truth).items():
                results.append(
                    {
                        "tuned_with": kind,
                        "target": target,
                        "promised": promised,
                        "measured": measured,
                    }
                )
                words = (
                    f"{target:g}",
                    f"{promised:.3f}",
                    f"{measured:.3f}",
                    f"{measured - promised:+.3f}",
                )
                rows.append((kind, *words))
    save(f"tuner-{args.name}", {"rows": len(xb), "unseen": len(unseen), "found": results})
    columns(rows)


if __name__ == "__main__":
    main()
