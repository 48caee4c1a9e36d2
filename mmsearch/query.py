"""What is asked: a text, a picture, a sound or a vector becomes one query vector."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import DecodeError, DimensionMismatch, LimitExceeded, UsageError
from mmsearch.spaces import Encoder
from mmsearch.types import Modality, Part, Preprocess, Space, Vectors

MAX_QUERY_CHARS = 20_000  # the text tower reads far less; more is a file by mistake
MAX_K = 10_000
# Of a long sound the first windows stand for the whole query.
MAX_QUERY_WINDOWS = 30
_BATCH_WINDOWS = 8


@dataclass(frozen=True)
class Query:
    """One question: exactly one of text, image, audio and vector, and what may answer.

    ``to`` is the modality that hits must have; None is any. ``k`` is how many. ``where`` is
    a condition that they must meet (``mmsearch.filters``); it is read when it is asked.
    """

    text: str | None = None
    image: Any = None
    audio: Any = None
    vector: Any = None
    to: Modality | None = None
    k: int = 10
    where: str | None = None

    @classmethod
    def make(
        cls,
        text: str | None = None,
        *,
        image: Any = None,
        audio: Any = None,
        vector: Any = None,
        to: str | None = None,
        k: int = 10,
        where: str | None = None,
    ) -> Query:
        """Checks what was asked; raises UsageError or LimitExceeded."""
        given = [x for x in (text, image, audio, vector) if x is not None]
        if len(given) != 1:
            raise UsageError(
                f"ask with exactly one of text, image, audio and vector; got {len(given)}."
            )
        if text is not None:
            if not isinstance(text, str):
                raise UsageError(f"a text query is a str, not {type(text).__name__}.")
            if len(text) > MAX_QUERY_CHARS:
                raise LimitExceeded(
                    f"the query has {len(text):,} characters; at most {MAX_QUERY_CHARS:,} are "
                    "taken. Index a long text and search with one of its passages."
                )
            if not text.strip():
                raise UsageError("the query is empty: say what to look for.")
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= MAX_K:
            raise UsageError(f"k is how many hits you want: 1 to {MAX_K:,}, not {k!r}.")
        if where is not None and not isinstance(where, str):
            raise UsageError(f"a filter is a str, not {type(where).__name__}.")
        return cls(text, image, audio, vector, modality_of(to), int(k), where)

    def to_json(self) -> dict[str, Any]:
        """The query as ``--json`` shows it: what cannot be written is only named."""
        asked: dict[str, Any] = {}
        for name in ("text", "image", "audio"):
            value = getattr(self, name)
            if value is not None:
                plain = isinstance(value, str | os.PathLike)
                asked[name] = os.fspath(value) if plain else f"<{type(value).__name__}>"
        if self.vector is not None:
            asked["vector"] = "<vector>"
        asked |= {"to": str(self.to) if self.to else "any", "k": self.k}
        return asked if self.where is None else {**asked, "where": self.where}

    def vector_in(self, space: Space, encoder: Encoder | None) -> Vectors:
        """The query as float32 (1, d) of unit length.

        encoder: of that space; may be None when a vector was given.
        Raises DecodeError for a file that cannot be read, DimensionMismatch and
        UsageError for a vector that cannot be compared.
        """
        if self.vector is not None or encoder is None:
            return _unit(self.vector, space)
        preprocess = space.preprocess
        if self.text is not None:
            return encoder.encode(Modality.TEXT, [self.text])
        if self.image is not None:
            part = image_part(self.image, preprocess)
            return encoder.encode(Modality.IMAGE, [part.data])
        windows = (part.data for part in audio_parts(self.audio, preprocess))
        return mean_of_windows(encoder, islice(windows, MAX_QUERY_WINDOWS))


def mean_of_windows(encoder: Encoder, windows: Iterator[Any]) -> Vectors:
    """One unit vector (1, d) for a sound: the mean of its windows', scaled to unit length."""
    total = np.zeros((1, encoder.space.dimension), np.float64)
    n = 0
    while some := list(islice(windows, _BATCH_WINDOWS)):
        total += encoder.encode(Modality.AUDIO, some).sum(axis=0, dtype=np.float64)
        n += len(some)
    if not n:
        raise DecodeError("the sound is empty")
    return (total / np.linalg.norm(total)).astype(np.float32)


def modality_of(to: str | None) -> Modality | None:
    """The modality a caller named; None for ``any`` or None. Raises UsageError."""
    if to is None or to == "any":
        return None
    try:
        return Modality(to)
    except ValueError:
        names = ", ".join([*Modality, "any"])
        raise UsageError(f"hits can be of {names}; not {to!r}.") from None


def _unit(vector: Any, space: Space) -> Vectors:
    try:
        v: NDArray[np.float32] = np.asarray(vector, np.float32)
    except (TypeError, ValueError) as e:
        raise UsageError(f"the vector is not an array of numbers: {e}") from None
    v = v.reshape(1, -1) if v.ndim == 1 else v
    if v.shape != (1, space.dimension):
        raise DimensionMismatch(
            f"the vector has shape {np.shape(vector)}; {space.name} wants ({space.dimension},)."
        )
    norm = float(np.linalg.norm(v))
    if not np.isfinite(norm) or norm == 0:
        raise UsageError("the vector has no direction: it is zero or not finite.")
    return v / np.float32(norm)


def listed(several: Any, what: str) -> list[Any]:
    """What a caller gave as several things. Raises UsageError for one alone, or for none."""
    if isinstance(several, str | bytes | os.PathLike | dict):
        raise UsageError(f"give a list of {what}, not one alone: [{several!r}].")
    if not isinstance(several, Iterable):
        raise UsageError(f"give a list of {what}, not {several!r}.")
    return list(several)


@contextmanager
def _named(source: Any, wanted: Modality) -> Iterator[None]:
    """Puts the file's name before the reason why it cannot be read.

    A file of another modality is called that, and not a damaged one of this.
    """
    try:
        yield
    except (DecodeError, LimitExceeded) as e:
        if isinstance(source, str | os.PathLike):
            kind = _kind_of(source)
            reason = str(e)
            if kind in list(Modality) and kind != wanted:
                reason = f"is {kind}, not {wanted}"
            e.args = (f"{os.fspath(source)}: {reason}",)
        raise


def _kind_of(path: str | os.PathLike[str]) -> str | None:
    """What a file's first bytes say it is; None where nobody can tell."""
    from mmsearch.media import HEAD_BYTES, open_regular, sniff

    try:
        with open_regular(path) as file:
            return sniff(file.read(HEAD_BYTES), os.fspath(path))
    except (DecodeError, OSError):
        return None


def image_part(source: Any, preprocess: Preprocess) -> Part:
    """A picture (path, bytes or PIL image) as one part."""
    from mmsearch.media import image_array

    with _named(source, Modality.IMAGE):
        return Part(Modality.IMAGE, 0, image_array(source, preprocess))


def audio_parts(source: Any, preprocess: Preprocess) -> Iterator[Part]:
    """A sound (path, or (samples, sample_rate_hz)) as windows."""
    from mmsearch.media import audio_windows

    with _named(source, Modality.AUDIO):
        for i, (samples, start_s, end_s) in enumerate(audio_windows(source, preprocess)):
            yield Part(Modality.AUDIO, i, samples, start_s, end_s)


def text_parts(text: Any, preprocess: Preprocess) -> Iterator[Part]:
    """A text as passages."""
    from mmsearch.media import passages

    if not isinstance(text, str):
        raise UsageError(f"a text is a str, not {type(text).__name__}.")
    for i, passage in enumerate(passages(text, preprocess)):
        yield Part(Modality.TEXT, i, passage)
