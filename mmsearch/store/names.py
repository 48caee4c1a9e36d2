"""Where an index lives: NAME or PATH to a folder."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from mmsearch.errors import IndexNotReadable, UsageError
from mmsearch.given import absolute, checked_path
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import replace_file
from mmsearch.store.manifest import MANIFEST_NAME

DEFAULT = "default"  # the index that is meant where none is named
_HERE = "indexes"  # the folder beside which a program may run
_MARKER, _MARKER_BYTES = ".mmsearch-home", 1 << 14
_KEY, _KEY_BYTES = "home.key", 32  # in the user's data folder
_NAME = re.compile(r"[\w-]{1,100}")
_PATH = re.compile(r"[./~]" if os.sep == "/" else r"[./~\\]")


def default_home() -> Path:
    """The folder that named indexes live in.

    ``$MMSEARCH_HOME``; else ``./indexes`` if it is a home of this user, see ``mark_home``; else
    the per-user data folder.
    """
    if home := os.environ.get("MMSEARCH_HOME"):
        return absolute(home)
    if is_home(here := Path(_HERE).absolute()):
        return here
    return _user_folder() / "indexes"


def is_home(folder: Path) -> bool:
    """Whether a folder is one that ``mark_home`` marked, of this user, at this place.

    A folder that came with a clone or an archive is none, whatever is in it: the marker is bound to
    its path and to a key that only this user has, for some paths are easy to guess. So no program
    of ours reads or writes there unless it is named.
    """
    try:
        marker = ConfinedPath(folder) / _MARKER
        facts = folder.lstat(), marker.stat()
        mine = not hasattr(os, "geteuid") or all(s.st_uid == os.geteuid() for s in facts)
        found = marker.read_bytes(_MARKER_BYTES)
    except OSError:
        return False
    if not mine or not stat.S_ISDIR(facts[0].st_mode) or (key := _key()) is None:
        return False
    return hmac.compare_digest(found, _marked(folder, key))


def mark_home(index: Path) -> None:
    """Marks the folder that a new index lies in as a home of indexes, if it is called so.

    Whoever makes an index by its path inside a folder ``indexes`` has named that folder: from then
    on, names of indexes mean those in it, for programs that run beside it.
    """
    home = index.parent
    if home.name == _HERE and not home.is_symlink():
        with suppress(OSError):
            if (key := _key(make=True)) is not None:
                replace_file(ConfinedPath(home) / _MARKER, _marked(home, key), durable=False)


def _marked(folder: Path, key: bytes) -> bytes:
    path = os.fsencode(os.path.realpath(folder))
    proof = hmac.digest(key, path, "sha256").hex()
    return b"mmsearch keeps indexes here: %b\n%b\n" % (path, proof.encode())


def _key(make: bool = False) -> bytes | None:
    """The user's key, with which markers are made and known again; None if there is none.

    make: whether to make one. Raises OSError if that cannot be.
    """
    path = _user_folder() / _KEY
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with suppress(FileExistsError), os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
    try:
        key = path.read_bytes()
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None


def _user_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("mmsearch", appauthor=False)


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The absolute folder that an index NAME or PATH stands for.

    A word of letters, digits, ``-`` and ``_`` is a name, in ``default_home``. What has a separator
    or a dot in it (``./photos``, ``photos.index``), or is a Path object, is a path.
    Raises UsageError for what is neither.
    """
    text = checked_path(name_or_path, "an index", named=True)
    if isinstance(name_or_path, str) and _NAME.fullmatch(text):
        return default_home() / text
    if isinstance(name_or_path, str) and not _PATH.search(text):
        raise UsageError(
            f"{text!r} cannot name an index: use letters, digits, '-' and '_', or give a path: "
            f"'.{os.sep}{text}'."
        )
    return absolute(text)


def named() -> list[str]:
    """The names of the indexes in ``default_home``, sorted."""
    home = default_home()
    try:
        found = sorted(entry.name for entry in os.scandir(home) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise IndexNotReadable(f"{home} cannot be read: {e.strerror}.") from e
    return [n for n in found if _NAME.fullmatch(n) and os.path.isfile(home / n / MANIFEST_NAME)]
