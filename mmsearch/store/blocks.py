"""A file's blocks, checked when they are first touched.

Beside a large file lies ``NAME.blocks``: for each block of 8 KiB its XXH3-64, raw
little-endian, seeded with the block's number so that blocks cannot change places. The
manifest holds the checksum of that list, which is read whole when the file is opened:
a thousandth of the file. A block is hashed when something in it is first asked for.
"""

from __future__ import annotations

import mmap
import os
import weakref
from array import array

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import XXH3, Hasher, checksum_of, replace_file
from mmsearch.store.manifest import FileRef

SUFFIX = ".blocks"
# A hit's vector, text and path are a few hundred bytes each: a larger block would hash more
# of what nobody asked for, a smaller one would make the list longer and each call dearer.
_SHIFT = 13
BLOCK_BYTES = 1 << _SHIFT
_READ_BYTES = 1 << 20  # a multiple of BLOCK_BYTES
_CHUNK = 8192  # ranges looked at together: their arrays stay in the processor's cache
KEPT = "`mmsearch index` over one of its folders writes it anew, with the space's model at hand."
RESTORE = "Restore it from a copy; `mmsearch verify` says what else is affected."
REBUILD = "Remove it and run `mmsearch index` again: it is built anew."


def mapped(path: ConfinedPath, size: int) -> NDArray[np.uint8]:
    """The file as uint8 (bytes,), mapped: read when touched.

    Raises IndexDamaged where it has another size: reading past the end of a mapped file
    would kill the process.
    """
    descriptor = _of_size(path, size)
    try:
        return _map(descriptor, size)
    finally:
        os.close(descriptor)


def _map(descriptor: int, size: int) -> NDArray[np.uint8]:
    if size == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ), np.uint8)


def read_whole(path: ConfinedPath, ref: FileRef, remedy: str = RESTORE) -> bytes:
    """A small file's bytes, checked. Raises IndexDamaged where they are not those of ``ref``."""
    with os.fdopen(_of_size(path, ref.bytes), "rb") as f:
        content = f.read(ref.bytes)
    if checksum_of(content, ref.checksum) != ref.checksum:
        raise altered(path, remedy)
    return content


def _of_size(path: ConfinedPath, size: int) -> int:
    """A descriptor of the file, if it has that size."""
    descriptor = path.open_descriptor()
    found = os.fstat(descriptor).st_size
    if found != size:
        os.close(descriptor)
        raise wrong_size(path, found, size)
    return descriptor


def wrong_size(path: ConfinedPath, found: int, wanted: int) -> IndexDamaged:
    """The error for a file that was cut or grew."""
    return IndexDamaged(f"{path} has {found:,} bytes and should have {wanted:,}. {RESTORE}")


def altered(path: ConfinedPath, remedy: str) -> IndexDamaged:
    """The error for a file whose checksum does not fit."""
    return IndexDamaged(f"{path} is damaged: its bytes are not those that were written. {remedy}")


class Blocks:
    """A mapped file with the checks of its blocks; meets ``types.Checked``."""

    def __init__(
        self,
        path: ConfinedPath,
        ref: FileRef,
        sums: FileRef,
        remedy: str = RESTORE,
        at_random: bool = False,
    ) -> None:
        """Maps the file and reads its list of checks, ``sums``.

        remedy: what an error says to do. at_random: keeps the file open beside the map, for
        ``take``. Raises FileNotFoundError, or IndexDamaged for a file of another size and for
        a list that is not the one that was written.
        """
        self._path, self._remedy = path, remedy
        self._open: int | None = None
        descriptor = _of_size(path, ref.bytes)
        keep = at_random and hasattr(os, "pread")  # not on Windows
        try:
            self.data = _map(descriptor, ref.bytes)
            if keep:
                self._open = descriptor
                weakref.finalize(self, os.close, descriptor)
        finally:
            if self._open is None:
                os.close(descriptor)
        listed, blocks = path.with_name(path.name + SUFFIX), -(-ref.bytes >> _SHIFT)
        if sums.bytes != 8 * blocks:
            raise IndexDamaged(
                f"{listed} has {sums.bytes / 8:,g} checks and {path.name} {blocks:,} "
                f"blocks. {remedy}"
            )
        self._sums = np.frombuffer(read_whole(listed, sums), "<u8")
        self._seen = np.zeros(blocks, np.bool_)  # block -> was checked
        self._walked = 0  # how many blocks ``check_more`` has gone past
        self.whole = not len(self._seen)

    def take(self, starts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """See ``types.Checked``.

        Read, where the file was kept open, and not through the map: the system maps up to a
        megabyte around each byte that is touched, and a query touches hundreds.
        """
        if self._open is None:
            self.check(starts, starts + width)
            return _gathered(self.data, starts, width)
        out = np.empty((len(starts), width), np.uint8)
        for row, start in enumerate(starts.tolist()):
            first, last = start >> _SHIFT, (start + width - 1) >> _SHIFT
            at = first << _SHIFT
            stop = min((last + 1) << _SHIFT, len(self.data))
            piece = os.pread(self._open, stop - at, at)
            if len(piece) != stop - at:
                raise wrong_size(self._path, at + len(piece), len(self.data))
            for number in range(first, last + 1):
                if not self._seen[number]:
                    inside = (number - first) << _SHIFT
                    self._compare(number, piece[inside : inside + BLOCK_BYTES])
            out[row] = np.frombuffer(piece, np.uint8, width, start - at)
        return out

    def check(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """See ``types.Checked``: 6 µs for 100 ranges that were checked before."""
        if self.whole:
            return
        for at in range(0, len(starts), _CHUNK):
            first = starts[at : at + _CHUNK] >> _SHIFT
            last = stops[at : at + _CHUNK] - 1
            last >>= _SHIFT
            ends_seen = self._seen[first].all() and self._seen[last].all()
            if ends_seen and (last - first).max() <= 1:
                continue
            counts = last - first + 1
            before = np.cumsum(counts) - counts
            blocks = np.repeat(first - before, counts) + np.arange(counts.sum())
            # sets are quick enough, and np.unique loads numpy.ma, which takes 10 ms
            self._check_blocks(sorted(set(blocks[~self._seen[blocks]].tolist())))

    def check_more(self, size: int) -> None:
        """See ``types.Checked``."""
        if not self.whole:
            start, self._walked = self._walked, self._walked + max(1, size >> _SHIFT)
            unseen = np.flatnonzero(~self._seen[start : self._walked])
            self._check_blocks((start + unseen).tolist())

    def check_all(self) -> None:
        """See ``types.Checked``."""
        if not self.whole:
            self._check_blocks(np.flatnonzero(~self._seen).tolist())

    def _compare(self, number: int, content: bytes) -> None:
        if xxhash.xxh3_64_intdigest(content, number) != int(self._sums[number]):
            raise self._altered(number)
        self._seen[number] = True

    def _altered(self, number: int) -> IndexDamaged:
        start = number << _SHIFT
        stop = min(start + BLOCK_BYTES, len(self.data))
        return IndexDamaged(
            f"{self._path} is damaged: its bytes {start:,} to {stop:,} are not those "
            f"that were written. {self._remedy}"
        )

    def _check_blocks(self, blocks: list[int]) -> None:
        view, digest = memoryview(self.data.data), xxhash.xxh3_64_intdigest
        for number, wanted in zip(blocks, self._sums[blocks].tolist(), strict=True):
            start = number << _SHIFT
            if digest(view[start : start + BLOCK_BYTES], number) != wanted:
                raise self._altered(number)
        self._seen[blocks] = True
        if self._seen.all():
            self.whole = True


def _gathered(data: NDArray[np.uint8], starts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """The bytes [start, start + width) of each: uint8 (m, width)."""
    out: NDArray[np.uint8] = data[starts[:, None] + np.arange(width)]
    return out


class Whole:
    """A mapped file that is checked as one, by its own checksum; meets ``types.Checked``."""

    def __init__(self, path: ConfinedPath, ref: FileRef, remedy: str = RESTORE) -> None:
        self._path, self._ref, self._remedy = path, ref, remedy
        self.data = mapped(path, ref.bytes)
        self.whole = False

    def take(self, starts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """See ``types.Checked``."""
        self.check_all()
        return _gathered(self.data, starts, width)

    def check(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """See ``types.Checked``; reads all of the file."""
        if len(starts):
            self.check_all()

    def check_more(self, size: int) -> None:
        """See ``types.Checked``; reads all of the file."""
        self.check_all()

    def check_all(self) -> None:
        """See ``types.Checked``."""
        if not self.whole:
            if checksum_of(self.data, self._ref.checksum) != self._ref.checksum:
                raise altered(self._path, self._remedy)
            self.whole = True


class Unchecked:
    """A mapped file that was written without checks; meets ``types.Checked``."""

    whole = True

    def __init__(self, path: ConfinedPath, ref: FileRef) -> None:
        self.data = mapped(path, ref.bytes)

    def take(self, starts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """See ``types.Checked``."""
        return _gathered(self.data, starts, width)

    def check(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Does nothing: there is nothing to compare with."""

    def check_more(self, size: int) -> None:
        """Does nothing: there is nothing to compare with."""

    def check_all(self) -> None:
        """Does nothing: there is nothing to compare with."""


def open_checked(
    folder: ConfinedPath,
    name: str,
    files: dict[str, FileRef],
    remedy: str = RESTORE,
    at_random: bool = False,
) -> Blocks | Unchecked:
    """A file of a segment, mapped: with the checks of its blocks where it has any.

    files: the segment's. at_random: see ``Blocks``. Raises KeyError where they do not hold
    it, FileNotFoundError and IndexDamaged.
    """
    sums = files.get(name + SUFFIX)
    if sums is None:
        return Unchecked(folder / name, files[name])
    return Blocks(folder / name, files[name], sums, remedy, at_random)


def summed(path: ConfinedPath, like: str = XXH3) -> tuple[FileRef, bytes]:
    """A file's reference and the content of its ``.blocks``, in one reading.

    like: a checksum of the kind wanted.
    """
    digest, sums, size = Hasher(like), array("Q"), 0
    with path.open("rb") as f:
        while piece := f.read(_READ_BYTES):
            digest.update(piece)
            view = memoryview(piece)
            for at in range(0, len(piece), BLOCK_BYTES):
                sums.append(xxhash.xxh3_64_intdigest(view[at : at + BLOCK_BYTES], len(sums)))
            size += len(piece)
    content = np.frombuffer(sums, np.uint64).astype("<u8").tobytes()
    return FileRef(size, digest.text()), content


def seal(path: ConfinedPath) -> dict[str, FileRef]:
    """Writes the checks of a finished file beside it, durably; references to both by name."""
    ref, sums = summed(path)
    listed = path.with_name(path.name + SUFFIX)
    replace_file(listed, sums)
    return {path.name: ref, listed.name: FileRef(len(sums), checksum_of(sums))}
