"""Drawings that training never saw: Tux Paint's stamps by caption, twenty nouns in clip art.

What was kept out is decided by ``mmsearch.train.mini.split``; for weights that were trained
before there was a split, the figures are of things they may have seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import mmsearch
from common import Line
from mmsearch.evaluation import evaluate
from mmsearch.train.mini import data, drawings
from mmsearch.train.mini.data import Sources

STAMPS_GOAL, NOUNS_GOAL = 60, 0.6
FOLDER = 2_000  # drawings that a noun is looked for in
K = 10
DRAWS, SEED = 2_000, 0


def linked(names: Iterable[str], source: Path, folder: Path) -> dict[str, str]:
    """A flat folder with links to some files; returns file name there -> name."""
    folder.mkdir()
    flat = {}
    for name in names:
        flat[name.replace("/", "__")] = name
        (folder / name.replace("/", "__")).symlink_to((source / name).resolve())
    return flat


def stamp_lines(sources: Sources, space: str, work: Path) -> list[Line]:
    """Captions of held-out stamps, looked for among all stamps that have captions.

    A caption that several stamps share has several right answers.
    """
    assert sources.stamps is not None
    stamps = data.stamps(sources)
    held = {stamp.name for stamp in drawings.held_stamps(sources)}
    asked = {caption for stamp in stamps if stamp.name in held for caption in stamp.en + stamp.zh}
    linked((stamp.name for stamp in stamps), sources.stamps, work / "stamps")
    pairs = work / "stamps.jsonl"
    with pairs.open("w", encoding="utf-8") as out:
        for stamp in stamps:
            row = {"image": f"stamps/{stamp.name.replace('/', '__')}"}
            en, zh = ([one for one in own if one in asked] for own in (stamp.en, stamp.zh))
            if en or zh:
                out.write(json.dumps({**row, "en": en, "zh": zh}, ensure_ascii=False) + "\n")
    index = mmsearch.index(work / "stamps", work / "stamps.index", space)
    found = []
    for direction in evaluate(index, pairs).directions:
        if direction.target != "image":
            continue
        m = direction.measures[f"recall@{K}"]
        ends = [None if end is None else 100 * end for end in (m.low, m.high)]
        goal = STAMPS_GOAL if direction.query == "en" else None
        what = f"R@{K} {direction.name}, {direction.queries} captions of stamps kept out"
        note = f"among {direction.pool}"
        found.append(Line(what, 100 * m.value, *ends, goal=goal, note=note))
    return found


def mixed(clips: Iterable[drawings.Clip]) -> list[drawings.Clip]:
    """``FOLDER`` drawings: all that carry a noun, and those whose paths hash lowest."""
    every = list(clips)
    wanted = {c.name for several in drawings.noun_pictures(every).values() for c in several}
    order = {clip.name: hashlib.sha256(clip.name.encode()).hexdigest() for clip in every}
    every.sort(key=lambda clip: (clip.name not in wanted, order[clip.name]))
    return every[:FOLDER]


def noun_lines(sources: Sources, space: str, work: Path) -> list[Line]:
    """How many of the first ten drawings carry the noun that was asked for.

    Where fewer than ten drawings carry it, of the first so many. The interval of the mean
    draws the nouns anew.
    """
    assert sources.clipart is not None
    clips = mixed(drawings.clipart(sources))
    flat = linked((clip.name for clip in clips), sources.clipart, work / "clipart")
    index = mmsearch.index(work / "clipart", work / "clipart.index", space)
    found = []
    for noun, carriers in drawings.noun_pictures(clips).items():
        right = {clip.name for clip in carriers}
        k = min(K, len(right))
        hits = [flat[Path(hit.path).name] for hit in index.search(noun, to="image", k=k)]
        share = sum(name in right for name in hits) / k
        what = f"precision@{k} “{noun}”"
        found.append(Line(what, share, digits=2, note=f"{len(right)} of {len(index)} drawings"))
    values = np.array([line.value for line in found])
    rng = np.random.default_rng(SEED)
    draws = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    low, high = map(float, np.percentile(draws, [2.5, 97.5]))
    what = f"precision@{K}, mean of {len(values)} nouns"
    mean = Line(what, float(values.mean()), low, high, goal=NOUNS_GOAL, digits=2)
    return [mean, *sorted(found, key=lambda line: -(line.value or 0))]
