"""Trains the picture head and the top of the text tower, in both languages at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.train.mini import use
from mmsearch.train.mini.features import Pictures
from mmsearch.train.mini.heads import PictureHead, class_shares, contrast, recall
from mmsearch.train.mini.towers import EfficientNetLite

SEED = 20261122
STEPS = 120
REPORT = 20  # steps
BATCH = 1024  # photos a step; each with one English and one Chinese caption
DRAWN = 128  # drawings a step beside them: things that Flickr's photos never show
APART = -2000  # kinds of drawings are numbered from here down, those of photos are above
PASSAGES = 512  # pairs of COCO captions a step, of the same picture each
HIDDEN, DROPOUT, NOISE = 1024, 0.6, 0.3
RATE, PUBLISHED_RATE, SCALE_RATE = 1e-3, 1e-3, 5e-3
DECAY = 0.05
WARM_UP = 0.1  # of all steps
MEMORY = 0.97  # of the running mean, a step
FIRST_SCALE = 20.0  # inverse temperature to start from
KEYWORDS, CLASS_NAMES = 0.05, 0.05  # how often photos come with these for a caption
SURE = 0.25  # share of a class from which its name is taken for a caption
ACROSS, BETWEEN = 0.3, 0.3  # weights of English-Chinese pairs and of COCO's pairs


class Namer:
    """Adds what the ImageNet classes of a picture are called to the tower's features.

    classes: centred vectors of the class names, float32 (1000, 512).
    """

    def __init__(self, tower: EfficientNetLite, classes: Tensor) -> None:
        self._tower = tower
        self.classes = classes

    @torch.no_grad()
    def shares(self, found: Tensor) -> Tensor:
        """The tower's features (n, f) to the classes' shares, float32 (n, 1000)."""
        return class_shares(self._tower.fc(found[:, : self._tower.widths[0]].float()))

    def features(self, found: Tensor, shares: Tensor) -> Tensor:
        """The towers' features (n, f) with class-name vectors: float32 (n, f + 512)."""
        return torch.cat([found.float(), shares @ self.classes], dim=1)

    def vectors(self, head: PictureHead, found: Tensor) -> Tensor:
        """The towers' features (n, f) to unit rows (n, 512)."""
        shares = self.shares(found)
        return head.seen(self.features(found, shares), shares)


@dataclass(frozen=True)
class Shown:
    """Pictures as training takes them: features and class shares of every view."""

    pictures: Pictures
    shares: Tensor  # float16 (views, n, 1000)

    def draw(
        self, rows: NDArray[np.int64], namer: Namer, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Features and shares of some of them, each in a view drawn at random."""
        view = rng.integers(0, len(self.shares), len(rows))
        shares = self.shares[view, rows].float()
        return namer.features(self.pictures.views[view, rows], shares), shares


def shown(pictures: Pictures, namer: Namer) -> Shown:
    """Pictures with their class shares."""
    return Shown(pictures, torch.stack([namer.shares(view).half() for view in pictures.views]))


def shares_of(head: PictureHead, tower: EfficientNetLite, pictures: Pictures) -> Tensor:
    """Class shares of each picture's first view, by its features: float32 (n, 1000)."""
    return Namer(tower, head.classes).shares(pictures.views[0])


def endless(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Random rows, ``size`` at a time, each row once before any comes again."""
    rows = rng.permutation(count)
    while True:
        if len(rows) < size:
            rows = np.concatenate([rows, rng.permutation(count)])
        yield np.unique(rows[:size])
        rows = rows[size:]


def one_each(
    captions: Tensor, rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.int64]]:
    """A caption of each picture, drawn at random, (n, READ_WIDTH), and which it was."""
    place = rng.integers(0, captions.shape[1], len(rows))
    return captions[rows, place], place


@dataclass
class Captions:
    """English and Chinese captions of some pictures, (n, READ_WIDTH) each; ``en_kinds`` and
    ``zh_kinds``, int64 (n,), are equal for what says the same."""

    en: Tensor
    zh: Tensor
    en_kinds: NDArray[np.int64]
    zh_kinds: NDArray[np.int64]

    def beside(self, other: Captions) -> Captions:
        """Those of these pictures, then those of others."""
        return Captions(
            torch.cat([self.en, other.en]),
            torch.cat([self.zh, other.zh]),
            np.concatenate([self.en_kinds, other.en_kinds]),
            np.concatenate([self.zh_kinds, other.zh_kinds]),
        )


def captions_of_drawn(
    drawn: Pictures, rows: NDArray[np.int64], rng: np.random.Generator
) -> Captions:
    """A caption of each drawing in each language, drawn at random."""
    (en, which_en), (zh, which_zh) = (one_each(c, rows, rng) for c in (drawn.en, drawn.zh))
    kinds = (
        APART - same[rows, which]
        for same, which in ((drawn.same_en, which_en), (drawn.same_zh, which_zh))
    )
    return Captions(en, zh, *kinds)


def captions_of(
    photos: Pictures,
    rows: NDArray[np.int64],
    names: Tensor,
    shares: Tensor,
    rng: np.random.Generator,
) -> Captions:
    """A caption of each photo in each language, drawn at random; now and then, in English,
    keywords or the name of the class instead: people ask for "dog", not for sentences.

    names: (1000, READ_WIDTH), the class names. shares: (n, 1000) of these photos.
    """
    en, zh = (one_each(captions, rows, rng)[0] for captions in (photos.en, photos.zh))
    kinds = np.arange(len(rows))
    draw = rng.random(len(rows))
    for number in range(photos.short.shape[1]):
        some = np.flatnonzero((draw >= number * KEYWORDS) & (draw < (number + 1) * KEYWORDS))
        en[some] = photos.short[rows[some], number]
        if number == 0:
            kinds[some] = len(rows) + photos.word[rows[some]]
    best, place = shares.max(1)
    sure = (draw > 1 - CLASS_NAMES) & (best.numpy() > SURE)
    en[sure] = names[place[sure]]
    kinds[sure] = -1 - place[sure].numpy()
    return Captions(en, zh, kinds, np.arange(len(rows)))


def train(
    photos: Pictures,
    drawn: Pictures | None,
    coco: Tensor,
    names: Tensor,
    classes: Tensor,
    tower: use.SentenceEncoder,
    lite: EfficientNetLite,
    say: Callable[[str], None],
    steps: int = STEPS,
    seed: int = SEED,
) -> PictureHead:
    """Trains on photos (and drawings) with their captions; changes ``tower``, not ``lite``.

    coco: float32 (n, 5, READ_WIDTH), captions that say the same. names: (1000, READ_WIDTH),
    the names of the ImageNet classes; classes: float32 (1000, 512), their
    vectors before training.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    namer = Namer(lite, classes - classes.mean(0))
    seen_photos = shown(photos, namer)
    seen_drawn = shown(drawn, namer) if drawn else None
    first = namer.features(photos.views[0], seen_photos.shares[0].float())
    head = PictureHead(first.mean(0), first.std(0) + 1e-4, namer.classes, HIDDEN, DROPOUT, NOISE)
    log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
    published, added = tower.trained()
    optimiser = torch.optim.AdamW(
        [
            {"params": [*head.parameters(), *added], "lr": RATE, "weight_decay": DECAY},
            {"params": published, "lr": PUBLISHED_RATE, "weight_decay": 0.0},
            {"params": [log_scale], "lr": SCALE_RATE, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, steps))
    mean = RunningMean([*head.parameters(), *published, *added])
    batches = endless(len(photos.en), BATCH, rng)
    head.train()
    tower.train()
    for step in range(steps):
        rows = next(batches)
        x, shares = seen_photos.draw(rows, namer, rng)
        said = captions_of(photos, rows, names, shares, rng)
        if seen_drawn is not None:
            more = rng.choice(len(seen_drawn.pictures.en), DRAWN, replace=False)
            more_x, more_shares = seen_drawn.draw(more, namer, rng)
            x, shares = torch.cat([x, more_x]), torch.cat([shares, more_shares])
            said = said.beside(captions_of_drawn(seen_drawn.pictures, more, rng))
        pair = rng.choice(len(coco), PASSAGES, replace=False)
        first_of, step_to = rng.integers(0, 5, PASSAGES), rng.integers(1, 5, PASSAGES)
        one, other = coco[pair, first_of], coco[pair, (first_of + step_to) % 5]
        read = torch.cat([said.en, said.zh, one, other, names])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            crowded = use.crowded(tower, read)
            *_, words = crowded.split([len(read) - len(names), len(names)])
            seen = head.placed(head.named(x, shares, words - words.mean(0)))
        texts = tower.placed(crowded[: -len(names)].float())
        sizes = [len(said.en), len(said.zh), PASSAGES, PASSAGES]
        english, chinese, one, other = texts.split(sizes)
        scale = log_scale.exp()
        loss = contrast(seen.float(), english, scale, said.en_kinds)
        loss = loss + contrast(seen.float(), chinese, scale, said.zh_kinds)
        loss = loss + ACROSS * contrast(english[: len(rows)], chinese[: len(rows)], scale)
        loss = loss + BETWEEN * contrast(one, other, scale)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        mean.follow()
        if step % REPORT == 0:
            say(f"step {step}/{steps}  loss {float(loss.detach()):.3f}")
    mean.take()
    head.eval()
    tower.eval()
    tower.forget_unseen(pieces_seen(photos, drawn, coco, names))
    settle(head, tower, photos, names, namer)
    return head


def pieces_seen(photos: Pictures, drawn: Pictures | None, coco: Tensor, names: Tensor) -> Tensor:
    """The ids of all pieces in the texts of training: int64, each once."""
    texts = [photos.en, photos.zh, photos.short, coco, names]
    texts += [drawn.en, drawn.zh] if drawn else []
    return torch.cat([use.pieces_of(one).unique() for one in texts]).unique()


class RunningMean:
    """A running mean of the weights, which is what is kept in the end."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self._weights = weights
        self._mean = [one.detach().clone() for one in weights]
        self._steps = 0

    def follow(self) -> None:
        """After every step."""
        keep = min(MEMORY, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for mean, one in zip(self._mean, self._weights, strict=True):
            mean.lerp_(one.detach(), 1 - keep)

    def take(self) -> None:
        """Puts the mean into the weights."""
        for mean, one in zip(self._mean, self._weights, strict=True):
            one.data.copy_(mean)


@torch.inference_mode()
def settle(
    head: PictureHead, tower: use.SentenceEncoder, photos: Pictures, names: Tensor, namer: Namer
) -> None:
    """The class names in the trained tower's words, and every tower's mean, over all photos."""
    words = use.crowded(tower, names)
    head.words.copy_(words - words.mean(0))
    texts = torch.cat([photos.en[:, :2].flatten(0, 1), photos.zh[:, :2].flatten(0, 1)])
    tower.centre.copy_(use.crowded(tower, texts).mean(0))
    shares = namer.shares(photos.views[0])
    seen = head.named(namer.features(photos.views[0], shares), shares, head.words)
    head.centre.copy_(seen.mean(0))


def rate_at(step: int, steps: int) -> float:
    """Share of the full learning rate: a short rise, then half a cosine."""
    return min(1.0, (step + 1) / (WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.inference_mode()
def measure(
    head: PictureHead, tower: use.SentenceEncoder, lite: EfficientNetLite, held: Pictures
) -> dict[str, list[float]]:
    """R@1, R@5 and R@10 in percent, text to picture and back, over held-out photos."""
    seen = Namer(lite, head.classes).vectors(head, held.views[0])
    own = torch.arange(len(seen))
    found = {}
    for language, captions in (("en", held.en), ("zh", held.zh)):
        texts = use.finished(tower, captions.flatten(0, 1))
        each = own.repeat_interleave(captions.shape[1])
        found[f"{language} to picture"] = recall(texts, seen, each)
        scores = seen @ texts.T
        best = scores.unflatten(1, captions.shape[:2]).amax(2).diagonal()  # of its own captions
        better = (scores > best[:, None]).sum(1)
        found[f"picture to {language}"] = [
            100.0 * float((better < k).float().mean()) for k in (1, 5, 10)
        ]
    return found
