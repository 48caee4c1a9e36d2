"""Files inside the archives that games keep their sounds in, read without running the games.

Zip files under any name (0 A.D., Warzone 2100), Qt's resource files (GCompris) and Doom's
WADs (Freedoom). For training only, so a damaged archive raises what reading it raises.
"""

from __future__ import annotations

import io
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

Members = Iterator[tuple[str, bytes]]
Wanted = Callable[[str], bool]  # of a name in the archive

RCC_FOLDER, RCC_ZLIB, RCC_ZSTD = 2, 1, 4  # flags of a node
DOOM_SOUND = 3  # the format of a lump that is a sound


def zipped(path: Path, wanted: Wanted) -> Members:
    """Name and bytes of the files in a zip file, one at a time."""
    with zipfile.ZipFile(path) as archive:
        for one in archive.infolist():
            if wanted(one.filename):
                yield one.filename, archive.read(one)


def rcc(path: Path, wanted: Wanted) -> Members:
    """Name and bytes of the files in a Qt resource file; those packed with zstd are left out.

    Source of the format: Qt's rcc, format versions 1 to 3.
    """
    content = path.read_bytes()
    _, version, tree, data, names = struct.unpack_from(">4sIIII", content)
    node_size = 14 if version < 2 else 22

    def name(at: int) -> str:
        (length,) = struct.unpack_from(">H", content, names + at)
        start = names + at + 6  # the length, and a hash
        return content[start : start + 2 * length].decode("utf-16-be")

    def below(number: int, path: str) -> Members:
        node = struct.unpack_from(">IHII", content, tree + number * node_size)
        name_at, flags, count, first = node
        own = path + name(name_at) if number else ""
        if flags & RCC_FOLDER:
            for child in range(first, first + count):
                yield from below(child, f"{own}/" if own else "")
        elif wanted(own) and not flags & RCC_ZSTD:
            (length,) = struct.unpack_from(">I", content, data + first)
            start = data + first + 4
            found = content[start : start + length]
            yield own, zlib.decompress(found[4:]) if flags & RCC_ZLIB else found

    yield from below(0, "")


def wad(path: Path, wanted: Wanted) -> Members:
    """Name and bytes, as a WAV file, of the sounds in a WAD.

    Source of the format: the Unofficial Doom Specs, lumps named DS….
    """
    content = path.read_bytes()
    _, count, directory = struct.unpack_from("<4sii", content)
    for number in range(count):
        at, size, label = struct.unpack_from("<ii8s", content, directory + 16 * number)
        name = label.rstrip(b"\0").decode("latin-1") + ".wav"
        lump = content[at : at + size]
        if not name.startswith("DS") or size < 8 or not wanted(name):
            continue
        kind, rate_hz, samples = struct.unpack_from("<HHI", lump)
        if kind == DOOM_SOUND:
            yield name, as_wav(lump[8 : 8 + samples], rate_hz)


def as_wav(samples: bytes, rate_hz: int) -> bytes:
    """Unsigned 8-bit mono samples as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(rate_hz)
        file.writeframes(samples)
    return out.getvalue()


ARCHIVES: dict[str, Callable[[Path, Wanted], Members]] = {
    ".zip": zipped, ".pk3": zipped, ".wz": zipped, ".rcc": rcc, ".wad": wad,
}  # fmt: skip


def members(path: Path, wanted: Wanted) -> Members:
    """The files of an archive whose names are wanted, in its order."""
    yield from ARCHIVES[path.suffix.lower()](path, wanted)
