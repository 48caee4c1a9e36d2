"""How well sounds are found that no training step heard: cross-validated figures.

Four heads, each trained without a quarter of everything: an ESC-10 fold, captions of the
sound effects with all their clips, and stamps with their sounds. What a head never
heard is asked of it. A fifth never heard any ESC-10 clip; a sixth neither any ESC-10 clip
nor the effects that have the name of one.

- ESC-10: the label whose name is nearest to the clip, of the ten.
- effects: from a held-out caption to all effects (R@k of the best of its clips).
- stamps: from a held-out sound to the pictures of all stamps that sound, and from a held-out
  picture to all their sounds (mean reciprocal rank). The picture tower may have seen the
  pictures. "through text" goes to the nearest caption first, and from there on.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsearch.train.mini.sound_head import SoundHead
from mmsearch.train.mini.sounds import STEPS, Clips, Words, train

FOLDS = (1, 2, 3, 4)
SEED, DRAWS = 0, 2_000  # of the bootstrap, as in ``mmsearch.evaluation.intervals``
Numbers = NDArray[np.float64]


def bare(name: str) -> str:
    """A caption without its article and full stop, lower case."""
    return re.sub(r"^(an?|the) |[.!]$", "", name.lower()).strip()


def fold_of(name: str) -> int:
    """The fold that a caption or a stamp is held out in, by its name."""
    return FOLDS[zlib.crc32(name.encode()) % len(FOLDS)]


def figures(
    found: Clips, said: Words, pictures: Mapping[str, Tensor], steps: int = STEPS
) -> dict[str, Any]:
    """All figures, each with its value, 95% interval and number of queries; JSON-able.

    pictures: unit rows of the picture tower by the name of the sound (``Sound.name``).
    """
    sounds = found.sounds
    label_names = {bare(sound.label) for sound in sounds if sound.label}
    kept: dict[str, list[Numbers]] = {}

    def keep(name: str, values: Sequence[float]) -> None:
        kept.setdefault(name, []).append(np.asarray(values, np.float64))

    unheard = trained(found, said, pictures, [bool(s.label) for s in sounds], steps)
    for number in FOLDS:
        fold = found.rows([sound.fold == number for sound in sounds])
        for language in ("en", "zh"):
            keep(f"ESC-10 never heard, {language}", named_right(unheard, fold, said, language))
    strangers = [bool(s.label) or bare(next(iter(s.en), "")) in label_names for s in sounds]
    head = trained(found, said, pictures, strangers, steps)
    captions_found(head, found, said, lambda name: bare(name) in label_names, keep)
    for number in FOLDS:
        held = [held_out(sound.name, sound.en, sound.fold, number, label_names) for sound in sounds]
        head = trained(found, said, pictures, held, steps)
        fold = found.rows([sound.fold == number for sound in sounds])
        for language in ("en", "zh"):
            keep(f"ESC-10 held out, {language}", named_right(head, fold, said, language))

        def ours(name: str, number: int = number) -> bool:
            return fold_of(bare(name)) == number and bare(name) not in label_names

        captions_found(head, found, said, ours, keep)
        stamps_found(head, found, said, pictures, number, keep)
    return {name: summary(values) for name, values in kept.items()}


def held_out(name: str, en: Sequence[str], fold: int, number: int, label_names: set[str]) -> bool:
    """Whether a sound is kept from the head of a fold."""
    if fold or not en:
        return fold == number
    if name.startswith("stamps/") and fold_of(name) == number:
        return True
    return bare(en[0]) not in label_names and fold_of(bare(en[0])) == number


def trained(
    found: Clips, said: Words, pictures: Mapping[str, Tensor], held: Sequence[bool], steps: int
) -> SoundHead:
    """A head that knows nothing of the sounds held out, nor of their pictures."""
    hidden = {s.name for s, out in zip(found.sounds, held, strict=True) if out}
    seen = {name: vector for name, vector in pictures.items() if name not in hidden}
    return train(found.rows([not out for out in held]), said, seen, steps)


@torch.inference_mode()
def named_right(head: SoundHead, found: Clips, said: Words, language: str = "en") -> list[float]:
    """For each ESC-10 clip 100 where the nearest label name is its own, else 0."""
    kinds = {sound.label: sound for sound in found.sounds if sound.label}
    labels = sorted(kinds)
    base = said.of([label if language == "en" else kinds[label].zh[0] for label in labels])
    best = (head(found.clean) @ base.T).argmax(1).tolist()
    return [100.0 * (labels[i] == sound.label) for i, sound in zip(best, found.sounds, strict=True)]


@torch.inference_mode()
def captions_found(head: SoundHead, found: Clips, said: Words, ours: Any, keep: Any) -> None:
    """R@1, R@5 and R@10 from the captions that are ``ours`` to all effects."""
    pool = found.rows([sound.name.startswith("sounds/") for sound in found.sounds])
    names = [sound.en[0] for sound in pool.sounds]
    asked = sorted({name for name in names if ours(name)})
    if not asked:
        return
    order = (said.of(asked) @ head(pool.clean).T).argsort(1, descending=True).tolist()
    ranks = [
        1 + min(place for place, i in enumerate(row) if names[i] == name)
        for name, row in zip(asked, order, strict=True)
    ]
    for k in (1, 5, 10):
        keep(f"effects by held-out caption, R@{k}", [100.0 * (rank <= k) for rank in ranks])


@torch.inference_mode()
def stamps_found(
    head: SoundHead,
    found: Clips,
    said: Words,
    pictures: Mapping[str, Tensor],
    number: int,
    keep: Any,
) -> None:
    """Reciprocal ranks between the sounds and pictures of stamps of a fold and all others."""
    pool = found.rows([sound.name in pictures for sound in found.sounds])
    if not pool.sounds:
        return
    images = torch.stack([pictures[sound.name] for sound in pool.sounds])
    heard, texts = head(pool.clean), said.of([sound.en[0] for sound in pool.sounds])
    rows = [i for i, sound in enumerate(pool.sounds) if fold_of(sound.name) == number]
    scores = {"sound to picture": heard @ images.T, "picture to sound": images @ heard.T}
    by_sound, by_picture = (heard @ texts.T).argmax(1), (images @ texts.T).argmax(1)
    scores["sound to picture, through text"] = texts[by_sound] @ images.T
    scores["picture to sound, through text"] = texts[by_picture] @ heard.T
    for name, matrix in scores.items():
        own = matrix.diagonal()[:, None]
        ranks = 1 + (matrix > own).sum(1)
        keep(f"stamps, {name}, MRR", (100.0 / ranks[rows]).tolist())
        keep(f"stamps, {name}, R@5", (100.0 * (ranks[rows] <= 5)).tolist())
    n = len(pool.sounds)
    keep("stamps, chance, MRR", [100.0 * sum(1 / rank for rank in range(1, n + 1)) / n] * len(rows))


def summary(folds: Sequence[Numbers]) -> dict[str, Any]:
    """The mean in percent, its 95% bootstrap interval over queries, and the means of the folds."""
    values = np.concatenate(folds)
    again = np.random.default_rng(SEED).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[again].mean(1), [2.5, 97.5])
    return {
        "value": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "queries": len(values),
        "folds": [float(fold.mean()) for fold in folds],
    }
