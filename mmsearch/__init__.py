"""Search pictures, sounds and writing by meaning, from any of them to any other.

    import mmsearch

    index = mmsearch.index("photos", "photos.index")
    for hit in index.search("a dog on a beach"):
        print(hit.score, hit.path)

Importing this loads nothing heavy; each library is loaded when it is first needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from mmsearch.given import absolute, checked_flag, checked_path
from mmsearch.version import __version__

if TYPE_CHECKING:
    from mmsearch.loaded_space import LoadedSpace
    from mmsearch.query import Query
    from mmsearch.searcher import BatchResults, Index, Results
    from mmsearch.types import Hit

_LAZY = {
    "Index": "mmsearch.searcher",
    "BatchResults": "mmsearch.searcher",
    "Results": "mmsearch.searcher",
    "Query": "mmsearch.query",
    "Hit": "mmsearch.types",
    "LoadedSpace": "mmsearch.loaded_space",
}

__all__ = [
    "BatchResults",
    "DecodeError",
    "DimensionMismatch",
    "Hit",
    "Index",
    "IndexDamaged",
    "IndexLocked",
    "IndexNotFound",
    "IndexNotReadable",
    "IndexNotWritable",
    "IndexTooNew",
    "LimitExceeded",
    "LoadedSpace",
    "MmsearchError",
    "ProcessingFailed",
    "Query",
    "Results",
    "SpaceError",
    "SpaceMismatch",
    "SpaceUnavailable",
    "StoreError",
    "UsageError",
    "__version__",
    "index",
    "load_space",
    "open",
]


def index(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    space: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
    tower: str | None = None,
    carry: str | None = None,
) -> Index:
    """Brings the index in the folder ``path`` up to date with the sources, and opens it.

    sources: a folder or file, or several. path: the index's folder; it is made
    if there is none. space: its name, or a folder that ``mmsearch train`` wrote; None is
    the index's own, and ``mini`` for a new one. device, dtype, batch_size: where and how a model
    on PyTorch runs, see ``load_space``. tower, carry: in which form its weights are stored in
    the towers that the index carries to be asked without PyTorch (``fp32``, ``fp16``, ``int8``),
    and which (``text``, ``all``). Raises UsageError, SpaceMismatch, IndexLocked,
    IndexNotWritable, and ProcessingFailed if the encoder or the decoders stop working: what was
    committed stays. Files that cannot be read are skipped, not raised.
    """
    from mmsearch.indexer import Options, run
    from mmsearch.searcher import Index
    from mmsearch.spaces import Placement

    several = [sources] if isinstance(sources, str | os.PathLike) else sources
    folder = absolute(checked_path(path, "an index"))
    options = Options(placement=Placement(device, dtype, batch_size, tower, carry=carry))
    run(several, folder, None if space is None else _space_name(space), options)
    return Index(folder)


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
    from mmsearch.searcher import Index
    from mmsearch.store import resolve

    named = None if space is None else _space_name(space)
    return Index(resolve(path), named, checked_flag(isolate, "isolate"))


def load_space(
    name: str | os.PathLike[str] = "mini",
    *,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
) -> LoadedSpace:
    """An embedding space for encoding one's own texts, pictures and sounds.

    name: a space's name, or a folder that ``mmsearch train`` wrote. device: of a model on
    PyTorch ``cpu``, ``cuda``, ``cuda:1``, … or ``mps``; None is a GPU where there is one. dtype:
    ``fp32``, ``fp16`` or ``bf16``; None is fp16 on a GPU. batch_size: inputs at a time; None
    is what suits the device.
    Raises SpaceUnavailable for a name that is not known, UsageError for what is not there.
    """
    from mmsearch.loaded_space import LoadedSpace
    from mmsearch.spaces import Placement

    return LoadedSpace(_space_name(name), Placement(device, dtype, batch_size))


def _space_name(name: str | os.PathLike[str]) -> str:
    return checked_path(name, "a space", named=True)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mmsearch' has no attribute {name!r}")
