"""A space that lies in a folder: ONNX graphs, a tokenizer and a card; on the CPU, without torch.

``mmsearch train`` writes such folders, the built-in ``mini`` is one, and every index
keeps a copy of the one that it was made with. ``card.json`` says what the files are and
where they come from. Each graph takes one part, decoded, and gives its unit vector:
normalisation, log-mel and pooling are inside it.

A part is always encoded alone and on one thread, several parts side by side:
on a CPU that costs nothing against batches, and it makes a vector independent
of whatever else is encoded, bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmsearch import forks
from mmsearch.checking import Holds, Matches, Within, made
from mmsearch.cores import available_cores
from mmsearch.errors import DecodeError, LimitExceeded, SpaceUnavailable
from mmsearch.spaces import CPU_BATCH
from mmsearch.spaces.cleaning import KINDS, cleaned, encodable
from mmsearch.spaces.graphs import check_graph_file, open_session
from mmsearch.spaces.tokens import MAX_TOKENS, encode, open_tokenizer
from mmsearch.spaces.vocabulary import Vocabulary
from mmsearch.store.confined import AnyPath, plain
from mmsearch.types import Modality, Space, Vectors

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
CARD = "card.json"
LANGUAGES = {"en": "English", "zh": "Chinese"}  # by their codes in cards
TOKENIZER = "tokenizer.json"
SEEN = "seen.npy"  # what the space was trained on, see ``mmsearch.seen``
MAX_CARD_BYTES = 1 << 20
_FIRST_PARTS = 2  # that a large tower encodes as it is mapped
MAX_TOKEN_CHARS = 16  # of one piece, on average over a text: a guard, not a promise
_FILE = re.compile(r"(image|text|audio)\.(onnx|bin)|tokenizer\.json|card\.json|seen\.npy")
README = "README.md"  # for people: what the space is; not kept by an index


class FolderSpace:
    """The encoder of the space in a folder.

    Making one reads its card only; the first part of a modality loads that modality.
    Safe to call from several threads, and in a forked child, which loads what it needs anew.

    folder: a plain path is trusted; what is in any other is checked and limited, see ``graphs``.
    threads: how many parts are encoded side by side; by default one a core.
    Raises SpaceUnavailable where the folder holds no space.
    """

    def __init__(self, folder: AnyPath, threads: int | None = None) -> None:
        card = read_card(folder)
        self.space = space_of(card, folder)
        reading = reading_of(card, folder)
        holds = self.space.modalities if reading.holds is None else reading.holds
        self.holds = tuple(m for m in self.space.modalities if m in holds)  # has towers for
        self._max_tokens, self._end = reading.max_tokens, reading.end
        self._cleaning = reading.cleaning  # of texts, before the tokenizer
        self._languages = languages_in(reading)
        # a tower of a large model, kept by an index: see ``_session``
        self._large, self._asked = reading.stored is not None, 0
        self._assets = folder
        self._threads = threads or available_cores()
        self.side_by_side = 1
        self._lock = Lock()
        self._loaded: dict[str, Any] = {}  # file name -> what was loaded from it
        self._pool: ThreadPoolExecutor | None = None
        forks.renewed(self, FolderSpace._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        if self._loaded or self._pool is not None:
            forks.abandon(*self._loaded.values(), self._pool)
        self._lock, self._loaded, self._pool = Lock(), {}, None

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """One unit vector for each decoded input, in order: float32 (n, d).

        data: uint8 (px, px, 3) RGB for a picture, float32 (samples,) mono for a
        sound of at most one window, str for a text, as ``space.preprocess`` says.
        What a text has beyond the card's ``max_tokens`` is left out; see ``truncated``. asked
        makes no difference.
        Raises LimitExceeded for a sound longer than a window, DecodeError for an
        array of another shape or type, and SpaceUnavailable for a modality that the
        space has no tower for.
        """
        self.space.require(modality)
        if modality not in self.holds:
            raise SpaceUnavailable(f"{self._assets} keeps no tower for {modality}.")
        prepare = self.input_of(modality)
        session = self._session(modality, len(data))

        wanted = (1, self.space.dimension)

        def vector(part: Any) -> NDArray[np.float32]:
            found = session.run(["vector"], {"x": prepare(part)})[0]
            if found.shape != wanted or found.dtype != np.float32:
                raise SpaceUnavailable(
                    f"{self._assets / modality}.onnx gives {found.dtype} {found.shape}, not "
                    f"float32 {wanted}: it does not belong to this space."
                )
            row: NDArray[np.float32] = found[0]
            return row

        out = np.empty((len(data), self.space.dimension), np.float32)
        rows = map(vector, data) if len(data) < 2 else self._workers().map(vector, data)
        for i, row in enumerate(rows):
            out[i] = row
        return out

    def _session(self, modality: Modality, n: int) -> Any:
        """The session of a modality's graph.

        Of a large tower the first few parts go through one that leaves weights as they are mapped:
        it opens in a quarter of the time, so that a process that asks once is done sooner, and
        runs a quarter slower (``benchmarks/cold.py --index``).
        """
        name = f"{modality}.onnx"
        self._asked += n
        if self._large and self._asked <= _FIRST_PARTS:
            return self._load(name, partial(open_session, arrange=False), f"{name} as it is")
        self._loaded.pop(f"{name} as it is", None)
        return self._load(name, open_session)

    def input_of(self, modality: Modality) -> Callable[[Any], NDArray[Any]]:
        """What turns a decoded input into the input of that modality's graph."""
        steps: dict[Modality, Callable[[Any], NDArray[Any]]] = {
            Modality.IMAGE: self._picture,
            Modality.TEXT: self._tokens,
            Modality.AUDIO: self._sound,
        }
        return steps[modality]

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """How many inputs of each modality keep the threads busy."""
        return CPU_BATCH

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """Everything that the space is made of: name -> where it lies. It is somebody else's:
        an index copies it."""
        return {path.name: plain(path) for path in _files(self._assets)}

    def check(self) -> None:
        """Looks through graphs and tokenizer; runs none. Raises SpaceUnavailable."""
        for modality in self.holds:
            check_graph_file(self._assets / f"{modality}.onnx")
        if Modality.TEXT in self.holds:
            open_tokenizer(self._assets / TOKENIZER)

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """For each text, how many of its tokens the tower does not read."""
        tokenizer = self._tokenizer()
        return [
            0  # a token of ASCII text is a character or more, so this one fits
            if text.isascii() and len(text) < self._max_tokens - 2
            else max(0, _count(encode(tokenizer, _clean(text, self._cleaning))) - self._max_tokens)
            for text in texts
        ]

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """See ``Encoder``; of a long text what the tower reads is looked at."""
        tokenizer = self._tokenizer()
        vocabulary = self._load(TOKENIZER, lambda _: Vocabulary(tokenizer), "vocabulary")
        return [vocabulary.unknown(self._read(text)) for text in texts]

    @property
    def languages(self) -> str:
        """What the card says: see ``languages_in``."""
        return self._languages

    def _tokens(self, text: str) -> NDArray[np.int64]:
        ids = encode(self._tokenizer(), self._read(text)).ids
        if len(ids) > self._max_tokens:
            ids = [*ids[: self._max_tokens - 1], self._end]
        return np.array([ids], np.int64)

    def _tokenizer(self) -> Any:
        return self._load(TOKENIZER, open_tokenizer)

    def _read(self, text: str) -> str:
        """As much of a text as the tower can read, cleaned."""
        return _clean(text[: self._max_tokens * MAX_TOKEN_CHARS], self._cleaning)

    def _picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        wanted = (self.space.preprocess.image_px, self.space.preprocess.image_px, 3)
        if pixels.shape != wanted or pixels.dtype != np.uint8:
            raise DecodeError(
                f"a picture must be uint8 {wanted}, got {pixels.dtype} {pixels.shape}", "encode"
            )
        return np.ascontiguousarray(pixels[None])

    def _sound(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        if samples.ndim != 1 or samples.dtype != np.float32 or not len(samples):
            raise DecodeError(
                f"a sound must be float32 (samples,), got {samples.dtype} {samples.shape}", "encode"
            )
        preprocess = self.space.preprocess
        longest = round(preprocess.window_s * preprocess.sample_rate_hz)
        if len(samples) > longest:
            raise LimitExceeded(
                f"a sound of {len(samples)} samples is longer than one window of {longest}; "
                "cut it into windows."
            )
        return np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)[None]

    def _load(self, name: str, read: Callable[[AnyPath], Any], key: str = "") -> Any:
        key = key or name
        found = self._loaded.get(key)
        if found is None:
            with self._lock:
                found = self._loaded.get(key)
                if found is None:
                    found = self._loaded[key] = read(self._assets / name)
        return found

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # a single part needs none

                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="encode")
            return self._pool


def is_space_file(name: str) -> bool:
    """Whether a file of that name is one of those that a space folder holds."""
    return _FILE.fullmatch(name) is not None or name == README


@dataclass(frozen=True)
class Reading:
    """What a card says of how its towers are used."""

    holds: Annotated[tuple[Modality, ...], Holds(len(Modality))] | None = None
    max_tokens: Annotated[int, Within(1, MAX_TOKENS)] = 512
    end: Annotated[int, Within(0)] = 2
    cleaning: Annotated[str, Matches("|".join(["", *KINDS]))] = ""
    languages: Annotated[tuple[Annotated[str, Holds(32)], ...], Holds(64)] = ()  # mostly codes
    stored: Annotated[str, Holds(32)] | None = None  # how the weights of a kept tower are
    least_cosine: Annotated[float, Within(-1, 1)] | None = None  # of a kept tower to the model


def read_card(folder: AnyPath) -> dict[str, Any]:
    """A space folder's card. Raises SpaceUnavailable where there is none, or no such thing."""
    path = folder / CARD
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CARD_BYTES + 1)
        if len(content) > MAX_CARD_BYTES:
            raise SpaceUnavailable(f"{path} is larger than any card.")
        card = json.loads(content)
        if not isinstance(card, dict):
            raise ValueError
    except OSError as e:
        raise SpaceUnavailable(
            f"{folder} is no space: {CARD} cannot be read ({e.strerror or e}). "
            "`mmsearch train` writes such folders."
        ) from None
    except (ValueError, RecursionError):
        raise SpaceUnavailable(f"{path} is damaged: it is not one JSON object.") from None
    return card


def languages_in(reading: Reading) -> str:
    """The languages that a card lists, for people: ``English and Chinese``; empty for none."""
    return " and ".join(LANGUAGES.get(code, code) for code in reading.languages)


def space_of(card: dict[str, Any], folder: AnyPath) -> Space:
    """The space that a card describes. Raises SpaceUnavailable for one that lacks something."""
    return _of_card(Space, card, folder)


def reading_of(card: dict[str, Any], folder: AnyPath) -> Reading:
    """How a card says that its towers are used. Raises SpaceUnavailable for one without sense."""
    return _of_card(Reading, card, folder)


def _of_card(form: type[T], card: dict[str, Any], folder: AnyPath) -> T:
    known = {field.name for field in fields(form)}  # type: ignore[arg-type]
    try:
        return made(form, {name: value for name, value in card.items() if name in known})
    except ValueError as e:
        raise SpaceUnavailable(f"{folder / CARD} is damaged: {e}.") from None


def digest_of(folder: AnyPath) -> str:
    """SHA-256 (hex) over the files of a space folder that make its vectors.

    Raises OSError for one that cannot be read."""
    import hashlib

    found = hashlib.sha256()
    for path in _files(folder):
        if path.name not in (CARD, SEEN):
            found.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def _files(folder: AnyPath) -> list[Any]:
    """The files of a space that are in a folder, sorted by name."""
    inside: list[Any] = [*folder.iterdir()]
    return sorted(path for path in inside if _FILE.fullmatch(path.name) and path.is_file())


def _count(encoding: Any) -> int:
    """Tokens of a text, with those that the tokenizer itself cut off, without padding.

    What was cut off comes in pieces with marks of their own; those do not count.
    """
    marks = sum(encoding.special_tokens_mask) - encoding.attention_mask.count(0)
    pieces = [sum(one.attention_mask) - marks for one in encoding.overflowing]
    return int(sum(encoding.attention_mask) + sum(pieces))


def _clean(text: str, kind: str) -> str:
    """The text as the tokenizer takes it. kind: one of ``cleaning``, or nothing."""
    return cleaned(encodable(text), kind) if kind else encodable(text)
