"""What is trained on top of the frozen towers, and the loss that trains it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

WIDTH = 512
TEMPERATURE, BEST = 2.0, 50  # of the class-name vector: how soft, and how many classes
NAMED = 0.5  # its weight beside the head's own answer, which is a unit row
CENTRE_RATE = 0.1  # how fast the running mean of a modality follows, a step
SMOOTHING = 0.1  # label smoothing: a caption fits other pictures of the batch a little, too


class Centred(nn.Module):
    """A tower whose unit vectors are moved by their common mean, ``centre`` (512,).

    The vectors of each modality crowd into a cone of their own (Liang et al.
    2022, arXiv:2203.02053), so that unrelated texts had a cosine of 0.3 and an
    unrelated text and picture one of 0.05: a search for anything at all put
    texts first. Without the mean, unrelated pairs of every kind lie near 0.
    Taken out while training, it costs no recall.
    """

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(WIDTH))

    def placed(self, crowded: Tensor) -> Tensor:
        """Unit rows (n, 512), moved and of unit length again; follows the mean in training."""
        if self.training:
            self.centre.lerp_(crowded.detach().float().mean(0), CENTRE_RATE)
        return F.normalize(crowded - self.centre, dim=1)


class Head(Centred):
    """Standardised features to the space: a linear map plus a net with one hidden layer.

    While training, features get noise of ``noise`` deviations and dropout.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, hidden: int, dropout: float, noise: float):
        super().__init__()
        width = len(mean)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", mean.clone())
        self.register_buffer("deviation", deviation.clone())
        self.straight = nn.Linear(width, WIDTH)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, WIDTH)
        self.dropout, self.noise = dropout, noise

    def crowded(self, x: Tensor) -> Tensor:
        """Raw features (n, f) to unit rows (n, 512), before the mean is taken out."""
        x = (x - self.mean) / self.deviation
        if self.training:
            x = F.dropout(x + self.noise * torch.randn_like(x), self.dropout)
        hidden = F.dropout(F.gelu(self.inner(x)), self.dropout, self.training)
        return F.normalize(self.straight(x) + self.outer(hidden), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Raw features (n, f) to unit rows (n, 512)."""
        return self.placed(self.crowded(x))


class PictureHead(Head):
    """The head for pictures, with what their ImageNet classes are called.

    The last 512 features are the class-name vector in the words of the published
    text tower, ``classes`` (1000, 512). In the words of the trained tower,
    ``words`` (1000, 512), it is also added to the head's own answer: so pictures
    unlike the few training photos still lie near their names.
    Source: ConSE, Norouzi et al. 2014, arXiv:1312.5650.
    """

    def __init__(
        self,
        mean: Tensor,
        deviation: Tensor,
        classes: Tensor,
        hidden: int,
        dropout: float,
        noise: float,
    ) -> None:
        super().__init__(mean, deviation, hidden, dropout, noise)
        self.classes: Tensor
        self.words: Tensor
        self.register_buffer("classes", classes.clone())
        self.register_buffer("words", classes.clone())

    def named(self, x: Tensor, shares: Tensor, words: Tensor) -> Tensor:
        """``crowded`` with the class names' words added: unit rows (n, 512)."""
        return F.normalize(self.crowded(x) + NAMED * shares @ words, dim=1)

    def seen(self, x: Tensor, shares: Tensor) -> Tensor:
        """Raw features (n, f) and class shares (n, 1000) to unit rows (n, 512)."""
        return self.placed(self.named(x, shares, self.words))


def class_shares(scores: Tensor) -> Tensor:
    """ImageNet scores (n, 1000) to shares of the best classes, zero elsewhere, in all one."""
    values, places = (scores / TEMPERATURE).topk(BEST, 1)
    return torch.zeros_like(scores).scatter(1, places, values.softmax(1))


def contrast(a: Tensor, b: Tensor, scale: Tensor, kinds: NDArray[np.int64] | None = None) -> Tensor:
    """Symmetric InfoNCE between unit rows that belong together pairwise.

    scale: the inverse temperature, learned. kinds: int (n,), rows of the same
    kind belong together as well.
    Source: van den Oord et al. 2018, arXiv:1807.03748; Radford et al. 2021.
    """
    logits = scale * a @ b.T
    target = torch.eye(len(a))
    if kinds is not None:
        target = torch.from_numpy(kinds[:, None] == kinds).float()
        target = target / target.sum(1, keepdim=True)
    one_way = F.cross_entropy(logits, target, label_smoothing=SMOOTHING)
    return (one_way + F.cross_entropy(logits.T, target, label_smoothing=SMOOTHING)) / 2


def recall(
    queries: Tensor, base: Tensor, own: Tensor, ks: tuple[int, ...] = (1, 5, 10)
) -> list[float]:
    """R@k in percent: how often a query's own row of the base is among the k nearest."""
    scores = queries @ base.T
    better = (scores > scores.gather(1, own[:, None])).sum(1)
    return [100.0 * float((better < k).float().mean()) for k in ks]
