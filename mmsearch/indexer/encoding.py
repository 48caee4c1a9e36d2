"""Turning decoded parts into vectors, in batches, beside the decoders.

The encoder has threads of its own: while it works, this process takes in what the decoders
give, and writes. A batch or two wait for it, no more, so that memory stays bounded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.indexer.refusal import Refused, broken, encode_each
from mmsearch.media.pool import Task
from mmsearch.spaces import Encoder
from mmsearch.store import Segment
from mmsearch.types import Modality, Part

_WAITING = 1  # whole batches that wait for the encoder

Pair = tuple["OpenItem", Part]
# a vector, how many tokens were cut, and the share of letters that the tokenizer does not know
Encoded = tuple[NDArray[np.float32], int, float] | Refused
_UNREADABLE = 0.5  # share of unknown letters above which a passage counts as unreadable
_NAMED_FILES = 20


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
    refused: Refused | None = None  # why one of its parts has no vector
    old_rows: list[tuple[Segment, int, int]] | None = None  # of ``old``: segment, row, part number

    @property
    def complete(self) -> bool:
        """Whether every part that was decoded has its vector."""
        return self.expected is not None and len(self.encoded) >= self.expected - self.committed


class Batches:
    """Collects parts by modality and encodes them when a batch is full.

    A context manager: leaving it waits for the batch that is being encoded, and drops what
    waits. Its methods raise ProcessingFailed if the encoder is broken. ``busy_s``: how long the
    encoder has worked. ``waited_s``: how long a caller stood before a batch that was not done.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._waiting: dict[Modality, list[Pair]] = {m: [] for m in Modality}
        self._flying: deque[tuple[list[Pair], Future[list[Encoded]]]] = deque()
        self._threads: ThreadPoolExecutor | None = None  # from the first batch on
        self._busy = _Busy()
        self.cut = 0  # passages that were longer than the text tower takes
        self.cut_in: dict[str, int] = {}  # the first files that have such: how many each
        self.unknown = 0  # passages of which the tokenizer knows less than half
        self.waited_s = 0.0

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    @property
    def busy_s(self) -> float:
        """Seconds in which at least one batch was being encoded."""
        return self._busy.seconds

    def add(self, item: OpenItem, part: Part) -> list[OpenItem]:
        """Takes a part; returns the items that got vectors meanwhile."""
        waiting = self._waiting[part.modality]
        waiting.append((item, part))
        if len(waiting) < self._encoder.batch_sizes[part.modality]:
            return []
        self._start(part.modality)
        return self._landed(self._encoder.side_by_side + _WAITING)

    def flush(self) -> list[OpenItem]:
        """Encodes whatever waits; returns the items that got vectors."""
        for modality in Modality:
            self._start(modality)
        return self._landed(0)

    def _start(self, modality: Modality) -> None:
        batch, self._waiting[modality] = self._waiting[modality], []
        batch = [(item, part) for item, part in batch if item.refused is None]
        if batch:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._encoder.side_by_side, "batch")
            data = [part.data for _, part in batch]
            self._flying.append((batch, self._threads.submit(self._encode, modality, data)))

    def _landed(self, most: int) -> list[OpenItem]:
        """Hands out what is done, in the order of its start, until so many batches are left."""
        touched: list[OpenItem] = []
        while self._flying and (len(self._flying) > most or self._flying[0][1].done()):
            batch, future = self._flying[0]
            started = time.perf_counter()
            found = future.result()
            self.waited_s += time.perf_counter() - started
            self._flying.popleft()
            for (item, part), one in zip(batch, found, strict=True):
                self._hand_out(item, part, one)
            touched += [item for item, _ in batch]
        return touched

    def _hand_out(self, item: OpenItem, part: Part, found: Encoded) -> None:
        if isinstance(found, Refused):
            item.refused = item.refused or found
            return
        vector, lost, unknown = found
        if lost:
            part.meta["cut_tokens"] = lost
            self.cut += 1
            if item.path in self.cut_in or len(self.cut_in) < _NAMED_FILES:
                self.cut_in[item.path] = self.cut_in.get(item.path, 0) + 1
        if unknown > _UNREADABLE:
            part.meta["unknown_share"] = round(unknown, 2)
            self.unknown += 1
        data = part.data if part.modality is Modality.TEXT else ""
        kept = Part(part.modality, part.part_no, data, part.start_s, part.end_s, part.meta)
        item.encoded.append((kept, vector.astype(np.float16)))

    # -- in the encoder's threads ---------------------------------------------

    def _encode(self, modality: Modality, data: Sequence[Any]) -> list[Encoded]:
        with self._busy:
            found = encode_each(self._encoder, modality, data)
            facts = iter(self._facts(modality, data, found))
            return [one if isinstance(one, Refused) else (one, *next(facts)) for one in found]

    def _facts(
        self, modality: Modality, data: Sequence[Any], found: Sequence[Any]
    ) -> Iterable[tuple[int, float]]:
        """Of each text that has a vector: tokens left out, and the share of unknown letters."""
        if modality is not Modality.TEXT:
            return repeat((0, 0.0))
        both = zip(data, found, strict=True)
        texts = [text for text, one in both if not isinstance(one, Refused)]
        try:
            cut, unknown = self._encoder.truncated(texts), self._encoder.unknown(texts)
        except Exception as e:
            raise broken(self._encoder, modality, e) from e
        return zip(cut, unknown, strict=True)


class _Busy:
    """A clock that runs while at least one thread is inside."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside, self._since, self._lock = 0, 0.0, Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = time.perf_counter()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self.seconds += time.perf_counter() - self._since
