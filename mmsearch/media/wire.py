"""Messages between the pool and its workers: a JSON header, then raw bytes. No pickle.

4 bytes  length of the header, little-endian
header   JSON in ASCII; names that are not UTF-8 travel as escaped surrogates
body     header["nbytes"] raw bytes, if any: an array's memory, or UTF-8 text
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from mmsearch.types import Modality, Part

Header = dict[str, Any]
_LENGTH = struct.Struct("<I")


class Readable(Protocol):
    """An unbuffered binary stream."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def pack(header: Header) -> bytes:
    """The header as it goes over the pipe, before its body."""
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    return _LENGTH.pack(len(text)) + text


def read_header(stream: Readable) -> Header | None:
    """The next header; None where the stream ends before or within it."""
    prefix = bytearray(_LENGTH.size)
    if not _fill(stream, memoryview(prefix)):
        return None
    text = bytearray(_LENGTH.unpack(prefix)[0])
    if not _fill(stream, memoryview(text)):
        return None
    header: Header = json.loads(text)
    return header


def pack_part(part: Part, digest: str) -> tuple[bytes, memoryview]:
    """(header, body) of a part. digest: hex, of the file that it is of."""
    header: Header = {
        "is": "part",
        "hash": digest,
        "modality": str(part.modality),
        "part_no": part.part_no,
        "start_s": part.start_s,
        "end_s": part.end_s,
        "meta": part.meta,
    }
    if isinstance(part.data, str):
        body = memoryview(part.data.encode("utf-8", "replace"))
        header |= {"nbytes": body.nbytes}
    else:
        array = np.ascontiguousarray(part.data)
        body = array.reshape(-1).view(np.uint8).data
        header |= {"nbytes": body.nbytes, "dtype": array.dtype.str, "shape": array.shape}
    return pack(header), body


def read_part(header: Header, stream: Readable) -> Part | None:
    """The part that ``header`` announces, its array filled straight from the pipe."""
    if "dtype" in header:
        array = np.empty(header["shape"], dtype=np.dtype(header["dtype"]))
        if not _fill(stream, array.reshape(-1).view(np.uint8).data):
            return None
        data: Any = array
    else:
        text = bytearray(header["nbytes"])
        if not _fill(stream, memoryview(text)):
            return None
        data = text.decode("utf-8")
    return Part(
        Modality(header["modality"]),
        header["part_no"],
        data,
        header["start_s"],
        header["end_s"],
        header["meta"],
    )


def write_all(write: Callable[[memoryview], int | None], data: bytes | memoryview) -> None:
    """Write every byte through an unbuffered ``write``, which may take fewer than offered."""
    rest = memoryview(data)
    while rest.nbytes:
        rest = rest[write(rest) or 0 :]


def _fill(stream: Readable, buffer: memoryview) -> bool:
    """Read until ``buffer`` is full; False where the stream ends before."""
    while buffer.nbytes:
        count = stream.readinto(buffer)
        if not count:
            return False
        buffer = buffer[count:]
    return True
