"""C-MCR (Wang et al. 2023, arXiv:2305.14381): a bridge learned from unpaired sounds and pictures.

The target space stays as it is, so there is one projector and not two; else as published: each
caption is joined by the mean of unpaired sounds, and of pictures, near it, noise closes what the
captions leave between them, and the loss draws a caption and its sounds together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.spaces.maps import Network
from mmsearch.spaces.on_torch import imported

STEPS, BATCH, HIDDEN = 1_000, 512, 1024
_NEAR = 0.01  # temperature of what is near a caption
_NOISE = 0.004  # variance
_SCALE = 20.0  # inverse temperature of the contrast
_TOGETHER = 0.5  # weight of a caption's distance to its sounds
_RATE, _DECAY = 1e-3, 0.01
Rows = NDArray[np.float32]


def c_mcr(x: Rows, y: Rows, heard: Rows, seen: Rows, steps: int = STEPS, seed: int = 0) -> Network:
    """The map from x's space to y's.

    x: (n, d_from), y: (n, d_to): captions in both. heard: (m, d_from) unpaired of what is carried
    over; seen: (k, d_to) unpaired of what it is to find. All float32 rows of unit length.
    """
    torch = imported("torch")
    F = torch.nn.functional
    devices = [0] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):  # the caller's random numbers stay as they were
        torch.manual_seed(seed)
        X, Y, A, V = (torch.from_numpy(np.ascontiguousarray(one)) for one in (x, y, heard, seen))
        heard_near = F.normalize(F.softmax(X @ A.T / _NEAR, dim=1) @ A, dim=1)
        seen_near = F.normalize(F.softmax(Y @ V.T / _NEAR, dim=1) @ V, dim=1)
        first = torch.nn.Linear(x.shape[1], HIDDEN)
        norm = torch.nn.BatchNorm1d(HIDDEN)
        second = torch.nn.Linear(HIDDEN, y.shape[1])
        net = torch.nn.Sequential(first, norm, torch.nn.ReLU(), second).train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)

        def noisy(rows: Any) -> Any:
            return F.normalize(rows + _NOISE**0.5 * torch.randn_like(rows), dim=1)

        def contrast(a: Any, b: Any) -> Any:
            logits, own = _SCALE * a @ b.T, torch.arange(len(a))
            return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

        for _ in range(steps):
            pick = torch.randperm(len(X))[:BATCH]
            said = F.normalize(net(noisy(X[pick])), dim=1)
            sounded = F.normalize(net(noisy(heard_near[pick])), dim=1)
            loss = contrast(said, noisy(Y[pick])) + contrast(sounded, noisy(seen_near[pick]))
            loss = loss + _TOGETHER * ((said - sounded) ** 2).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    # what batch normalisation does by the end, in the weights before it
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    with torch.no_grad():
        arrays = (
            first.weight * scale[:, None],
            (first.bias - norm.running_mean) * scale + norm.bias,
            second.weight,
            second.bias,
        )
    return Network(*(one.detach().numpy().astype(np.float32) for one in arrays))
