"""Two spaces as one: what the second has no tower for is encoded by the first and carried over.

``bridge:FOLDER`` is a folder that ``mmsearch bridge`` wrote: a card that names both spaces, and
a map from the vectors of the one (``from``) to those of the other (``to``), whose own vectors
stay as they are. So CLIP's pictures and texts and CLAP's sounds lie in one index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mmsearch import forks
from mmsearch.errors import SpaceMismatch, SpaceUnavailable, UsageError
from mmsearch.given import expanded
from mmsearch.spaces import ANYWHERE, Encoder, Placement, family_of, load_encoder, maps
from mmsearch.spaces.folder import CARD, read_card
from mmsearch.spaces.kept import Later
from mmsearch.store.confined import AnyPath
from mmsearch.types import Modality, Preprocess, Space, Vectors

PREFIX = "bridge:"


class Bridge:
    """The encoder of a bridge; see ``Encoder``. Each of its two spaces is loaded when needed.

    name: ``bridge:FOLDER``. Raises SpaceUnavailable for a folder that is none, or was changed.
    """

    def __init__(self, name: str, placement: Placement = ANYWHERE) -> None:
        folder, card = _card_of(name)
        self._spaces = {side: _space(card, side, folder) for side in ("from", "to")}
        source, target = self._spaces["from"], self._spaces["to"]
        kind, digest = str(card.get("kind")), str(card.get("digest"))
        if kind not in maps.KINDS or maps.digest_of(folder, kind) != digest:
            raise SpaceUnavailable(
                f"{folder} was changed since it was written: its map does not fit the digest in "
                f"{CARD}. Make the bridge again."
            )
        dimensions = {"from": source.dimension, "to": target.dimension}
        self._map = forks.native(maps.read(folder, kind, dimensions))
        self.space = space_of(f"{PREFIX}{folder}", source, target, digest)
        self._encoders = {
            side: Later(
                space, _loader(folder, side, space, str(card[side].get("place")), placement)
            )
            for side, space in self._spaces.items()
        }

    @property
    def side_by_side(self) -> int:
        """That of the space that keeps its vectors."""
        return self._encoders["to"].side_by_side

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """Those of the encoder that takes the modality."""
        return {m: self._encoders[self._side(m)].batch_sizes[m] for m in self.space.modalities}

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """The towers that can be kept of the space that keeps its vectors."""
        from mmsearch.spaces.portable import under_another_card

        return under_another_card(self._encoders["to"].files, self.space)

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """See ``Encoder``."""
        self.space.require(modality)
        side = self._side(modality)
        found = self._encoders[side].encode(modality, data, asked)
        return found if side == "to" else self._map(found)

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """See ``Encoder``."""
        return self._encoders["to"].truncated(texts)

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """See ``Encoder``."""
        return self._encoders["to"].unknown(texts)

    @property
    def languages(self) -> str:
        """Those of the space that keeps its vectors."""
        return self._encoders["to"].languages

    def _side(self, modality: Modality) -> str:
        return "to" if modality in self._spaces["to"].modalities else "from"


def space_of(name: str, source: Space, target: Space, digest: str) -> Space:
    """The space that a bridge makes of two. digest: of its map."""
    carried = [m for m in source.modalities if m not in target.modalities]
    preprocess = target.preprocess
    if Modality.AUDIO in carried:
        theirs = source.preprocess
        preprocess = replace(
            preprocess, sample_rate_hz=theirs.sample_rate_hz, window_s=theirs.window_s
        )
    if Modality.IMAGE in carried:
        of_pictures = {
            key: value
            for key, value in asdict(source.preprocess).items()
            if key.startswith("image_")
        }
        preprocess = replace(preprocess, **of_pictures)
    whole = hashlib.sha256(f"{source.fingerprint} {target.fingerprint} {digest}".encode())
    modalities = tuple(m for m in Modality if m in (*target.modalities, *carried))
    return Space(name, whole.hexdigest(), target.dimension, modalities, preprocess)


def described(space: Space, place: str) -> dict[str, Any]:
    """A space as a bridge's card holds it. place: the name or path that loads it."""
    facts = {**asdict(space), "place": place}
    return {**facts, "modalities": [str(m) for m in space.modalities],
            "fingerprint": space.fingerprint}  # fmt: skip


def check_here(name: str) -> None:
    """Raises SpaceUnavailable where a bridge or one of its spaces is not on this machine."""
    from mmsearch.spaces import missing_for

    folder, card = _card_of(name)
    for side in ("from", "to"):
        _space(card, side, folder)
        place = str(card[side]["place"])
        if family_of(place) is not None and (missing := missing_for(place)):
            raise SpaceUnavailable(missing)


def names() -> list[str]:
    """None: a bridge is a folder, and there is no list of them."""
    return []


def pull(name: str) -> str:
    """Raises UsageError: a bridge is made, and its spaces are fetched by their own names."""
    _, card = _card_of(name)
    places = " and ".join(str(card[side]["place"]) for side in ("from", "to"))
    raise UsageError(f"{name} is a folder, there is nothing to fetch: it needs {places}.")


def _card_of(name: str) -> tuple[Path, dict[str, Any]]:
    asked = name.removeprefix(PREFIX)
    if not asked:
        raise SpaceUnavailable(f"say which folder: {PREFIX}FOLDER, as `mmsearch bridge` wrote it.")
    folder = expanded(asked).absolute()
    card = read_card(folder)
    if "bridge" not in card:
        raise SpaceUnavailable(f"{folder} is no bridge: `mmsearch bridge` writes such folders.")
    return folder, card


def _space(card: dict[str, Any], side: str, folder: Path) -> Space:
    """One of the two spaces. Raises SpaceUnavailable for a card that does not describe it."""
    try:
        facts = json.loads(json.dumps(card[side]))
        claimed, _ = facts.pop("fingerprint"), facts.pop("place")
        facts["modalities"] = tuple(Modality(m) for m in facts["modalities"])
        space = Space(**{**facts, "preprocess": Preprocess(**facts["preprocess"])})
        if space.fingerprint != claimed:
            raise ValueError(f"the fingerprint of {side}")
    except (KeyError, TypeError, ValueError) as e:
        raise SpaceUnavailable(
            f"{folder / CARD} is damaged: {e} is missing or has no sense."
        ) from None
    return space


def _loader(folder: Path, side: str, space: Space, place: str, placement: Placement) -> Any:
    def load() -> Encoder:
        try:
            found = load_encoder(place, placement if family_of(place) is not None else ANYWHERE)
        except SpaceUnavailable as e:
            raise SpaceUnavailable(f"{folder} is a bridge {side} {place}: {e}") from None
        if found.space.fingerprint != space.fingerprint:
            raise SpaceMismatch(
                f"{folder} was made {side} {space}, but what is loaded from {place} is "
                f"{found.space}: make the bridge again."
            )
        return found

    return load
