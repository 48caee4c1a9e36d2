"""MPEG audio frames, and MP3 files that do not state their length.

Without a Xing, Info or VBRI tag, libsndfile guesses the length from the first frame. The guess is
seconds off if the bitrate is constant, and can be many times too large or too small if it is not.
So this module counts the frames and puts a tag in front of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

from mmsearch.media.spliced import Spliced

_BITRATES_KBPS = {  # (MPEG version is 1, layer) -> table; ISO 11172-3 and 13818-3
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_HEAD_BYTES = 1 << 16  # where the first frame must begin, behind the tags
_CHUNK_BYTES = 1 << 20
_TAG_BYTES = 4 + 4 + 4 + 4  # "Info", flags, frames, bytes
_FRAMES_AND_BYTES = 3  # the flags


class Frame(NamedTuple):
    """The facts in a frame's header."""

    bytes: int
    layer: int
    side_bytes: int  # the length of the side information; a Xing tag lies behind it


def frame_at(data: bytes, at: int) -> Frame | None:
    """The Layer II or III frame whose header starts at ``at``; None if none does."""
    if len(data) < at + 4 or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    bitrate, rate = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or bitrate in (0, 15) or rate == 3:
        return None
    bits = _BITRATES_KBPS[version == 3, layer][bitrate] * 1000
    samples = 576 if layer == 3 and version != 3 else 1152
    length = samples // 8 * bits // _RATES_HZ[version][rate] + (data[at + 2] >> 1 & 1)
    mono = data[at + 3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return Frame(length, layer, side)


def is_audio(data: bytes, at: int) -> bool:
    """Whether a frame starts there, and another where it ends."""
    frame = frame_at(data, at)
    if frame is None:
        return False
    following = at + frame.bytes
    return following + 4 > len(data) or frame_at(data, following) is not None


def with_length(file: BinaryIO) -> BinaryIO:
    """Return the file, with a stated length if it is an MP3 that lacks one.

    Such a file is read once to count its frames. It is not decoded.
    """
    file.seek(0)
    start = _after_id3(file)
    file.seek(start)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    # without a tag in front it begins at once; else it is another format, or nobody knows what
    places = _syncs(head) if start else iter((0,))
    first = next((at for at in places if _begins(head, at)), None)
    frame = None if first is None else frame_at(head, first)
    if first is None or frame is None:
        return file
    tag_at = first + 4 + frame.side_bytes
    tagged = head[tag_at : tag_at + 4] in (b"Xing", b"Info") or head[first + 36 :][:4] == b"VBRI"
    if frame.layer != 3 or tagged:
        return file
    begin = start + first
    frames, size = _counted(file, begin)
    file.seek(0)
    tag = _tag(head[first : first + 4], frames, size) if frames > 1 else None
    return file if tag is None else cast(BinaryIO, Spliced(file, begin, tag))


def _begins(data: bytes, at: int) -> bool:
    """Whether three frames in a row begin there, or fewer that reach the end of the data."""
    frame = frame_at(data, at)
    return (
        frame is not None
        and is_audio(data, at)
        and (at + frame.bytes >= len(data) or is_audio(data, at + frame.bytes))
    )


def _after_id3(file: BinaryIO) -> int:
    """Return the offset of the first byte behind a file's ID3v2 tags."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
            return at
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at += 10 + size + (10 if head[5] & 0x10 else 0)


def _syncs(data: bytes) -> Iterator[int]:
    at = data.find(b"\xff")
    while at >= 0:
        yield at
        at = data.find(b"\xff", at + 1)


def _counted(file: BinaryIO, begin: int) -> tuple[int, int]:
    """Count the frames from an offset to the end, and their bytes. Other bytes do not count."""
    frames = size = 0
    file.seek(begin)
    data, at, whole = file.read(_CHUNK_BYTES), 0, False
    while True:
        if len(data) - at < 4096 and not whole:
            more = file.read(_CHUNK_BYTES)
            whole = not more
            data, at = data[at:] + more, 0
        frame = frame_at(data, at)
        if frame is not None and frame.layer == 3:
            frames, size, at = frames + 1, size + frame.bytes, at + frame.bytes
            continue
        at = data.find(b"\xff", at + 1)
        while at >= 0 and not is_audio(data, at):
            at = data.find(b"\xff", at + 1)
        if at < 0:
            if whole:
                return frames, size
            at = len(data)


def _tag(header: bytes, frames: int, size: int) -> bytes | None:
    """Make a silent frame with an Info tag. Its header is like that of the first frame."""
    # no checksum and no padding; the least bitrate whose frame holds the tag
    plain = bytearray((header[0], header[1] | 1, header[2] & 0x0C, header[3]))
    for bitrate in range(1, 15):
        plain[2] = plain[2] & 0x0C | bitrate << 4
        frame = frame_at(bytes(plain), 0)
        if frame is not None and frame.bytes >= 4 + frame.side_bytes + _TAG_BYTES:
            body = bytearray(frame.bytes)
            body[:4] = plain
            numbers = (_FRAMES_AND_BYTES, frames, min(size + frame.bytes, 2**32 - 1))
            at = 4 + frame.side_bytes
            body[at : at + _TAG_BYTES] = b"Info" + b"".join(n.to_bytes(4, "big") for n in numbers)
            return bytes(body)
    return None
