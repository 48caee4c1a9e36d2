"""What is trained on top of aiSFX: the head for sounds, which also says what it hears."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini.heads import WIDTH, Centred

NAMED = 1.0  # weight of the class-name vector beside the head's own answer, both unit rows
TRAINED_POWER, POWER = 1.5, 2.5  # of the probabilities: those of a small net are cautious
REDUCED = 512  # directions of the features that the nets see
EVENED = 0.5  # power of its deviation that each direction is divided by


class SoundHead(Centred):
    """Features to the space, with what the AudioSet classes that are heard are called.

    Standardised features are turned to their main directions, ``basis`` (f, r). From there a
    linear map and a net with one hidden layer give the head's own answer. A second net,
    ``ear`` and ``hearing``, is trained to give the teacher's probabilities; weighted by
    ``weights`` (521,) they are the shares in which the words of the classes, ``words``
    (521, 512), are added to the answer: so sounds unlike the few captioned ones still lie
    near their names. While training, what the nets see gets noise and dropout.
    Source: ConSE, Norouzi et al. 2014, arXiv:1312.5650.
    """

    def __init__(
        self,
        clean: Tensor,
        words: Tensor,
        weights: Tensor,
        hidden: int,
        dropout: float,
        noise: float,
    ) -> None:
        """clean: features (n, f) of the training sounds, whose directions are taken."""
        super().__init__()
        mean, deviation = clean.mean(0), clean.std(0) + 1e-4
        _, spread, basis = torch.pca_lowrank((clean - mean) / deviation, min(REDUCED, *clean.shape))
        basis = basis / (spread / len(clean) ** 0.5) ** EVENED
        self.mean: Tensor
        self.deviation: Tensor
        self.basis: Tensor
        self.words: Tensor
        self.weights: Tensor
        for name, value in (
            ("mean", mean), ("deviation", deviation), ("basis", basis), ("words", words),
            ("weights", weights),
        ):  # fmt: skip
            self.register_buffer(name, value.clone())
        width = basis.shape[1]
        self.straight = nn.Linear(width, WIDTH)
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, WIDTH)
        self.ear, self.hearing = nn.Linear(width, hidden), nn.Linear(hidden, len(words))
        self.dropout, self.noise = dropout, noise

    def reduced(self, x: Tensor) -> Tensor:
        """Raw features (n, f) to what the nets see, (n, r)."""
        return ((x - self.mean) / self.deviation) @ self.basis

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced features (n, r) to unit rows (n, 512), still crowded, and the log odds of the
        classes (n, 521)."""
        if self.training:
            x = F.dropout(x + self.noise * torch.randn_like(x), self.dropout)
        hidden = F.dropout(F.gelu(self.inner(x)), self.dropout, self.training)
        own = F.normalize(self.straight(x) + self.outer(hidden), dim=1)
        hidden = F.dropout(F.gelu(self.ear(x)), self.dropout, self.training)
        scores = self.hearing(hidden)
        odds = scores.detach().sigmoid() ** (TRAINED_POWER if self.training else POWER)
        named = shares(odds, self.weights) @ self.words
        return F.normalize(own + NAMED * F.normalize(named, dim=1), dim=1), scores

    def crowded(self, x: Tensor) -> Tensor:
        """Raw features (n, f) to unit rows (n, 512), before the mean is taken out."""
        return self.answers(self.reduced(x))[0]

    def forward(self, x: Tensor) -> Tensor:
        """Raw features (n, f) to unit rows (n, 512)."""
        return self.placed(self.crowded(x))


def shares(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Class probabilities (n, 521) to shares that sum to one."""
    weighted = probabilities * weights
    return weighted / weighted.sum(1, keepdim=True).clamp_min(1e-9)
