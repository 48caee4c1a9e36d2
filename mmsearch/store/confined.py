"""Paths inside a folder whose content may come from a stranger: links in it are never followed.

A folder is named by its user and may be reached through links. What lies below it is opened,
listed, made, renamed and removed one name at a time, each relative to the folder before it, so
that a symbolic link in the folder leads nowhere. Where the system cannot do that (Windows), each
name is looked at before it is used.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import total_ordering
from pathlib import Path
from typing import BinaryIO

_BY_DESCRIPTOR = {os.open, os.mkdir, os.unlink, os.rename, os.link, os.stat} <= os.supports_dir_fd
_LINK_ITSELF = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | _ALWAYS | getattr(os, "O_DIRECTORY", 0)
# without waiting: a pipe without a writer would block for ever
_READ = os.O_RDONLY | _ALWAYS | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FLAGS = {
    "rb": _READ,
    "rb+": _READ | os.O_RDWR,
    "ab": _READ | os.O_RDWR | os.O_CREAT,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_EXCL | _ALWAYS,
}
_NOT_IN_NAMES = {"/", "\0", os.sep, *(":" if os.name == "nt" else "")}
_CLOSED = -1
# On Windows a folder may lead elsewhere without being a symbolic link.
_JUNCTIONS = (getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None),)


class _Top:
    """The folder that the user named, open from its first use on."""

    __slots__ = ("_open", "_owned", "path")

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path = path
        self._open = descriptor
        self._owned = descriptor is None

    @property
    def descriptor(self) -> int:
        if self._open is None:
            self._open = os.open(self.path, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
        return self._open

    def __del__(self) -> None:
        if self._owned and self._open is not None:
            with suppress(OSError):
                os.close(self._open)


@total_ordering
class ConfinedPath:
    """A folder, or a path below it, used without following links below that folder.

    It has those methods of ``pathlib.Path`` that an index needs. It is no ``os.PathLike``: what
    opens paths by itself would follow links. Every method raises OSError as the system does, and
    for a link with ``errno.ELOOP``.
    """

    __slots__ = ("_names", "_top")

    def __init__(self, folder: Path | ConfinedPath) -> None:
        """folder: what the user named; it is opened when it is first used, and stays open."""
        self._top: _Top
        self._names: tuple[str, ...]
        if isinstance(folder, ConfinedPath):
            self._top, self._names = folder._top, folder._names
        else:
            self._top, self._names = _Top(folder), ()

    def __truediv__(self, relative: str) -> ConfinedPath:
        """The path below it. Raises ValueError for one that would leave it."""
        names = relative.split("/")
        for name in names:
            if name in ("", ".", "..") or not _NOT_IN_NAMES.isdisjoint(name):
                raise ValueError(f"{relative!r} is no path below a folder")
        return self._with((*self._names, *names))

    def _with(self, names: tuple[str, ...]) -> ConfinedPath:
        found = object.__new__(ConfinedPath)
        found._top, found._names = self._top, names
        return found

    @contextmanager
    def opened(self) -> Iterator[ConfinedPath]:
        """The same folder, open for a while: paths below it are found in fewer steps. They must
        not be used afterwards, but for their names."""
        if not _BY_DESCRIPTOR:
            _check_way(self)
            yield self
            return
        found = object.__new__(ConfinedPath)
        with _Folder(self) as folder:
            found._top, found._names = _Top(self.path, folder), ()
            try:
                yield found
            finally:
                found._top._open = _CLOSED

    @property
    def name(self) -> str:
        """The last name."""
        return self._names[-1] if self._names else self._top.path.name

    def relative_to(self, folder: ConfinedPath) -> str:
        """The path below a folder above it, with ``/`` between names."""
        return "/".join(self._names[len(folder._names) :])

    def is_beside(self, other: ConfinedPath) -> bool:
        """Whether both lie below the same folder that the user named. Raises OSError."""
        mine, its = self._top, other._top
        return mine is its or os.path.samestat(mine.path.stat(), its.path.stat())

    @property
    def parent(self) -> ConfinedPath:
        """The folder that it lies in; that which the user named is its own."""
        return self._with(self._names[:-1])

    def with_name(self, name: str) -> ConfinedPath:
        """Another name beside it."""
        return self.parent / name

    @property
    def path(self) -> Path:
        """The plain path, for messages, and for libraries that open files by themselves."""
        return self._top.path.joinpath(*self._names)

    def __str__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"ConfinedPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfinedPath) and self.path == other.path

    def __lt__(self, other: ConfinedPath) -> bool:
        return self.path < other.path

    def __hash__(self) -> int:
        return hash(self.path)

    # -- looking ----------------------------------------------------------------

    def stat(self) -> os.stat_result:
        """What is there, a link as a link."""
        if not self._names:
            return self._top.path.stat()
        with _Place(self) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def exists(self) -> bool:
        """Whether anything is there, also a link that leads nowhere."""
        return self._kind() is not None

    def is_dir(self) -> bool:
        """Whether it is a folder, and no link to one."""
        return stat.S_ISDIR(self._kind() or 0)

    def is_file(self) -> bool:
        """Whether it is a regular file, and no link to one."""
        return stat.S_ISREG(self._kind() or 0)

    def _kind(self) -> int | None:
        try:
            return self.stat().st_mode
        except OSError:
            return None

    def iterdir(self) -> list[ConfinedPath]:
        """What lies in this folder, sorted by name."""
        with _Folder(self) as folder:
            names = os.listdir(self.path if folder is None else folder)
        return [self._with((*self._names, name)) for name in sorted(names)]

    # -- files ------------------------------------------------------------------

    def open(self, mode: str = "rb") -> BinaryIO:
        """A regular file, open to read (``rb``), to sync (``rb+``), or new and empty (``wb``:
        what was there under that name is left to whoever has it open)."""
        descriptor = self.open_descriptor(mode)
        try:
            return os.fdopen(descriptor, mode)  # type: ignore[return-value]
        except BaseException:
            os.close(descriptor)
            raise

    def open_descriptor(self, mode: str = "rb") -> int:
        """As ``open``, a descriptor that the caller closes; ``ab``: of a file that is made where
        there is none, and never cut."""
        with _Place(self) as (folder, name):
            if mode == "wb":
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
            else:  # before it is opened: to open a device may do something
                try:
                    self._check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False))
                except FileNotFoundError:
                    if mode != "ab":
                        raise
            descriptor = os.open(name, _FLAGS[mode], 0o666, dir_fd=folder)
        try:
            self._check_regular(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def read_bytes(self, most: int) -> bytes:
        """All of a file. Raises OSError with ``errno.EFBIG`` where it has more than ``most``."""
        with self.open() as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(self))
        return content

    def _check_regular(self, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise _link(self)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(self))

    # -- changing ---------------------------------------------------------------

    def mkdir(self) -> None:
        """Makes this folder, and those above it, where they are not there; durably."""
        for n in range(1, len(self._names) + 1):
            above = self._with(self._names[: n - 1])
            with _Place(self._with(self._names[:n])) as (folder, name):
                try:
                    os.mkdir(name, dir_fd=folder)
                except FileExistsError:
                    continue  # perhaps a link, or a file: said where it is opened
            above.sync()
        with _Folder(self):
            pass

    def replace(self, target: ConfinedPath) -> None:
        """Renames it over what is at ``target``; a link there is replaced."""
        with _Place(self) as (folder, name), _Place(target) as (other, new):
            os.replace(name, new, src_dir_fd=folder, dst_dir_fd=other)

    def link_from(self, source: ConfinedPath) -> None:
        """Makes it a second name of the regular file ``source``."""
        with _Place(self) as (folder, name), _Place(source) as (other, old):
            source._check_regular(os.stat(old, dir_fd=other, follow_symlinks=False))
            os.link(old, name, src_dir_fd=other, dst_dir_fd=folder, **_LINK_ITSELF)

    def unlink(self) -> None:
        """Removes a file, or a link itself."""
        with _Place(self) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def rmdir(self) -> None:
        """Removes an empty folder."""
        with _Place(self) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def remove(self) -> None:
        """Removes a file, a link itself, or a folder with all that is in it, as far as it can."""
        with _Place(self) as (folder, name):
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                with suppress(RecursionError):  # before Python 3.13, for a thousand folders deep
                    shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)

    def sync(self) -> None:
        """Waits until this folder's names are on the disk; nothing to do on Windows."""
        # some network and user-space file systems cannot sync a folder
        with _Folder(self) as folder, suppress(OSError):
            if folder is not None:
                os.fsync(folder)


AnyPath = Path | ConfinedPath  # the first for what is trusted


def plain(path: AnyPath) -> Path:
    """The path as others take it, who follow links."""
    return path if isinstance(path, Path) else path.path


class _Folder:
    """A folder, open for a while; None where the system cannot open it, and it was looked at."""

    __slots__ = ("_close", "_path")

    def __init__(self, path: ConfinedPath) -> None:
        self._path = path
        self._close: int | None = None

    def __enter__(self) -> int | None:
        path = self._path
        if not _BY_DESCRIPTOR:
            _check_way(path)
            return None
        folder = path._top.descriptor
        for n, name in enumerate(path._names, 1):
            try:
                below = os.open(name, _FOLDER, dir_fd=folder)
            except OSError as e:
                raise _refused(path._with(path._names[:n]), e) from None
            finally:
                self._leave()
            self._close = folder = below
        return folder

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._close is not None:
            os.close(self._close)
            self._close = None


class _Place:
    """The open folder that a path lies in and its name there: ``dir_fd`` and path as ``os`` takes
    them. None and the whole path where the system cannot do that."""

    __slots__ = ("_folder", "_path")

    def __init__(self, path: ConfinedPath) -> None:
        if not path._names:
            raise ValueError(f"{path} is the folder itself")
        self._path, self._folder = path, _Folder(path.parent)

    def __enter__(self) -> tuple[int | None, str]:
        folder = self._folder.__enter__()
        return folder, self._path._names[-1] if folder is not None else str(self._path)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._folder._leave()
        if isinstance(error, OSError) and error.filename == self._path._names[-1]:
            error.filename = str(self._path)  # more than its last name


def _check_way(path: ConfinedPath) -> None:
    for n in range(1, len(path._names) + 1):
        at = path._with(path._names[:n])
        found = os.lstat(at.path)
        if stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) in _JUNCTIONS:
            raise _link(at)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(at))


def _refused(path: ConfinedPath, error: OSError) -> OSError:
    """Why a folder cannot be opened: of a link that it is one."""
    if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
        with suppress(OSError):
            if stat.S_ISLNK(path.stat().st_mode):
                return _link(path)
    return OSError(error.errno, error.strerror, str(path))


def _link(path: ConfinedPath) -> OSError:
    return OSError(
        errno.ELOOP, "it is a link, and links inside an index are not followed", str(path)
    )
