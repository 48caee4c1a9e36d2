"""What IVF-PQ loses and gains against exact search, on queries of another kind.

    python benchmarks/ann.py --corpus TEXTS --queries TEXTS [--runs 5]

Both files hold one text a line (or JSONL with lists of captions under ``en`` and
``zh``: the corpus takes the English ones, the queries the Chinese). The corpus is
indexed once as it is and once with ``ann="ivfpq"``; the same queries are asked of
both, alone and in a batch.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from common import save, table
from mmsearch.indexer import Options, run


def texts(path: Path, language: str) -> list[str]:
    """The different texts of a file, in order."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    out: dict[str, None] = {}
    with opened(path, "rt", encoding="utf-8") as f:
        for line in f:
            if line.startswith("{"):
                row = json.loads(line)
                out.update(dict.fromkeys(row.get(language) or row.get("captions") or []))
            elif line.strip():
                out[line.strip()] = None
    return list(out)


def ask(index: mmsearch.Index, vectors: np.ndarray, runs: int) -> tuple[list[list[str]], float]:
    """(ids of the ten nearest to each query, median milliseconds a query, one by one)."""
    ids = [[hit.id for hit in index.search(vector=v)] for v in vectors]
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        for v in vectors:
            index.search(vector=v)
        times.append((time.perf_counter() - started) / len(vectors) * 1000)
    return ids, statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, nargs="+")
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    corpus = list(dict.fromkeys(t for path in args.corpus for t in texts(path, "en")))
    queries = texts(args.queries, "zh")[:100]
    space = mmsearch.load_space("mini")
    vectors = space.encode_document(queries)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "none").mkdir()
        run([work / "none"], work / "ix", None, Options(ann="flat"))
        index = mmsearch.open(work / "ix")
        index.add([{"text": text} for text in corpus])
        exact, exact_ms = ask(index, vectors, args.runs)
        started = time.perf_counter()
        run([work / "none"], work / "ix", None, Options(ann="ivfpq"))
        build_s = time.perf_counter() - started
        index.refresh()
        facts = index.snapshot.manifest.ann.facts if index.snapshot.manifest.ann else {}
        found, ann_ms = ask(index, vectors, args.runs)
    recall = float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(exact, found, strict=True)]))
    save(
        "ann",
        {
            "parts": len(corpus),
            "queries": len(queries),
            "facts": facts,
            "recall_at_10": recall,
            "exact_ms": exact_ms,
            "ivfpq_ms": ann_ms,
            "build_s": build_s,
        },
    )
    table(
        [
            ("what", "figure", "goal"),
            (f"recall@10 on {len(corpus):,} parts", f"{recall:.3f}", ">= 0.95"),
            ("exact, ms a query", f"{exact_ms:.2f}", ""),
            ("IVF-PQ, ms a query", f"{ann_ms:.2f}", ""),
            ("training and coding, s", f"{build_s:.1f}", ""),
        ]
    )


if __name__ == "__main__":
    main()
