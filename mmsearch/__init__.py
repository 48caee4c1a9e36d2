"""Search pictures, sounds and writing by meaning, from any of them to any other.

    import mmsearch

    index = mmsearch.index("photos", "photos.index")
    for hit in index.search("a dog on a beach"):
        print(hit.score, hit.path)

Importing this loads nothing heavy; each library is loaded when it is first needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmsearch.errors import (
    DecodeError,
    DimensionMismatch,
    IndexDamaged,
    IndexLocked,
    IndexNotFound,
    IndexNotReadable,
    IndexNotWritable,
    IndexTooNew,
    LimitExceeded,
    MmsearchError,
    ProcessingFailed,
    SpaceError,
    SpaceMismatch,
    SpaceUnavailable,
    StoreError,
    UsageError,
)
from mmsearch.given import checked_flag, checked_path, checked_whole, listed
from mmsearch.version import __version__

if TYPE_CHECKING:
    from mmsearch.api import Embedder, Index
    from mmsearch.indexer.options import Progress
    from mmsearch.query import Query
    from mmsearch.searcher import BatchResults, Page, Results
    from mmsearch.store import Problem
    from mmsearch.types import Hit

_LAZY = {
    "Index": "mmsearch.api",
    "BatchResults": "mmsearch.searcher",
    "Page": "mmsearch.searcher",
    "Results": "mmsearch.searcher",
    "Query": "mmsearch.query",
    "Hit": "mmsearch.types",
    "Embedder": "mmsearch.api.embedder",
}

__all__ = [
    "BatchResults",
    "DecodeError",
    "DimensionMismatch",
    "Embedder",
    "Hit",
    "Index",
    "IndexDamaged",
    "IndexLocked",
    "IndexNotFound",
    "IndexNotReadable",
    "IndexNotWritable",
    "IndexTooNew",
    "LimitExceeded",
    "MmsearchError",
    "Page",
    "ProcessingFailed",
    "Query",
    "Results",
    "SpaceError",
    "SpaceMismatch",
    "SpaceUnavailable",
    "StoreError",
    "UsageError",
    "__version__",
    "create",
    "delete",
    "index",
    "list",
    "load_space",
    "merge",
    "open",
    "verify",
]


def index(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    space: str | os.PathLike[str] | None = None,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    forget: Sequence[str] = (),
    follow_links: bool | None = None,
    retry_skipped: bool = False,
    ann: str | None = None,
    recall: float | None = None,
    memory: int | str | None = None,
    prune: bool = False,
    workers: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
    tower: str | None = None,
    carry: str | None = None,
    compile: bool = False,
    progress: Progress | None = None,
) -> Index:
    """Bring an index up to date with folders and files, and open it.

    sources: a folder or file, or several. path: the index's folder or name; it is made if there is
    none. space: its name, or a folder that ``mmsearch train`` wrote; None is the index's own, and
    ``mini`` for a new one. The other arguments, and what is raised: as for ``Index.sync``. The
    index's ``report`` says what was done.
    """
    from mmsearch.api import Index
    from mmsearch.indexer import Options, run
    from mmsearch.spaces import Placement
    from mmsearch.store import resolve

    several = [sources] if isinstance(sources, str | os.PathLike) else sources
    folder = resolve(path)
    options = Options(
        exclude=exclude,
        include=include,
        forget=forget,
        follow_links=follow_links,
        retry_skipped=retry_skipped,
        ann=ann,
        recall=recall,
        memory=memory,
        prune=prune,
        workers=workers,
        placement=Placement(device, dtype, batch_size, tower, compile, carry),
    )
    report = run(several, folder, None if space is None else _space_name(space), options, progress)
    opened = Index(folder)
    opened.report = report
    return opened


def open(
    path: str | os.PathLike[str],
    space: str | os.PathLike[str] | None = None,
    *,
    isolate: bool = False,
) -> Index:
    """Opens an index by the path of its folder, or by its name.

    space: the name that loads the model of its space now, where that was moved; asking with
    another space is SpaceMismatch. isolate: for pictures and sounds from outside: those that are
    asked with, as bytes or paths, are decoded in a process of their own, which has the limits of
    the decoders that index and is kept for the next ones. ``Index.close`` ends it.
    Raises IndexNotFound, IndexDamaged or IndexTooNew.
    """
    from mmsearch.api import Index
    from mmsearch.store import resolve

    named = None if space is None else _space_name(space)
    return Index(resolve(path), named, checked_flag(isolate, "isolate"))


def create(
    path: str | os.PathLike[str],
    space: str | os.PathLike[str] | None = None,
    *,
    dimension: int | None = None,
) -> Index:
    """Make an empty index, and open it.

    path: its folder or name. space: the name of its embedding space, or a folder that
    ``mmsearch train`` wrote; None is ``mini``. dimension: instead of a space, how many numbers
    the vectors have that a model of your own makes: they are given to ``add(…, vectors=…)`` and
    ``search(vector=…)``. Raises UsageError if there is an index already, IndexNotWritable and
    SpaceUnavailable.
    """
    from mmsearch.api import Index
    from mmsearch.api.making import create
    from mmsearch.store import resolve
    from mmsearch.types import MAX_DIMENSION

    if dimension is not None:
        if space is not None:
            raise UsageError("give either a space or a dimension.")
        dimension = checked_whole(dimension, "dimension", MAX_DIMENSION)
    folder = resolve(path)
    create(folder, None if space is None else _space_name(space), dimension)
    return Index(folder)


def list() -> Sequence[str]:
    """The names of the indexes that can be opened by name, sorted.

    They live in ``$MMSEARCH_HOME``, else in ``./indexes`` or the per-user data folder; see the
    README. Raises IndexNotReadable.
    """
    from mmsearch.store.names import named

    return named()


def delete(path: str | os.PathLike[str]) -> None:
    """Delete an index, by its name or folder, with everything in it; other files there stay.

    What was indexed stays where it is. Raises IndexNotFound, IndexLocked if somebody writes to it,
    and IndexNotWritable.
    """
    from mmsearch.store import resolve
    from mmsearch.store.strays import remove_index

    remove_index(resolve(path))


def merge(
    others: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    progress: Callable[[str], None] = lambda what: None,
) -> Index:
    """Copy everything that other indexes hold into one, which is made if need be, and open it.

    others: names or folders of indexes of one space. path: the name or folder of the index that
    gets all. progress: called with a few words about each step. The index's ``merged`` says how
    much was copied. Raises what ``Index.merge`` raises.
    """
    from mmsearch.api import Index
    from mmsearch.indexer import merge
    from mmsearch.store import resolve

    several = [others] if isinstance(others, str | os.PathLike) else listed(others, "indexes")
    folder = resolve(path)
    merged = merge(folder, [resolve(other) for other in several], progress)
    opened = Index(folder)
    opened.merged = merged
    return opened


def verify(
    path: str | os.PathLike[str], *, progress: Callable[[str], None] = lambda what: None
) -> Sequence[Problem]:
    """Read all of an index, also of one that is too damaged to be opened, and say what is wrong.

    Returns a Problem (``path``, ``what``, ``remedy``) for each thing; an empty list if all is
    well. Writes nothing. Raises IndexNotFound, IndexTooNew, and IndexDamaged for a damaged
    manifest.
    """
    from mmsearch.indexer import verify
    from mmsearch.store import resolve

    return verify(resolve(path), progress)


def load_space(
    name: str | os.PathLike[str] = "mini",
    *,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
) -> Embedder:
    """An embedding space for encoding one's own texts, pictures and sounds.

    name: a space's name, or a folder that ``mmsearch train`` wrote. device: of a model on
    PyTorch ``cpu``, ``cuda``, ``cuda:1``, … or ``mps``; None is a GPU where there is one. dtype:
    ``fp32``, ``fp16`` or ``bf16``; None is fp16 on a GPU. batch_size: inputs at a time; None
    is what suits the device.
    Raises SpaceUnavailable for a name that is not known, UsageError for what is not there.
    """
    from mmsearch.api.embedder import Embedder
    from mmsearch.spaces import Placement

    return Embedder(_space_name(name), Placement(device, dtype, batch_size))


def _space_name(name: str | os.PathLike[str]) -> str:
    return checked_path(name, "a space", named=True)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mmsearch' has no attribute {name!r}")
