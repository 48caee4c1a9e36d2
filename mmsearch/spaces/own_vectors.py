"""The space of vectors that an application's own model makes: it has no encoder here."""

from __future__ import annotations

import hashlib

from mmsearch.types import Modality, Preprocess, Space

NAME = "vectors"
WHY = (
    "the index holds vectors of a model of your own, which is not known here: add(…, vectors=…), "
    "and search(vector=…)."
)


def space_of(dimension: int) -> Space:
    """The space of an index that is given all of its vectors. Vectors of two models that have the
    same dimension cannot be told apart."""
    digest = hashlib.sha256(f"{NAME} of {dimension} numbers".encode()).hexdigest()
    # nothing is decoded for it, so how does not matter
    preprocess = Preprocess(image_px=224, sample_rate_hz=16_000, window_s=10.0)
    return Space(NAME, digest, dimension, tuple(Modality), preprocess)
