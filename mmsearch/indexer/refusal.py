"""Telling an input that an encoder refuses from an encoder that is broken.

A batch that fails is tried again input by input. If one input fails alone, a fixed probe of the
same modality is encoded: only if that works is the input to blame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import DecodeError, ProcessingFailed, SpaceError
from mmsearch.spaces import Encoder
from mmsearch.types import Modality, Preprocess, Vectors

_REASON_CHARS = 300
_PROBE_S = 1.0  # of audio


@dataclass(frozen=True)
class Refused:
    """Why an input has no vector. ``ours``: it is not to blame, and is to be tried again."""

    reason: str
    ours: bool = False


def encode_each(
    encoder: Encoder, modality: Modality, data: Sequence[Any], asked: bool = False
) -> list[NDArray[np.float32] | Refused]:
    """The unit vector (d,) of each input, or why there is none.

    data: as ``Encoder.encode`` takes it. Raises ProcessingFailed if the encoder is broken,
    SpaceError if its model is not here or does not fit the memory.
    """
    try:
        return list(_encode(encoder, modality, data, asked))
    except ProcessingFailed:
        raise
    except Exception as e:
        if len(data) == 1:
            return [_refused(encoder, modality, e)]
    return [one for x in data for one in encode_each(encoder, modality, [x], asked)]


def encode_all(
    encoder: Encoder, modality: Modality, data: Sequence[Any], asked: bool = False
) -> Vectors:
    """The unit vectors of all inputs, float32 (n, d). asked: as ``Encoder.encode`` takes it.

    Raises DecodeError for an input that the encoder refuses, ProcessingFailed if the encoder is
    broken or lacks memory, and SpaceUnavailable if it takes nothing of that modality.
    """
    encoder.space.require(modality)
    out = np.empty((len(data), encoder.space.dimension), np.float32)
    for row, one in enumerate(encode_each(encoder, modality, data, asked)):
        if isinstance(one, Refused):
            raise ProcessingFailed(one.reason) if one.ours else DecodeError(one.reason, "encode")
        out[row] = one
    return out


def _encode(
    encoder: Encoder, modality: Modality, data: Sequence[Any], asked: bool = False
) -> Vectors:
    vectors = encoder.encode(modality, data, asked)
    if len(vectors) != len(data) or not np.isfinite(vectors).all():
        raise DecodeError("the encoder gave no usable vector", stage="encode")
    return vectors


def broken(encoder: Encoder, modality: Modality, error: Exception) -> ProcessingFailed:
    """The error that says that an encoder does not work any more."""
    return ProcessingFailed(
        f"{encoder.space.name} does not encode {modality} any more: {_line(error)}. What was "
        "encoded before is kept; run the same command to go on."
    )


def _refused(encoder: Encoder, modality: Modality, error: Exception) -> Refused:
    try:
        _encode(encoder, modality, [_probe(encoder.space.preprocess, modality)])
    except SpaceError:  # which says what is missing
        raise
    except Exception as e:
        raise broken(encoder, modality, e) from e
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return Refused(
        f"the encoder refused it: {_line(error)}", memory or isinstance(error, SpaceError)
    )


def _probe(preprocess: Preprocess, modality: Modality) -> Any:
    """An input that every encoder takes: an image, a second of audio or a text."""
    if modality is Modality.TEXT:
        return "a dog on a beach"
    if modality is Modality.AUDIO:
        n = round(min(_PROBE_S, preprocess.window_s) * preprocess.sample_rate_hz)
        return (0.1 * np.sin(np.arange(n) * 0.05)).astype(np.float32)
    px = preprocess.image_px
    ramp = np.linspace(0, 255, px).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(ramp[:, None, None], (px, px, 3)))


def _line(error: Exception) -> str:
    """A library's error as one line."""
    text = str(error).strip() or type(error).__name__
    return shorten(text.splitlines()[0], _REASON_CHARS, placeholder=" …").rstrip(" .")
