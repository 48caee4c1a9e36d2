"""Decoding what is asked with in a process of its own, for pictures and sounds from outside.

A decoder is the part of a program that an attacker reaches first. In a child it has the limits of
the decoders that index: memory, processor time, time. What goes wrong there is an error here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mmsearch.errors import DecodeError, LimitExceeded, ProcessingFailed
from mmsearch.media.limits import Limits
from mmsearch.media.pool import DecodePool, Failed, Ignored, PartReady, Skipped, Task
from mmsearch.media.wanted import is_instead
from mmsearch.types import Item, Modality, Part, Preprocess

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
_TAKEN = (Modality.IMAGE, Modality.AUDIO)
_DRAINED = 16  # parts that are taken, wanted or not, before the child is ended for the rest


class IsolatedDecoder:
    """One child process that decodes, started with the first input and kept for the next ones.

    It is started anew where it died, or left a long sound half done. Safe to use from several
    threads, which wait for each other, and in a forked child, which gets a process of its own.
    ``close`` ends it, and so does the end of the program.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._pool: DecodePool | None = None
        self._preprocess: Preprocess | None = None
        self._owner = os.getpid()
        self._ending: weakref.finalize[..., object] | None = None

    def parts(
        self, source: Source, modality: Modality, preprocess: Preprocess, most: int
    ) -> list[Part]:
        """The first parts of a picture or sound, at most so many.

        source: a path, bytes, or an open binary file. Raises DecodeError, LimitExceeded, or
        ProcessingFailed if the child was killed or took too long, through no fault of the source.
        """
        with _in_a_file(source) as path, self._own_lock():
            pool = self._ready(preprocess)
            found: list[Part] = []
            item = Item(str(path.parent), path.name, 0, 0, 0, 0)
            events: Any = pool.run(iter([Task(item, kind=modality)]), lambda task, content: True)
            # a sound that goes on is left: whoever leaves ``run`` early ends the child
            with closing(events):
                for event in events:
                    match event:
                        case PartReady() if len(found) == max(most, _DRAINED):
                            break
                        case PartReady(part=part):
                            found.append(part)
                        case Skipped(reason=reason, over_limit=True):
                            raise LimitExceeded(reason)
                        case (
                            Skipped(stage=stage, reason=reason)
                            | Failed(stage="read" as stage, reason=reason)
                        ):
                            raise DecodeError(reason, stage)
                        case Failed(reason=reason):
                            raise ProcessingFailed(reason)
                        case Ignored(what=what):
                            raise DecodeError(f"is no {modality}, but {what}", "sniff")
            if found and found[0].modality is not modality:
                raise DecodeError(is_instead(modality, found[0].modality), "sniff")
            return found[:most]

    def close(self) -> None:
        """Ends the child; it is started again if something is decoded."""
        with self._own_lock():
            if self._ending is not None:
                self._ending()
            self._pool = self._ending = None

    def _ready(self, preprocess: Preprocess) -> DecodePool:
        if self._pool is None or preprocess != self._preprocess:
            if self._ending is not None:
                self._ending()
            self._pool = DecodePool(
                preprocess, workers=1, limits=self._limits, modalities=_TAKEN, queue_parts=8
            )
            self._preprocess = preprocess
            self._ending = weakref.finalize(self, self._pool.close)
        return self._pool

    def _own_lock(self) -> threading.Lock:
        """The lock; in a forked child another one, and no process yet."""
        if self._owner != os.getpid():
            self._owner, self._lock = os.getpid(), threading.Lock()
            if self._ending is not None:
                self._ending.detach()  # the parent's process is the parent's to end
            self._pool = self._ending = None
        return self._lock


@contextmanager
def _in_a_file(source: Source) -> Iterator[Path]:
    """A path of what was given."""
    if isinstance(source, str | os.PathLike):
        yield Path(source).absolute()
        return
    with tempfile.NamedTemporaryFile(prefix="mmsearch-", delete=False) as file:
        path = Path(file.name)
        try:
            if isinstance(source, bytes | bytearray | memoryview):
                file.write(source)
            else:
                shutil.copyfileobj(source, file)
        except BaseException:
            path.unlink()
            raise
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
