"""Writing files so that they are whole or absent, and telling why when they cannot be."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import xxhash
from numpy.typing import NDArray

from mmsearch.errors import IndexNotReadable, IndexNotWritable, StoreError
from mmsearch.store.confined import AnyPath, ConfinedPath, plain

CHECKSUM_BYTES = 16  # 128 bits: finds damage, and is not a defence
XXH3 = "xxh3:"  # how a checksum by XXH3-128 begins; up to schema 2 it was BLAKE2b-128, bare
_BLOCK = 1 << 20

Bytes = bytes | bytearray | memoryview | NDArray[Any]


class Hasher:
    """A running checksum of the kind that ``like`` is."""

    def __init__(self, like: str = XXH3) -> None:
        self._kind = XXH3 if like.startswith(XXH3) else ""
        self._digest: Any = xxhash.xxh3_128() if self._kind else blake2b(digest_size=CHECKSUM_BYTES)

    def update(self, piece: Bytes) -> None:
        """Adds the next bytes."""
        self._digest.update(piece)

    def text(self) -> str:
        """The checksum of what was added so far, as the manifest holds it."""
        return self._kind + str(self._digest.hexdigest())


def checksum_of(content: Bytes, like: str = XXH3) -> str:
    """The checksum of some bytes."""
    digest = Hasher(like)
    digest.update(content)
    return digest.text()


def checksum(path: ConfinedPath, like: str = XXH3) -> tuple[int, str]:
    """(bytes, checksum) of a whole file, read in blocks of 1 MiB.

    like: a checksum of the kind wanted; XXH3-128 unless told.
    """
    digest, size = Hasher(like), 0
    with path.open("rb") as f:
        while block := f.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.text()


def sync_file(path: ConfinedPath) -> None:
    """Waits until the file's bytes are on the disk."""
    with path.open("rb+") as f:
        os.fsync(f.fileno())


def sync_folder(folder: ConfinedPath) -> None:
    """Waits until the folder's names are on the disk; nothing to do on Windows."""
    folder.sync()


def sync_above(folder: Path) -> None:
    """Waits until the name of a folder is on the disk, if the one above it may be read."""
    with suppress(OSError):
        ConfinedPath(folder.parent).sync()


def make_folder(folder: AnyPath) -> None:
    """Makes a folder, and those above it, where they are not there; durably."""
    if isinstance(folder, ConfinedPath):
        folder.mkdir()
        return
    new = [folder, *folder.parents]
    new = new[: next((i for i, path in enumerate(new) if path.exists()), 0)]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync_above(path)


def replace_file(
    path: ConfinedPath,
    content: Bytes | Iterable[Bytes],
    durable: bool = True,
    mode: int | None = None,
) -> None:
    """Puts ``content`` at ``path`` atomically: temporary file, sync, rename, sync.

    content: bytes, or pieces of them, which are written as they come. durable: whether to sync.
    mode: who may do what with the file; None as usual. Windows knows nothing of it.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as f:
            for piece in _pieces(content):
                f.write(memoryview(piece))  # type: ignore[arg-type]
            if (
                mode is not None and os.name != "nt"
            ):  # not by hasattr: Python 3.13 has it there, too
                os.fchmod(f.fileno(), mode)
            if durable:
                f.flush()
                os.fsync(f.fileno())
        _replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def _temporary(path: ConfinedPath) -> ConfinedPath:
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


def _pieces(content: Bytes | Iterable[Bytes]) -> Iterable[Bytes]:
    try:
        return [memoryview(content)]  # type: ignore[arg-type]
    except TypeError:  # no bytes: something that gives them
        return content  # type: ignore[return-value]


def _replace(source: ConfinedPath, target: ConfinedPath) -> None:
    """Renames over what is there; on Windows waits for a reader to close it."""
    for pause_s in (0.01, 0.05, 0.2, 0.7) if os.name == "nt" else ():
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(pause_s)
    source.replace(target)


def remove(path: ConfinedPath) -> bool:
    """Removes a file, a link itself, or a folder; False if it is still there.

    Windows keeps a file that a reader has mapped: the caller tries again later.
    """
    with suppress(OSError):
        path.remove()
    return not path.exists()


def link_or_copy(source: ConfinedPath, target: ConfinedPath) -> None:
    """Puts the content of a file of ours at another place, durably.

    It gets a second name where the file system allows that, which costs no space; else it is
    copied.
    """
    temporary = _temporary(target)
    with suppress(OSError):
        temporary.unlink()
    try:
        try:
            temporary.link_from(source)
        except OSError:
            with source.open("rb") as old, temporary.open("wb") as new:
                shutil.copyfileobj(old, new, _BLOCK)
                new.flush()
                os.fsync(new.fileno())
        _replace(temporary, target)
    finally:
        with suppress(OSError):  # also: renaming onto another name of the same file does nothing
            temporary.unlink()
    sync_folder(target.parent)


def unreadable(path: object, error: OSError) -> StoreError:
    """The error for a file of an index that the system does not open."""
    if isinstance(error, PermissionError):
        return IndexNotReadable(
            f"{error.filename or path}: no permission to read it. Nothing is damaged: ask its "
            "owner, or change its permissions."
        )
    return StoreError(f"{error.filename or path} cannot be opened: {error.strerror or error}.")


# something else lies under a name that a writer wants; EINVAL: no regular file (``confined``)
_IN_THE_WAY = frozenset(
    (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EINVAL)
)


@contextmanager
def writing_to(folder: AnyPath) -> Iterator[None]:
    """Turns the operating system's refusals into one clear IndexNotWritable."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "the disk is full: free some space and run the same command again"
        elif e.errno == errno.EROFS:
            why = "the disk is read-only: choose another place with --index"
        elif e.errno in (errno.EACCES, errno.EPERM):
            why = "no permission to write there: choose another place with --index"
        elif e.errno == errno.EFBIG:
            why = "the file system or a limit of this session allows no larger file"
        elif e.errno in (errno.EMFILE, errno.ENFILE):
            why = "too many open files: raise the limit (ulimit -n)"
        elif e.errno in _IN_THE_WAY:
            why = f"{e.filename or folder}: {e.strerror or e}: it is in the way, so move it"
        else:
            why = e.strerror or str(e)
        there = os.path.exists(plain(folder) / "manifest.json")
        kept = " What was committed before is kept." if there else ""
        raise IndexNotWritable(f"{folder}: {why}.{kept}") from e
