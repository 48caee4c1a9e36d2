"""The built-in space: pictures, texts and sounds in one, on the CPU, without torch.

Three ONNX graphs and a tokenizer lie in ``mini_assets/``, with ``card.json``,
which says what they are and where they come from. Each graph takes one part,
decoded, and gives its unit vector: normalisation, log-mel and pooling are
inside it.

A part is always encoded alone and on one thread, several parts side by side:
on a CPU that costs nothing against batches, and it makes a vector independent
of whatever else is encoded, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.cores import available_cores
from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.types import Modality, Preprocess, Space, Vectors

ASSETS = Path(__file__).parent / "mini_assets"
MAX_TOKENS = 512  # a passage of 200 words has about 270 and one of 300 Chinese characters 210
END = 2  # the token that ends every text; with the one that begins it, counted in MAX_TOKENS
MAX_TOKEN_CHARS = 16  # no piece of the vocabulary is longer


class Mini:
    """The encoder of the space ``mini``.

    Making one loads nothing; the first part of a modality loads that modality.
    Safe to call from several threads.

    threads: how many parts are encoded side by side; by default one a core.
    """

    def __init__(self, assets: Path = ASSETS, threads: int | None = None) -> None:
        self.space = read_space(assets / "card.json")
        self._assets = assets
        self._threads = threads or available_cores()
        self._lock = Lock()
        self._loaded: dict[str, Any] = {}  # file name -> what was loaded from it
        self._pool: ThreadPoolExecutor | None = None

    def encode(self, modality: Modality, data: Sequence[Any]) -> Vectors:
        """One unit vector for each decoded input, in order: float32 (n, 512).

        data: uint8 (px, px, 3) RGB for a picture, float32 (samples,) mono for a
        sound of at most one window, str for a text, as ``space.preprocess`` says.
        What a text has beyond ``MAX_TOKENS`` is left out; see ``truncated``.
        Raises LimitExceeded for a sound longer than a window and DecodeError for
        an array of another shape or type.
        """
        steps: dict[Modality, Callable[[Any], NDArray[Any]]] = {
            Modality.IMAGE: self._picture,
            Modality.TEXT: self._tokens,
            Modality.AUDIO: self._sound,
        }
        prepare = steps[modality]
        session = self._load(f"{modality}.onnx", open_session)

        def vector(part: Any) -> NDArray[np.float32]:
            found: NDArray[np.float32] = session.run(["vector"], {"x": prepare(part)})[0][0]
            return found

        out = np.empty((len(data), self.space.dimension), np.float32)
        rows = map(vector, data) if len(data) < 2 else self._workers().map(vector, data)
        for i, row in enumerate(rows):
            out[i] = row
        return out

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """For each text, how many of its tokens the tower does not read."""
        tokenizer = self._load("tokenizer.json", _tokenizer)
        return [
            0  # a token of ASCII text is a character or more, so this one fits
            if text.isascii() and len(text) < MAX_TOKENS - 2
            else max(0, len(tokenizer.encode(_clean(text)).ids) - MAX_TOKENS)
            for text in texts
        ]

    def _tokens(self, text: str) -> NDArray[np.int64]:
        tokenizer = self._load("tokenizer.json", _tokenizer)
        read = _clean(text[: MAX_TOKENS * MAX_TOKEN_CHARS])
        ids = tokenizer.encode(read).ids
        if len(ids) > MAX_TOKENS:
            ids = [*ids[: MAX_TOKENS - 1], END]
        return np.array([ids], np.int64)

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

    def _load(self, name: str, read: Callable[[Path], Any]) -> Any:
        found = self._loaded.get(name)
        if found is None:
            with self._lock:
                found = self._loaded.get(name)
                if found is None:
                    found = self._loaded[name] = read(self._assets / name)
        return found

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mini")
            return self._pool


def read_space(card: Path) -> Space:
    """The space that a ``card.json`` describes; reads nothing else."""
    facts = json.loads(card.read_text("utf-8"))
    return Space(
        name=facts["name"],
        digest=facts["digest"],
        dimension=facts["dimension"],
        modalities=tuple(Modality(one) for one in facts["modalities"]),
        preprocess=Preprocess(**facts["preprocess"]),
    )


def open_session(path: Path) -> Any:
    """An ONNX Runtime session that runs on the thread that calls it, and only there."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def _clean(text: str) -> str:
    """The text without what no UTF-8 can say (lone surrogates become question marks)."""
    return text.encode("utf-8", "replace").decode("utf-8")
