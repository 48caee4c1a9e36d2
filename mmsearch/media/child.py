"""One decoding process as its parent sees it: pipes, a reader thread, the jobs it holds."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, BinaryIO, cast

from mmsearch import child_python
from mmsearch.errors import ProcessingFailed
from mmsearch.media import wire
from mmsearch.media.jobs import Job
from mmsearch.types import Part

OUTSTANDING = 2  # jobs a worker holds: the one it does and the one it starts without waiting
_COMPUTING = 0.01  # share of its silence in which a worker must have computed to be excused
SILENT = "it said nothing"  # the last words of a worker that had none
_END_S = 10.0  # for a killed process to end
PIPE_BYTES = 1 << 20  # Linux's most for an ordinary user; a 224-pixel square has 150 KB
F_SETPIPE_SZ = 1031  # Python 3.11's fcntl lacks the name where it was built on an old libc
_CODE = "from mmsearch.media.worker import main; main()"


class Child:
    """One child, its pipes, the thread that reads from it, and the jobs it holds.

    A child that holds nothing yet may take a job of ``retries``, which it then does alone.
    """

    def __init__(
        self, setup: bytes, inbox: queue.Queue[Message], pending: deque[Job], retries: deque[Job]
    ) -> None:
        self.jobs: deque[Job] = deque()
        self.heard = self._started = time.monotonic()
        self.killed: float | None = None  # when, because it was hung
        self.reached_limit: bool | None = None  # where it ran out of memory: of ours, or not
        self._start_s: float | None = None
        self._inbox, self._pending, self._retries = inbox, pending, retries
        self._lock = threading.Lock()  # over jobs and stdin: the reader refills, too
        self._fresh, self._alone = True, False
        self._waits = False  # for the caller: to take a message, or to answer a question
        self._dead = self._closing = False
        # the processor time that it had used, as noted after it was last heard; see ``is_hung``
        self._cpu_s: float | None = None
        self._noted = 0.0
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
        """Give it jobs from the shared queues until it holds enough."""
        with self._lock:
            while not self._dead and (job := self._next()) is not None:
                if not self.jobs:
                    self.heard = time.monotonic()
                self.jobs.append(job)
                task = job.task
                self._send(
                    wire.pack(
                        {"root": task.item.root, "path": task.item.path,
                         "ask": task.ask and job.answer is not True,
                         "skip_parts": task.skip_parts + job.parts, "expected": job.digest,
                         "kind": task.kind}
                    )
                )  # fmt: skip

    def _next(self) -> Job | None:
        """A job to take now. One that is tried again is taken first, and by itself."""
        if self._alone and self.jobs:
            return None
        self._alone = False
        try:
            if self._fresh and self._retries:
                self._fresh, self._alone = False, True
                return self._retries.popleft()
            if len(self.jobs) < OUTSTANDING:
                job = self._pending.popleft()
                self._fresh = False
                return job
        except IndexError:  # another child took it
            pass
        return None

    def answer(self, go_on: bool) -> None:
        with self._lock:
            self._waits, self.heard = False, time.monotonic()
            self._send(wire.pack({"answer": go_on}))

    def is_hung(self, now: float, timeout_s: float) -> bool:
        """Whether it has said nothing for so long, and not because it computes.

        On a busy machine a page of a PDF can take minutes; what computes without an end meets
        ``Limits.worker_cpu_s``. To be called again and again: the first call of a silence notes
        how much it had computed.
        """
        if self._noted != self.heard:
            self._noted, self._cpu_s = self.heard, _cpu_s(self.process.pid)
            return False
        if self.killed is not None or now - self.heard <= timeout_s:
            return False
        if not self.jobs or self._waits or self._dead:
            return False
        used_s = _cpu_s(self.process.pid)
        before_s = self._cpu_s
        if used_s is None or before_s is None or used_s - before_s <= _COMPUTING * timeout_s:
            return True
        self._cpu_s, self.heard, self._noted = used_s, now, now
        return False

    def is_stuck(self, now: float) -> bool:
        """Whether it was killed and does not end: it waits for a drive that does not answer."""
        return self.killed is not None and now - self.killed > _END_S and not self._dead

    def kill(self) -> None:
        self.process.kill()

    def bury(self) -> tuple[int, str]:
        """Wait for its end and free what it held; returns its exit code and last words."""
        if self._buried is not None:
            return self._buried
        self._closing = True
        try:
            code = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._buried = -int(getattr(signal, "SIGKILL", 9)), "it does not end"
            return self._buried
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._talk.seek(0)
        talk = self._talk.read()[-2000:].decode("utf-8", "replace").strip()
        self._talk.close()
        self._buried = code, talk.splitlines()[-1] if talk else SILENT
        return self._buried

    def _send(self, data: bytes) -> None:
        # Two tasks are far less than a pipe holds, so this never waits. Where it has died,
        # the reader notices, and the tasks are still in `jobs`.
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
            match header["is"]:
                case "ready":
                    self._start_s = time.monotonic() - self._started
                case "alive":
                    pass
                case "out of memory":  # its last words
                    self.reached_limit = header["reached_limit"]
                case _:
                    self._hand_on(header, part)

    def _hand_on(self, header: wire.Header, part: Part | None) -> None:
        ends = header["is"] not in ("part", "hash")
        with self._lock:
            job = self.jobs.popleft() if ends else self.jobs[0]
        if ends:
            self.refill()  # here, not in run(): its caller may be encoding for a second
        self._waits = True  # after a question until answer(), else until there was room
        self._put((self, job, header, part))
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


Message = tuple[Child, Job | None, wire.Header | None, Part | None]


def _cpu_s(pid: int) -> float | None:
    """Processor time that a process has used, in seconds; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _popen(stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    # Its parallelism is processes: threads of BLAS or OpenMP would only fight the encoder.
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        process = child_python.start(
            _CODE,
            environment=one,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
        )
    except (OSError, ValueError, TypeError) as error:
        raise ProcessingFailed(
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
