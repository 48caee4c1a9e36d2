"""How many pairs the space of an index was trained on, as far as its folder says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmsearch.evaluation.pool import Held
from mmsearch.evaluation.things import Side
from mmsearch.pairs import Row
from mmsearch.seen import Seen, content_hash, file_key, read
from mmsearch.spaces.folder import SEEN
from mmsearch.store import Snapshot

# Of rows with one caption each, so many read like one of training by chance (``seen``).
_BY_CHANCE = 0.01


def seen_by(snapshot: Snapshot) -> Seen | None:
    """What an index's space, or one of its lanes, was trained on; None if it does not say.

    Raises IndexDamaged or SpaceUnavailable for a list that was altered.
    """
    names = [name for name in snapshot.manifest.query if name.rpartition("/")[2] == SEEN]
    contents = [snapshot.kept_file(name) for name in names]
    several = [read(content) for content in contents if content is not None]
    return Seen(several) if several else None


def count_seen(
    seen: Seen,
    rows: Sequence[Row],
    meant: Mapping[str, Sequence[str]],
    pools: Mapping[Side, Held],
) -> int:
    """How many rows were seen in training; 0 for so few as chance gives.

    meant: written path -> where it may be. Files that the index holds are not read again.
    """
    known = {path: key for held in pools.values() for path, key in held.content.items()}
    keys: dict[str, int | None] = {}  # written path -> key of its content
    by_file = by_text = 0
    for row in rows:
        for written in row.paths.values():
            if written not in keys:
                keys[written] = _key(meant[written], known)
        own = [key for written in row.paths.values() if (key := keys[written]) is not None]
        if seen.some(own):
            by_file += 1
        else:
            by_text += seen.knows([], row.captions)
    return by_file + (by_text if by_text > _BY_CHANCE * len(rows) else 0)


def _key(places: Iterable[str], known: Mapping[str, bytes]) -> int | None:
    for place in places:
        if place in known:
            return file_key(known[place])
    for place in places:
        if os.path.isfile(place):
            try:
                with Path(place).open("rb") as file:
                    return file_key(content_hash(file))
            except OSError:
                return None
    return None
