"""Opening an index for writing, with the encoder of its space and what it keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mmsearch.errors import IndexDamaged, IndexNotFound, SpaceUnavailable
from mmsearch.spaces import ANYWHERE, FORMS, SPACES, Encoder, Placement, family_of, load_encoder
from mmsearch.spaces.folder import read_card
from mmsearch.spaces.kept import encoder_of, kept_folders
from mmsearch.store import Snapshot, Writer
from mmsearch.types import Space
from mmsearch.version import __version__


def open_writer(
    folder: Path,
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
    if known is not None and placement.tower is None and (form := _stored(known)):
        placement = replace(placement, tower=form)  # as it is, also where it is written anew
    encoder: Encoder
    if loaded is not None:
        encoder = loaded
    elif space is not None or known is None:
        encoder = load_encoder(space or "mini", placement)
    else:
        kept, check = known.kept_space, known.check_kept_space
        encoder = encoder_of(known.manifest.space, kept, check, True, placement)
    # made before the index is: where it cannot be, there is no empty one
    files = encoder.files if _must_keep(known, encoder, placement.tower) else {}
    writer = Writer(folder, encoder.space, __version__)
    try:
        writer.keep_space(files)
    except BaseException:
        writer.close()
        raise
    return writer, encoder


def _stored(known: Snapshot) -> str | None:
    """In which form the weights of a model's kept tower are stored, if one is kept."""
    for form, lane in _forms(known):
        if form in FORMS and family_of(lane.name) is not None:
            return form
    return None


def _forms(known: Snapshot) -> Iterator[tuple[str, Space]]:
    """In which form the weights of each kept tower are stored, and of which lane it is."""
    if known.kept_space is None:
        return
    space = known.manifest.space
    folders = kept_folders(space, known.kept_space)
    for lane in space.each:
        with suppress(SpaceUnavailable):
            if lane.fingerprint in folders:
                yield str(read_card(folders[lane.fingerprint]).get("stored")), lane


def _must_keep(known: Snapshot | None, encoder: Encoder, tower: str | None) -> bool:
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
    forms = [form for form, lane in _forms(known) if family_of(lane.name) is not None]
    return tower is not None and any(form != tower for form in forms)
