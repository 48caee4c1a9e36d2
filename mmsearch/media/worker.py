"""One decoding process: takes tasks from stdin, answers on stdout, in order, until stdin ends.

Started by `mmsearch.media.pool`, never by hand. For each task: open, recognise, hash, ask
whether the content is known (if told to), decode, check that the file did not change.
"""

from __future__ import annotations

import gc
import hashlib
import io
import logging
import os
import queue
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn, cast

from mmsearch import child_python
from mmsearch.errors import DecodeError, LimitExceeded, ProcessingFailed
from mmsearch.media import (
    HEAD_BYTES,
    decode,
    lift_pillows_ceiling,
    max_bytes,
    memory,
    modality_of,
    open_regular,
    sniff,
    wire,
)
from mmsearch.media.limits import Limits, OutOfMemory
from mmsearch.media.others import described
from mmsearch.types import Preprocess, signature_of

HASH_CHUNK_BYTES = 1 << 20
ALIVE_EVERY_CHUNKS = 64  # a sign of life per 64 MB hashed: a slow network drive is no hang


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    worker = _Worker()
    worker.serve()


class _Worker:
    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[wire.Header] = queue.SimpleQueue()
        # apart from the tasks: some of those are sent ahead, before an answer is
        self.answers: queue.SimpleQueue[wire.Header] = queue.SimpleQueue()
        self._in = io.FileIO(os.dup(0), "rb")
        self._out = os.dup(1)
        setup = wire.read_header(self._in)
        if setup is None:
            _leave()
        self.preprocess = Preprocess(**setup["preprocess"])
        self.limits = Limits(**setup["limits"])
        self.include = tuple(setup["include"])
        self.modalities = frozenset(setup["modalities"])
        _silence()
        child_python.limit_memory(self.limits.worker_memory_bytes)
        threading.Thread(target=self._listen, daemon=True).start()

    def serve(self) -> None:
        self.send({"is": "ready"})
        # What start-up made is never garbage: a full collection between pictures costs less.
        gc.freeze()
        while True:
            self._work(self.inbox.get())

    def send(self, header: wire.Header) -> None:
        self._write(wire.pack(header))

    def _write(self, data: bytes | memoryview) -> None:
        try:
            wire.write_all(lambda rest: os.write(self._out, rest), data)
        except OSError:  # the parent is gone: so is the reason to go on
            _leave()

    def _listen(self) -> None:
        """Hand on what the parent sends; leave, even amid a long file, when it is gone."""
        while True:
            message = wire.read_header(self._in)
            if message is None:
                _leave()
            (self.answers if "answer" in message else self.inbox).put(message)

    def _work(self, task: wire.Header) -> None:
        self.took_s = [0.0, 0.0]  # reading, decoding
        child_python.limit_cpu(self.limits.worker_cpu_s)
        try:
            self.send({**self._outcome(task), "took_s": self.took_s})
        except (MemoryError, OutOfMemory):
            self._end_without_memory()
        except DecodeError as error:
            if error.stage == "decode" and memory.may_be_why(self.limits.worker_memory_bytes):
                self._end_without_memory()
            outcome = "failed" if error.stage == "read" else "skipped"
            self.send({"is": outcome, "stage": error.stage, "reason": str(error)})
        except LimitExceeded as error:
            self.send(
                {"is": "skipped", "stage": "decode", "reason": str(error), "over_limit": True}
            )
        except ProcessingFailed as error:
            self.send({"is": "failed", "stage": "decode", "reason": str(error)})
        except OSError as error:
            reason = error.strerror or str(error)
            self.send({"is": "failed", "stage": "read", "reason": f"cannot be read: {reason}"})
        except Exception as error:  # a mistake of ours must not cost the run
            reason = f"{type(error).__name__}: {error}"
            self.send({"is": "failed", "stage": "decode", "reason": reason})

    def _end_without_memory(self) -> NoReturn:
        """A fresh process tries it again, alone: this one may be full of leavings."""
        reached = memory.is_own_limit(self.limits.worker_memory_bytes)
        self.send({"is": "out of memory", "reached_limit": reached})
        _leave()

    def _outcome(self, task: wire.Header) -> wire.Header:
        """Decode one file, sending its parts; returns the message that ends it."""
        started = time.perf_counter()
        with open_regular(os.path.join(task["root"], task["path"])) as file:
            before = os.fstat(file.fileno())
            head = file.read(HEAD_BYTES)
            kind = sniff(head, task["path"], self.include, file)
            what = f"of {kind}, which the space has no tower for"
            if kind is None or modality_of(kind) not in self.modalities:
                what = described(head, task["path"]) if kind is None else what
                kind = task["kind"]
            if kind is None:
                return {"is": "ignored", "what": what}
            most = max_bytes(kind, self.limits)
            source: bytes | _Watched
            if most is None:
                source, digest = _Watched(file), self._hash(head, file)
                file.seek(0)
            else:
                source = _read_rest(head, file, before.st_size, kind, most)
                digest = hashlib.blake2b(source, digest_size=16).hexdigest()
            _check_unchanged(file, before)
            if task["expected"] not in (None, digest):  # parts of it were sent in another try
                raise _changed()
            if kind == "image":
                lift_pillows_ceiling()
            signature = signature_of(before)
            self.took_s[0] = time.perf_counter() - started
            known = {"hash": digest, "signature": signature}
            if task["ask"]:
                self.send({"is": "hash", "hash": digest})
                if not self.answers.get()["answer"]:
                    return {"is": "known", **known}
            n_parts = task["skip_parts"]
            try:
                for header, body in self._parts(source, kind, n_parts, digest):
                    self._write(header)
                    self._write(body)
                    child_python.limit_cpu(self.limits.worker_cpu_s)
                    n_parts += 1
            finally:
                if isinstance(source, _Watched):  # it was read a second time, from disk
                    source.check()
                    _check_unchanged(file, before)
            return {"is": "finished", "n_parts": n_parts, **known}

    def _parts(
        self, source: bytes | _Watched, kind: str, skip: int, digest: str
    ) -> Iterator[tuple[bytes, memoryview]]:
        started = time.perf_counter()
        for part in decode(cast(BinaryIO, source), kind, self.preprocess, self.limits, skip):
            packed = wire.pack_part(part, digest)
            self.took_s[1] += time.perf_counter() - started
            yield packed
            started = time.perf_counter()  # when the parent has taken it
        self.took_s[1] += time.perf_counter() - started

    def _hash(self, head: bytes, file: BinaryIO) -> str:
        digest = hashlib.blake2b(head, digest_size=16)
        for number, chunk in enumerate(iter(lambda: file.read(HASH_CHUNK_BYTES), b""), 1):
            digest.update(chunk)
            if number % ALIVE_EVERY_CHUNKS == 0:
                self.send({"is": "alive"})
                child_python.limit_cpu(self.limits.worker_cpu_s)
        return digest.hexdigest()


def _read_rest(head: bytes, file: BinaryIO, size: int, kind: str, most: int) -> bytes:
    """The whole file, at most one byte more than its stated size (then it is growing)."""
    if size > most:
        raise LimitExceeded(f"{kind} file of {size:,} bytes; at most {most:,} are read")
    return head + file.read(max(0, size + 1 - len(head))) if len(head) == HEAD_BYTES else head


def _check_unchanged(file: BinaryIO, before: os.stat_result) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _changed()


def _changed() -> DecodeError:
    return DecodeError("changed while being read", stage="read")


class _Watched(io.RawIOBase):
    """A file that remembers an error of reading: decoders take it for the end of the data."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return self._file.readinto(buffer)  # type: ignore[attr-defined, no-any-return]
        except OSError as error:
            self._error = error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def check(self) -> None:
        """Raises the error that reading met, if there was any."""
        if self._error is not None:
            raise self._error


def _silence() -> None:
    """Libraries print about damaged files, some in C: nothing of it may reach a terminal,
    and nothing of it the pipe."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)


def _leave() -> NoReturn:
    """At once, from any thread, without flushing or joining anything."""
    os._exit(0)


if __name__ == "__main__":
    main()
