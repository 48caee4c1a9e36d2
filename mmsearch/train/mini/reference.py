"""Writes what ``tests/test_mini.py`` holds the shipped files against.

    python -m mmsearch.train.mini.reference tests/mini

Outside truth where there is one: librosa's log-mel; the pieces that SentencePiece cuts
from texts that Python has folded; and the first components of some vectors, so that
other weights, or a graph that computes something else, are noticed. Needs the packages
of the trainer and librosa.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.spaces.folder import TOKENIZER
from mmsearch.spaces.mini import ASSETS, Mini
from mmsearch.train.mini import folding, vocabulary
from mmsearch.train.mini import sound_towers as sound
from mmsearch.types import Modality

TEXTS = (
    "A dog runs on the beach.",
    "一只狗在沙滩上奔跑。",
    "一隻狗在沙灘上奔跑。",
    "The café at 5:30 p.m. costs €3.20 & ½ more…",
    "ﬁne　ｆｕｌｌ－width Ⅳ ① ＡＢＣ",
    "  many   spaces\tand\nlines\r\n ",
    "a cafe\u0301 by the sea",
    "CRÈME BRÛLÉE AT THE CAFÉ",
    "A Dog On The BEACH, ＢＩＧ dog",
    "CHRISTMAS in New York",
    "Straße, İstanbul, ISTANBUL",
    "が ガ: ドン・キホーテ Ω Ά",
    "👍 😀 ★ → ™",
    "<s> not a mark </s> ▁ under",
    "zero\u200bwidth \u00a0 no-break \ufeff mark",
    "He said: “中文 and English mixed 混合”",
    "C++ isn't C#; x=3.14159*r^2",
    "",
    " ",
)


def sentencepiece_over(tokenizer: Path) -> Any:
    """SentencePiece with the spellings and scores of a tokenizer's pieces."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(vocabulary.sentencepiece_model().serialized_model_proto())
    del proto.pieces[vocabulary.RESERVED :]
    pieces = json.loads(tokenizer.read_text("utf-8"))["model"]["vocab"]
    for spelling, score in pieces[len(vocabulary.SPECIAL) :]:
        proto.pieces.add(piece=spelling, score=score)
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def folded(text: str) -> str:
    """The text as the tokenizer reads it, by Python's own tables."""
    return folding.fold(unicodedata.normalize("NFKC", text))


def tone(seconds: float) -> NDArray[np.float32]:
    """A rising tone with a beat, always the same: float32 at 44.1 kHz."""
    t = np.arange(int(seconds * sound.AISFX_RATE_HZ)) / sound.AISFX_RATE_HZ
    wave = np.sin(2 * np.pi * (200 * t + 300 * t**2)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    return (0.5 * wave).astype(np.float32)


def stripes(px: int) -> NDArray[np.uint8]:
    """A picture that is always the same: uint8 (px, px, 3)."""
    y, x = np.mgrid[:px, :px]
    return np.stack([x % 256, (y * 3) % 256, (x * y // 16) % 256], axis=2).astype(np.uint8)


def librosa_log_mel(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """aiSFX's spectrogram as its authors compute it, scaled: (frames, 96)."""
    librosa: Any = import_module("librosa")
    mel = librosa.feature.melspectrogram(
        y=wave / np.abs(wave).max(),
        sr=sound.AISFX_RATE_HZ,
        n_fft=sound.AISFX_WINDOW,
        win_length=sound.AISFX_WINDOW,
        hop_length=sound.AISFX_HOP,
        n_mels=sound.AISFX_MELS,
        fmin=0.0,
        fmax=sound.AISFX_RATE_HZ / 2,
        htk=True,
        norm=1.0,
        power=2.0,
    )
    scaled = np.log10(mel * 10_000.0 + 1.0) / sound.AISFX_SPEC_MAX
    return np.asarray(scaled.T, np.float32)


def main(folder: Path) -> None:
    """Writes ``reference.json`` and ``log_mel.npz``."""
    model = sentencepiece_over(ASSETS / TOKENIZER)
    encoder = Mini()
    px = encoder.space.preprocess.image_px
    vectors = [
        *encoder.encode(Modality.TEXT, TEXTS[:3]),
        *encoder.encode(Modality.IMAGE, [stripes(px)]),
        *encoder.encode(Modality.AUDIO, [tone(3.0)]),
    ]
    known = {
        "digest": encoder.space.digest,
        "pieces": {text: model.encode(folded(text), out_type=str) for text in TEXTS},
        "first values": [[round(float(value), 6) for value in row[:4]] for row in vectors],
    }
    text = json.dumps(known, ensure_ascii=False, indent=1)
    (folder / "reference.json").write_text(text + "\n", encoding="utf-8")
    frames = librosa_log_mel(tone(3.0))[::13]
    np.savez_compressed(folder / "log_mel.npz", every_13th_frame=frames)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
