"""The encoder of an index: the program's own where it is the same space, else the kept one.

An index keeps the files of its space, so a newer built-in model, or a trained space
whose folder is gone, leaves it as it was: it can be asked, and added to. Of a model on
PyTorch it keeps what can be asked without PyTorch, and the model is loaded for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from mmsearch import forks
from mmsearch.errors import SpaceMismatch, SpaceUnavailable
from mmsearch.spaces import (
    ANYWHERE,
    CPU_BATCH,
    SPACES,
    Encoder,
    Placement,
    family_of,
    load_encoder,
    open_folder,
    own_vectors,
)
from mmsearch.spaces.catalogue import languages_of
from mmsearch.spaces.folder import FolderSpace
from mmsearch.spaces.lanes import Lanes, check_count, lanes_of
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.types import Modality, Space, Vectors


def encoder_of(
    space: Space,
    kept: ConfinedPath | None,
    check: Callable[[], None] = lambda: None,
    to_index: bool = False,
    placement: Placement = ANYWHERE,
    place: str | None = None,
) -> Encoder:
    """The encoder that made the vectors of an index.

    kept: where the index keeps the space's files; None if it does not. check: called before
    they are used, and raises where they are not those that were kept. to_index: all is encoded
    by a model on PyTorch itself, placed so. place: the name that loads it now, where it was
    moved. Such a model is loaded when it is first needed.
    Raises SpaceMismatch where there is no encoder of exactly that space.
    """
    if space.name == own_vectors.NAME:
        raise SpaceUnavailable(own_vectors.WHY)
    if space.lanes:
        return _lanes(space, kept, check, to_index, placement, place)
    if place is not None and place != space.name:
        return _loaded_from(space, place, placement)
    if family_of(space.name) is not None:
        model = Later(space, lambda: _model_of(space, placement))
        return model if kept is None or to_index else KeptTowers(space, kept, check, model)
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


def kept_folders(space: Space, kept: ConfinedPath) -> dict[str, ConfinedPath]:
    """Where the files of each lane are kept, by its fingerprint; of one without files nowhere."""
    if not space.lanes:
        return {space.fingerprint: kept}
    found = {lane.fingerprint: kept / lane.fingerprint for lane in space.lanes}
    return {name: folder for name, folder in found.items() if folder.is_dir()}


def _lanes(
    space: Space,
    kept: ConfinedPath | None,
    check: Callable[[], None],
    to_index: bool,
    placement: Placement,
    place: str | None,
) -> Encoder:
    folders = {} if kept is None else kept_folders(space, kept)
    places: list[str | None] = [None] * len(space.lanes)
    if place is not None and place != space.name:
        places = list(lanes_of(place))
        check_count([name for name in places if name is not None], space)
    encoders = []
    for lane, own in zip(space.lanes, places, strict=True):
        on_torch = family_of(own or lane.name) is not None
        placed = placement if on_torch else ANYWHERE
        folder = folders.get(lane.fingerprint)
        encoders.append(encoder_of(lane, folder, check, to_index, placed, own))
    return Lanes(encoders)


class Later:
    """An encoder that is loaded when something is to be encoded; its space is known before.

    Safe to call from several threads.
    """

    def __init__(self, space: Space, load: Callable[[], Encoder]) -> None:
        self.space, self._load = space, load
        self._loaded: Encoder | None = None
        self._lock = forks.Lock()

    @property
    def side_by_side(self) -> int:
        """The encoder's own."""
        return self._encoder().side_by_side

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """The encoder's own."""
        return self._encoder().batch_sizes

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """The encoder's own."""
        return self._encoder().files

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """See ``Encoder``. Raises what loading it raises."""
        self.space.require(modality)
        return self._encoder().encode(modality, data, asked)

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """See ``Encoder``."""
        return self._encoder().truncated(texts)

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """See ``Encoder``."""
        return self._encoder().unknown(texts)

    @property
    def languages(self) -> str:
        """The encoder's own."""
        return self._encoder().languages

    def _encoder(self) -> Encoder:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded


class KeptTowers:
    """The towers that an index keeps of a model; the others are the model's own.

    Each is opened when it is first needed. Safe to call from several threads.
    """

    side_by_side = 1

    def __init__(
        self, space: Space, kept: ConfinedPath, check: Callable[[], None], model: Encoder
    ) -> None:
        self.space = space
        self._folder, self._check, self._model = kept, check, model
        self._kept: FolderSpace | None = None
        self._card_holds: Sequence[Modality] | None = None  # what the card says is kept
        self._lock = Lock()
        forks.renewed(self, KeptTowers._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        self._lock = Lock()
        self._kept = self._card_holds = None  # to be loaded again, so looked at again

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """As a CPU takes them."""
        return {modality: CPU_BATCH[modality] for modality in self.space.modalities}

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """What is kept. Raises IndexDamaged where it was changed."""
        return self._towers().files

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """See ``Encoder``. Raises SpaceUnavailable where the model is needed and not here,
        IndexDamaged where a kept tower is needed and was changed."""
        self.space.require(modality)
        if modality in self._holds() and modality in (towers := self._towers()).holds:
            return towers.encode(modality, data, asked)
        try:
            return self._model.encode(modality, data, asked)
        except SpaceUnavailable as e:
            names = {Modality.TEXT: "words", Modality.IMAGE: "pictures", Modality.AUDIO: "sounds"}
            told = " and ".join(names[m] for m in self._holds()).capitalize()
            raise SpaceUnavailable(f"{e} {told} can be asked without it.") from None

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """See ``Encoder``."""
        return self._towers().truncated(texts)

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """See ``Encoder``."""
        return self._towers().unknown(texts)

    @property
    def languages(self) -> str:
        """What is published of the model."""
        return languages_of(self.space.name)

    def _holds(self) -> Sequence[Modality]:
        """What is kept by the card, before all is looked at; texts where that cannot be read."""
        if self._kept is not None:
            return self._kept.holds
        if self._card_holds is None:
            try:
                self._card_holds = FolderSpace(self._folder).holds
            except SpaceUnavailable:
                return (Modality.TEXT,)
        return self._card_holds

    def _towers(self) -> FolderSpace:
        with self._lock:
            if self._kept is None:
                self._check()
                self._kept = _opened(self.space, self._folder)
            return self._kept


def what_is_wrong(kept: ConfinedPath, space: Space) -> str | None:
    """What is wrong with the files that an index keeps of its space; None if nothing.

    Graphs are looked through and not run. kept: the folder; its bytes were checked.
    """
    lanes = {lane.fingerprint: lane for lane in space.each}
    for fingerprint, folder in kept_folders(space, kept).items():
        try:
            _opened(lanes[fingerprint], folder).check()
        except (SpaceMismatch, SpaceUnavailable) as e:
            return str(e)
    return None


def _model_of(space: Space, placement: Placement) -> Encoder:
    try:
        found = load_encoder(space.name, placement)
    except SpaceUnavailable as e:
        if not space.has_place or "not installed" in str(e):
            raise
        raise SpaceUnavailable(
            f"{e} If the model was moved, say where it is with --space (`mmsearch index` "
            "remembers it)."
        ) from None
    if found.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the index holds {space}, but what is loaded by that name is {found.space}: other "
            "weights. Index again into a new folder, or bring back the weights that made it."
        )
    return found


def _loaded_from(space: Space, place: str, placement: Placement) -> Encoder:
    found = load_encoder(place, placement)
    if found.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the index holds {space}; the encoder is {found.space}. "
            "Leave out --space to use the index's own, or choose another --index."
        )
    return found


def _opened(space: Space, kept: ConfinedPath) -> FolderSpace:
    found = open_folder(kept, check=False)  # the index has checked them
    if found.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the index holds {space}, but {kept} holds {found.space}: it was changed. "
            "Restore it from a copy."
        )
    return found
