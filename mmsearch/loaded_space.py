"""An embedding space for applications: files and objects in, unit vectors out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmsearch.errors import DecodeError, UsageError
from mmsearch.query import audio_parts, image_part
from mmsearch.spaces import load_encoder
from mmsearch.types import Modality, Space, Vectors


class LoadedSpace:
    """Encodes texts, pictures and sounds into one space; safe to share between threads.

    Every method returns float32 (n, d), one row of unit L2 norm for each input,
    in order; no input gives (0, d). The inner product of two rows is their cosine.
    """

    def __init__(self, name: str) -> None:
        self._encoder = load_encoder(name)

    @property
    def space(self) -> Space:
        """The space's name, fingerprint and dimension."""
        return self._encoder.space

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """One vector for each text; what the tower cannot take is left out at its end."""
        for text in _several(texts, "texts"):
            if not isinstance(text, str):
                raise UsageError(f"a text is a str, not {type(text).__name__}.")
        return self._encode(Modality.TEXT, list(texts))

    def encode_images(self, images: Sequence[Any]) -> Vectors:
        """One vector for each picture: path, bytes or PIL image. Raises DecodeError."""
        preprocess = self.space.preprocess
        parts = [image_part(image, preprocess) for image in _several(images, "images")]
        return self._encode(Modality.IMAGE, [part.data for part in parts])

    def encode_audio(self, sounds: Sequence[Any]) -> Vectors:
        """One vector for each sound: path, or (samples, sample_rate_hz).

        A sound longer than the space's window has the mean of its windows'
        vectors, scaled to unit length. Raises DecodeError.
        """
        out = np.empty((len(sounds), self.space.dimension), np.float32)
        for i, sound in enumerate(_several(sounds, "sounds")):
            windows = [part.data for part in audio_parts(sound, self.space.preprocess)]
            if not windows:
                raise DecodeError(f"sound {i} is empty")
            mean = self._encode(Modality.AUDIO, windows).mean(axis=0)
            out[i] = mean / np.linalg.norm(mean)
        return out

    def _encode(self, modality: Modality, data: list[Any]) -> Vectors:
        if not data:
            return np.empty((0, self.space.dimension), np.float32)
        return self._encoder.encode(modality, data)


def _several(inputs: Sequence[Any], what: str) -> Sequence[Any]:
    if isinstance(inputs, str | bytes | os.PathLike):
        raise UsageError(f"give a list of {what}, not one alone: [{inputs!r}].")
    return inputs
