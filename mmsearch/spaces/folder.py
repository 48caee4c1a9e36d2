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
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.cores import available_cores
from mmsearch.errors import DecodeError, LimitExceeded, SpaceUnavailable
from mmsearch.spaces import CPU_BATCH
from mmsearch.spaces.cleaning import cleaned, encodable
from mmsearch.spaces.vocabulary import Vocabulary
from mmsearch.types import Modality, Preprocess, Space, Vectors

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

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
    Safe to call from several threads.

    threads: how many parts are encoded side by side; by default one a core.
    Raises SpaceUnavailable where the folder holds no space.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        card = read_card(folder)
        self.space = space_of(card, folder)
        holds = card.get("holds", card["modalities"])
        self.holds = tuple(m for m in self.space.modalities if m in holds)  # has towers for
        self._max_tokens, self._end = int(card.get("max_tokens", 512)), int(card.get("end", 2))
        self._cleaning = str(card.get("cleaning", ""))  # of texts, before the tokenizer
        self._languages = languages_in(card)
        # a tower of a large model, kept by an index: see ``_session``
        self._large, self._asked = "stored" in card, 0
        self._assets = folder
        self._threads = threads or available_cores()
        self.side_by_side = 1
        self._lock = Lock()
        self._loaded: dict[str, Any] = {}  # file name -> what was loaded from it
        self._pool: ThreadPoolExecutor | None = None

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

        def vector(part: Any) -> NDArray[np.float32]:
            found: NDArray[np.float32] = session.run(["vector"], {"x": prepare(part)})[0][0]
            return found

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
    def files(self) -> dict[str, Path]:
        """Everything that the space is made of: name -> where it lies."""
        return {
            path.name: path
            for path in sorted(self._assets.iterdir())
            if _FILE.fullmatch(path.name) and path.is_file()
        }

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """For each text, how many of its tokens the tower does not read."""
        tokenizer = self._tokenizer()
        return [
            0  # a token of ASCII text is a character or more, so this one fits
            if text.isascii() and len(text) < self._max_tokens - 2
            else max(0, _count(tokenizer.encode(_clean(text, self._cleaning))) - self._max_tokens)
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
        ids = self._tokenizer().encode(self._read(text)).ids
        if len(ids) > self._max_tokens:
            ids = [*ids[: self._max_tokens - 1], self._end]
        return np.array([ids], np.int64)

    def _tokenizer(self) -> Any:
        return self._load(TOKENIZER, _tokenizer)

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

    def _load(self, name: str, read: Callable[[Path], Any], key: str = "") -> Any:
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


def read_card(folder: Path) -> dict[str, Any]:
    """A space folder's card. Raises SpaceUnavailable where there is none, or no such thing."""
    path = folder / CARD
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise SpaceUnavailable(f"{path} is larger than any card.")
        card = json.loads(path.read_text("utf-8"))
        if not isinstance(card, dict):
            raise ValueError
    except OSError as e:
        raise SpaceUnavailable(
            f"{folder} is no space: {CARD} cannot be read ({e.strerror or e}). "
            "`mmsearch train` writes such folders."
        ) from None
    except ValueError:
        raise SpaceUnavailable(f"{path} is damaged: it is not one JSON object.") from None
    return card


def languages_in(card: Mapping[str, Any]) -> str:
    """The languages that a card lists by their codes, for people; empty where it lists none."""
    listed = card.get("languages")
    codes = [str(one) for one in listed] if isinstance(listed, list) else []
    return " and ".join(LANGUAGES.get(code, code) for code in codes)


def space_of(card: dict[str, Any], folder: Path) -> Space:
    """The space that a card describes. Raises SpaceUnavailable for one that lacks something."""
    try:
        return Space(
            name=str(card["name"]),
            digest=str(card["digest"]),
            dimension=int(card["dimension"]),
            modalities=tuple(Modality(one) for one in card["modalities"]),
            preprocess=Preprocess(**card["preprocess"]),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise SpaceUnavailable(
            f"{folder / CARD} is damaged: {e} is missing or has no sense."
        ) from None


def digest_of(folder: Path) -> str:
    """SHA-256 (hex) over the files of a space folder that make its vectors."""
    import hashlib

    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name not in (CARD, SEEN) and _FILE.fullmatch(path.name):
            found.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def open_session(path: Path, arrange: bool = True) -> Any:
    """An ONNX Runtime session that runs on the thread that calls it, and only there.

    arrange: whether weights are copied into the order that is fastest to compute with.
    """
    # from 1.32 on it reports what it does to its maker, and is asked not to before it is loaded
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not arrange:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's own exceptions derive from nothing narrower
        reason = str(e).splitlines()[0][:300]
        raise SpaceUnavailable(f"{path} cannot be loaded: {reason}") from None


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as e:  # tokenizers raises plain Exception
        raise SpaceUnavailable(f"{path} cannot be loaded: {e}") from None


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
