"""The keys of meta that parts have, and the names near one that no part has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from mmsearch import forks
from mmsearch.errors import LimitExceeded
from mmsearch.filters import rows
from mmsearch.filters.asked import Filter
from mmsearch.filters.columns import ALIKE, COLUMNS, MEANT, META, meta_name, pointer, quoted
from mmsearch.filters.database import asking
from mmsearch.filters.parsing import parsed
from mmsearch.store import Snapshot

Key = tuple[str, ...]  # of meta, then of the object under it, …

MAX_KEYS = 20  # of a filter that are looked for; people name three
_MAX_HELD = 1000  # keys that a name is compared with: an application has some dozens
_MAX_KEY_CHARS = 100  # of a key that is offered: comparing takes the square of it


class AbsentKey(NamedTuple):
    """A key that a filter names and no part has, as filters write it.

    near: the most alike name that parts have; "" for none. others: all keys in its place.
    """

    name: str
    near: str
    others: Sequence[str]


@forks.native
def absent_keys(
    snapshot: Snapshot, asked: str | Filter, known: Iterable[Collection[str]] = ()
) -> list[AbsentKey]:
    """The keys of meta in a filter that no part of a snapshot has: a spelling mistake, perhaps.

    known: keys of meta that parts have, which are not looked for. Raises UsageError for a
    condition that is none. If looking takes too much, nothing is told.
    """
    held = {key for one in known for key in one}
    wanted = [key for key in parsed(asked).keys if key[1:] or key[0] not in held][:MAX_KEYS]
    if not wanted or not len(snapshot):
        return []
    are_there = ", ".join(f"bool_or(TRY(json_exists(meta, {_at(key)})))" for key in wanted)
    try:
        (found,) = _answers(snapshot, are_there, len(wanted))
        absent = [key for key, is_there in zip(wanted, found, strict=True) if not is_there]
        return [_told(snapshot, key) for key in absent]
    except LimitExceeded:
        return []


def near_name(snapshot: Snapshot, name: str) -> str:
    """The column or key of meta that is most like a name; "" for none.

    name: of no column; its words joined by dots.
    """
    first, *rest = name.split(".")
    columns = {column: column for column in COLUMNS}
    try:
        held = _held(snapshot, ())
        if rest and first in held:
            return _told(snapshot, (first, *rest)).near or meta_name((first, *rest))
    except LimitExceeded:
        held = []
    if name not in held and name.lower() in MEANT:
        return MEANT[name.lower()]
    names = {**columns, **{meta_name((key,)): key for key in held if key not in COLUMNS}}
    return _nearest(name, names) or _nearest(rest[-1] if rest else "", columns)


def _told(snapshot: Snapshot, key: Key) -> AbsentKey:
    """What is said of a key that no part has. Raises LimitExceeded."""
    above = key[:-1]
    while not (held := _held(snapshot, above)) and above:
        above = above[:-1]
    others = [meta_name((*above, one)) for one in held]
    wrong, below = key[len(above)], key[len(above) + 1 :]
    if wrong in held:  # and holds no object: nothing is below it
        return AbsentKey(meta_name(key), meta_name((*above, wrong)) if below else "", others)
    names = {meta_name((*above, one, *below)): one for one in held}
    columns = [name for name, one in COLUMNS.items() if one.stored != (META,)]
    if not above and not below:
        names |= {column: column for column in columns}
    return AbsentKey(meta_name(key), _nearest(wrong, names), others)


def _nearest(name: str, names: dict[str, str]) -> str:
    """The most alike of some names. names: as filters write them -> what they are compared by."""
    by_word: dict[str, str] = {}
    for full, word in names.items():
        by_word.setdefault(word.casefold(), full)
    near = get_close_matches(name.casefold()[:_MAX_KEY_CHARS], by_word, 1, ALIKE)
    return by_word[near[0]] if near else ""


def _held(snapshot: Snapshot, above: Key) -> list[str]:
    """The keys of meta, or of the objects under a key of it, that parts have, sorted.

    Raises LimitExceeded.
    """
    at = f", {_at(above)}" if above else ""
    asked = f"DISTINCT unnest(TRY(json_keys(meta{at})))"
    found = _answers(snapshot, asked, 1, f" LIMIT {_MAX_HELD}")
    return sorted(key for (key,) in found if len(key) <= _MAX_KEY_CHARS)


def _answers(snapshot: Snapshot, asked: str, calls: int, more: str = "") -> list[tuple[str, ...]]:
    """What DuckDB answers of the metadata of all parts. calls: see ``Expression``."""
    with asking("meta") as cursor:
        cursor.register("rows", rows.reader(snapshot, snapshot.segments, (META,), calls))
        answers: list[tuple[str, ...]] = cursor.execute(
            f"SELECT {asked} FROM rows{more}"
        ).fetchall()
        return answers


def _at(key: Key) -> str:
    return quoted(pointer(key))
