"""One decoding process as its parent sees it: pipes, a reader thread, the tasks it holds."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, BinaryIO, cast

from mmsearch.errors import MmsearchError
from mmsearch.media import wire
from mmsearch.media.events import Task
from mmsearch.types import Part

OUTSTANDING = 2  # tasks a worker holds: the one it does and the one it starts without waiting
PIPE_BYTES = 1 << 20  # Linux's most for an ordinary user; a 224-pixel square has 150 KB
F_SETPIPE_SZ = 1031  # Python 3.11's fcntl lacks the name where it was built on an old libc
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"
    "from mmsearch.media.worker import main; main()"
)


class Child:
    """One child, its pipes, the thread that reads from it, and the tasks it holds."""

    def __init__(self, setup: bytes, inbox: queue.Queue[Message], pending: deque[Task]) -> None:
        self.tasks: deque[Task] = deque()
        self.heard = self._started = time.monotonic()
        self.hung = False
        self._start_s: float | None = None
        self._inbox, self._pending = inbox, pending
        self._lock = threading.Lock()  # over tasks and stdin: the reader refills, too
        self._waits = False  # for the caller: to take a message, or to answer a question
        self._dead = self._closing = False
        self._buried: tuple[int, str] | None = None
        # Its stderr until it is ready: why a start failed.
        self._talk: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        self.process = _popen(self._talk)
        self._send(setup)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ready(self) -> bool:
        """Whether it has started: it takes tasks then."""
        return self._start_s is not None

    @property
    def start_s(self) -> float:
        """Seconds from its start until it was ready; until now where it is not yet."""
        return time.monotonic() - self._started if self._start_s is None else self._start_s

    def refill(self) -> None:
        """Give it tasks from the shared queue until it holds OUTSTANDING."""
        with self._lock:
            while not self._dead and len(self.tasks) < OUTSTANDING:
                try:
                    task = self._pending.popleft()
                except IndexError:
                    return
                if not self.tasks:
                    self.heard = time.monotonic()
                self.tasks.append(task)
                self._send(
                    wire.pack(
                        {"root": task.item.root, "path": task.item.path, "ask": task.ask,
                         "skip_parts": task.skip_parts}
                    )
                )  # fmt: skip

    def answer(self, go_on: bool) -> None:
        with self._lock:
            self._waits, self.heard = False, time.monotonic()
            self._send(wire.pack({"answer": go_on}))

    def is_silent_since(self, moment: float) -> bool:
        return bool(self.tasks) and not self._waits and not self._dead and self.heard < moment

    def kill(self) -> None:
        self.process.kill()

    def bury(self) -> tuple[int, str]:
        """Wait for its end and free what it held; returns its exit code and last words."""
        if self._buried is not None:
            return self._buried
        self._closing = True
        code = self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._talk.seek(0)
        talk = self._talk.read()[-2000:].decode("utf-8", "replace").strip()
        self._talk.close()
        self._buried = code, talk.splitlines()[-1] if talk else "it said nothing"
        return self._buried

    def _send(self, data: bytes) -> None:
        # Two tasks are far less than a pipe holds, so this never waits. Where it has died,
        # the reader notices, and the tasks are still in `tasks`.
        with contextlib.suppress(OSError):
            wire.write_all(cast(BinaryIO, self.process.stdin).write, data)

    def _read(self) -> None:
        stream = cast(wire.Readable, self.process.stdout)
        while True:
            header = wire.read_header(stream)
            part = None
            if header is not None and header["is"] == "part":
                part = wire.read_part(header, stream)
                header = header if part is not None else None
            self.heard = time.monotonic()
            if header is None:
                with self._lock:
                    self._dead = True
                self._put((self, None, None, None))
                return
            if header["is"] == "ready":
                self._start_s = time.monotonic() - self._started
            elif header["is"] != "alive":
                self._hand_on(header, part)

    def _hand_on(self, header: wire.Header, part: Part | None) -> None:
        ends = header["is"] not in ("part", "hash")
        with self._lock:
            task = self.tasks.popleft() if ends else self.tasks[0]
        if ends:
            self.refill()  # here, not in run(): its caller may be encoding for a second
        self._waits = True  # after a question until answer(), else until there was room
        self._put((self, task, header, part))
        if header["is"] != "hash":
            self._waits, self.heard = False, time.monotonic()

    def _put(self, message: Message) -> None:
        """Into the bounded queue, as soon as there is room, unless nobody will take it."""
        while not self._closing:
            try:
                self._inbox.put(message, timeout=0.2)
                return
            except queue.Full:
                continue


Message = tuple[Child, Task | None, wire.Header | None, Part | None]


def _popen(stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """A child that imports this very mmsearch, and works in the root folder.

    Not in the caller's folder, which may be the one that is indexed: a numpy.py there would be
    imported (so `-P`), and libsndfile, given a stream, looks for an empty name's resource fork:
    a file named `._`, which macOS leaves about, made every MP3 without a tag unreadable.
    """
    here = Path(__file__).resolve()
    package = str(here.parents[2])
    path = [package, *(os.path.abspath(entry) for entry in sys.path if entry)]
    # Its parallelism is processes: threads of BLAS or OpenMP would only fight the encoder.
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOTSTRAP, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            cwd=here.anchor,
            env={**os.environ, **one},
        )
    except (OSError, ValueError, TypeError) as error:
        raise MmsearchError(
            f"cannot start a decoding process with {sys.executable or 'no Python'}: {error}"
        ) from error
    _widen(process)
    return process


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Let a whole decoded picture fit into the pipe, where the system allows it."""
    if sys.platform == "linux" and process.stdout is not None:
        import fcntl

        # Refused where the user's total of pipe memory is spent: then 64 KB do, slower.
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout.fileno(), F_SETPIPE_SZ, PIPE_BYTES)
