"""The encoder of an index: the program's own where it is the same space, else the kept one.

An index keeps the files of its space, so a newer built-in model, or a trained space
whose folder is gone, leaves it as it was: it can be asked, and added to. Of a model on
PyTorch it keeps what can be asked without PyTorch, and the model is loaded for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from mmsearch.errors import SpaceMismatch, SpaceUnavailable
from mmsearch.spaces import (
    ANYWHERE,
    FAMILIES,
    SPACES,
    Encoder,
    Placement,
    load_encoder,
    open_folder,
)
from mmsearch.spaces.folder import FolderSpace
from mmsearch.types import Modality, Space, Vectors


def encoder_of(
    space: Space,
    kept: Path | None,
    check: Callable[[], None] = lambda: None,
    to_index: bool = False,
    placement: Placement = ANYWHERE,
) -> Encoder:
    """The encoder that made the vectors of an index.

    kept: where the index keeps the space's files; None if it does not. check: called before
    they are used, and raises where they are not those that were kept. to_index: a model on
    PyTorch is loaded whole, and placed so.
    Raises SpaceMismatch where there is no encoder of exactly that space.
    """
    if space.name.partition(":")[0] in FAMILIES:
        if kept is None or to_index:
            return _model_of(space, placement)
        check()
        return KeptTowers(space, _opened(space, kept))
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
    return _opened(space, kept)


class KeptTowers:
    """The towers that an index keeps of a model; the others are the model's own.

    Safe to call from several threads.
    """

    def __init__(self, space: Space, kept: FolderSpace) -> None:
        self.space, self._kept = space, kept
        self.side_by_side = 1
        self._model: Encoder | None = None
        self._lock = Lock()

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """Those of the kept towers."""
        return self._kept.batch_sizes

    @property
    def files(self) -> Mapping[str, Path]:
        """What is kept."""
        return self._kept.files

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """See ``Encoder``. Raises SpaceUnavailable where the model is needed and not here."""
        if modality in self._kept.holds:
            return self._kept.encode(modality, data, asked)
        with self._lock:
            if self._model is None:
                self._model = _model_of(self.space)
        return self._model.encode(modality, data, asked)

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """See ``Encoder``."""
        return self._kept.truncated(texts)


def _model_of(space: Space, placement: Placement = ANYWHERE) -> Encoder:
    found = load_encoder(space.name, placement)
    if found.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the index holds {space}, but what is loaded by that name is {found.space}: other "
            "weights. Index again into a new folder, or bring back the weights that made it."
        )
    return found


def _opened(space: Space, kept: Path) -> FolderSpace:
    found = open_folder(kept, check=False)  # the index has checked them
    if found.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the index holds {space}, but {kept} holds {found.space}: it was changed. "
            "Restore it from a copy."
        )
    return found
