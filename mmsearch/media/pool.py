"""Decoding beside encoding: worker processes behind bounded queues.

    tasks ──► pending ──► worker (stdin │ stdout) ──► reader thread ──► queue ──► run()'s caller

Workers are plain `python -c` children, not `multiprocessing`: spawn runs the caller's own
`__main__` again (a script without a guard would start itself), and fork would copy its locks
and threads. A worker that dies, hangs or runs out of memory is replaced; what becomes of the
file it worked on is decided in ``jobs``.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from mmsearch.cores import available_cores
from mmsearch.errors import ProcessingFailed
from mmsearch.media import wire
from mmsearch.media.child import SILENT, Child, Message
from mmsearch.media.events import (
    Event,
    Failed,
    Finished,
    Ignored,
    Known,
    PartReady,
    Skipped,
    Task,
)
from mmsearch.media.jobs import (
    Death,
    Job,
    death_by_exit,
    death_by_memory,
    death_by_silence,
    verdict,
)
from mmsearch.media.limits import Limits
from mmsearch.types import Modality, Preprocess, Signature

__all__ = [
    "DecodePool",
    "Event",
    "Failed",
    "Finished",
    "Ignored",
    "Known",
    "PartReady",
    "Skipped",
    "Task",
]

PULL_TASKS = 16  # at a time: while the walk is slow, events still come through
CHECK_EVERY_S = 1.0
START_ATTEMPTS = 3  # that fail one after the other, by a fault of the program's own
KILLED_ATTEMPTS = 10  # the same, ended from outside: memory may come back
KILLED_PAUSE_S, KILLED_PAUSE_MOST_S = 0.2, 5.0  # before the next of those: twice as long each time


class DecodePool:
    """Some decoding processes; a context manager, closed with no child left."""

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        workers: int,
        limits: Limits | None = None,
        include: tuple[str, ...] = (),
        modalities: Sequence[Modality] = tuple(Modality),
        timeout_s: float = 120.0,
        queue_parts: int = 64,
    ) -> None:
        """Start the first worker; the others start as there are files for them.

        workers: processes at most. There are never more than files that are not done yet, and
        no more start at a time than there are cores: what is small is done before many run.
        modalities: what there are towers for; files of others are ignored, unread.
        timeout_s: a worker that says nothing for so long, while it has a file, and does not
        compute either, is killed.
        queue_parts: decoded parts that wait here at most; what bounds the memory.
        Raises ProcessingFailed if no process can be started.
        """
        self._limits = limits or Limits()
        self._setup = wire.pack(
            {"preprocess": asdict(preprocess), "limits": asdict(self._limits),
             "include": include, "modalities": [str(m) for m in modalities]}
        )  # fmt: skip
        self._timeout_s = timeout_s
        self._prefetch = 2 * queue_parts  # tasks are small; many files give one part or none
        self._inbox: queue.Queue[Message] = queue.Queue(queue_parts)
        self._pending: deque[Job] = deque()
        self._retries: deque[Job] = deque()  # each for a fresh worker alone
        self._failed_starts = 0
        # seconds: of all workers reading files and decoding them; of the caller waiting for them
        self.read_s, self.decode_s, self.waited_s = 0.0, 0.0, 0.0
        self.most_workers = 0  # that there were at a time
        self._gone_start_s = 0.0  # what those that are gone took to start
        self._count = max(1, workers)
        self._workers: list[Child] = []
        self._grow(1)

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers]

    @property
    def start_s(self) -> float:
        """Seconds of all workers from their start until they took tasks."""
        return self._gone_start_s + sum(worker.start_s for worker in self._workers)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers and wait for their end; they hold nothing worth saving."""
        self._gone_start_s = self.start_s
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.bury()
        self._workers = []

    def run(
        self,
        tasks: Iterable[Task],
        accept: Callable[[Task, bytes], bool],
        idle: Callable[[], None] = lambda: None,
    ) -> Iterator[Event]:
        """Decode ``tasks``, consumed lazily in this thread; events in order of arrival.

        Each task ends with exactly one Finished, Skipped, Failed, Ignored or Known.
        accept(task, hash) is called in this thread for tasks with ``ask``: True = decode it,
        False = Known. idle is called in this thread whenever nothing arrived for CHECK_EVERY_S.
        Raises ProcessingFailed if workers die before they can do anything.
        """
        todo, exhausted, unfinished = iter(tasks), False, 0
        checked = time.monotonic()
        try:
            while True:
                # what a dead worker held comes on top, so there may be no room
                room = max(0, self._prefetch - len(self._pending))
                fresh = [] if exhausted else list(islice(todo, min(room, PULL_TASKS)))
                exhausted = exhausted or (room > 0 and not fresh)
                unfinished += len(fresh)
                self._pending.extend(Job(task) for task in fresh)
                self._grow(unfinished)
                for worker in self._workers:
                    worker.refill()
                if exhausted and unfinished == 0:
                    return
                if time.monotonic() - checked > CHECK_EVERY_S:
                    checked = self._kill_the_hung(checked)
                    for worker in [w for w in self._workers if w.is_stuck(checked)]:
                        if (event := self._after_death(worker)) is not None:
                            unfinished -= 1
                            yield event
                waiting = time.perf_counter()
                try:
                    message = self._inbox.get(timeout=CHECK_EVERY_S)
                except queue.Empty:
                    idle()
                    continue
                finally:
                    self.waited_s += time.perf_counter() - waiting
                came = self._event(message, accept)
                if came is not None:
                    unfinished -= not isinstance(came, PartReady)
                    yield came
        finally:
            if unfinished:  # left early: what the workers still do concerns nobody
                self.close()
                self._pending.clear()
                self._retries.clear()
                self._inbox = queue.Queue(self._inbox.maxsize)

    def _event(self, message: Message, accept: Callable[[Task, bytes], bool]) -> Event | None:
        worker, job, header, part = message
        if header is None:
            return self._after_death(worker)
        assert job is not None
        task = job.task
        read_s, decode_s = header.get("took_s", (0.0, 0.0))
        self.read_s, self.decode_s = self.read_s + read_s, self.decode_s + decode_s
        match header["is"]:
            case "part":
                assert part is not None
                job.parts, job.digest = job.parts + 1, header["hash"]
                return PartReady(task, part, bytes.fromhex(job.digest))
            case "hash":
                job.digest = header["hash"]
                if job.answer is None:  # not in another try
                    job.answer = accept(task, bytes.fromhex(job.digest))
                worker.answer(job.answer)
                return None
            case "finished":
                digest = bytes.fromhex(header["hash"])
                return Finished(task, digest, header["n_parts"], _signature(header))
            case "known":
                return Known(task, bytes.fromhex(header["hash"]), _signature(header))
            case "ignored":
                return Ignored(task, header["what"])
            case "skipped":
                over_limit = header.get("over_limit", False)
                return Skipped(task, header["stage"], header["reason"], over_limit)
            case _:
                return Failed(task, header["stage"], header["reason"])

    def _after_death(self, worker: Child) -> Skipped | Failed | None:
        """Put a new worker in its place; its file is tried again, or its fate is decided."""
        if worker not in self._workers:
            return None
        code, talk = worker.bury()
        self._gone_start_s += worker.start_s
        death = self._death(worker, code)
        if worker.ready:
            self._failed_starts = 0
        else:
            self._after_failed_start(death, talk)
        held = list(worker.jobs)
        last = held.pop(0) if held and worker.ready else None
        again = [job for job in held if job.died is not None]
        self._pending.extendleft(job for job in reversed(held) if job.died is None)
        event = None
        if last is not None and last.died is None:
            last.died = death
            again.append(last)
        elif last is not None:
            event = verdict(last, death)
        self._retries.extend(again)
        self._workers[self._workers.index(worker)] = self._start()
        return event

    def _death(self, worker: Child, code: int) -> Death:
        if worker.killed is not None:
            return death_by_silence(self._timeout_s)
        if worker.reached_limit is not None:
            return death_by_memory(worker.reached_limit, self._limits)
        return death_by_exit(code, self._limits)

    def _after_failed_start(self, death: Death, talk: str) -> None:
        """Raises ProcessingFailed once too many workers in a row died before they began."""
        self._failed_starts += 1
        killed = talk == SILENT and not death.own
        if self._failed_starts >= (KILLED_ATTEMPTS if killed else START_ATTEMPTS):
            raise ProcessingFailed(
                f"the decoding process cannot start ({death.reason}): {talk}. What was "
                "committed is kept; run the same command to go on."
            )
        if killed:
            pause_s = KILLED_PAUSE_S * 2 ** (self._failed_starts - 1)
            time.sleep(min(pause_s, KILLED_PAUSE_MOST_S))

    def _kill_the_hung(self, checked: float) -> float:
        now = time.monotonic()
        # A long gap means that this process was stopped (Ctrl-Z) or its caller was busy;
        # the workers may have been stopped too, so their silence proves nothing.
        paused = now - checked > 30 * CHECK_EVERY_S
        for worker in self._workers:
            if paused:
                worker.heard = now
            elif worker.is_hung(now, self._timeout_s):
                worker.killed = now
                worker.kill()
        return now

    def _grow(self, files: int) -> None:
        """Start workers until there is one for each of some files, some at a time."""
        short = min(self._count, files) - len(self._workers)
        if short <= 0:
            return
        starting = sum(not worker.ready for worker in self._workers)
        try:
            for _ in range(min(short, available_cores() - starting)):
                self._workers.append(self._start())
        except BaseException:
            self.close()
            raise
        self.most_workers = max(self.most_workers, len(self._workers))

    def _start(self) -> Child:
        return Child(self._setup, self._inbox, self._pending, self._retries)


def _signature(header: wire.Header) -> Signature:
    size, mtime_ns, ctime_ns, inode = header["signature"]
    return size, mtime_ns, ctime_ns, inode
