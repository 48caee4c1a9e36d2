"""Adding vectors that somebody else encoded, with what they are of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.given import is_unicode, listed, shown
from mmsearch.indexer.add import UNSETTLED, New, check_conflict, checked_ids, metas_of, put_new
from mmsearch.query import many_vectors
from mmsearch.store.lock import SOON_S
from mmsearch.types import Modality, Part, Space, Vectors

MAX_TEXT_CHARS = 1 << 20  # of one part; a passage has some thousand
_LEAST = 1e-6  # of a vector in a member space, beside a length of 1 in all


def add_vectors(
    folder: Path,
    items: Iterable[Any],
    vectors: Any,
    space: Space,
    ids: Sequence[str] | None = None,
    meta: Sequence[dict[str, Any]] | None = None,
    wait_s: float = SOON_S,
    on_conflict: str = "replace",
) -> list[str]:
    """Adds vectors in one commit, one part each, and returns the ids of their items.

    items: one for each vector: ``{"text": str}``, which is stored and not cut, or
    ``{"modality": name}`` for what is kept elsewhere. vectors: (n, d) numbers of the index's space,
    which are scaled to unit length; in a composite space in each member space that takes the
    modality. The other arguments: as for ``add_items``; without ids, that of a text is made from
    the text, and that of anything else from its vector.
    Raises DimensionMismatch, SpaceMismatch, UsageError and LimitExceeded before anything is
    changed.
    """
    several = listed(items, "items")
    n = len(several)
    given, metas = checked_ids(ids, n), metas_of(meta, n)
    check_conflict(on_conflict)
    unit = _unit(vectors, space, n)
    new = []
    for i, (thing, own) in enumerate(zip(several, given, strict=True)):
        modality, text = _content(thing)
        space.require(modality)
        if space.lanes:
            unit[i] = _in_lanes(unit[i], space, modality, i)
        vector = unit[i].astype(np.float16)
        content = vector.tobytes() if text is None else text.encode("utf-8", "replace")
        digest = blake2b(modality.encode() + b"\0" + content, digest_size=16).digest()
        item = New(own or digest.hex(), UNSETTLED, None, content_hash=digest)
        item.parts.append(Part(modality, 0, text or ""))
        item.vectors.append(unit[i])
        new.append(item)
    if new:
        put_new(folder, list(zip(new, metas, strict=True)), space, wait_s, on_conflict)
    return [item.id for item in new]


def _unit(vectors: Any, space: Space, n: int) -> Vectors:
    """The vectors as float32 (n, d) of unit length, the caller's left as they are."""
    rows, blocks = many_vectors(vectors, space)
    if len(rows) != n:
        raise UsageError(f"vectors: give one for each item, {n} in all; got {len(rows)}.")
    empty = np.empty((0, space.dimension), np.float32)
    return np.concatenate([empty, *blocks])


def _content(thing: Any) -> tuple[Modality, str | None]:
    """What a vector is of, and its text."""
    if isinstance(thing, dict) and len(thing) == 1:
        if isinstance(text := thing.get("text"), str):
            if len(text) > MAX_TEXT_CHARS:
                raise LimitExceeded(
                    f"a text of {len(text):,} characters; with its vector at most "
                    f"{MAX_TEXT_CHARS:,} are taken."
                )
            return Modality.TEXT, text
        name = thing.get("modality")
        if isinstance(name, str) and is_unicode(name) and name in list(Modality):
            return Modality(name), None
    names = ", ".join(Modality)
    raise UsageError(
        f"{shown(thing)} cannot be added with a vector: give {{'text': …}}, or {{'modality': …}} "
        f"with one of {names}."
    )


def _in_lanes(row: Vectors, space: Space, modality: Modality, number: int) -> Vectors:
    """One vector of a composite space, of unit length in each member that takes the modality."""
    out = np.zeros_like(row)
    for lane, held, columns in zip(space.each, space.held, space.columns, strict=True):
        length = float(np.linalg.norm(row[columns]))
        if (length > _LEAST) != (modality in held):
            wrong = "is 0" if modality in held else "is not 0"
            raise UsageError(
                f"vectors[{number}] {wrong} in {lane.name}, which "
                f"{'takes' if modality in held else 'does not hold'} {modality}."
            )
        if modality in held:
            out[columns] = row[columns] / length
    return out
