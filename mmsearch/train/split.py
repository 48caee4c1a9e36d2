"""Which rows are one thing, and which things are held out for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mmsearch.errors import UsageError
from mmsearch.evaluation.intervals import units_of
from mmsearch.train.pairs import Heard, Place, Thing, read_pairs
from mmsearch.train.recipe import Recipe

LEAST_HELD = 2


@dataclass(frozen=True)
class Read:
    """Everything that a recipe's files name. things: numbered from 0; sources: each file's
    training things and its share of a batch; held: those for validation."""

    things: list[Thing]
    sources: list[tuple[list[int], float]]
    held: list[int]
    heard: Heard


def read(recipe: Recipe, say: Callable[[str], None]) -> Read:
    """Reads a recipe's files of pairs, joins rows that are one thing, and holds some out.

    Nothing that is held out is trained on: a thing whose picture or sound is held out
    elsewhere is left out. Raises UsageError for a file that is wrong or leaves too little.
    """
    heard = Heard()
    validation = recipe.validation
    apart = merged(read_pairs(recipe.place(validation.path), heard)) if validation.path else []
    files = {place for thing in apart for place in _files(thing)}
    things: list[Thing] = []
    named: list[tuple[range, float, str]] = []
    left_out = 0
    for source in recipe.pairs:
        path = recipe.place(source.path)
        all_of_it = merged(read_pairs(path, heard))
        kept = [t for t in all_of_it if files.isdisjoint(_files(t))]
        left_out += len(all_of_it) - len(kept)
        named.append((range(len(things), len(things) + len(kept)), source.share, str(path)))
        things += kept
    aside = [False] * len(things) if apart else held_out(things, validation.share)
    sources = []
    for numbers, share, name in named:
        own = [i for i in numbers if not aside[i]]
        if len(own) < 2:
            raise UsageError(
                f"{name} leaves {len(own)} things to train on; 2 or more are needed. Give more "
                "pairs, or hold fewer out."
            )
        sources.append((own, share))
    held = [i for i, out in enumerate(aside) if out]
    held += range(len(things), len(things) + len(apart))
    things += apart
    said = f"; {left_out:,} left out of training, for they are held out" if left_out else ""
    say(f"{len(things):,} things, {len(held):,} of them held out{said}")
    if recipe.train.patience and len(held) < LEAST_HELD:
        raise UsageError("patience needs held-out things: raise [validation] share.")
    return Read(things, sources, held, heard)


def merged(rows: Iterable[Thing]) -> list[Thing]:
    """One thing for each picture, sound or both together, with all that its rows say."""
    first: dict[tuple[Place | None, Place | None], Thing] = {}
    texts: dict[tuple[Place | None, Place | None], dict[str, dict[str, None]]] = {}
    for row in rows:
        identity = row.image, row.audio
        first.setdefault(identity, row)
        own = texts.setdefault(identity, {})
        for language, said in row.texts.items():
            own.setdefault(language, {}).update(dict.fromkeys(said))
    return [
        replace(thing, texts={language: tuple(own) for language, own in texts[identity].items()})
        for identity, thing in first.items()
    ]


def held_out(things: Sequence[Thing], share: float) -> list[bool]:
    """Which things are among the share that is kept for validation.

    Things that share a picture or a sound go together, by the hash of the least of their
    keys: adding pairs or moving the folder changes nothing for the others.
    """
    numbers: dict[Place, int] = {}  # file -> its number
    files = [[numbers.setdefault(one, len(numbers)) for one in _files(t)] for t in things]
    groups = units_of(files).tolist()
    least: dict[int, str] = {}  # group -> the least of its keys
    for group, thing in zip(groups, things, strict=True):
        least[group] = min(least.get(group, thing.key), thing.key)
    chosen = {group: _hash(key) < share * 2**32 for group, key in least.items()}
    return [chosen[group] for group in groups]


def _files(thing: Thing) -> list[Place]:
    return [place for place in (thing.image, thing.audio) if place is not None]


def _hash(key: str) -> int:
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big")
