"""Trains the sound head against the finished text and picture towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini import data
from mmsearch.train.mini.features import Reader, cached
from mmsearch.train.mini.sound_features import every, heard
from mmsearch.train.mini.sound_head import SoundHead, shares
from mmsearch.train.mini.sound_words import class_phrases, is_no_sound

SEED = 20261122
STEPS = 400
NAMED_BATCH, OTHER_BATCH = 96, 160  # clips with words and without, a step
HIDDEN, DROPOUT, NOISE = 512, 0.5, 0.3
RATE, DECAY, WARM_UP = 1e-3, 0.05, 0.1
SCALE = 20.0  # inverse temperature; that of the pictures, so that scores compare
TAUGHT = 1.0  # weight of the teacher's classes, as nearness to their names
HEARD = 1.0  # weight of the teacher's classes, as probabilities
PICTURED = 0.3  # weight of the pictures of the same things
SMOOTHING = 0.1
TWIN = 0.85  # cosine of standardised features; copies have 0.99, different rain up to 0.94
RARE = 0.5  # power of a class's rarity in its weight
SELDOM = 0.003  # mean probability that counts as never


@dataclass(frozen=True)
class Clips:
    """Training sounds, as the frozen towers hear them.

    features: float32 (views, f); classes: float32 (views, 521), the teacher's probabilities;
    first, count: int64 (n,), where the views of each sound start, the clean one first.
    """

    sounds: list[data.Sound]
    features: Tensor
    classes: Tensor
    first: NDArray[np.int64]
    count: NDArray[np.int64]

    def rows(self, keep: Sequence[bool]) -> Clips:
        """Some of the clips."""
        chosen = np.flatnonzero(keep)
        sounds = [self.sounds[i] for i in chosen]
        return Clips(sounds, self.features, self.classes, self.first[chosen], self.count[chosen])

    @property
    def clean(self) -> Tensor:
        """The features of each sound as it is: (n, f)."""
        return self.features[self.first]


@dataclass(frozen=True)
class Words:
    """What clips can be called: unit rows of every name, where each name is, and of the
    teacher's classes (521, phrases, 512); weights: (521,), 0 for what is no sound."""

    vectors: Tensor
    row: dict[str, int]
    classes: Tensor
    weights: Tensor

    def of(self, names: Sequence[str]) -> Tensor:
        """The vectors of some names."""
        return self.vectors[[self.row[name] for name in names]]


def clips(sources: data.Sources, cache: Path, threads: int) -> Clips:
    """Every training sound, as the frozen towers hear it."""
    arrays = cached(cache / "sounds.npz", lambda: heard(sources, threads))
    found = [sound for sound, _ in every(sources)]
    count = np.bincount(arrays["clip"], minlength=len(found))
    features, classes = (torch.from_numpy(arrays[name]).float() for name in ("features", "classes"))
    return unlike(Clips(found, features, classes, np.cumsum(count) - count, count))


def unlike(found: Clips) -> Clips:
    """Without the effects that are, or could be, one of the other sounds: games share sounds,
    and what is held out must not be heard under another name."""
    clean = found.clean
    rows = F.normalize((clean - clean.mean(0)) / (clean.std(0) + 1e-4), dim=1)
    effect = torch.tensor([sound.name.startswith("effects/") for sound in found.sounds])
    twin = torch.zeros(len(rows), dtype=torch.bool)
    twin[effect] = (rows[effect] @ rows[~effect].T > TWIN).any(1)
    return found.rows((~twin).tolist())


def words(sources: data.Sources, found: Clips, reader: Reader) -> Words:
    """The names' vectors, from the finished text tower."""
    names = sorted({name for sound in found.sounds for name in sound.en + sound.zh})
    classes = data.audioset_names(sources)
    phrases = [class_phrases(name) for name in classes]
    most = max(map(len, phrases))
    flat = [one[i % len(one)] for one in phrases for i in range(most)]
    return Words(
        reader.vectors(names),
        {name: i for i, name in enumerate(names)},
        reader.vectors(flat).reshape(len(classes), most, -1),
        torch.tensor([0.0 if is_no_sound(name) else 1.0 for name in classes]),
    )


def train(
    found: Clips,
    said: Words,
    pictures: Mapping[str, Tensor] | None = None,
    steps: int = STEPS,
    seed: int = SEED,
) -> SoundHead:
    """A head from aiSFX features to the space.

    Each clip with words is drawn to its names, in both languages, and away from the names
    of other sounds, and to the picture of the same thing, where ``pictures`` (by the name of
    the sound: unit rows of the picture tower) has it. The nearness of every clip to the 521
    AudioSet names follows the teacher's shares, which is what it learns most words from.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    usual = found.classes[found.first].mean(0)
    weights = said.weights / (usual + SELDOM) ** RARE
    class_words = F.normalize(said.classes.mean(1), dim=1)
    head = SoundHead(found.clean, class_words, weights, HIDDEN, DROPOUT, NOISE)
    features = head.reduced(found.features)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps, pct_start=WARM_UP
    )
    named = np.array([i for i, sound in enumerate(found.sounds) if sound.en])
    others = np.array([i for i, sound in enumerate(found.sounds) if not sound.en], np.int64)
    numbers = {kind: i for i, kind in enumerate(sorted({found.sounds[i].en[0] for i in named}))}
    kind = torch.tensor([numbers[sound.en[0]] if sound.en else -1 for sound in found.sounds])
    seen = Seen(found.sounds, pictures or {})
    head.train()
    for _ in range(steps):
        rows = rng.choice(named, min(NAMED_BATCH, len(named)), replace=False)
        few = len(rows)
        rows = np.concatenate([rows, rng.choice(others, min(OTHER_BATCH, len(others)), False)])
        views = found.first[rows] + rng.integers(0, found.count[rows])
        crowded, scores = head.answers(features[views])
        vectors = head.placed(crowded)
        texts = said.of([choice(found.sounds[i], rng) for i in rows[:few]])
        own = (kind[rows[:few]][:, None] == kind[rows[:few]][None]).float()
        own = own / own.sum(1, keepdim=True)
        logits = SCALE * vectors[:few] @ texts.T
        loss = (soft_cross_entropy(logits, own) + soft_cross_entropy(logits.T, own)) / 2
        phrase = torch.from_numpy(rng.integers(0, said.classes.shape[1], len(said.classes)))
        class_texts = said.classes[torch.arange(len(phrase)), phrase]
        taught = F.log_softmax(SCALE * vectors @ class_texts.T, dim=1)
        heard_now = found.classes[views]
        loss = loss - TAUGHT * (shares(heard_now, weights) * taught).sum(1).mean()
        odds = F.binary_cross_entropy_with_logits(scores, heard_now, reduction="none")
        loss = loss + HEARD * odds.sum(1).mean()
        loss = loss + PICTURED * seen.loss(vectors[:few], rows[:few])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    head.eval()
    with torch.inference_mode():
        head.centre.copy_(head.crowded(found.features[found.first[named]]).mean(0))
    return head


class Seen:
    """The pictures of the same things: draws a sound to its own, away from all others."""

    def __init__(self, sounds: Sequence[data.Sound], pictures: Mapping[str, Tensor]) -> None:
        self.row = {name: i for i, name in enumerate(pictures)}
        self.vectors = torch.stack(list(pictures.values())) if pictures else torch.zeros(0, 1)
        self.own = np.array([self.row.get(sound.name, -1) for sound in sounds])

    def loss(self, vectors: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """InfoNCE of the sounds ``rows``, whose vectors are (n, 512), in the batch."""
        own = self.own[rows]
        if not (own >= 0).any():
            return torch.zeros(())
        logits = SCALE * vectors[own >= 0] @ self.vectors.T
        target = torch.from_numpy(own[own >= 0])
        return F.cross_entropy(logits, target, label_smoothing=SMOOTHING)


def choice(sound: data.Sound, rng: np.random.Generator) -> str:
    """One of a sound's names: usually the first English one, else another, or a Chinese one."""
    draw = rng.random()
    names = sound.zh if sound.zh and draw < 0.3 else sound.en[:1] if draw < 0.7 else sound.en
    return names[int(rng.integers(len(names)))]


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy against shares that sum to one, smoothed."""
    smooth = (1 - SMOOTHING) * target + SMOOTHING / target.shape[1]
    return -(smooth * F.log_softmax(logits, dim=1)).sum(1).mean()
