"""Deleting items, for applications and for ``mmsearch delete``: by id, by path, by a filter."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmsearch import filters
from mmsearch.errors import UsageError
from mmsearch.given import checked_path, is_unicode, listed, named, shown
from mmsearch.indexer.committing import committer_of
from mmsearch.indexer.plan import places_of
from mmsearch.store import Writer
from mmsearch.store.firsts import first_rows, ids_at
from mmsearch.store.lock import SOON_S
from mmsearch.store.rows import item_of
from mmsearch.store.snapshot import join

_PART = re.compile(r"(?P<item>.+)#(?P<number>\d+)", re.DOTALL)
_MOST_DIGITS = 10  # of a part's number in an error

Change = tuple[Any, set[str]]


def delete_items(folder: Path, ids: str | Iterable[str], wait_s: float = SOON_S) -> int:
    """Delete items by id; return how many there were.

    wait_s: how long to wait for other processes that write, in seconds. Raises UsageError for what
    is no id, or that of a part.
    """
    wanted = [one for one in dict.fromkeys(item_ids(ids, "delete")) if is_unicode(one)]

    def change(writer: Writer) -> Change:
        gone = writer.drop(*wanted)
        return len(gone), gone

    return int(committer_of(folder).put(change, None, wait_s)) if wanted else 0


def delete_where(folder: Path, where: filters.Filter, wait_s: float = SOON_S) -> int:
    """Delete the items with a part that meets a condition; return how many.

    wait_s: as for ``delete_items``. Raises UsageError or LimitExceeded as ``filters.matching``.
    """

    def change(writer: Writer) -> Change:
        items: set[str] = set()
        segments = writer.snapshot.segments
        for segment, met in zip(segments, filters.matching(writer.snapshot, where), strict=True):
            rows, apart = first_rows(segment, met)
            items |= apart
            items.update(ids_at(segment, rows))
        gone = writer.drop(*items)
        return len(gone), gone

    return int(committer_of(folder).put(change, None, wait_s, alone=True))


def delete_paths(
    folder: Path,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    wait_s: float = SOON_S,
) -> int:
    """Delete the items at some paths, or below them; return how many.

    If nothing lies exactly there, links are followed; then what is canonically equal in Unicode is
    meant: "é" as one character or as a letter and its accent. A file that is still there comes
    back with the next run over its folder. wait_s: as for ``delete_items``.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else listed(paths, "paths")
    wanted = list(dict.fromkeys(checked_path(path, "what is deleted") for path in several))

    def change(writer: Writer) -> Change:
        gone, _ = _below(writer, wanted)
        return len(gone), gone

    return int(committer_of(folder).put(change, None, wait_s, alone=True)) if wanted else 0


def delete_named(
    folder: Path, words: Iterable[str], wait_s: float = SOON_S
) -> tuple[int, list[str]]:
    """Delete what some words name; return how many items, and the words that name nothing.

    A word that is the id of an item means that; any other is a path. Raises UsageError for the id
    of a part: nothing is deleted then.
    """
    several = listed(words, "ids and paths")
    wanted = list(dict.fromkeys(checked_path(w, "what is deleted", named=True) for w in several))

    def change(writer: Writer) -> Change:
        gone = writer.drop(*filter(is_unicode, wanted))
        _refuse_parts(writer, [word for word in wanted if word not in gone])
        below, unknown = _below(writer, [word for word in wanted if word not in gone])
        return (len(gone | below), unknown), gone | below

    found: tuple[int, list[str]] = committer_of(folder).put(change, None, wait_s, alone=True)
    return found


def item_ids(ids: str | Iterable[str], verb: str) -> list[str]:
    """Return the ids that a caller gave, one or several.

    verb: what is called, for errors. Raises UsageError for what is no id, or that of a part.
    """
    several = [ids] if isinstance(ids, str) else listed(ids, "ids")
    for one in several:
        if not isinstance(one, str):
            raise UsageError(f"an id is a str, not {shown(one)}.")
        if part := _PART.fullmatch(one):
            raise _of_a_part(part, f"{verb}({named(part['item'])}) or {verb}(hit.item_id)")
    return several


def _of_a_part(part: re.Match[str], instead: str) -> UsageError:
    number, item = part["number"][:_MOST_DIGITS], named(part["item"])
    return UsageError(
        f"{named(part[0])} is part {number} of the item {item}. Give the id of the item: {instead}."
    )


def _refuse_parts(writer: Writer, words: Sequence[str]) -> None:
    """Raises UsageError for a word that is the id of a part."""
    for word in words:
        part = _PART.fullmatch(word)
        if part and is_unicode(word) and writer.snapshot.find(word) is not None:
            raise _of_a_part(part, named(part["item"]))


def _below(writer: Writer, words: Sequence[str]) -> tuple[set[str], list[str]]:
    """Deletes what lies at some paths or below; the items, and the paths where nothing lies."""
    gone: set[str] = set()
    places = {word: places_of(word) for word in words}
    # as it is written, then where its links lead, then what is equal to either in Unicode
    for form, at in ((str, 0), (str, 1), (_nfc, 0), (_nfc, 1)):
        named = {w: form(several[at]) for w, several in places.items() if several}
        items, found = _delete_below(writer, set(named.values()), form)
        gone |= items
        places = {w: several for w, several in places.items() if named.get(w) not in found}
    return gone, list(places)


def _nfc(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _delete_below(
    writer: Writer, places: set[str], form: Callable[[str], str]
) -> tuple[set[str], set[str]]:
    """Deletes what lies at some places or below; the items, and the places that had any.

    form: what a path is made into before it is compared; ``places`` are in that form.
    """
    if not places:
        return set(), set()
    names = ("id", "part_no", "root", "path", "path_bytes")
    exact, below = places, tuple(join(p, "") for p in places)
    inside = list(zip(places, below, strict=True))
    snapshot, items, found = writer.snapshot, set(), set()
    for segment in snapshot.segments:
        rows = []
        first = 0
        for batch in segment.batches(names):
            columns = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            for row, (part, part_no, root, path, raw) in enumerate(columns, first):
                if path is None or not segment.live[row]:
                    continue
                absolute = snapshot.absolute(root, path if raw is None else os.fsdecode(raw)) or ""
                absolute = form(absolute)
                if absolute in exact or absolute.startswith(below):
                    found |= {p for p, q in inside if absolute == p or absolute.startswith(q)}
                    rows.append(row)
                    items.add(item_of(part, part_no))
            first += batch.num_rows
        writer.delete(segment, rows)
    return items, found
