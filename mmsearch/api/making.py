"""Making an index without anything in it."""

from __future__ import annotations

from pathlib import Path

from mmsearch.errors import IndexNotFound, UsageError
from mmsearch.indexer.opening import open_writer
from mmsearch.store import manifest


def create(folder: Path, space: str | None = None) -> None:
    """Write an empty index of a space, with what it keeps of it. Raises UsageError if there is an
    index, IndexNotWritable, SpaceUnavailable."""
    try:
        known = manifest.read(folder)
    except IndexNotFound:
        writer, _ = open_writer(folder, space)
        with writer:
            writer.commit()
            writer.finish()
        return
    raise UsageError(
        f"there is an index at {folder} already, of {known.space}. Open it, or choose another path."
    )
