"""Whether a container of videos and sounds holds a sound alone: what phones and browsers record.

Only the headers of tracks are looked for; a file of any size costs a few short reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_MAX_BOXES = 2_000  # looked at in one file; honest ones need some fifty
_NESTED = frozenset((b"moov", b"trak", b"mdia"))
_MATROSKA = b"\x1a\x45\xdf\xa3"
_SEGMENT, _TRACKS, _TRACK, _TRACK_TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0x83
_CLUSTER = 0x1F43B675  # the media: no tracks are described behind it
_VIDEO, _AUDIO = 1, 2
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")  # "stream properties object"
_ASF_KINDS = {  # what stands 24 bytes behind it begins -> whether that is a video
    bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b"): False,
    bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b"): True,
}
_ASF_HEADER_BYTES = 1 << 20


def sound_alone(file: BinaryIO, head: bytes) -> bool:
    """Whether a file has a track of sound and none of video; False where that cannot be told.

    file: open, seekable; its position stays. head: its first bytes. Reads MP4, QuickTime, 3GP
    (ISO/IEC 14496-12), Matroska, WebM (RFC 9559) and Windows Media (ASF 1.20).
    """
    position = file.tell()
    try:
        if head[4:8] == b"ftyp":
            kinds = {handler in (b"vide", b"auxv", b"pict") for handler in _handlers(file)}
        elif head.startswith(_MATROSKA):
            kinds = {kind == _VIDEO for kind in _track_types(file)}
        elif head.startswith(_ASF):
            kinds = set(_asf_kinds(file))
        else:
            return False
    finally:
        file.seek(position)
    return kinds == {False}


def _handlers(file: BinaryIO) -> Iterator[bytes]:
    """What the tracks of an MP4 file are, as it says: ``soun``, ``vide``, ….

    Tracks of text and data are left out.
    """
    end = file.seek(0, 2)
    at, ends = 0, [end]
    for _ in range(_MAX_BOXES):
        while at + 8 > ends[-1]:
            if len(ends) == 1:
                return
            at = ends.pop()
        file.seek(at)
        header = file.read(16)
        size, kind, begin = int.from_bytes(header[:4], "big"), header[4:8], at + 8
        if size == 1:
            size, begin = int.from_bytes(header[8:16], "big"), at + 16
        behind = ends[-1] if size == 0 else min(at + size, ends[-1])
        if behind < begin:
            return
        if kind == b"hdlr":
            file.seek(begin + 8)
            if (handler := file.read(4)) in (b"soun", b"vide", b"auxv", b"pict"):
                yield handler
        if kind in _NESTED:
            ends.append(behind)
            at = begin
        else:
            at = behind


def _asf_kinds(file: BinaryIO) -> Iterator[bool]:
    """Of each stream of sound or video of an ASF file, whether it is a video."""
    file.seek(0)
    header = file.read(_ASF_HEADER_BYTES)
    header = header[: int.from_bytes(header[16:24], "little")]
    at = header.find(_ASF_STREAM)
    while at >= 0:
        kind = _ASF_KINDS.get(header[at + 24 : at + 40])
        if kind is not None:
            yield kind
        at = header.find(_ASF_STREAM, at + 16)


def _track_types(file: BinaryIO) -> Iterator[int]:
    """The types of the tracks of a Matroska file that hold video or sound."""
    end = file.seek(0, 2)
    at = 0
    for _ in range(_MAX_BOXES):
        if at >= end:
            return
        file.seek(at)
        header = file.read(12)
        number, used = _number(header, marked=True)
        size, more = _number(header[used:], marked=False)
        if not used or not more or number == _CLUSTER:
            return
        begin = at + used + more
        if number == _TRACK_TYPE:
            file.seek(begin)
            if (kind := int.from_bytes(file.read(min(size, 8)), "big")) in (_VIDEO, _AUDIO):
                yield kind
        # what these hold is looked at next, whatever length they claim
        at = begin if number in (_SEGMENT, _TRACKS, _TRACK) else begin + size


def _number(data: bytes, marked: bool) -> tuple[int, int]:
    """A number of variable length, and how many bytes it has; 0 where it is none.

    marked: whether the bit that tells the length is a part of it, as in the ids of elements.
    """
    length = 9 - data[0].bit_length() if data and data[0] else 0
    if not length or len(data) < length:
        return 0, 0
    number = int.from_bytes(data[:length], "big")
    return (number if marked else number & ((1 << 7 * length) - 1)), length
