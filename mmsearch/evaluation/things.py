"""The rows of a pairs file as things and which belong together: a thing is one picture,
one sound or one caption, in however many rows it stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmsearch.errors import UsageError
from mmsearch.pairs import PATHS, Row

# side: ``image``, ``audio``, ``text``, or a language: what stands on one side of a pair
Side = str


@dataclass
class File:
    """A picture or a sound: every absolute path it may have in an index, likeliest first."""

    places: list[str]
    line: int  # where it is first named


@dataclass
class Things:
    """Everything that a pairs file names, each once."""

    path: Path
    files: dict[Side, list[File]] = field(default_factory=lambda: {side: [] for side in PATHS})
    captions: dict[Side, list[str]] = field(default_factory=dict)
    # (side, side) -> number on the first side -> numbers on the second that belong to it
    right: dict[tuple[Side, Side], dict[int, list[int]]] = field(default_factory=dict)
    # image, audio -> number of the file -> its labels
    labels: dict[Side, dict[int, list[str]]] = field(
        default_factory=lambda: {side: {} for side in PATHS}
    )


def places(written: str, folder: Path, roots: Iterable[str]) -> list[str]:
    """The absolute paths that a written one may mean: below the pairs file's folder
    first, then below the roots; each also with its links followed."""
    try:
        bases = [str(folder), *roots] if not os.path.isabs(written) else [""]
        plain = [os.path.normpath(os.path.join(base, written)) for base in bases]
        return list(dict.fromkeys(p for one in plain for p in (one, os.path.realpath(one))))
    except OSError:  # a loop of links
        return plain


def gather(
    path: Path,
    rows: Sequence[Row],
    meant: dict[str, list[str]],
    held: Callable[[Side, str], bool],
) -> Things:
    """The things of a pairs file.

    meant: written path -> its ``places``. held: whether an index holds that side's path.
    Raises UsageError for a path that is neither in an index nor a file, and where no
    line puts two things together.
    """
    things = Things(path)
    files: dict[tuple[Side, str], int] = {}  # absolute path -> number
    captions: dict[tuple[Side, str], int] = {}  # caption -> number
    linked: set[tuple[Side, Side, int, int]] = set()
    for row in rows:
        here: list[tuple[Side, int]] = []
        for side, written in row.paths.items():
            here.append((side, _file(things, files, row.line, side, written, meant, held)))
        for side, several in row.captions.items():
            own = things.captions.setdefault(side, [])
            for caption in several:
                number = captions.setdefault((side, caption), len(own))
                if number == len(own):
                    own.append(caption)
                here.append((side, number))
        for side, number in here:
            if side in PATHS and row.label is not None:
                labels = things.labels[side].setdefault(number, [])
                if row.label not in labels:
                    labels.append(row.label)
            for other, right in here:
                if side == other or (side not in PATHS and other not in PATHS):
                    continue
                if (side, other, number, right) not in linked:
                    linked.add((side, other, number, right))
                    answers = things.right.setdefault((side, other), {})
                    answers.setdefault(number, []).append(right)
    if not things.right and not any(things.labels.values()):
        raise UsageError(
            f"{path}: no line puts two things together. A line names an image or audio file, and "
            "a text (or en, zh, …), a label, or the other kind of file beside it."
        )
    return things


def _file(
    things: Things,
    files: dict[tuple[Side, str], int],
    line: int,
    side: Side,
    written: str,
    meant: dict[str, list[str]],
    held: Callable[[Side, str], bool],
) -> int:
    all_places = meant[written]
    found = next((p for p in all_places if held(side, p)), None)
    found = found or next((p for p in all_places if os.path.isfile(p)), None)
    if found is None:
        raise UsageError(
            f"{things.path}:{line}: {side}: {written} is neither in the index nor a file. Paths "
            "are relative to the pairs file or to a folder that was indexed, or absolute."
        )
    own = things.files[side]
    number = files.setdefault((side, found), len(own))
    if number == len(own):
        own.append(File([], line))
    known = own[number].places
    known += [p for p in (found, *all_places) if p not in known]
    return number
