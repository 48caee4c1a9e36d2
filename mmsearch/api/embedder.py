"""An embedding space for applications: files and objects in, unit vectors out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from mmsearch.errors import UsageError
from mmsearch.given import listed
from mmsearch.query import audio_parts, image_part, mean_of_windows
from mmsearch.spaces import ANYWHERE, Placement, load_encoder
from mmsearch.types import Modality, Space, SpaceVectors, Vectors


class Embedder:
    """Encodes texts, pictures and sounds into one space; safe to share between threads.

    Every method returns float32 (n, d), one row of unit L2 norm for each input,
    in order; no input gives (0, d). The inner product of two rows is their cosine. The arrays
    know their space: an index of another refuses them.
    """

    def __init__(self, name: str, placement: Placement = ANYWHERE) -> None:
        self._encoder = load_encoder(name, placement)

    @property
    def space(self) -> Space:
        """The space's name, fingerprint and dimension."""
        return self._encoder.space

    def encode_query(self, texts: str | Sequence[str]) -> Vectors:
        """One vector for each text to search with; (d,) for a single text.

        Models with a prompt for queries and one for documents use the first; of others the
        vectors are those of ``encode_document``. The end of a text that is too long for the tower
        is left out.
        """
        return self._encode_texts(texts, asked=True)

    def encode_document(self, texts: str | Sequence[str]) -> Vectors:
        """One vector for each text to be found, as an index stores them; (d,) for a single text.

        See ``encode_query``.
        """
        return self._encode_texts(texts, asked=False)

    def encode_images(self, images: Sequence[Any]) -> Vectors:
        """One vector for each picture: path, bytes or PIL image. Raises DecodeError."""
        several = listed(images, "images")
        parts = (image_part(image, self.space.preprocess) for image in several)
        return self._encode(Modality.IMAGE, (part.data for part in parts), len(several))

    def encode_audio(self, sounds: Sequence[Any]) -> Vectors:
        """One vector for each sound: path, or (samples, sample_rate_hz).

        A sound longer than the space's window has the mean of its windows'
        vectors, scaled to unit length. Raises DecodeError.
        """
        several = listed(sounds, "sounds")
        out = np.empty((len(several), self.space.dimension), np.float32)
        for i, sound in enumerate(several):
            windows = audio_parts(sound, self.space.preprocess)
            out[i] = mean_of_windows(self._encoder, (part.data for part in windows))
        return SpaceVectors.of(out, self.space)

    def _encode_texts(self, texts: str | Sequence[str], asked: bool) -> Vectors:
        several = [texts] if isinstance(texts, str) else listed(texts, "texts")
        for text in several:
            if not isinstance(text, str):
                raise UsageError(f"a text is a str, not {type(text).__name__}.")
        found = self._encode(Modality.TEXT, iter(several), len(several), asked)
        return found[0] if isinstance(texts, str) else found

    def _encode(
        self, modality: Modality, data: Iterator[Any], n: int, asked: bool = False
    ) -> Vectors:
        out = np.empty((n, self.space.dimension), np.float32)
        at = 0
        size = self._encoder.batch_sizes.get(modality, 1)  # of none there is no tower
        while some := list(islice(data, size)):  # few decoded inputs are held at a time
            out[at : at + len(some)] = self._encoder.encode(modality, some, asked)
            at += len(some)
        return SpaceVectors.of(out, self.space)
