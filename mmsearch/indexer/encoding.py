"""Turning decoded parts into vectors, in batches, beside the decoders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import DecodeError
from mmsearch.media.pool import Task
from mmsearch.spaces import Encoder
from mmsearch.types import Modality, Part

# Enough for every core to have work, few enough to hold: 32 windows of 10 s at
# 44.1 kHz would be 56 MB, so sounds go in smaller batches.
BATCH = {Modality.IMAGE: 32, Modality.TEXT: 64, Modality.AUDIO: 8}


@dataclass
class OpenItem:
    """An item whose parts are on their way."""

    task: Task
    id: str
    root: int
    path: str
    old: int | None  # the known item that it replaces
    content_hash: bytes | None = None
    signature: tuple[int, int, int, int] | None = None
    encoded: list[tuple[Part, NDArray[np.float16]]] = field(default_factory=list)
    expected: int | None = None  # parts in all, once the decoder has said so
    committed: int = 0  # parts that are in a segment already
    failed: str | None = None  # why the encoder refused one of its parts

    @property
    def complete(self) -> bool:
        """Whether every part that was decoded has its vector."""
        return self.expected is not None and len(self.encoded) >= self.expected - self.committed


class Batches:
    """Collects parts by modality and encodes them when a batch is full."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._waiting: dict[Modality, list[tuple[OpenItem, Part]]] = {m: [] for m in Modality}
        self.cut = 0  # passages that were longer than the text tower takes

    def add(self, item: OpenItem, part: Part) -> list[OpenItem]:
        """Takes a part; returns the items that got vectors, if a batch was full."""
        waiting = self._waiting[part.modality]
        waiting.append((item, part))
        return self._encode(part.modality) if len(waiting) >= BATCH[part.modality] else []

    def flush(self) -> list[OpenItem]:
        """Encodes whatever waits; returns the items that got vectors."""
        return [item for modality in Modality for item in self._encode(modality)]

    def _encode(self, modality: Modality) -> list[OpenItem]:
        batch, self._waiting[modality] = self._waiting[modality], []
        batch = [(item, part) for item, part in batch if item.failed is None]
        if not batch:
            return []
        try:
            self._hand_out(modality, batch)
        except Exception:
            # one bad input must not cost the others their vectors
            for pair in batch:
                self._encode_singly(modality, *pair)
        return [item for item, _ in batch]

    def _encode_singly(self, modality: Modality, item: OpenItem, part: Part) -> None:
        if item.failed is not None:
            return
        try:
            self._hand_out(modality, [(item, part)])
        except Exception as e:  # whatever the encoder's library raises, the run goes on
            item.failed = f"the encoder refused it: {e}"

    def _hand_out(self, modality: Modality, batch: list[tuple[OpenItem, Part]]) -> None:
        data: list[Any] = [part.data for _, part in batch]
        vectors = self._encoder.encode(modality, data)
        if len(vectors) != len(batch) or not np.isfinite(vectors).all():
            raise DecodeError("the encoder gave no usable vector", stage="encode")
        cut = [0] * len(batch)
        if modality is Modality.TEXT:
            cut = self._encoder.truncated(data)
        for (item, part), vector, lost in zip(batch, vectors, cut, strict=True):
            if lost:
                part.meta["cut_tokens"] = lost
                self.cut += 1
            kept = Part(
                part.modality,
                part.part_no,
                part.data if part.modality is Modality.TEXT else "",
                part.start_s,
                part.end_s,
                part.meta,
            )
            item.encoded.append((kept, vector.astype(np.float16)))
