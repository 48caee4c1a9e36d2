"""Vectors to search, what NumPy finds among them, and bytes that stand for a mapped file."""

from __future__ import annotations

import numpy as np

N, D = 6000, 64


def corpus(n: int = N) -> np.ndarray:
    """Unit vectors in clusters, as embeddings are."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((60, D))
    xb = centres[rng.integers(60, size=n)] + 0.6 * rng.standard_normal((n, D))
    return (xb / np.linalg.norm(xb, axis=1, keepdims=True)).astype(np.float16)


def questions(n: int = 40) -> np.ndarray:
    """Queries that lie away from the corpus, as those of another modality do."""
    rng = np.random.default_rng(2)
    xq = corpus()[rng.integers(N, size=n)].astype(np.float32)
    xq = xq + 0.15 * rng.standard_normal(xq.shape).astype(np.float32) + 0.1
    return xq / np.linalg.norm(xq, axis=1, keepdims=True)


def exact(xb: np.ndarray, xq: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """The numbers of the k nearest rows to each query, int64 (nq, k), by products in float64."""
    scores = xq.astype(np.float64) @ xb.astype(np.float64).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


class File:
    """Bytes that stand for a mapped file, and what of them was asked to be checked."""

    def __init__(self, data: np.ndarray, whole: bool = True) -> None:
        self.data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self.whole = whole
        self.checked = np.zeros(len(self.data), bool)
        self.walked = 0

    def check(self, starts: np.ndarray, stops: np.ndarray) -> None:
        for start, stop in zip(starts, stops, strict=True):
            self.checked[start:stop] = True

    def take(self, starts: np.ndarray, width: int) -> np.ndarray:
        self.check(starts, starts + width)
        return self.data[starts[:, None] + np.arange(width)]

    def check_more(self, size: int) -> None:
        self.checked[self.walked : self.walked + size] = True
        self.walked += size

    def check_all(self) -> None:
        self.checked[:] = True
        self.whole = True
