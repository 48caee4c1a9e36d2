"""One writer at a time: a lock that dies with its process."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from contextlib import suppress
from types import TracebackType
from weakref import WeakSet

from mmsearch.errors import IndexLocked
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import replace_file, writing_to

LOCK_NAME = "writer.lock"
HOLDER_NAME = "writer.json"  # who holds it, for the message; the lock itself decides
_HOLDER_BYTES = 4096
TURN_NAME = "writer.turn"  # who holds this is the next to write
SOON_S = 0.2
"""A reader that looks whether somebody writes holds the lock for some microseconds."""
_PAUSES_S = 0.001, 0.02  # between attempts: at first, at most

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, shared: bool = False) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, shared: bool = False) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


_BUSY = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
_held: WeakSet[WriterLock] = WeakSet()


class WriterLock:
    """Held for as long as an index is written to; ``with`` or acquire/release.

    The operating system lets go of the lock when the process ends, however it
    ends. Child processes do not keep it: what they are started with is not inherited, and
    what a fork copies is closed in the child.
    """

    def __init__(self, folder: AnyPath) -> None:
        self._folder = ConfinedPath(folder)
        self._descriptor: int | None = None
        self._open: set[int] = set()  # descriptors; a fork copies them, and with them the locks

    def acquire(self, wait_s: float = SOON_S) -> None:
        """Takes the lock; raises IndexLocked, which names the holder, if that takes too long.

        wait_s: how long to wait for another writer. Those that wait take turns: a writer that
        commits again and again lets each of them go before it.
        """
        until = time.monotonic() + wait_s
        _held.add(self)
        with writing_to(self._folder):
            turn = self._taken(TURN_NAME, until)
            try:
                self._descriptor = self._taken(LOCK_NAME, until)
            finally:
                self._let_go(turn)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": " ".join(sys.argv)[:200],
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with suppress(OSError):
            replace_file(self._folder / HOLDER_NAME, json.dumps(holder).encode(), durable=False)

    def _taken(self, name: str, until: float) -> int:
        """The descriptor of a file that is locked now."""
        while True:
            path = self._folder / name
            descriptor = path.open_descriptor("ab")
            self._open.add(descriptor)
            try:
                self._take(descriptor, until)
                with suppress(FileNotFoundError):  # a deleted index took its lock along
                    if os.path.samestat(os.fstat(descriptor), path.stat()):
                        return descriptor
            except BaseException:
                self._let_go(descriptor)
                raise
            self._let_go(descriptor)

    def _let_go(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        os.close(descriptor)

    def _take(self, descriptor: int, until: float) -> None:
        pause, longest = _PAUSES_S
        while True:
            try:
                _lock(descriptor)
                return
            except OSError as e:
                if e.errno not in _BUSY:
                    raise
            if time.monotonic() >= until:
                break
            time.sleep(pause)
            pause = min(2 * pause, longest)
        raise IndexLocked(
            f"{self._folder} is being written by {self._holder()}. "
            "Wait until it has finished, or stop it; queries go on meanwhile."
        )

    def check(self) -> None:
        """Raises IndexLocked in a forked child of the process that holds the lock."""
        if self._descriptor is None:
            raise IndexLocked(
                f"{self._folder} is being written by the process that this one was forked from. "
                "Write to it here after that has finished, through an index that is opened here."
            )

    def release(self) -> None:
        """Lets go; harmless when it is not held."""
        if self._descriptor is not None:
            with suppress(OSError):
                (self._folder / HOLDER_NAME).unlink()
            self._close()

    def _close(self) -> None:
        self._descriptor = None
        _held.discard(self)
        for descriptor in [*self._open]:
            self._let_go(descriptor)

    def __enter__(self) -> WriterLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _holder(self) -> str:
        try:
            h = json.loads((self._folder / HOLDER_NAME).read_bytes(_HOLDER_BYTES))
            return f"process {h['pid']} on {h['host']} since {h['since']} ({h['command']})"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return "another process"


def is_held(folder: ConfinedPath) -> bool:
    """Whether somebody writes to an index now; writes nothing, and works where nobody may write.

    Raises OSError for a lock that cannot be looked at.
    """
    try:
        descriptor = (folder / LOCK_NAME).open_descriptor("rb")
    except FileNotFoundError:
        return False
    try:
        _lock(descriptor, shared=True)
        return False
    except OSError as e:
        if e.errno not in _BUSY:
            raise
        return True
    finally:
        os.close(descriptor)


def _let_go_of_copies() -> None:
    """In a forked child: closes its copies, with which the locks would outlive their holder."""
    for lock in list(_held):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_copies)
