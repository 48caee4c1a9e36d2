"""What callers give: checked at the door, and named in errors."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any

from mmsearch.errors import UsageError

# The longest path that Linux opens; Windows has its own limit.
MAX_PATH_CHARS = 4096 if os.name == "posix" else 32_767

_NAMED_CHARS, _NAMED = 100, 3  # of an id in an error, and ids
MAX_SECONDS = 1e9  # thirty years: of any wait


def shown(value: Any) -> str:
    """Return a value as an error shows it: in a few words, whatever it is."""
    try:
        return reprlib.repr(value)  # short, however large or deep the value is
    except Exception:  # its own __repr__ fails, or a number has too many digits
        return f"<{type(value).__name__}>"


def named(item: str) -> str:
    """Return an id as an error names it."""
    return repr(item) if len(item) <= _NAMED_CHARS else shown(item)


def named_some(items: Sequence[str]) -> str:
    """Return some ids as an error names them: the first few, and how many more there are."""
    more = f" (and {len(items) - _NAMED:,} more)" if len(items) > _NAMED else ""
    return ", ".join(map(named, items[:_NAMED])) + more


def checked_path(value: Any, what: str, named: bool = False) -> str:
    """Return a path as text.

    what: names in errors what the path is of. named: whether it may be a name instead.
    Raises UsageError for what no file may be called.
    """
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{what} is a {'name or a ' * named}path, not {shown(value)}.")
    text = os.fsdecode(value)
    if not text:
        raise UsageError(f"{what}: an empty name stands for nothing.")
    if len(text) > MAX_PATH_CHARS:
        raise UsageError(
            f"{what}: a path has at most {MAX_PATH_CHARS:,} characters; got {len(text):,}."
        )
    if "\0" in text or not _encodable(text):
        raise UsageError(f"{what}: no file can be called {shown(text)}.")
    return text


def expanded(text: str) -> Path:
    """Return a path with the home folder in place of ``~`` or ``~NAME``.

    Raises UsageError if there is no user of that name.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        home = Path(text).parts[0]
        raise UsageError(
            f"{shown(home)}: there is no such home folder. Put ./ before a file of that name."
        ) from None


def absolute(text: str) -> Path:
    """Return the absolute path that a name stands for; see ``expanded``.

    "new/../docs" is docs, also while there is no new. A link at its end stays one.
    """
    path = expanded(text)
    if ".." not in path.parts:
        return path.absolute()
    if path.name == "..":
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name


def checked_word(value: Any, what: str) -> str | None:
    """Return a name that a caller may leave out. Raises UsageError for what is no str."""
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{what} is a str, not {shown(value)}.")
    return value


def checked_flag(value: Any, what: str) -> bool:
    """Return True or False. Raises UsageError for anything else."""
    if not isinstance(value, bool):
        raise UsageError(f"{what} is True or False, not {shown(value)}.")
    return value


def checked_whole(value: Any, what: str, most: int) -> int:
    """Return a whole number from 1 on. Raises UsageError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UsageError(f"{what} is a whole number, 1 to {most:,}; not {shown(value)}.")
    return value


def checked_seconds(value: Any, what: str) -> float:
    """Return a number of seconds. Raises UsageError for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= MAX_SECONDS:
        raise UsageError(f"{what} is a number of seconds, 0 or more; not {shown(value)}.")
    return float(value)


def several(things: Any, what: str) -> Iterable[Any]:
    """Return several things. Raises UsageError for one alone, or for none."""
    if isinstance(things, str | bytes | os.PathLike | dict):
        raise UsageError(f"give a list of {what}, not one alone: [{shown(things)}].")
    try:
        iter(things)
    except TypeError:
        raise UsageError(f"give a list of {what}, not {shown(things)}.") from None
    some: Iterable[Any] = things
    return some


def listed(things: Any, what: str) -> list[Any]:
    """Return several things as a list. Raises UsageError as ``several`` does."""
    return list(several(things, what))


def one_for_each(things: Any, n: int, what: str) -> list[Any]:
    """Return n things, one for each of n items. Raises UsageError if there are more or fewer."""
    found = list(islice(several(things, what), n + 1))
    if len(found) != n:
        more = len(things) if isinstance(things, Sized) else "more"
        got = more if len(found) > n else len(found)
        raise UsageError(f"{what}: give one for each item, {n} in all; got {got}.")
    return found


def is_unicode(text: str) -> bool:
    """Whether a text can be stored: a half of a surrogate pair cannot."""
    return text == text.encode("utf-8", "replace").decode()


def _encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
