"""The masks of what was asked last, so that the same filter again costs nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from mmsearch.types import Mask

Masks = Sequence[Mask | None]  # one for each segment, None where all rows are allowed

MAX_FILTERS = 64
MAX_BYTES = 256 << 20  # a mask has a byte a part: 25 filters over ten million parts


class MaskCache:
    """At most ``MAX_FILTERS`` masks and ``MAX_BYTES``, the least recently used go first.

    Belongs to one snapshot. Safe to use from several threads: what two ask at once is made
    once, and what is made for one key keeps no other waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, Masks] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], Masks]) -> Masks:
        """The masks of that key; ``make`` is called where they are not held. Raises as it does."""
        with self._lock:
            if (masks := self._made.get(key)) is not None:
                self._made.move_to_end(key)
                return masks
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if (masks := self._made.get(key)) is not None:
                    return masks
            try:
                masks = make()
                with self._lock:
                    self._keep(key, masks)
                return masks
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def _keep(self, key: Hashable, masks: Masks) -> None:
        self._made[key] = masks
        self._bytes += _size(masks)
        while len(self._made) > MAX_FILTERS or self._bytes > MAX_BYTES:
            _, dropped = self._made.popitem(last=False)
            self._bytes -= _size(dropped)


def _size(masks: Masks) -> int:
    return sum(mask.nbytes for mask in masks if mask is not None)
