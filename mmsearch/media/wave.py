"""WAV files whose header says that they are empty: their recorder was stopped before it could say
how much it had written."""

from __future__ import annotations

from typing import BinaryIO, cast

from mmsearch.media.spliced import Spliced

_MAX_CHUNKS = 100
_MOST_BYTES = 0xFFFF_FFF0  # that the header can tell


def with_length(file: BinaryIO) -> BinaryIO:
    """Return the file; if it is a WAV of no bytes and some follow, with their number as its length.

    Reads the headers of its chunks alone.
    """
    end = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    at = 12 if head[:4] == b"RIFF" and head[8:12] == b"WAVE" else end
    for _ in range(_MAX_CHUNKS):
        if at + 8 >= end:
            break
        file.seek(at)
        chunk = file.read(8)
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            rest = min(end - at - 8, _MOST_BYTES)
            if size == 0 and not _is_chunk(file, at + 8, end):
                stated = rest.to_bytes(4, "little")
                return cast(BinaryIO, Spliced(file, at + 4, stated, instead_of=4))
            break
        at += 8 + size + size % 2
    file.seek(0)
    return file


def _is_chunk(file: BinaryIO, at: int, end: int) -> bool:
    """Whether a chunk begins there that lies in the file: then there really was nothing before."""
    file.seek(at)
    head = file.read(8)
    name, size = head[:4], int.from_bytes(head[4:], "little")
    return name.isalnum() and at + 8 + size <= end
