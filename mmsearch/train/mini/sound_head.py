"""What is trained on top of aiSFX: the head for sounds, which also says what it hears."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini.heads import Head

NAMED = 0.5  # weight of the class-name vector beside the head's own answer, both unit rows


class SoundHead(Head):
    """The head for sounds, with what the AudioSet classes it hears are called.

    ``hearing`` is trained to give the teacher's probabilities. They are weighted by
    ``weights`` (521,), and the words of the classes, ``words`` (521, 512), in these shares are
    added to the head's own answer: so sounds unlike the few captioned ones still lie
    near their names.
    Source: ConSE, Norouzi et al. 2014, arXiv:1312.5650.
    """

    def __init__(
        self,
        mean: Tensor,
        deviation: Tensor,
        words: Tensor,
        weights: Tensor,
        hidden: int,
        dropout: float,
        noise: float,
    ) -> None:
        super().__init__(mean, deviation, hidden, dropout, noise)
        self.words: Tensor
        self.weights: Tensor
        self.register_buffer("words", words.clone())
        self.register_buffer("weights", weights.clone())
        self.ear = nn.Linear(len(mean), hidden)
        self.hearing = nn.Linear(hidden, len(words))

    def scores(self, x: Tensor) -> Tensor:
        """Standardised features (n, f) to the log odds of the classes (n, 521)."""
        hidden = F.dropout(F.gelu(self.ear(x)), self.dropout, self.training)
        return self.hearing(hidden)

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features (n, f) to unit rows (n, 512), still crowded, and class scores (n, 521)."""
        x = (x - self.mean) / self.deviation
        if self.training:
            x = F.dropout(x + self.noise * torch.randn_like(x), self.dropout)
        hidden = F.dropout(F.gelu(self.inner(x)), self.dropout, self.training)
        own = F.normalize(self.straight(x) + self.outer(hidden), dim=1)
        scores = self.scores(x)
        named = F.normalize(shares(scores.sigmoid(), self.weights) @ self.words, dim=1)
        return F.normalize(own + NAMED * named, dim=1), scores

    def crowded(self, x: Tensor) -> Tensor:
        """Raw features (n, f) to unit rows (n, 512), before the mean is taken out."""
        return self.answers(x)[0]


def shares(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Class probabilities (n, 521) to shares that sum to one."""
    weighted = probabilities * weights
    return weighted / weighted.sum(1, keepdim=True).clamp_min(1e-9)
