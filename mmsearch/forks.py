"""Keeps a process that searches able to fork, and its children able to search.

A fork copies the memory of a process, and of its threads only the one that forked. So in the child

- a lock that another thread held is never released, and what it was changing stays half changed:
  objects make new locks (``renewed``), and a fork waits for native work to end (``native``),
  because OpenBLAS and FAISS have locks that nobody outside can renew;
- the threads of pools, of DuckDB and of ONNX Runtime are gone: objects make new ones, and leave the
  old where they are (``abandon``), because their destructors would wait for those threads;
- OpenMP, which FAISS and PyTorch compute with, waits for the threads that it had started for the
  thread that forked: native work of that thread runs on another one (``native``).

A process that never forks pays some 200 ns for each piece of native work, and has no more threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")

# So long a fork waits for native work: longer than a search takes, and not as long as training.
_PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.0002

_renewed: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()
_depth = 0  # forks between the first process and this one
_computing: dict[int, None] = {}  # the threads that do native work now, by their idents
_forking = threading.Lock()  # held while a thread forks
_forking_thread: int | None = None  # in a child: the thread that forked, by its ident there
_other_thread: ThreadPoolExecutor | None = None  # where that one's native work is done


def renewed(thing: T, renew: Callable[[T], None]) -> None:
    """Has ``renew(thing)`` called in each child that is forked while the thing is in use.

    It runs before anything else does there, must not fail, makes new locks and drops what belongs
    to threads that are gone. A lock that is held at that moment tells that another thread was in
    the middle of a change.
    """
    _renewed[thing] = renew


class Lock:
    """A lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._free()
        renewed(self, Lock._free)

    def _free(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        if self._lock.locked():  # not if the thread that forked held it
            self._lock.release()


def depth() -> int:
    """How many forks lie between the first process and this one: another number, another process
    than the one that an object was made in."""
    return _depth


def abandon(*things: object) -> None:
    """Keeps things for ever without using them: their destructors never run."""
    import ctypes

    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def native(work: Callable[P, T]) -> Callable[P, T]:
    """Marks a function that computes with OpenMP or BLAS, or takes a lock of a library's.

    A thread that forks waits until others are done with such work, at most ``_PATIENCE_S``.
    In the child, another thread does the native work of the thread that forked.
    """

    @wraps(work)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        me = get_ident()
        if me in _computing:
            return work(*args, **kwargs)
        if me == _forking_thread:
            return _in_other_thread().submit(call, *args, **kwargs).result()
        try:
            _computing[me] = None
            while _forking.locked():  # a fork that may not have seen this thread goes first
                del _computing[me]
                with _forking:
                    pass
                _computing[me] = None
            return work(*args, **kwargs)
        finally:
            _computing.pop(me, None)

    return call


def _in_other_thread() -> ThreadPoolExecutor:
    global _other_thread
    if _other_thread is None:
        from concurrent.futures import ThreadPoolExecutor

        _other_thread = ThreadPoolExecutor(1, "after-fork")
    return _other_thread


def _before() -> None:
    _forking.acquire()
    until = time.monotonic() + _PATIENCE_S
    me = get_ident()
    while any(one != me for one in list(_computing)) and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)


def _in_parent() -> None:
    _forking.release()


def _in_child() -> None:
    global _depth, _forking, _forking_thread, _other_thread
    if _other_thread is not None:
        abandon(_other_thread)
    _depth, _forking_thread, _other_thread = _depth + 1, get_ident(), None
    _forking = threading.Lock()
    _computing.clear()
    for thing, renew in list(_renewed.items()):
        renew(thing)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
