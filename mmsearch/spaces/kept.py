"""The encoder of an index: the program's own where it is the same space, else the kept one.

An index keeps the files of its space, so a newer built-in model, or a trained space
whose folder is gone, leaves it as it was: it can be asked, and added to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmsearch.errors import SpaceMismatch, SpaceUnavailable
from mmsearch.spaces import SPACES, Encoder, load_encoder, open_folder
from mmsearch.types import Space


def encoder_of(
    space: Space, kept: Path | None, check: Callable[[], None] = lambda: None
) -> Encoder:
    """The encoder that made the vectors of an index.

    kept: where the index keeps the space's files; None if it does not. check: called before
    they are used, and raises where they are not those that were kept.
    Raises SpaceMismatch where there is no encoder of exactly that space.
    """
    own: Encoder | None = None
    if space.name in SPACES:
        try:
            own = load_encoder(space.name)
        except SpaceUnavailable:
            if kept is None:
                raise
        if own is not None and own.space.fingerprint == space.fingerprint:
            return own
    if kept is None:
        have = own.space if own is not None else "none of that name"
        raise SpaceMismatch(
            f"the index holds {space} and keeps no encoder of it; the one at hand is {have}. "
            "Index again into a new folder, or use the mmsearch that wrote it."
        )
    check()
    found = open_folder(kept, check=False)  # the index has checked them
    if found.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the index holds {space}, but {kept} holds {found.space}: it was changed. "
            "Restore it from a copy."
        )
    return found
