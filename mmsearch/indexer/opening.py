"""Opening an index for writing, with the encoder of its space and what it keeps of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from mmsearch.errors import IndexDamaged, IndexNotFound, SpaceUnavailable
from mmsearch.spaces import (
    ANYWHERE,
    FORMS,
    SPACES,
    Encoder,
    Placement,
    check_placements,
    family_of,
    load_encoder,
    several,
)
from mmsearch.spaces.cache import shared_folder
from mmsearch.spaces.folder import Reading, read_card, reading_of
from mmsearch.spaces.kept import encoder_of, kept_folders
from mmsearch.store import Snapshot, Writer
from mmsearch.store.confined import AnyPath
from mmsearch.types import Modality
from mmsearch.version import __version__


def open_writer(
    folder: AnyPath,
    space: str | None,
    placement: Placement = ANYWHERE,
    loaded: Encoder | None = None,
) -> tuple[Writer, Encoder]:
    """The index's writer and the encoder of its space (None: the index's own, else mini).

    loaded: the encoder, where there is one already.

    What the index keeps of the space is written where it is not there, and anew where it was
    changed.
    """
    known: Snapshot | None = None
    with suppress(IndexNotFound):
        known = Snapshot.open(folder)
    wanted = placement
    if known is not None:
        placement = _as_kept(known, placement)
    encoder: Encoder
    if loaded is not None:
        encoder = loaded
    elif space is not None or known is None:
        name = space or "mini"
        on_torch = any(family_of(lane) is not None for lane in several(name))
        encoder = load_encoder(name, placement if on_torch else wanted)
    else:
        check_placements(known.manifest.space, wanted)
        kept, check = known.kept_space, known.check_kept_space
        encoder = encoder_of(known.manifest.space, kept, check, True, placement)
    # made before the index is: where it cannot be, there is no empty one
    files = encoder.files if _must_keep(known, encoder, wanted) else {}
    writer = Writer(folder, encoder.space, __version__)
    try:
        writer.keep_space(files, shared_folder(encoder.space, writer.place) if files else None)
    except BaseException:
        writer.close()
        raise
    return writer, encoder


def _as_kept(known: Snapshot, placement: Placement) -> Placement:
    """The placement with towers kept as they are, also where they are written anew."""
    for card in _cards(known):
        carry = "all" if Modality.IMAGE in (card.holds or ()) else "text"
        if card.stored in FORMS:
            tower = placement.tower or card.stored
            return replace(placement, tower=tower, carry=placement.carry or carry)
    return placement


def _cards(known: Snapshot) -> list[Reading]:
    """What is said of each kept tower of a model on PyTorch."""
    if known.kept_space is None:
        return []
    space, cards = known.manifest.space, []
    folders = kept_folders(space, known.kept_space)
    for lane in space.each:
        if lane.fingerprint in folders and family_of(lane.name) is not None:
            with suppress(SpaceUnavailable):
                folder = folders[lane.fingerprint]
                cards.append(reading_of(read_card(folder), folder))
    return cards


def _must_keep(known: Snapshot | None, encoder: Encoder, wanted: Placement) -> bool:
    """Whether an index lacks what it should keep of its space, or keeps it in another form."""
    if known is None or not known.manifest.segments:
        return True
    if known.manifest.space.fingerprint != encoder.space.fingerprint:
        return False  # the writer refuses it
    if not known.manifest.query:  # of a model there may be nothing that can be kept
        return encoder.space.name in SPACES
    try:
        known.check_kept_space()
    except IndexDamaged:
        return True
    cards = _cards(known)
    if wanted.tower is not None and any(card.stored != wanted.tower for card in cards):
        return True
    pictured = [Modality.IMAGE in (card.holds or ()) for card in cards]
    return bool(cards) and (
        (wanted.carry == "all" and not any(pictured)) or (wanted.carry == "text" and any(pictured))
    )
