"""What a training run learns from, as numbers: which things there are and what they have."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmsearch.train.inputs import Column, Texts
from mmsearch.types import Modality


@dataclass
class Data:
    """Everything that is trained on. things are numbered over all sources.

    sources: the training things of each file, with its share of a batch; held: those for
    validation. taught: for each slot, the teacher's rows, if there is one: unit rows, or zeros
    for what it cannot read.
    """

    columns: dict[Modality, Column]
    texts: dict[str, Texts]
    sources: list[tuple[NDArray[np.int64], float]]
    held: NDArray[np.int64]
    taught: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def slots(self) -> list[str]:
        """What has vectors: modalities, and ``text:en`` and the like."""
        return [*map(str, self.columns), *(f"text:{one}" for one in self.texts)]

    def tasks(self) -> list[tuple[str, str]]:
        """Which slots are drawn together: every two of them but two languages, where two
        things or more have both."""
        slots = self.slots()
        pairs = [(a, b) for i, a in enumerate(slots) for b in slots[i + 1 :]]
        found = [(a, b) for a, b in pairs if not a.startswith("text:")]
        things = np.concatenate([own for own, _ in self.sources])
        return [(a, b) for a, b in found if (self.has(a, things) & self.has(b, things)).sum() > 1]

    def has(self, slot: str, things: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some things have that slot."""
        if slot.startswith("text:"):
            own = self.texts[slot[5:]].own
            return np.array([len(own[i]) > 0 for i in things], bool)
        return self.columns[Modality(slot)].row[things] >= 0


@dataclass
class Drawn:
    """A slot's part of a batch: which things, what they are the same by, and their inputs."""

    things: NDArray[np.int64]
    kinds: NDArray[np.int64]  # numbers of the texts or files: equal ones are the same
    rows: list[Tensor]
