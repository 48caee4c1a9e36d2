"""The built-in space, held against SentencePiece, librosa and itself.

What is stored in ``tests/mini`` is written by ``mmsearch.train.mini.reference``.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.spaces.mini import ASSETS, Mini
from mmsearch.types import Modality

STORED = Path(__file__).parent / "mini"
REFERENCE = json.loads((STORED / "reference.json").read_text("utf-8"))
MEGABYTE = 1_000_000
RATE_HZ = 44_100


@pytest.fixture(scope="module")
def mini() -> Mini:
    return Mini()


MAX_TOKENS = 512


def tone(seconds: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    wave = np.sin(2 * np.pi * (200 * t + 300 * t**2)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    return (0.5 * wave).astype(np.float32)


def stripes(px: int) -> np.ndarray:
    y, x = np.mgrid[:px, :px]
    return np.stack([x % 256, (y * 3) % 256, (x * y // 16) % 256], axis=2).astype(np.uint8)


def parts_of_every_kind(mini: Mini) -> dict[Modality, list]:
    px = mini.space.preprocess.image_px
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (px, px, 3)).astype(np.uint8) for _ in range(3)]
    hiss = [(rng.standard_normal(n) * 0.1).astype(np.float32) for n in (1, 5_000, 200_000, 441_000)]
    texts = [
        "a dog",
        "海边的狗",
        "",
        "🎸",
        "word " * 700,
        "A longer sentence about two boats at sea.",
    ]
    return {
        Modality.IMAGE: [stripes(px), *noise, np.zeros((px, px, 3), np.uint8)],
        Modality.AUDIO: [tone(3.0), *hiss, np.zeros(RATE_HZ, np.float32)],
        Modality.TEXT: texts,
    }


def test_the_card_names_the_files_that_are_there() -> None:
    digest = hashlib.sha256()
    for path in sorted(ASSETS.iterdir()):
        if path.name not in ("card.json", "seen.npy"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    card = json.loads((ASSETS / "card.json").read_text("utf-8"))
    assert card["digest"] == digest.hexdigest() == Mini().space.digest
    assert card["max_tokens"] == MAX_TOKENS


def test_the_files_stay_small() -> None:
    sizes = {path.name: path.stat().st_size for path in ASSETS.iterdir()}
    named = "audio.onnx card.json image.onnx seen.npy text.bin text.onnx tokenizer.json"
    assert sorted(sizes) == named.split()
    assert max(sizes.values()) < 40 * MEGABYTE
    assert sum(sizes.values()) < 80 * MEGABYTE


def test_asking_for_the_space_loads_no_runtime() -> None:
    asked = (
        "import sys; from mmsearch.spaces.mini import Mini; print(Mini().space.digest, "
        "sorted({'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout.split(maxsplit=1) == [Mini().space.digest, "[]\n"]


def test_every_vector_is_a_unit_row_in_order(mini: Mini) -> None:
    for modality, parts in parts_of_every_kind(mini).items():
        vectors = mini.encode(modality, parts)
        assert vectors.shape == (len(parts), 512)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_no_parts_give_no_rows(mini: Mini) -> None:
    for modality in Modality:
        assert mini.encode(modality, []).shape == (0, 512)


@pytest.mark.slow
def test_a_vector_is_the_same_bit_for_bit_in_any_company_and_on_any_number_of_threads(
    mini: Mini,
) -> None:
    others = [Mini(threads=1), Mini(threads=5)]
    for modality, parts in parts_of_every_kind(mini).items():
        alone = [mini.encode(modality, [part])[0].tobytes() for part in parts]
        assert [row.tobytes() for row in mini.encode(modality, parts)] == alone
        assert [row.tobytes() for row in mini.encode(modality, parts[::-1])] == alone[::-1]
        for other in others:
            assert [row.tobytes() for row in other.encode(modality, parts * 3)] == alone * 3


def test_the_weights_give_the_vectors_that_were_stored_with_them(mini: Mini) -> None:
    assert REFERENCE["digest"] == mini.space.digest
    px = mini.space.preprocess.image_px
    vectors = [
        *mini.encode(Modality.TEXT, list(REFERENCE["pieces"])[:3]),
        *mini.encode(Modality.IMAGE, [stripes(px)]),
        *mini.encode(Modality.AUDIO, [tone(3.0)]),
    ]
    got = np.array([row[:4] for row in vectors])
    np.testing.assert_allclose(got, REFERENCE["first values"], atol=1e-4)


@pytest.mark.parametrize("text", REFERENCE["pieces"])
def test_texts_are_cut_into_the_pieces_that_sentencepiece_cuts(mini: Mini, text: str) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
    _, *pieces, _ = tokenizer.encode(text).tokens
    assert pieces == REFERENCE["pieces"][text]


def test_a_word_that_the_vocabulary_lost_falls_into_smaller_pieces(mini: Mini) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
    for word in ("wahrscheinlich", "bulunuyordu", "beschreibung", "płaszcz"):
        pieces = tokenizer.encode(word).tokens[1:-1]
        assert len(pieces) > 1
        assert "".join(pieces) == "▁" + word


@pytest.mark.parametrize(
    ("several", "one"),
    [
        (("a dog on the beach", "A DOG ON THE BEACH", "A Dog On The Beach"), True),
        (("a dog on the beach", "ａ　ｄｏｇ　ｏｎ　ｔｈｅ　ｂｅａｃｈ"), True),
        (("a cafe", "A CAFÉ", "a cafe\u0301", "a ｃａｆé"), True),
        (("istanbul", "İstanbul", "ISTANBUL"), True),
        (("Christmas in New York", "christmas in new york", "CHRISTMAS IN NEW YORK"), True),
        (("a ﬁne day", "A FINE DAY"), True),
        (("一只狗 ok", "一只狗 OK"), True),
        (("ハト", "バト"), False),  # a mark of another script is a part of the letter
        (("a dog", "a god"), False),
    ],
)
def test_case_width_and_the_accents_of_latin_letters_make_no_difference(
    mini: Mini, several: tuple[str, ...], one: bool
) -> None:
    rows = {row.tobytes() for row in mini.encode(Modality.TEXT, several)}
    assert len(rows) == (1 if one else len(several))


def test_a_name_is_one_piece_in_whatever_case(mini: Mini) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
    for name in ("Christmas", "ENGLISH", "monday", "Paris", "japan"):
        assert tokenizer.encode(name).tokens[1:-1] == ["▁" + name.lower()]


def test_the_log_mel_is_librosas(mini: Mini) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(ASSETS / "audio.onnx")
    found = session.run(["log_mel"], {"x": tone(3.0)[None]})[0][0]
    wanted = np.load(STORED / "log_mel.npz")["every_13th_frame"]
    assert len(found) == 1 + 3 * RATE_HZ // 1024
    np.testing.assert_allclose(found[::13], wanted, atol=1e-4)


def test_long_texts_are_cut_and_the_loss_is_told(mini: Mini) -> None:
    words = ["sea"] * (MAX_TOKENS + 100)
    fits, longer = " ".join(words[: MAX_TOKENS - 2]), " ".join(words)
    assert mini.truncated([fits, longer, "", "狗" * 50, "短"]) == [0, 102, 0, 0, 0]
    assert mini.truncated([fits.upper(), longer.upper(), longer.replace("e", "é")]) == [0, 102, 102]
    same = mini.encode(Modality.TEXT, [fits, longer])
    assert same[0].tobytes() == same[1].tobytes()


def test_text_that_no_utf8_can_say_is_read_all_the_same(mini: Mini) -> None:
    broken, asked = mini.encode(Modality.TEXT, ["a dog \udce4", "a dog ?"])
    assert broken.tobytes() == asked.tobytes()


def test_a_sound_has_a_vector_whatever_is_in_it(mini: Mini) -> None:
    silence = np.zeros(RATE_HZ, np.float32)
    broken = np.array([np.nan, np.inf, -np.inf, 0.1], np.float32)
    loud = np.full(1000, 3e38, np.float32)
    assert np.isfinite(mini.encode(Modality.AUDIO, [silence, broken, loud, silence[:1]])).all()


def test_loudness_does_not_matter(mini: Mini) -> None:
    loud, soft = mini.encode(Modality.AUDIO, [tone(2.0), tone(2.0) * np.float32(0.05)])
    assert loud @ soft > 0.9999


def test_what_is_not_a_decoded_part_is_refused(mini: Mini) -> None:
    px = mini.space.preprocess.image_px
    with pytest.raises(DecodeError, match="uint8"):
        mini.encode(Modality.IMAGE, [np.zeros((px, px, 3), np.float32)])
    with pytest.raises(DecodeError, match="float32"):
        mini.encode(Modality.AUDIO, [np.zeros((2, 100), np.float32)])
    with pytest.raises(LimitExceeded, match="one window"):
        mini.encode(Modality.AUDIO, [np.zeros(10 * RATE_HZ + 1, np.float32)])


def test_a_sentence_is_nearest_to_its_translation(mini: Mini) -> None:
    english = [
        "a dog runs on the beach",
        "two men play football",
        "a child eats ice cream",
        "a train in the snow",
        "she plays the guitar",
        "a cat sleeps on the sofa",
    ]
    simplified = [
        "一只狗在海滩上奔跑",
        "两个男人在踢足球",
        "一个孩子在吃冰淇淋",
        "雪中的火车",
        "她在弹吉他",
        "一只猫睡在沙发上",
    ]
    traditional = [
        "一隻狗在海灘上奔跑",
        "兩個男人在踢足球",
        "一個孩子在吃冰淇淋",
        "雪中的火車",
        "她在彈吉他",
        "一隻貓睡在沙發上",
    ]
    base = mini.encode(Modality.TEXT, english)
    for chinese in (simplified, traditional):
        nearest = (mini.encode(Modality.TEXT, chinese) @ base.T).argmax(axis=1)
        assert nearest.tolist() == list(range(len(english)))


def test_one_built_in_space_serves_a_whole_process_and_goes_with_its_last_user() -> None:
    code = (
        "import gc; from mmsearch import spaces\n"
        "one = spaces.load_encoder('mini'); assert spaces.load_encoder('mini') is one\n"
        "assert list(spaces._in_use) == ['mini']\n"
        "del one; gc.collect(); assert not spaces._in_use\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
