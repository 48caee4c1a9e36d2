"""One writer at a time: a lock that dies with its process."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from mmsearch.errors import IndexLocked
from mmsearch.store.files import writing_to

LOCK_NAME = "writer.lock"
HOLDER_NAME = "writer.json"  # who holds it, for the message; the lock itself decides


class WriterLock:
    """Held for as long as an index is written to; ``with`` or acquire/release.

    The operating system lets go of the lock when the process ends, however it
    ends. A child process does not inherit it: neither one that is started (Python's files are
    not inheritable) nor a forked one (``filelock`` closes the file there), whatever it does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK_NAME, thread_local=False)

    def acquire(self) -> None:
        """Takes the lock at once or raises IndexLocked, which names the holder."""
        with writing_to(self._folder):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:  # an OSError, too
                raise IndexLocked(
                    f"{self._folder} is being written by {self._holder()}. "
                    "Wait until it has finished, or stop it; queries go on meanwhile."
                ) from None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": " ".join(sys.argv)[:200],
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with suppress(OSError):
            (self._folder / HOLDER_NAME).write_text(json.dumps(holder))

    def check(self) -> None:
        """Raises IndexLocked in a forked child of the process that holds the lock."""
        if not self._lock.is_locked:
            raise IndexLocked(
                f"{self._folder} is being written by the process that this one was forked from. "
                "Write to it here after that has finished, through an index that is opened here."
            )

    def release(self) -> None:
        """Lets go; harmless when it is not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                (self._folder / HOLDER_NAME).unlink()
            self._lock.release()

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
            h = json.loads((self._folder / HOLDER_NAME).read_text())
            return f"process {h['pid']} on {h['host']} since {h['since']} ({h['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
