"""What of a call is spent inside the segment indexes, and what inside FAISS itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import faiss

from mmsearch import ann


class Clock:
    """The seconds spent inside some functions since ``read``; a call inside a call counts once."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._inside = False

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted."""

        def timed(*args: Any, **more: Any) -> Any:
            if self._inside:
                return function(*args, **more)
            self._inside = True
            started = time.perf_counter()
            try:
                return function(*args, **more)
            finally:
                self._spent_s += time.perf_counter() - started
                self._inside = False

        return timed

    def read(self) -> float:
        """The seconds since it was read last."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return spent_s


@contextmanager
def clocks() -> Iterator[tuple[Clock, Clock]]:
    """(segment indexes, FAISS): clocks around the classes of ``ann`` that search, and around the
    C++ that FAISS's classes call (the methods whose names end in ``_c`` are its bare ones).

    Whoever opens an index inside is measured; for one thread.
    """
    outer, inner = Clock(), Clock()
    replaced: list[tuple[type, str, Any]] = []

    def put(owner: type, name: str, clock: Clock) -> None:
        replaced.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, clock.around(owner.__dict__[name]))

    for kind in (*ann.KINDS.values(), ann.Together):
        put(kind, "search", outer)
    for owner in {one for one in vars(faiss).values() if isinstance(one, type)}:
        for name in [n for n in vars(owner) if n.endswith("_c") and callable(vars(owner)[n])]:
            put(owner, name, inner)
    try:
        yield outer, inner
    finally:
        for owner, name, original in replaced:
            setattr(owner, name, original)
