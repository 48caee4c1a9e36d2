"""A file's blocks, checked when they are first touched.

Beside a large file lies ``NAME.blocks``: for each block of 8 KiB its XXH3-64, raw
little-endian, seeded with the block's number so that blocks cannot change places. The
manifest holds the checksum of that list, which is read whole when the file is opened:
a thousandth of the file. A block is hashed when something in it is first asked for.
"""

from __future__ import annotations

import mmap
import os
from array import array
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.store.files import XXH3, Hasher, checksum_of, replace_file
from mmsearch.store.manifest import FileRef

SUFFIX = ".blocks"
# A hit's vector, text and path are a few hundred bytes each: a larger block would hash more
# of what nobody asked for, a smaller one would make the list longer and each call dearer.
_SHIFT = 13
BLOCK_BYTES = 1 << _SHIFT
_READ_BYTES = 1 << 20  # a multiple of BLOCK_BYTES
_CHUNK = 8192  # ranges looked at together: their arrays stay in the processor's cache
RESTORE = "Restore it from a copy; `mmsearch verify` says what else is affected."
REBUILD = "Remove it and run `mmsearch index` again: it is built anew."


def mapped(path: Path, size: int) -> NDArray[np.uint8]:
    """The file as uint8 (bytes,), mapped: read when touched.

    Raises IndexDamaged where it has another size: reading past the end of a mapped file
    would kill the process.
    """
    with _of_size(path, size) as f:
        if size == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(f.fileno(), size, access=mmap.ACCESS_READ), np.uint8)


def read_whole(path: Path, ref: FileRef) -> bytes:
    """A small file's bytes, checked. Raises IndexDamaged where they are not those of ``ref``."""
    with _of_size(path, ref.bytes) as f:
        content = f.read(ref.bytes)
    if checksum_of(content, ref.checksum) != ref.checksum:
        raise altered(path, RESTORE)
    return content


def _of_size(path: Path, size: int) -> BinaryIO:
    """The file, open, if it has that size; looked at first, for opening a pipe would hang."""
    found = path.stat().st_size
    if found == size:
        f = path.open("rb")
        if (found := os.fstat(f.fileno()).st_size) == size:
            return f
        f.close()
    raise wrong_size(path, found, size)


def wrong_size(path: Path, found: int, wanted: int) -> IndexDamaged:
    """The error for a file that was cut or grew."""
    return IndexDamaged(f"{path} has {found:,} bytes and should have {wanted:,}. {RESTORE}")


def altered(path: Path, remedy: str) -> IndexDamaged:
    """The error for a file whose checksum does not fit."""
    return IndexDamaged(f"{path} is damaged: its bytes are not those that were written. {remedy}")


class Blocks:
    """A mapped file with the checks of its blocks; meets ``types.Checked``."""

    def __init__(self, path: Path, ref: FileRef, sums: FileRef, remedy: str = RESTORE) -> None:
        """Maps the file and reads its list of checks, ``sums``.

        remedy: what an error says to do. Raises FileNotFoundError, or IndexDamaged for a
        file of another size and for a list that is not the one that was written.
        """
        self._path, self._remedy = path, remedy
        self.data = mapped(path, ref.bytes)
        listed = path.with_name(path.name + SUFFIX)
        self._sums = np.frombuffer(read_whole(listed, sums), "<u8")
        self._seen = np.zeros(-(-ref.bytes >> _SHIFT), np.bool_)  # block -> was checked
        if len(self._sums) != len(self._seen):
            raise IndexDamaged(
                f"{listed} has {len(self._sums):,} checks and {path.name} "
                f"{len(self._seen):,} blocks. {remedy}"
            )
        self.whole = not len(self._seen)

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

    def check_all(self) -> None:
        """See ``types.Checked``."""
        if not self.whole:
            self._check_blocks(np.flatnonzero(~self._seen).tolist())

    def _check_blocks(self, blocks: list[int]) -> None:
        view, digest = memoryview(self.data.data), xxhash.xxh3_64_intdigest
        for number, wanted in zip(blocks, self._sums[blocks].tolist(), strict=True):
            start = number << _SHIFT
            if digest(view[start : start + BLOCK_BYTES], number) != wanted:
                stop = min(start + BLOCK_BYTES, len(view))
                raise IndexDamaged(
                    f"{self._path} is damaged: its bytes {start:,} to {stop:,} are not those "
                    f"that were written. {self._remedy}"
                )
        self._seen[blocks] = True
        if self._seen.all():
            self.whole = True


class Whole:
    """A mapped file that is checked as one, by its own checksum; meets ``types.Checked``."""

    def __init__(self, path: Path, ref: FileRef, remedy: str = RESTORE) -> None:
        self._path, self._ref, self._remedy = path, ref, remedy
        self.data = mapped(path, ref.bytes)
        self.whole = False

    def check(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """See ``types.Checked``; reads all of the file."""
        if len(starts):
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

    def __init__(self, path: Path, ref: FileRef) -> None:
        self.data = mapped(path, ref.bytes)

    def check(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Does nothing: there is nothing to compare with."""

    def check_all(self) -> None:
        """Does nothing: there is nothing to compare with."""


def open_checked(
    folder: Path, name: str, files: dict[str, FileRef], remedy: str = RESTORE
) -> Blocks | Unchecked:
    """A file of a segment, mapped: with the checks of its blocks where it has any.

    files: the segment's. Raises KeyError where they do not hold it, FileNotFoundError and
    IndexDamaged.
    """
    sums = files.get(name + SUFFIX)
    if sums is None:
        return Unchecked(folder / name, files[name])
    return Blocks(folder / name, files[name], sums, remedy)


def summed(path: Path, like: str = XXH3) -> tuple[FileRef, bytes]:
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


def seal(path: Path) -> dict[str, FileRef]:
    """Writes the checks of a finished file beside it, durably; references to both by name."""
    ref, sums = summed(path)
    listed = path.with_name(path.name + SUFFIX)
    replace_file(listed, sums)
    return {path.name: ref, listed.name: FileRef(len(sums), checksum_of(sums))}
