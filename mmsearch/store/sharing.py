"""Files that many indexes keep, such as the towers of a space, lie on the disk once.

An index never gets a second name of somebody else's file: whoever changed the one would change the
other. So there is one copy of each in the user's cache, and indexes have names of that. It can only
be read, so a program that writes into a file in place is refused, and one that replaces a file
changes that index alone. A copy that was changed all the same, or that may be written to, gets no
more names: it is made anew.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import checksum, link_or_copy, make_folder, replace_file
from mmsearch.store.manifest import FileRef

_READ_ONLY = 0o444
_BLOCK = 1 << 20
# What was read once in this process: (device, inode, size, time of the last change) -> reference
_known: dict[tuple[int, int, int, int], FileRef] = {}
_MOST_KNOWN = 1024


def keep(source: AnyPath, target: ConfinedPath, shared: ConfinedPath | None = None) -> FileRef:
    """Puts the content of a file into an index, durably; its reference there.

    source: a plain path, or one in another folder, is somebody else's, and never linked to.
    shared: where a read-only copy of it may lie, on the disk of the index; it is made if it is not
    there, or is not that.
    """
    if isinstance(source, ConfinedPath):
        own = source.is_beside(target) and _only_read(source)
        (link_or_copy if own else _copy)(source, target)
        return reference(target)
    if shared is None or not _linked_to_copy(source, shared, target):
        _copy(source, target)
    return reference(target)


def _linked_to_copy(source: Path, shared: ConfinedPath, target: ConfinedPath) -> bool:
    """Whether ``target`` is now a name of a whole copy at ``shared``; False if that cannot be."""
    wanted = of_source(source)
    for fresh in (False, True):
        with suppress(OSError):
            if fresh or not (_only_read(shared) and reference(shared) == wanted):
                _copy(source, shared)
            link_or_copy(shared, target)
            if reference(target) == wanted:
                return True
    return False


def same_disk(one: AnyPath, other: AnyPath) -> bool:
    """Whether files of one folder can have names in the other."""
    try:
        return one.stat().st_dev == other.stat().st_dev
    except OSError:
        return False


def reference(path: ConfinedPath) -> FileRef:
    """A file's size and checksum, read once as long as it does not change."""
    s = path.stat()
    key = s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns
    if key not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key] = FileRef(*checksum(path))
    return _known[key]


def of_source(path: AnyPath) -> FileRef:
    """The reference that a file has once an index keeps it."""
    if isinstance(path, ConfinedPath):
        return reference(path)
    real = path.resolve()  # an installed file may be a link
    return reference(ConfinedPath(real.parent) / real.name)


def _only_read(path: ConfinedPath) -> bool:
    """Whether nobody may write to a file. On Windows no copy of ours is like that: a file that
    can only be read could not be removed there."""
    try:
        return os.name == "nt" or not path.stat().st_mode & 0o222
    except FileNotFoundError:
        return False


def _copy(source: AnyPath, target: ConfinedPath) -> None:
    make_folder(target.parent)
    with source.open("rb") as file:
        replace_file(target, iter(lambda: file.read(_BLOCK), b""), mode=_READ_ONLY)
