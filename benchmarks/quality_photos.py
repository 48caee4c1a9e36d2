"""Flickr8k's validation photos by captions in two languages, and back; and what was gained.

Through ``mmsearch.index`` and ``mmsearch.evaluation``: pools are all 1,000 photos and all
5,000 captions of a language; intervals draw the photos anew 2,000 times.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import mmsearch
from common import Line
from mmsearch.evaluation import compare, evaluate

GOALS = {  # query, target, k -> percent
    ("en", "image", 1): 35,
    ("en", "image", 10): 79,
    ("image", "en", 1): 43,
    ("zh", "image", 1): 22,
    ("zh", "image", 10): 62,
}
GAIN = 4  # points of R@1 over the earlier weights, in each language, its interval without 0
KS = (1, 5, 10)


def unpack(data: Path, folder: Path) -> Path:
    """The photos in ``folder/photos`` and ``folder/pairs.jsonl``, whose path is returned."""
    with tarfile.open(data / "flickr8k" / "val.tar") as tar:
        tar.extractall(folder / "photos", filter="data")
    lines = (data / "flickr8k" / "val.jsonl").read_text("utf-8").splitlines()
    pairs = folder / "pairs.jsonl"
    with pairs.open("w", encoding="utf-8") as out:
        for photo in map(json.loads, lines):
            row = {"image": f"photos/{photo['image']}", "en": photo["en"], "zh": photo["zh"]}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return pairs


def lines(data: Path, space: str, before: Path | None, work: Path) -> list[Line]:
    """Recall of the space, and its gain over the one in the folder ``before``."""
    pairs = unpack(data, work)
    now = mmsearch.index(work / "photos", work / "now", space)
    if before is None:
        found, gains = evaluate(now, pairs), []
    else:
        then = mmsearch.index(work / "photos", work / "then", before)
        comparison = compare(then, now, pairs)
        found = comparison.b
        gains = [
            Line(
                f"R@1 {d.name}, less that of {comparison.a.space}",
                100 * m.value,
                *(None if end is None else 100 * end for end in (m.low, m.high)),
                goal=GAIN if d.target == "image" else None,
                sure=True,
                note="" if m.real else "0 is in the interval",
            )
            for d in comparison.differences
            for m in [d.measures["recall@1"]]
        ]
    out = []
    for direction in found.directions:
        for k in KS:
            m = direction.measures[f"recall@{k}"]
            ends = [None if end is None else 100 * end for end in (m.low, m.high)]
            goal = GOALS.get((direction.query, direction.target, k))
            out.append(Line(f"R@{k} {direction.name}", 100 * m.value, *ends, goal=goal))
    return out + gains
