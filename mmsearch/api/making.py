"""Making an index without anything in it."""

from __future__ import annotations

from pathlib import Path

from mmsearch.errors import IndexNotFound, UsageError
from mmsearch.indexer.opening import open_writer
from mmsearch.spaces import own_vectors
from mmsearch.store import Writer, manifest
from mmsearch.version import __version__


def create(folder: Path, space: str | None = None, dimension: int | None = None) -> None:
    """Write an empty index of a space, with what it keeps of it, or of given vectors.

    Raises UsageError if there is an index, IndexNotWritable, SpaceUnavailable.
    """
    try:
        known = manifest.read(folder)
    except IndexNotFound:
        if dimension is None:
            writer, _ = open_writer(folder, space)
        else:
            writer = Writer(folder, own_vectors.space_of(dimension), __version__)
        with writer:
            writer.commit()
            writer.finish()
        return
    raise UsageError(
        f"there is an index at {folder} already, of {known.space}. Open it, or choose another path."
    )
