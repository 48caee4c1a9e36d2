"""Opening an index for writing, with the encoder of its space and what it keeps of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mmsearch.errors import IndexDamaged, IndexNotFound, SpaceUnavailable
from mmsearch.spaces import ANYWHERE, FORMS, SPACES, Encoder, Placement, family_of, load_encoder
from mmsearch.spaces.folder import read_card
from mmsearch.spaces.kept import encoder_of
from mmsearch.store import Snapshot, Writer
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
    if known.kept_space is None or family_of(known.manifest.space.name) is None:
        return None
    try:
        form = read_card(known.kept_space).get("stored")
    except SpaceUnavailable:
        return None
    return form if isinstance(form, str) and form in FORMS else None


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
        stored = read_card(known.kept_space).get("stored") if known.kept_space else None
    except (IndexDamaged, SpaceUnavailable):
        return True
    return tower is not None and stored != tower
