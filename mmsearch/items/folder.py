"""Walking folders: every file below them, with its signature, in a fixed order."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from mmsearch.errors import UsageError
from mmsearch.given import expanded
from mmsearch.types import signature_of


@dataclass(frozen=True, slots=True)
class Scope:
    """One thing that was named to ``index``: an absolute folder or file."""

    path: str
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or folder below a scope that could not be looked at, and why.

    ``ignored`` is True for what is no file at all (a FIFO, a socket, a device, a link that leads
    nowhere). ``may_return``: what was met there before may be there again, as on another drive.
    """

    path: str
    reason: str
    ignored: bool = False
    may_return: bool = False


_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a link
_LEADS_OUT = "a link that leads out of the folder (--follow-links follows it)"

# (absolute path, size, mtime_ns, ctime_ns, inode): a tuple, since a walk makes a
# million of them and a comparison needs no more
Found = tuple[str, int, int, int, int]


def scope_of(source: str | os.PathLike[str]) -> Scope:
    """The scope that a name on the command line stands for.

    Links in it are resolved: a folder reached in two ways is one folder.
    Raises UsageError if there is nothing there.
    """
    text = os.fspath(source)
    if "\0" in text:
        raise UsageError(f"{text!r} is not a path.")
    try:
        path = expanded(text)
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"there is no file or folder at {text}.") from None
    except (OSError, RuntimeError) as e:  # links in a circle are a RuntimeError before 3.13
        reason = e.strerror if isinstance(e, OSError) else None
        raise UsageError(f"{text} cannot be read: {reason or e}.") from e
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UsageError(f"{path} is neither a folder nor a regular file.")
    return Scope(str(real), stat.S_ISREG(mode))


class Folder:
    """The files below a scope; hidden ones and excluded patterns are left out.

    exclude: glob patterns; each is tried on the name, on the path below the scope
    and on the absolute path; one that ends in ``/`` is for folders alone.
    skip: absolute folders never entered (the index being written).
    root: an absolute folder at or above the scope; the scope if left out. A link that leads
    out of it is not followed, unless ``follow_links``. Other links to files are followed;
    those to folders are followed after all real folders, unless they lead to one that was
    walked or that lies above the walk.
    """

    def __init__(
        self,
        scope: Scope,
        exclude: Sequence[str] = (),
        skip: Sequence[str] = (),
        root: str | None = None,
        follow_links: bool = False,
    ) -> None:
        self._scope = scope
        self._exclude = tuple(exclude)
        self._skip = frozenset(skip)
        self._root = os.path.realpath(root or scope.path)
        self._below_root = os.path.join(self._root, "")
        self._follow_links = follow_links
        self.left_out = 0  # names that were met and not looked at: hidden or excluded

    def walk(self) -> Iterator[Found | Unreadable]:
        """Every regular file in the scope, by folder, names in order."""
        if self._scope.is_file:
            try:
                s = Path(self._scope.path).stat()
            except OSError as e:
                yield Unreadable(self._scope.path, e.strerror or str(e), may_return=True)
                return
            yield _found(self._scope.path, s)
            return
        top = self._scope.path
        visited = _ancestors(top)  # (device, inode) of folders walked, or above the walk
        waiting, linked = [top], deque[str]()
        while waiting or linked:
            # what a link leads to comes last: a real folder is met under its own name
            folder = waiting.pop() if waiting else linked.popleft()
            below: list[str] = []
            yield from self._list(folder, top, visited, below, linked)
            waiting.extend(reversed(below))

    def _list(
        self,
        folder: str,
        top: str,
        visited: set[tuple[int, int]],
        below: list[str],
        linked: deque[str],
    ) -> Iterator[Found | Unreadable]:
        try:
            here = os.stat(folder)
            key = here.st_dev, here.st_ino
            if key in visited and here.st_ino:
                return
            visited.add(key)
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda e: e.name)
        except OSError as e:
            yield Unreadable(folder, e.strerror or str(e), may_return=True)
            return
        names = {e.name for e in listed}
        if folder != top and {"manifest.json", "segments"} <= names:
            return  # an index is not a corpus
        exclude = self._exclude
        for entry in listed:
            name = entry.name
            if name.startswith("."):
                continue
            try:
                is_dir = entry.is_dir()
                if exclude and self._excluded(entry.path, name, top, is_dir):
                    self.left_out += 1
                    continue
                if entry.is_symlink() and self._leads_out(entry.path):
                    yield Unreadable(entry.path, _LEADS_OUT, ignored=True)
                    continue
                if is_dir:
                    if entry.path not in self._skip and not _hidden(entry):
                        (linked if entry.is_symlink() else below).append(entry.path)
                    continue
                # on Windows an entry carries a cached, cut-down result
                s = entry.stat() if os.name != "nt" else os.stat(entry.path)
            except OSError as e:
                nowhere = entry.is_symlink() and e.errno in _NOWHERE
                yield Unreadable(entry.path, _why(entry, e), nowhere, may_return=True)
                continue
            if stat.S_ISREG(s.st_mode):
                yield _found(entry.path, s)
            else:
                yield Unreadable(entry.path, f"not a file but {_kind(s.st_mode)}", ignored=True)

    def leaves_out(self, path: str, links: bool = False) -> bool:
        """Whether a file at an absolute path below the scope is excluded, itself or a folder above.

        links: whether it is left out, too, behind a link that is not followed.
        """
        top, is_dir = self._scope.path, False
        while path != top and path != os.path.dirname(path):
            if self._excluded(path, os.path.basename(path), top, is_dir):
                return True
            if links and Path(path).is_symlink() and self._leads_out(path):
                return True
            path, is_dir = os.path.dirname(path), True
        return False

    def _leads_out(self, link: str) -> bool:
        if self._follow_links:
            return False
        target = os.path.realpath(link)
        return target != self._root and not target.startswith(self._below_root)

    def _excluded(self, path: str, name: str, top: str, is_dir: bool) -> bool:
        relative = path[len(top) :].lstrip("/\\").replace(os.sep, "/")
        for pattern in self._exclude:
            if pattern.endswith("/"):
                if not is_dir:
                    continue
                pattern = pattern.rstrip("/")
            if any(fnmatch(way, pattern) for way in (name, relative, path)):
                return True
        return False


def _ancestors(top: str) -> set[tuple[int, int]]:
    """(device, inode) of the folders above a folder: a link must not climb out of it."""
    found = set()
    for above in Path(top).parents:
        try:
            s = above.stat()
        except OSError:
            continue
        if s.st_ino:
            found.add((s.st_dev, s.st_ino))
    return found


def _found(path: str, s: os.stat_result) -> Found:
    return (path, *signature_of(s))


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "something else")


def _hidden(entry: os.DirEntry[str]) -> bool:
    if os.name != "nt":
        return False
    attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0)
    return bool(attributes & getattr(stat, "FILE_ATTRIBUTE_HIDDEN", 0))


def _why(entry: os.DirEntry[str], error: OSError) -> str:
    if entry.is_symlink():
        return f"a link that leads nowhere ({error.strerror or error})"
    return error.strerror or str(error)
