"""Do hits of two spaces meet in the right order? Needs the extra ``torch``.

    python benchmarks/lanes.py --data DATA --yamnet YAMNET --stamps STAMPS --cache DIR

One lane is ``mini`` with the photos of Flickr8k's ``val``, asked with one caption of each. The
other is a space that has nothing to do with it: sounds as what YAMNet hears in them, told in the
words of all-MiniLM-L6-v2 (see ``bridge.py``), asked with what each is called. Every query is
asked of both lanes at once, and the part that it belongs to is looked for in the one list that
comes of it, merged by each rule: by cosines as they are, by standard scores, alternating by
rank, by ``mmsearch.calibrate.surprise``. ``known`` looks in the right lane alone. So many photos
and sounds as in each line are drawn at random ``DRAWS`` times. Each is measured once more with
the sounds' cosines on another scale (0.4 times, and 0.4 more), as of a model that spreads less.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bridge import Rows, Texts, named, second
from common import save
from mmsearch.calibrate import chance, surprise
from mmsearch.sample_queries import sample_queries
from mmsearch.searcher.chances import SAMPLE
from mmsearch.spaces.maps import unit
from mmsearch.spaces.mini import Mini
from mmsearch.train.mini import data, sounds
from mmsearch.types import Modality

DRAWS = 20
SIZES = ((1000, 300), (1000, 30), (1000, 8), (100, 100), (30, 300), (8, 300))
Merge = Callable[[Rows, Rows], Rows]  # cosines of queries, and of made-up ones, to one lane's parts


def cosine(scores: Rows, made_up: Rows) -> Rows:
    """As they are."""
    return scores


def standard(scores: Rows, made_up: Rows) -> Rows:
    """Standard scores of the query itself: over its mean, in its standard deviations (test
    normalisation, Auckenthaler et al. 2000)."""
    return (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)


def of_made_up(scores: Rows, made_up: Rows) -> Rows:
    """Over the mean of made-up queries, in their standard deviations."""
    return (scores - made_up.mean()) / made_up.std()


def by_rank(scores: Rows, made_up: Rows) -> Rows:
    """Minus the place in the lane: the first of each lane before the second of any."""
    return -np.argsort(np.argsort(-scores, axis=1), axis=1).astype(np.float32)


def surprising(scores: Rows, made_up: Rows) -> Rows:
    """As an index of several spaces does it."""
    n = scores.shape[1]
    at = np.random.default_rng(0).choice(n, min(n, SAMPLE), replace=False)
    return surprise(scores, chance(made_up[:, at].max(1), len(at)), n)


RULES: dict[str, Merge] = {
    "cosine": cosine,
    "standard score": standard,
    "of made-up queries": of_made_up,
    "rank": by_rank,
    "surprise": surprising,
}


def reciprocal(own: Rows, other: Rows, right: np.ndarray) -> Rows:
    """1/rank of the best right part among both lanes' parts; equal ones stand before it half
    the time. right: bool, as ``own``."""
    best = np.where(right, own, -np.inf).max(1, keepdims=True)
    before = ((own > best) & ~right).sum(1) + (other > best).sum(1)
    return 1 / (1 + before + (other == best).sum(1) / 2)


def measured(asked: argparse.Namespace) -> list[dict[str, Any]]:
    sources = data.Sources(asked.data, asked.yamnet, asked.stamps)
    mini = Mini()
    own, other = Texts(lambda texts: mini.encode(Modality.TEXT, texts)), second()
    photos = data.photos(sources, "val")
    pixels = dict(data.photo_pixels(sources, "val"))
    seen = mini.encode(Modality.IMAGE, [pixels[photo.name] for photo in photos])
    found = sounds.clips(sources, asked.cache, 2)
    heard = named(found, sounds.words(sources, found, other))
    some = [i for i, s in enumerate(found.sounds) if s.en and not s.name.startswith("esc10")]
    called = [found.sounds[i].en[0] for i in some]
    heard = heard[some]
    captions = [photo.en[0] for photo in photos]
    print(f"{len(captions)} photos and captions, {len(called)} sounds and names")
    texts = [*captions, *called]
    made_up = sample_queries(128)
    of_photos = unit(own.encode(texts)) @ seen.T
    of_sounds = unit(other.vectors(texts).numpy()) @ heard.T
    chance_photos = unit(own.encode(made_up)) @ seen.T
    chance_sounds = unit(other.vectors(made_up).numpy()) @ heard.T
    names = np.array(called)
    lines = []
    for (n_photos, n_sounds), (times, more) in itertools.product(SIZES, ((1, 0), (0.4, 0.4))):
        rng = np.random.default_rng(0)
        kept: dict[str, list[tuple[float, float]]] = {}
        for _ in range(DRAWS):
            p = np.sort(rng.choice(len(captions), n_photos, replace=False))
            s = np.sort(rng.choice(len(called), min(n_sounds, len(called)), replace=False))
            photo_rows, sound_rows = p, s + len(captions)
            is_photo = np.eye(len(p), dtype=bool)
            is_sound = names[s][:, None] == names[s][None, :]
            whole = {"known": None, **RULES}
            for name, rule in whole.items():
                figures = []
                for rows, right, lane in ((photo_rows, is_photo, 0), (sound_rows, is_sound, 1)):
                    heard_there = times * of_sounds[np.ix_(rows, s)] + more
                    both = [of_photos[np.ix_(rows, p)], heard_there]
                    if rule is not None:
                        made = chance_photos[:, p], times * chance_sounds[:, s] + more
                        both = [rule(*pair) for pair in zip(both, made, strict=True)]
                    mine, theirs = both[lane], both[1 - lane]
                    if rule is None:
                        theirs = np.empty((len(rows), 0), np.float32)
                    figures.append(float(reciprocal(mine, theirs, right).mean()))
                kept.setdefault(name, []).append((figures[0], figures[1]))
        for name, several in kept.items():
            photo, sound = np.mean(several, axis=0)
            base = np.mean(kept["known"], axis=0)
            lines.append(
                {"photos": n_photos, "sounds": n_sounds, "scale": times, "rule": name,
                 "photo_mrr": 100 * photo, "sound_mrr": 100 * sound,
                 "of_known": float(np.mean([photo / base[0], sound / base[1]]))}
            )  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("data", "yamnet", "stamps", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    lines = measured(parser.parse_args())
    print("photos  sounds  scale  rule                    photo MRR  sound MRR  mean of known")
    for one in lines:
        print(
            f"{one['photos']:>6}  {one['sounds']:>6}  {one['scale']:>5}  {one['rule']:<22}  "
            f"{one['photo_mrr']:>9.1f}  {one['sound_mrr']:>9.1f}  {one['of_known']:>13.2f}"
        )
    rules = {}
    for name in RULES:
        for times in (1, 0.4):
            several = [o["of_known"] for o in lines if (o["rule"], o["scale"]) == (name, times)]
            rules[f"{name}, scale {times}"] = float(np.mean(several))
            print(f"{name:<22}  scale {times:<4}  mean {rules[f'{name}, scale {times}']:.3f}")
    save("lanes", {"lines": lines, "mean_of_known": rules, "draws": DRAWS})


if __name__ == "__main__":
    main()
