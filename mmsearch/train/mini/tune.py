"""Trains the end of the picture tower together with its head and the top of the text tower.

The start is what ``pictures`` learned over the frozen tower: a head at random would pull
the tower's features apart first (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini import use
from mmsearch.train.mini.features import Pictures, ended
from mmsearch.train.mini.heads import TEMPERATURE, PictureHead, class_shares, contrast
from mmsearch.train.mini.pictures import (
    ACROSS,
    BETWEEN,
    DECAY,
    SCALE_RATE,
    Captions,
    Namer,
    RunningMean,
    captions_of,
    endless,
    one_each,
    rate_at,
    settle,
)
from mmsearch.train.mini.towers import EfficientNetLite

SEED = 20261124
EPOCHS = 14
BATCH = 512
STAMPS = 48
PASSAGES = 256
TOWER_RATE, HEAD_RATE = 2e-4, 4e-4
FIRST_SCALE = 25.0
KEPT = 0.3  # weight of the frozen tower's ImageNet classes, which the end must not forget
CHUNK = 64  # pictures at a time: larger activations do not fit the cache of a CPU
REPORT = 20  # steps


def tune(
    head: PictureHead,
    tower: use.SentenceEncoder,
    lite: EfficientNetLite,
    photos: Pictures,
    stamps: Pictures | None,
    coco: Tensor,
    names: Tensor,
    say: Callable[[str], None],
) -> None:
    """Changes ``head``, ``tower`` and the end of ``lite``.

    photos, stamps: with what crosses into the end for views. coco, names: see ``pictures``.
    """
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    shares = _shares(lite, head, photos)
    stamp_shares = _shares(lite, head, stamps) if stamps else None
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
    head.train()
    tower.train()
    for step in range(steps):
        rows = next(batches)
        view = rng.integers(0, len(photos.views), len(rows))
        x, known = photos.views[view, rows], shares[view, rows].float()
        said = captions_of(photos, rows, names, known, rng)
        if stamps is not None and stamp_shares is not None:
            more = rng.choice(len(stamps.en), STAMPS, replace=False)
            view = rng.integers(0, len(stamps.views), STAMPS)
            x = torch.cat([x, stamps.views[view, more]])
            known = torch.cat([known, stamp_shares[view, more].float()])
            said = Captions(
                torch.cat([said.en, one_each(stamps.en, more, rng)]),
                torch.cat([said.zh, one_each(stamps.zh, more, rng)]),
                np.concatenate([said.kinds, -2000 - more]),
            )
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
    head.eval()
    tower.eval()
    lite.requires_grad_(False)
    first_view = ended(lite, photos.views[:1])
    settled = Pictures(first_view, photos.en, photos.zh, photos.short, photos.word)
    settle(head, tower, settled, names, Namer(lite, head.classes))


def _losses(
    head: PictureHead,
    tower: use.SentenceEncoder,
    lite: EfficientNetLite,
    x: Tensor,
    known: Tensor,
    said: Captions,
    passages: Tensor,
    names: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor]:
    """The contrast of a batch, and how far the classes are from those of the frozen tower."""
    sums = torch.cat([said.en, said.zh, passages, names.to(passages.dtype)]).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crowded = use.crowded(tower, sums)
        words = crowded[-len(names) :]
        parts = [lite.end(rows) for rows in x.split(CHUNK)]
        found, scores = (torch.cat([p[i].float() for p in parts]) for i in (0, 1))
        shares = class_shares(scores)
        features = torch.cat([found, shares @ head.classes], dim=1)
        seen = head.placed(head.named(features, shares, words - words.mean(0)))
    texts = tower.placed(crowded[: -len(names)].float())
    half = len(passages) // 2
    english, chinese, one, other = texts.split([len(said.en), len(said.zh), half, half])
    photos = int((said.kinds > -2000).sum())  # stamps come last, numbered from -2000 down
    loss = contrast(seen.float(), english, scale, said.kinds)
    loss = loss + contrast(seen.float(), chinese, scale)
    loss = loss + ACROSS * contrast(english[:photos], chinese[:photos], scale)
    loss = loss + BETWEEN * contrast(one, other, scale)
    kept = -(known * F.log_softmax(scores / TEMPERATURE, dim=1)).sum(1).mean()
    return loss, kept


@torch.no_grad()
def _shares(lite: EfficientNetLite, head: PictureHead, pictures: Pictures) -> Tensor:
    """Class shares of every view, from the tower as it is: float16 (views, n, 1000)."""
    namer = Namer(lite, head.classes)
    return torch.stack([namer.shares(view).half() for view in ended(lite, pictures.views)])
