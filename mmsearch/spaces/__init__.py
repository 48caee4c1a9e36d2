"""Spaces: decoded parts in, unit vectors out.

One class an encoder, one line a name in ``SPACES``. With ``train/`` this is the
only room that imports onnxruntime, torch or open_clip, and it does so only when
an encoder is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

from mmsearch.errors import SpaceUnavailable
from mmsearch.types import Modality, Space, Vectors

# name -> (module, class, what it needs): one line for each space
SPACES: dict[str, tuple[str, str, str]] = {
    "mini": ("mmsearch.spaces.mini", "Mini", "nothing: it is built in"),
}


class Encoder(Protocol):
    """What every class in ``SPACES`` meets. Safe to call from several threads."""

    space: Space

    def encode(self, modality: Modality, data: Sequence[Any]) -> Vectors:
        """One unit vector for each decoded input, in order.

        data: what ``types.Part.data`` holds for that modality, as
        ``space.preprocess`` asks for it.
        Returns float32 (n, d), rows of unit L2 norm; the same input gives the
        same row whatever else is in the batch.
        """

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text the tower leaves out; mostly 0."""


def load_encoder(name: str) -> Encoder:
    """The encoder of a space by name; raises SpaceUnavailable if there is none."""
    if name not in SPACES:
        raise SpaceUnavailable(
            f"no space is called {name!r}; there is: {', '.join(sorted(SPACES))}. "
            "`mmsearch spaces` lists what each one needs."
        )
    module, cls, _ = SPACES[name]
    encoder: Encoder = getattr(import_module(module), cls)()
    return encoder
