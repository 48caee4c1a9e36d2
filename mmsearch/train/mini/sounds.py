"""Trains the sound head against the finished text tower, and tells how well it does on ESC-10."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini import data
from mmsearch.train.mini.features import Reader, cached
from mmsearch.train.mini.heads import Head
from mmsearch.train.mini.sound_features import heard

SEED = 20261122
STEPS = 300
BATCH = 256
HIDDEN, DROPOUT, NOISE = 512, 0.5, 0.3
RATE, DECAY, WARM_UP = 1e-3, 0.05, 0.1
SCALE = 20.0  # inverse temperature; that of the pictures, so that scores compare
TAUGHT = 1.0  # weight of the teacher's classes
SMOOTHING = 0.1
FOLDS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Clips:
    """The training sounds. features: float32 (n, views, f), the first view clean; classes:
    float32 (n, 521), the teacher's shares; names: English and Chinese for each clip."""

    sounds: list[data.Sound]
    features: Tensor
    classes: Tensor

    def rows(self, keep: Sequence[bool]) -> Clips:
        """Some of the clips."""
        chosen = [i for i, kept in enumerate(keep) if kept]
        return Clips([self.sounds[i] for i in chosen], self.features[chosen], self.classes[chosen])


@dataclass(frozen=True)
class Words:
    """What clips can be called: unit rows of every name, and of the teacher's classes."""

    vectors: Tensor
    row: dict[str, int]
    classes: Tensor


def clips(sources: data.Sources, cache: Path) -> Clips:
    """Every training sound, as the frozen towers hear it."""
    arrays = cached(cache / "sounds.npz", lambda: heard(sources))
    shares = torch.from_numpy(arrays["classes"])
    shares = shares / shares.sum(1, keepdim=True)
    found = [sound for sound, _ in data.sounds(sources)]
    return Clips(found, torch.from_numpy(arrays["features"]).float(), shares)


def words(sources: data.Sources, found: Clips, reader: Reader) -> Words:
    """The names' vectors, from the finished text tower."""
    names = sorted({name for sound in found.sounds for name in sound.en + sound.zh})
    classes = reader.vectors(data.audioset_names(sources))
    return Words(reader.vectors(names), {name: i for i, name in enumerate(names)}, classes)


def train(found: Clips, said: Words, steps: int = STEPS, seed: int = SEED) -> Head:
    """A head from aiSFX features to the space.

    Each clip is drawn to its names, in both languages, and away from the names
    of other sounds; and its nearness to the 521 AudioSet names follows the
    teacher's shares, which is what it learns most words from.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    flat = found.features.flatten(0, 1)
    head = Head(flat.mean(0), flat.std(0) + 1e-4, HIDDEN, DROPOUT, NOISE)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps, pct_start=WARM_UP
    )
    kinds = [sound.en[0] for sound in found.sounds]
    numbers = {kind: i for i, kind in enumerate(sorted(set(kinds)))}
    kind = torch.tensor([numbers[one] for one in kinds])
    head.train()
    for _ in range(steps):
        rows = rng.choice(len(kinds), min(BATCH, len(kinds)), replace=False)
        x = found.features[rows, rng.integers(0, found.features.shape[1], len(rows))]
        named = [said.row[str(rng.choice(list(choices(found.sounds[i], rng))))] for i in rows]
        texts = said.vectors[named]
        own = (kind[rows][:, None] == kind[rows][None]).float()
        own = own / own.sum(1, keepdim=True)
        vectors = head(x)
        logits = SCALE * vectors @ texts.T
        loss = (soft_cross_entropy(logits, own) + soft_cross_entropy(logits.T, own)) / 2
        taught = F.log_softmax(SCALE * vectors @ said.classes.T, dim=1)
        loss = loss - TAUGHT * (found.classes[rows] * taught).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    head.eval()
    with torch.inference_mode():
        head.centre.copy_(head.crowded(found.features[:, 0]).mean(0))
    return head


def choices(sound: data.Sound, rng: np.random.Generator) -> tuple[str, ...]:
    """The names to draw from: usually the first English one, else others, or Chinese."""
    draw = rng.random()
    if sound.zh and draw < 0.3:
        return sound.zh
    return sound.en[:1] if draw < 0.7 else sound.en


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy against shares that sum to one, smoothed."""
    smooth = (1 - SMOOTHING) * target + SMOOTHING / target.shape[1]
    return -(smooth * F.log_softmax(logits, dim=1)).sum(1).mean()


@torch.inference_mode()
def named_right(head: Head, found: Clips, said: Words, language: str = "en") -> float:
    """Share, in percent, of ESC-10 clips whose nearest label name is their own."""
    kinds = {sound.label: sound for sound in found.sounds if sound.label}
    labels = sorted(kinds)
    texts = [label if language == "en" else kinds[label].zh[0] for label in labels]
    base = said.vectors[[said.row[text] for text in texts]]
    best = (head(found.features[:, 0]) @ base.T).argmax(1).tolist()
    right = [labels[i] == sound.label for i, sound in zip(best, found.sounds, strict=True)]
    return 100.0 * float(np.mean(right))


def fold_figures(found: Clips, said: Words, steps: int = STEPS) -> dict[str, list[float]]:
    """ESC-10 by label name: each fold by a head that never heard it, and every fold by a
    head that never heard any ESC-10 clip; percent, in the order of the folds."""
    folds = [found.rows([sound.fold == fold for sound in found.sounds]) for fold in FOLDS]
    unheard = train(found.rows([not sound.fold for sound in found.sounds]), said, steps)
    figures: dict[str, list[float]] = {
        "held out": [],
        "held out, Chinese names": [],
        "never heard ESC-10": [named_right(unheard, fold, said) for fold in folds],
        "never heard ESC-10, Chinese names": [
            named_right(unheard, fold, said, "zh") for fold in folds
        ],
    }
    for number, fold in zip(FOLDS, folds, strict=True):
        head = train(found.rows([sound.fold != number for sound in found.sounds]), said, steps)
        figures["held out"].append(named_right(head, fold, said))
        figures["held out, Chinese names"].append(named_right(head, fold, said, "zh"))
    return figures
