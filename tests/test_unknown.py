"""Texts in letters that a space does not know all have one vector: that is said, not hidden."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from typer.testing import CliRunner

import mmsearch
import tiny_space
from corpora import update
from mmsearch.api.info import describe, list_spaces
from mmsearch.cli.app import app
from mmsearch.errors import UsageError
from mmsearch.query import check_text, readable
from mmsearch.spaces import open_folder, vocabulary
from mmsearch.spaces.lanes import Lanes
from mmsearch.spaces.mini import ASSETS, Mini
from mmsearch.spaces.vocabulary import Vocabulary

FOREIGN = {
    "Cyrillic": "собака на пляже",
    "Hangul": "해변의 강아지",
    "Hebrew": "כלב על החוף",
    "Arabic": "كلب على الشاطئ",
    "Thai": "สุนัขบนชายหาด",
    "Devanagari": "समुद्र तट पर कुत्ता",
    "Georgian": "ძაღლი სანაპიროზე",
}


@pytest.fixture(scope="module")
def mini() -> Mini:
    return Mini()


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of four notes, and the folder ``notes`` beside it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "notes").mkdir()
    texts = ("a dog on a beach", "海滩上的狗", FOREIGN["Cyrillic"], "the собака на пляже")
    for i, text in enumerate(texts):
        (folder / "notes" / f"{i}.txt").write_text(text, "utf-8")
    assert update(folder / "notes", folder / "ix").unknown == 2
    return folder


def asked(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("script", FOREIGN)
def test_mini_knows_no_letter_of_a_script_that_its_vocabulary_lacks(
    mini: Mini, script: str
) -> None:
    assert mini.unknown([FOREIGN[script], FOREIGN[script] + "!?"]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a dog on a beach", 0),
        ("海滩上的狗", 0),
        ("海灘上的狗 № 5", 0),
        ("Ein Hund läuft über den Strand; żółć, İstanbul", 0),
        ("犬が浜辺を走る", 0),
        ("", 0),
        ("?!", 0),
        ("dog \u200b\ufeffon\u200d a beach", 0),  # what has no shape does not count
        ("dog собака", 2 / 3),
        ("собака 2024", 0.6),
        ("x" * 20_000, 0),
    ],
)
def test_the_share_of_letters_that_mini_does_not_know(mini: Mini, text: str, share: float) -> None:
    assert mini.unknown([text]) == [pytest.approx(share)]


def test_what_stands_behind_the_end_of_what_is_read_does_not_count(mini: Mini) -> None:
    assert mini.unknown(["dog " * 3_000 + FOREIGN["Cyrillic"]]) == [0]


def test_a_query_that_the_space_cannot_read_is_an_error_that_says_what_it_reads(
    notes: Path,
) -> None:
    index = mmsearch.open(notes / "ix")
    for text in FOREIGN.values():
        with pytest.raises(UsageError, match=r"mini knows no letter.*English and Chinese"):
            index.search(text)
    with pytest.raises(UsageError, match=r"texts\[1\]: the space mini knows no letter"):
        index.search_batch(["a dog", FOREIGN["Thai"]])
    code, out, err = asked("query", FOREIGN["Hangul"], "--index", notes / "ix")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "mmsearch spaces" in err


def test_a_query_that_is_read_in_part_is_answered_with_a_note(notes: Path) -> None:
    index = mmsearch.open(notes / "ix")
    plain, mixed = index.search("dog"), index.search("dog собака")
    assert plain.unknown == 0 and "unknown" not in plain.to_json()
    assert [(h.id, h.score) for h in mixed] == [(h.id, h.score) for h in plain]
    (batch,) = index.search_batch(["собака \U0001f984 dog"])
    assert [h.id for h in batch] == [h.id for h in plain]
    assert mixed.to_json()["unknown"] == pytest.approx(2 / 3, abs=1e-4)
    code, out, err = asked("query", "dog собака", "--index", notes / "ix")
    assert code == 0 and out.count("notes") == 4
    assert "mini does not know 67% of the query's letters" in err
    code, out, err = asked("query", "dog", "--index", notes / "ix", "--json")
    assert "unknown" not in json.loads(out) and err == ""


def test_a_word_that_a_query_repeats_is_looked_up_once(mini: Mini) -> None:
    asked: list[str] = []

    class Listening(Mini):
        def unknown(self, texts: Sequence[str]) -> list[float]:
            asked.extend(texts)
            return super().unknown(texts)

    text = "א " + "dog x " * 3_000
    found, share = readable(Listening(), text)
    assert found == ("dog x " * 3_000).strip() and 0 < share < 1
    assert asked == [text, "א", "dog", "x"]


def test_what_is_remembered_of_letters_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_MOST_REMEMBERED", 1000)
    known = Vocabulary(Tokenizer.from_file(str(ASSETS / "tokenizer.json")))
    chinese = "".join(map(chr, range(0x4E00, 0x4E00 + 900)))
    hangul = "".join(map(chr, range(0xAC00, 0xAC00 + 900)))
    marks = "".join(map(chr, range(0x2000, 0x2040)))
    for text in (chinese, hangul, marks, chinese):
        wanted = Vocabulary(Tokenizer.from_file(str(ASSETS / "tokenizer.json"))).unknown(text)
        assert known.unknown(text) == wanted
        assert len(known._known) + len(known._strange) <= 1000
    assert known.unknown(hangul) == 1
    known.unknown(marks)
    assert not set(marks) & (known._known | known._strange)


def test_indexing_counts_passages_that_the_space_cannot_read(notes: Path, tmp_path: Path) -> None:
    code, out, err = asked("index", notes / "notes", "--index", tmp_path / "ix")
    assert code == 0 and "indexed 4" in out
    assert "passages mostly in letters that the space does not know: 2." in err
    index = mmsearch.open(tmp_path / "ix")
    unread = index.search("a dog", where="meta.unknown_share > 0.5")
    assert {Path(str(h.path)).name: h.meta["unknown_share"] for h in unread} == {
        "2.txt": 1.0,
        "3.txt": 0.81,
    }
    again = update(notes / "notes", tmp_path / "ix")
    assert (again.unchanged, again.unknown, again.to_json()["unknown"]) == (4, 0, 0)


def test_it_is_said_which_languages_a_space_reads(notes: Path, tmp_path: Path) -> None:
    (row,) = (row for row in list_spaces() if row["name"] == "mini")
    assert row["languages"] == "English and Chinese"
    assert "English and Chinese" in asked("spaces")[1]
    assert describe(mmsearch.open(notes / "ix"))["languages"] == "English and Chinese"
    assert "reads     English and Chinese" in asked("info", "--index", notes / "ix")[1]
    space = tiny_space.write_space(tmp_path / "tiny")
    assert open_folder(space).languages == ""


def test_of_several_spaces_the_one_that_knows_most_counts(tmp_path: Path) -> None:
    spaces = []
    for name, modalities, kept in (("a", ["image", "text"], "red"), ("b", ["text", "audio"], "a")):
        folder = tiny_space.write_space(tmp_path / name)
        tokenizer = (folder / "tokenizer.json").read_text().replace(f'"{kept}"', '"[OTHER]"')
        (folder / "tokenizer.json").write_text(tokenizer)
        card = json.loads((folder / "card.json").read_text())
        card |= {"name": name, "modalities": modalities, "languages": [name]}
        (folder / "card.json").write_text(json.dumps(card))
        spaces.append(open_folder(folder, check=False))
    texts = ["a red dog", "a blue", "собака"]
    assert [[round(x, 2) for x in one.unknown(texts)] for one in spaces] == [
        [0.86, 0.0, 1.0],
        [0.57, 0.2, 1.0],
    ]
    both = Lanes(spaces)
    assert both.unknown(texts) == [pytest.approx(4 / 7), 0, 1]
    assert both.languages == "a; b"


def test_a_tokenizer_of_words_does_not_know_words() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "dog": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    known = Vocabulary(words)
    assert [known.unknown(t) for t in ("red dog", "red cat", "", "cat")] == [0, 0.5, 0, 1]
    words.enable_padding(length=9)
    words.enable_truncation(2)
    assert [Vocabulary(words).unknown(t) for t in ("red dog cat", "cat")] == [0, 1]


def test_a_tokenizer_that_falls_back_to_bytes_knows_everything() -> None:
    pieces = [("<unk>", 0.0), ("▁", -1.0), *((f"<0x{i:02X}>", -9.0) for i in range(256))]
    fallback = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    fallback.pre_tokenizer = pre_tokenizers.Metaspace()
    assert Vocabulary(fallback).unknown("собака") == 0
    stripped = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("a", -1.0)], unk_id=0))
    stripped.normalizer = normalizers.Replace("\U0010fffd", "")
    stripped.pre_tokenizer = pre_tokenizers.Metaspace()
    assert Vocabulary(stripped).unknown("a") == 0
    assert Vocabulary(Tokenizer(models.BPE())).unknown("собака") == 0
    assert Vocabulary(None).unknown("собака") == 0


def test_a_letter_counts_as_unknown_where_its_token_is(mini: Mini) -> None:
    tokenizer = Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
    rng = np.random.default_rng(0)
    letters = [*"abcxyzÉß狗海ПриветЖकุ한 ", "dog ", "\u0301"]
    for _ in range(300):
        text = "".join(rng.choice(letters, rng.integers(1, 12)))
        found = tokenizer.encode(text)
        strange = "".join(
            text[start:stop]
            for token, (start, stop) in zip(found.ids, found.offsets, strict=True)
            if token == 0
        )
        counts = [sum(c.isalnum() for c in one) for one in (strange, text)]
        assert mini.unknown([text])[0] == pytest.approx(counts[0] / max(1, counts[1]))


@pytest.mark.parametrize("text", ["!!!", "...  ?", "\u200b", "(\u2014)", "?!*"])
def test_a_query_without_a_word_is_an_error(notes: Path, text: str) -> None:
    with pytest.raises(UsageError, match="the query holds no word"):
        mmsearch.open(notes / "ix").search(text)


def test_a_query_that_is_no_valid_text_is_an_error(notes: Path) -> None:
    with pytest.raises(UsageError, match="no valid text"):
        mmsearch.open(notes / "ix").search("a dog \udcff")


@pytest.mark.parametrize("text", ["C++", "$", "\U0001fae8", "\uf8ff", "1", "a!"])
def test_what_may_mean_something_is_no_punctuation(text: str) -> None:
    check_text(text)
