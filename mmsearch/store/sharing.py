"""Files that many indexes keep, such as the towers of a space, lie on the disk once.

An index never gets a second name of somebody else's file: whoever changed the one would change the
other. So there is one read-only copy of each in the user's cache, and indexes have names of that.
"""

from __future__ import annotations

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

    source: a plain path is somebody else's, and never linked to. shared: where a read-only copy
    of it may lie, on the disk of the index; it is made if it is not there, or is not that.
    """
    if shared is None or isinstance(source, ConfinedPath):
        link_or_copy(source, target)
        return reference(target)
    wanted = _of_plain(source)
    for fresh in (False, True):
        with suppress(OSError):
            if fresh or reference(shared) != wanted:
                _copy(source, shared)
            link_or_copy(shared, target)
            if reference(target) == wanted:
                return wanted
    link_or_copy(source, target)  # the cache cannot be used
    return reference(target)


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


def _of_plain(path: Path) -> FileRef:
    real = path.resolve()  # an installed file may be a link
    return reference(ConfinedPath(real.parent) / real.name)


def _copy(source: Path, shared: ConfinedPath) -> None:
    make_folder(shared.parent)
    with source.open("rb") as file:
        replace_file(shared, iter(lambda: file.read(_BLOCK), b""), mode=_READ_ONLY)
