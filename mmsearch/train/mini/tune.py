"""Trains the end of the picture tower together with its head and the top of the text tower.

The start is what ``pictures`` learned over the frozen tower: a head at random would pull
the tower's features apart first (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini import use
from mmsearch.train.mini.features import Pictures, ended
from mmsearch.train.mini.heads import TEMPERATURE, PictureHead, class_shares, contrast
from mmsearch.train.mini.pictures import (
    ACROSS,
    APART,
    BETWEEN,
    DECAY,
    REPORT,
    SCALE_RATE,
    Captions,
    Namer,
    RunningMean,
    captions_of,
    captions_of_drawn,
    endless,
    rate_at,
    settle,
)
from mmsearch.train.mini.towers import EfficientNetLite

SEED = 20261124
EPOCHS = 20
BATCH = 512
DRAWN = 96
DRAWS = 2  # captions of each picture and language a step: texts are cheap beside pictures
PASSAGES = 256
TOWER_RATE, HEAD_RATE = 2e-4, 4e-4
FIRST_SCALE = 25.0
KEPT = 0.3  # weight of the frozen tower's ImageNet classes, which the end must not forget
CHUNK = 64  # pictures at a time: larger activations do not fit the cache of a CPU


def tune(
    head: PictureHead,
    tower: use.SentenceEncoder,
    lite: EfficientNetLite,
    photos: Pictures,
    drawn: Pictures | None,
    shares: Sequence[Tensor | None],
    coco: Tensor,
    names: Tensor,
    say: Callable[[str], None],
) -> None:
    """Changes ``head``, ``tower`` and the end of ``lite``.

    photos, drawn: with what crosses into the end for views. shares: float32 (n, 1000), the
    class shares of photos and drawings by the frozen tower. coco, names: see ``pictures``.
    """
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    photo_shares, drawn_shares = shares
    assert photo_shares is not None
    ends = lite.end_weights()
    for weight in ends:
        weight.requires_grad_()
    published, added = tower.trained()
    log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
    optimiser = torch.optim.AdamW(
        [
            {"params": [*head.parameters(), *added], "lr": HEAD_RATE, "weight_decay": DECAY},
            {"params": published, "lr": HEAD_RATE, "weight_decay": 0.0},
            {"params": ends, "lr": TOWER_RATE, "weight_decay": DECAY},
            {"params": [log_scale], "lr": SCALE_RATE, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    steps = EPOCHS * len(photos.en) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, steps))
    mean = RunningMean([*head.parameters(), *published, *added, *ends])
    batches = endless(len(photos.en), BATCH, rng)
    for part in (head, tower, lite):
        part.train()
    for step in range(steps):
        rows = next(batches)
        view = rng.integers(0, len(photos.views), len(rows))
        x, known = photos.views[view, rows], photo_shares[rows]
        said = [captions_of(photos, rows, names, known, rng) for _ in range(DRAWS)]
        if drawn is not None and drawn_shares is not None:
            more = rng.choice(len(drawn.en), DRAWN, replace=False)
            view = rng.integers(0, len(drawn.views), DRAWN)
            x = torch.cat([x, drawn.views[view, more]])
            known = torch.cat([known, drawn_shares[more]])
            said = [one.beside(captions_of_drawn(drawn, more, rng)) for one in said]
        pair = rng.choice(len(coco), PASSAGES, replace=False)
        first, further = rng.integers(0, 5, PASSAGES), rng.integers(1, 5, PASSAGES)
        passages = torch.cat([coco[pair, first], coco[pair, (first + further) % 5]])
        loss, kept = _losses(head, tower, lite, x, known, said, passages, names, log_scale.exp())
        optimiser.zero_grad()
        (loss + KEPT * kept).backward()
        optimiser.step()
        schedule.step()
        mean.follow()
        if step % REPORT == 0:
            say(f"step {step}/{steps}  loss {float(loss.detach()):.3f}")
    mean.take()
    for part in (head, tower, lite):
        part.eval()
    lite.requires_grad_(False)
    first_view = ended(lite, photos.views[:1])
    settled = replace(photos, views=first_view)
    settle(head, tower, settled, names, Namer(lite, head.classes))


def _losses(
    head: PictureHead,
    tower: use.SentenceEncoder,
    lite: EfficientNetLite,
    x: Tensor,
    known: Tensor,
    said: list[Captions],
    passages: Tensor,
    names: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor]:
    """The contrast of a batch, and how far the classes are from those of the frozen tower."""
    read = torch.cat([*(text for one in said for text in (one.en, one.zh)), passages, names])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crowded = use.crowded(tower, read)
        words = crowded[-len(names) :]
        parts = [lite.end(rows) for rows in x.split(CHUNK)]
        found, scores = (torch.cat([p[i].float() for p in parts]) for i in (0, 1))
        shares = class_shares(scores)
        features = torch.cat([found, shares @ head.classes], dim=1)
        seen = head.placed(head.named(features, shares, words - words.mean(0)))
    texts = tower.placed(crowded[: -len(names)].float())
    half = len(passages) // 2
    sizes = [len(text) for one in said for text in (one.en, one.zh)]
    *captions, one, other = texts.split([*sizes, half, half])
    loss = BETWEEN * contrast(one, other, scale)
    for draw, english, chinese in zip(said, captions[::2], captions[1::2], strict=True):
        photos = int((draw.en_kinds > APART).sum())  # drawings come last
        pairs = contrast(seen.float(), english, scale, draw.en_kinds)
        pairs = pairs + contrast(seen.float(), chinese, scale, draw.zh_kinds)
        pairs = pairs + ACROSS * contrast(english[:photos], chinese[:photos], scale)
        loss = loss + pairs / len(said)
    kept = -(known * F.log_softmax(scores / TEMPERATURE, dim=1)).sum(1).mean()
    return loss, kept
