"""Several spaces side by side: ``a+b``, such as CLIP for pictures and CLAP for sounds.

Each is a lane (``types.Space.joined``): pictures, and sounds, go to the first that takes them,
texts to each. A vector is one of each lane, one after the other, 0 where it is in none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmsearch.errors import UsageError
from mmsearch.given import expanded
from mmsearch.spaces import (
    ANYWHERE,
    FAMILIES,
    SPACES,
    USUAL,
    Encoder,
    Placement,
    family_of,
    load_encoder,
)
from mmsearch.spaces.folder import CARD
from mmsearch.spaces.naming import nearest
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.types import Modality, Space, Vectors

MADE_UP = "made-up.npy"
_MADE_UP_TEXTS = 128
_SIGN = "+"


def lanes_of(name: str) -> list[str]:
    """The names of the spaces that a name joins; of one that joins none, itself.

    A + that is a part of a place stays there: what follows one that joins is a name, or a folder
    of a space.
    """
    if _is_space(name):
        return [name]
    found = [""]
    for i, piece in enumerate(name.split(_SIGN)):
        if i and _begins(found[-1].strip()) and _begins(piece.strip()):
            found[-1] = found[-1].strip()
            found.append(piece.strip())
        else:
            found[-1] += piece if not i else _SIGN + piece
    return found


def _begins(piece: str) -> bool:
    family, colon, _ = piece.partition(":")
    if family.partition("@")[0] in {*SPACES, *USUAL, *FAMILIES} or family_of(piece) is not None:
        return True
    return _is_space(piece) or bool(colon and nearest(family, FAMILIES))  # a slip of the pen


def _is_space(place: str) -> bool:
    try:
        return os.path.isfile(expanded(place) / CARD)
    except (UsageError, ValueError):
        return False


def load(names: Sequence[str], placement: Placement = ANYWHERE) -> Lanes:
    """The encoder of several spaces by their names. Raises what loading each one raises, and
    UsageError where one adds nothing, or where no one could be placed as asked."""
    if placement != ANYWHERE and not any(family_of(name) for name in names):
        load_encoder(names[0], placement)  # which says that it cannot
    encoders = [
        load_encoder(name, placement if family_of(name) is not None else ANYWHERE) for name in names
    ]
    return Lanes(encoders)


class Lanes:
    """The encoder of several spaces; see ``Encoder``. Rows are of unit length in each lane that
    they are in. Raises UsageError for spaces that cannot be joined."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self._encoders = tuple(encoders)
        self.space = Space.joined([encoder.space for encoder in encoders])

    @property
    def side_by_side(self) -> int:
        """As many as each lane can take."""
        return min(encoder.side_by_side for encoder in self._encoders)

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """As many as each lane that holds the modality can take."""
        sizes: dict[Modality, int] = {}
        for _, encoder, held in self._lanes():
            for m in held:
                size = encoder.batch_sizes[m]
                sizes[m] = min(sizes.get(m, size), size)
        return sizes

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """What each lane can keep, FINGERPRINT/NAME -> file; and the vectors of made-up texts,
        which tell what a query gets by chance (``mmsearch.calibrate``)."""
        found: dict[str, AnyPath] = {
            f"{encoder.space.fingerprint}/{name}": path
            for encoder in self._encoders
            for name, path in encoder.files.items()
        }
        if Modality.TEXT in self.space.modalities:
            found[MADE_UP] = self._made_up()
        return found

    def _made_up(self) -> ConfinedPath:
        """The vectors, float16 (m, d), in a file of the cache."""
        from mmsearch.sample_queries import sample_queries
        from mmsearch.spaces.cache import cache_folder

        texts = sample_queries(_MADE_UP_TEXTS)
        size = self.batch_sizes[Modality.TEXT]
        blocks = [texts[at : at + size] for at in range(0, len(texts), size)]
        rows = [self.encode(Modality.TEXT, block, asked=True) for block in blocks]
        folder = cache_folder() / f"{self.space.fingerprint}-{self.space.digest[:16]}-made-up"
        folder.mkdir(exist_ok=True)
        path = folder / MADE_UP
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            np.save(file, np.concatenate(rows).astype(np.float16), allow_pickle=False)
        os.replace(file.name, path)  # whole for whoever makes it at the same time
        return ConfinedPath(folder) / MADE_UP

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """See ``Encoder``."""
        self.space.require(modality)
        out = np.zeros((len(data), self.space.dimension), np.float32)
        for columns, encoder, held in self._lanes():
            if modality in held:
                out[:, columns] = encoder.encode(modality, data, asked)
        return out

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """The most that a lane leaves out of each."""
        each = [
            encoder.truncated(texts) for _, encoder, held in self._lanes() if Modality.TEXT in held
        ]
        return [max(several) for several in zip(*each, strict=True)]

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """What the lane does not know that knows most of each."""
        each = [
            encoder.unknown(texts) for _, encoder, held in self._lanes() if Modality.TEXT in held
        ]
        return [min(several) for several in zip(*each, strict=True)]

    @property
    def languages(self) -> str:
        """Those of each lane."""
        return "; ".join(dict.fromkeys(filter(None, (e.languages for e in self._encoders))))

    def _lanes(self) -> list[tuple[slice, Encoder, tuple[Modality, ...]]]:
        return list(zip(self.space.columns, self._encoders, self.space.held, strict=True))


def check_count(names: Sequence[str], space: Space) -> None:
    """Raises UsageError where a place for each lane is wanted and others are given."""
    if len(names) != len(space.lanes):
        raise UsageError(
            f"the index holds {space.name}: name a space for each of its {len(space.lanes)} lanes, "
            f"with a {_SIGN} between; got {len(names)}."
        )
