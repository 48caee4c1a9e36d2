"""Values that several threads ask for, and that are made once.

``functools.cached_property`` makes one value for each thread that comes first, from Python 3.12
on; before that, one object's value keeps those of all others waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar, overload

from mmsearch import forks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class once(Generic[V]):  # noqa: N801 - it is used as ``property`` is
    """A property whose value is made when it is first asked for, and then kept.

    Safe to use from several threads and in a forked child. A kept value costs what an
    attribute does.
    """

    def __init__(self, make: Callable[[Any], V]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, thing: None, owner: type) -> once[V]: ...
    @overload
    def __get__(self, thing: object, owner: type) -> V: ...
    def __get__(self, thing: object | None, owner: type) -> once[V] | V:
        if thing is None:
            return self
        values = thing.__dict__  # which is asked before this, from the second time on
        # a child must not wait for a thread of its parent, so it has a lock of its own
        lock = f"lock of {self._name} {forks.depth()}"
        with values.setdefault(lock, Lock()):
            if self._name not in values:
                values[self._name] = self._make(thing)
        values.pop(lock, None)
        found: V = values[self._name]
        return found


class Memo(Generic[K, V]):
    """Values by key, each made when it is first asked for. Safe to use from several threads and
    in a forked child: what is made for one key keeps no other waiting."""

    def __init__(self) -> None:
        self._made: dict[K, V] = {}
        self._making: dict[K, Lock] = {}
        forks.renewed(self, Memo._renew)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of that key; ``make`` is called if there is none. Raises as it does."""
        if key not in self._made:
            with self._making.setdefault(key, Lock()):
                if key not in self._made:
                    self._made[key] = make()
            self._making.pop(key, None)
        return self._made[key]

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        self._making = {}
