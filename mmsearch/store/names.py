"""Where an index lives: NAME or PATH to a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmsearch.errors import UsageError
from mmsearch.store.manifest import MANIFEST_NAME

_NAME = re.compile(r"[\w][\w.-]{0,99}")


def default_home() -> Path:
    """The folder that named indexes live in.

    ``$MMSEARCH_HOME``; else ``./indexes`` where that folder exists; else the
    per-user data folder.
    """
    if home := os.environ.get("MMSEARCH_HOME"):
        return expand(home).absolute()
    if Path("indexes").is_dir():
        return Path("indexes").absolute()
    from platformdirs import user_data_path

    return user_data_path("mmsearch", appauthor=False) / "indexes"


def expand(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` filled in. Raises UsageError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as e:
        raise UsageError(f"{os.fspath(path)!r} is not a path: {e}.") from None


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The absolute folder that an index NAME or PATH stands for.

    A folder that already holds an index wins; something with a separator in it
    (or a Path object) is a path; anything else is a name.
    Raises UsageError for a name that no folder may have.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise UsageError(f"an index is named by a name or a path, not {name_or_path!r}.")
    text = os.fspath(name_or_path)
    path = expand(text)
    separators = {os.sep, os.altsep, "/"} - {None}
    if (
        not isinstance(name_or_path, str)
        or any(s in text for s in separators if s)
        or text in {".", ".."}
        or (path / MANIFEST_NAME).is_file()
    ):
        return path.absolute()
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"{text!r} cannot name an index: use letters, digits, '.', '_' and '-', "
            "or give a path with a '/' in it."
        )
    return default_home() / text
