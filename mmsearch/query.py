"""What is asked: a text, a picture, a sound or a vector becomes one query vector."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import (
    DecodeError,
    DimensionMismatch,
    LimitExceeded,
    ProcessingFailed,
    SpaceMismatch,
    UsageError,
)
from mmsearch.filters import filter_of
from mmsearch.given import checked_path, is_unicode, shown
from mmsearch.spaces import Encoder
from mmsearch.types import Modality, Part, Preprocess, Space, SpaceVectors, Vectors

if TYPE_CHECKING:
    from mmsearch.filters import Filter, Params, Where
    from mmsearch.media.isolated import IsolatedDecoder

MAX_QUERY_CHARS = 20_000  # the text tower reads far less; more is a file by mistake
MAX_K = 10_000
MIN_RECALL = 0.5
# Of a long sound the first windows stand for the whole query.
MAX_QUERY_WINDOWS = 30
_BATCH_WINDOWS = 8
BLOCK_VECTORS = 4096  # of many vectors, so many are made ready at once: 8 MiB at d = 512
# A length so near to 1 is that of a unit vector in float32, which is taken as it is.
_NEAR_UNIT = 1e-6
_SHORTEST = 1e-15  # below it the squares of components are lost in float32


@dataclass(frozen=True)
class Query:
    """One question: exactly one of text, image, audio and vector, and what may answer.

    ``to`` is the modality that hits must have; None is any. ``k`` is how many.
    ``filter`` is a condition that they must meet, with the values of its parameters
    (``mmsearch.filters``); it is read when it is asked.
    ``recall`` is the share of the ten nearest that should be found; None is what the index
    was tuned for, 1 compares every vector.
    """

    text: str | None = None
    image: Any = None
    audio: Any = None
    vector: Any = None
    to: Modality | None = None
    k: int = 10
    filter: Filter | None = None
    recall: float | None = None

    @property
    def where(self) -> str | None:
        """The condition that hits must meet."""
        return None if self.filter is None else self.filter.where

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
        where: Where | None = None,
        params: Params | None = None,
        recall: float | None = None,
    ) -> Query:
        """Checks what was asked; raises UsageError or LimitExceeded."""
        given = [x for x in (text, image, audio, vector) if x is not None]
        if len(given) != 1:
            raise UsageError(
                f"ask with exactly one of text, image, audio and vector; got {len(given)}."
            )
        if text is not None:
            check_text(text)
        return cls(text, image, audio, vector, *checked(to, k, where, params, recall))

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
        more: dict[str, Any] = {"where": self.where, "recall": self.recall}
        if self.filter is not None and self.filter.values:
            more["params"] = [value.to_json() for value in self.filter.values]
        return asked | {name: value for name, value in more.items() if value is not None}

    def vector_in(
        self, space: Space, encoder: Encoder | None, decoder: IsolatedDecoder | None = None
    ) -> Vectors:
        """The query as float32 (1, d) of unit length.

        encoder: of that space; may be None when a vector was given. decoder: where a picture or
        sound is decoded; None is in this process.
        Raises DecodeError for a file that cannot be read, DimensionMismatch and
        UsageError for a vector that cannot be compared.
        """
        if self.vector is not None or encoder is None:
            return unit_vector(self.vector, space)
        asked = Modality.TEXT if self.text is not None else Modality.AUDIO
        space.require(asked if self.image is None else Modality.IMAGE)
        preprocess = space.preprocess
        if self.text is not None:
            return encoder.encode(Modality.TEXT, [self.text], asked=True)
        if self.image is not None:
            part = image_part(self.image, preprocess, decoder)
            return encoder.encode(Modality.IMAGE, [part.data])
        windows = (part.data for part in audio_parts(self.audio, preprocess, decoder))
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
    if to is None or (isinstance(to, str) and to == "any"):
        return None
    if isinstance(to, str) and to in list(Modality):
        return Modality(to)
    names = ", ".join([*Modality, "any"])
    raise UsageError(f"hits can be of {names}; not {shown(to)}.")


def checked(
    to: str | None,
    k: int,
    where: Where | None,
    params: Params | None = None,
    recall: float | None = None,
) -> tuple[Modality | None, int, Filter | None, float | None]:
    """What hits must be, how many, the filter and the recall, as a Query holds them.

    Raises UsageError or LimitExceeded.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= MAX_K:
        raise UsageError(f"k is how many hits you want: 1 to {MAX_K:,}, not {shown(k)}.")
    asked = filter_of(where, params)
    checked_recall(recall)
    return modality_of(to), int(k), asked, None if recall is None else float(recall)


def checked_recall(recall: float | None) -> None:
    """Raises UsageError for a recall that cannot be aimed at."""
    number = isinstance(recall, int | float | np.floating) and not isinstance(recall, bool)
    if recall is not None and not (number and MIN_RECALL <= recall <= 1):
        raise UsageError(
            f"a recall is between {MIN_RECALL} and 1, such as 0.95; not {shown(recall)}."
        )


# categories of Unicode that say nothing alone: punctuation, spaces, control characters
_NO_WORD = frozenset("Pc Pd Ps Pe Pi Pf Po Zs Zl Zp Cc Cf".split())


def check_text(text: Any) -> None:
    """Raises UsageError for what is no text to ask with, LimitExceeded for one too long."""
    if not isinstance(text, str):
        raise UsageError(f"a text query is a str, not {type(text).__name__}.")
    if len(text) > MAX_QUERY_CHARS:
        raise LimitExceeded(
            f"the query has {len(text):,} characters; at most {MAX_QUERY_CHARS:,} are "
            "taken. Index a long text and search with one of its passages."
        )
    if not text.strip():
        raise UsageError("the query is empty: say what to look for.")
    if not is_unicode(text):
        raise UsageError(
            "the query is no valid text. If it was typed, the terminal's encoding is not UTF-8."
        )
    if all(unicodedata.category(letter) in _NO_WORD for letter in text):
        raise UsageError("the query holds no word, only punctuation: say what to look for.")


def readable(encoder: Encoder, text: str) -> tuple[str, float]:
    """What an encoder reads of a text query, and the share of its letters that are unknown, [0, 1).

    Words without a known letter are left out. Otherwise the query would be near to every passage
    that is full of unknown letters, whatever both say.
    Raises UsageError if no letter is known: all such texts have one vector, which says nothing.
    """
    encoder.space.require(Modality.TEXT)
    share = encoder.unknown([text])[0]
    if share == 0:
        return text, share
    if share < 1:
        words = text.split()
        distinct = list(dict.fromkeys(words))
        unknown = dict(zip(distinct, encoder.unknown(distinct), strict=True))
        return " ".join(word for word in words if unknown[word] < 1) or text, share
    reads = f" It reads {encoder.languages}." if encoder.languages else ""
    raise UsageError(
        f"the space {encoder.space.name} knows no letter of the query.{reads} Ask in other words, "
        "or index with a space for that language: `mmsearch spaces` lists some."
    )


def unit_vector(vector: Any, space: Space) -> Vectors:
    """One vector that somebody gave as float32 (1, d) of unit length.

    vector: (d,) or (1, d). Raises DimensionMismatch, or UsageError for what is no vector.
    """
    _refuse_other(vector, space)
    given = _array(vector, "the vector")
    d = space.dimension
    if given.shape not in ((d,), (1, d)):
        raise DimensionMismatch(f"the vector has shape {given.shape}; {space.name} wants ({d},).")
    v = _float32(given.reshape(d))
    # as _lengths does, in few steps: what a query costs is made of such
    length = np.float32(math.sqrt(np.einsum("i,i->", v, v)))
    if not _SHORTEST <= length < np.inf:
        raise UsageError(f"the vector has no direction: {_why(length)}.")
    if abs(length - 1) > _NEAR_UNIT:
        v = v / length
    return v.reshape(1, d)


def many_vectors(vectors: Any, space: Space) -> tuple[NDArray[Any], Iterator[Vectors]]:
    """Many vectors that somebody gave: as an array (nq, d), and ready to be asked with.

    vectors: (nq, d) numbers of any type. All are checked here; the second is float32 (m, d)
    blocks of unit length, at most ``BLOCK_VECTORS`` each, made as they are taken.
    Raises DimensionMismatch, or UsageError that names the first row that is no vector.
    """
    _refuse_other(vectors, space)
    given = _array(vectors, "vectors")
    d = space.dimension
    if given.ndim == 1 and not len(given):
        given = np.empty((0, d), np.float32)
    if given.ndim != 2 or given.shape[1] != d:
        alone = "; for one alone there is Index.search(vector=…)" if given.shape == (d,) else ""
        raise DimensionMismatch(
            f"vectors have shape {given.shape}; {space.name} wants (n, {d}){alone}."
        )
    lengths = _lengths(given)
    bad = np.flatnonzero(~((lengths >= _SHORTEST) & (lengths < np.inf)))
    if len(bad):
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise UsageError(f"vectors[{bad[0]}]{more} has no direction: {_why(lengths[bad[0]])}.")
    starts = range(0, len(given), BLOCK_VECTORS)
    spans = (slice(at, at + BLOCK_VECTORS) for at in starts)
    return given, (_scaled(given[span], lengths[span]) for span in spans)


def _refuse_other(vectors: Any, space: Space) -> None:
    """Raises SpaceMismatch for vectors that are known to be of another space."""
    of = vectors.space if isinstance(vectors, SpaceVectors) else None
    if of is not None and of.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the index holds {space}; the vectors are of {of}. Encode with the index's own space."
        )


def _array(given: Any, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.asarray(given)
        if array.dtype.kind == "O":
            array = array.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"{name} cannot be read as an array of numbers: {e}") from None
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{name} must be real numbers, not {array.dtype}.")
    return array


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype == np.float32:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):  # what is too large is infinite, and refused
        return np.ascontiguousarray(array, np.float32)


def _lengths(rows: NDArray[Any]) -> NDArray[np.float32]:
    """float32 (n,): the length of each row, as its numbers are in float32."""
    out = np.empty(len(rows), np.float32)
    for at in range(0, len(rows), BLOCK_VECTORS):
        some = _float32(rows[at : at + BLOCK_VECTORS])
        out[at : at + BLOCK_VECTORS] = np.sqrt(np.einsum("ij,ij->i", some, some))
    return out


def _why(length: np.float32) -> str:
    return f"its length is {length:g} (in float32). Give finite numbers, not all of them 0"


def _scaled(rows: NDArray[Any], lengths: NDArray[np.float32]) -> Vectors:
    unit: Vectors = _float32(rows)
    off = np.abs(lengths - 1) > _NEAR_UNIT
    if off.any():
        unit = np.divide(unit, np.where(off, lengths, np.float32(1))[:, None], dtype=np.float32)
    return unit


@contextmanager
def _named(source: Any, wanted: Modality) -> Iterator[None]:
    """Puts the file's name before the reason why it cannot be read.

    A file of another modality is called that, and not a damaged one of this.
    """
    if not isinstance(source, str | os.PathLike):
        yield
        return
    checked_path(source, f"an {wanted}" if wanted is Modality.IMAGE else "a sound")
    try:
        yield
    except (DecodeError, LimitExceeded, ProcessingFailed) as e:
        e.args = (f"{os.fspath(source)}: {_why_not(source, wanted) or e}",)
        raise


def _why_not(path: str | os.PathLike[str], wanted: Modality) -> str | None:
    """What keeps a file from being of that modality; None if its first bytes do not tell."""
    from mmsearch.media import HEAD_BYTES, open_regular
    from mmsearch.media.wanted import other_than

    if os.path.isdir(path):
        return "is a folder; name a file in it"
    try:
        with open_regular(path) as file:
            return other_than(wanted, file.read(HEAD_BYTES), os.fsdecode(path), file)
    except DecodeError as error:  # a run says so of files that go while it reads
        return str(error).removesuffix(" (any more)")
    except OSError:
        return None


def image_part(source: Any, preprocess: Preprocess, decoder: IsolatedDecoder | None = None) -> Part:
    """A picture (path, bytes or PIL image) as one part.

    decoder: where it is decoded; None is in this process. What is decoded already stays here.
    """
    from mmsearch.media import image_of

    with _named(source, Modality.IMAGE):
        if decoder is not None and _is_encoded(source):
            return decoder.parts(source, Modality.IMAGE, preprocess, 1)[0]
        return image_of(source, preprocess)


def _is_encoded(source: Any) -> bool:
    given = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview)
    return given or hasattr(source, "read")


def audio_parts(
    source: Any, preprocess: Preprocess, decoder: IsolatedDecoder | None = None
) -> Iterator[Part]:
    """A sound (path, or (samples, sample_rate_hz)) as windows.

    decoder: as for ``image_part``; then of a long sound the first ``MAX_QUERY_WINDOWS``.
    """
    from mmsearch.media import audio_windows

    with _named(source, Modality.AUDIO):
        if decoder is not None and _is_encoded(source):
            yield from decoder.parts(source, Modality.AUDIO, preprocess, MAX_QUERY_WINDOWS)
            return
        for i, (samples, start_s, end_s) in enumerate(audio_windows(source, preprocess)):
            yield Part(Modality.AUDIO, i, samples, start_s, end_s)


def text_parts(text: Any, preprocess: Preprocess) -> Iterator[Part]:
    """A text as passages."""
    from mmsearch.media import passages

    if not isinstance(text, str):
        raise UsageError(f"a text is a str, not {type(text).__name__}.")
    for i, passage in enumerate(passages(text, preprocess)):
        yield Part(Modality.TEXT, i, passage)
