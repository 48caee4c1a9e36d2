"""The masks of what was asked last, so that the same filter again costs nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from mmsearch import forks
from mmsearch.types import Mask

Masks = Sequence[Mask | None]  # one for each segment, None where all rows are allowed

# An application asks one for each tenant and brand. More cost each refresh: it takes all over
MAX_FILTERS = 256
MAX_BYTES = 256 << 20  # a mask has a byte a part: 25 filters over ten million parts


class Kept(NamedTuple):
    """A segment's mask in an earlier snapshot. narrow: whether rows were deleted since."""

    mask: Mask | None
    narrow: bool


Known = Sequence[Kept | None]  # one for each segment, None where nothing is known


class MaskCache:
    """At most ``MAX_FILTERS`` masks and ``MAX_BYTES``, the least recently used go first.

    Belongs to one snapshot. Safe to use from several threads and in a forked child: what two ask
    at once is made once, and what is made for one key keeps no other waiting.
    """

    def __init__(self, known: Iterable[tuple[Hashable, Known]] = (), limited: bool = True) -> None:
        """known: by key, what an earlier snapshot tells, the most recently used last.
        limited: whether the limits hold."""
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, Masks] = OrderedDict()
        self._known = OrderedDict(known)  # what has not been asked for since
        self._making: dict[Hashable, threading.Lock] = {}
        self._bytes = sum(map(_known_size, self._known.values()))
        self._limited = limited
        self._shrink()
        forks.renewed(self, MaskCache._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        if self._lock.locked():  # another thread was in the middle of a change
            self._made, self._known, self._bytes = OrderedDict(), OrderedDict(), 0
        self._lock, self._making = threading.Lock(), {}

    def get(self, key: Hashable, make: Callable[[Known | None], Masks]) -> Masks:
        """The masks of that key.

        If they are not held, ``make`` is called with what an earlier snapshot tells of them, or
        None. Raises as it does.
        """
        with self._lock:
            if (masks := self._made.get(key)) is not None:
                self._made.move_to_end(key)
                return masks
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if (masks := self._made.get(key)) is not None:
                    return masks
                known = self._known.get(key)
            try:
                masks = make(known)
                with self._lock:
                    self._keep(key, masks)
                return masks
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def known(self) -> list[tuple[Hashable, Known]]:
        """What a later snapshot can be told, the most recently used last."""
        with self._lock:
            made = [(key, [Kept(m, False) for m in masks]) for key, masks in self._made.items()]
            return [*self._known.items(), *made]

    def _keep(self, key: Hashable, masks: Masks) -> None:
        self._bytes -= _known_size(self._known.pop(key, ())) + _size(self._made.get(key, ()))
        self._bytes += _size(masks)
        self._made[key] = masks
        self._shrink()

    def _shrink(self) -> None:
        while self._limited and (
            len(self._known) + len(self._made) > MAX_FILTERS or self._bytes > MAX_BYTES
        ):
            if self._known:
                self._bytes -= _known_size(self._known.popitem(last=False)[1])
            else:
                self._bytes -= _size(self._made.popitem(last=False)[1])


def _size(masks: Iterable[Mask | None]) -> int:
    return sum(mask.nbytes for mask in masks if mask is not None)


def _known_size(known: Known) -> int:
    return _size(one.mask for one in known if one is not None)
