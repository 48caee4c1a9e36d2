"""A file of which a few bytes are read as others, without a copy of it."""

from __future__ import annotations

import io
import os
from typing import BinaryIO


class Spliced(io.RawIOBase):
    """A file with some bytes put in at one place, instead of so many of its own."""

    def __init__(self, file: BinaryIO, at: int, piece: bytes, instead_of: int = 0) -> None:
        self._file, self._at, self._piece = file, at, piece
        self._longer = len(piece) - instead_of
        file.seek(0, os.SEEK_END)
        self._size = file.tell() + self._longer
        self._place = 0

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        done, end = 0, self._at + len(self._piece)
        while done < len(view) and self._place < self._size:
            wanted = len(view) - done
            if self._at <= self._place < end:
                data = self._piece[self._place - self._at :][:wanted]
            else:
                before = self._place < self._at
                self._file.seek(self._place if before else self._place - self._longer)
                data = self._file.read(min(wanted, self._at - self._place) if before else wanted)
            if not data:
                break
            view[done : done + len(data)] = data
            done, self._place = done + len(data), self._place + len(data)
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
