"""How the trainer of ``mini`` folds case: the texts, and with them the vocabulary."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from mmsearch.spaces.mini import ASSETS
from mmsearch.train.mini import folding
from mmsearch.train.mini.vocabulary import tokenizer_of

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PIECES: folding.Pieces = [
    (" <unk>", 0.0), (" <s>", 0.0), (" </s>", 0.0), ("▁", -6.0), *((c, -9.0) for c in LETTERS),
    ("▁dog", -3.0), ("s", -4.0), ("▁Dogs", -5.0), ("▁Christmas", -5.0), ("▁CHRISTMAS", -7.0),
    ("▁tree", -4.0), ("▁May", -4.0), ("▁may", -5.0), ("▁Is", -5.0), ("▁island", -6.0),
]  # fmt: skip
TEXTS = ["two dogs", "a dog and a Christmas tree", "May I", "an island"]


def build(pieces: folding.Pieces, fold: bool = True) -> Any:
    normalizer = json.loads((ASSETS / "tokenizer.json").read_text("utf-8"))["normalizer"]
    rules = base64.b64decode(normalizer["normalizers"][0]["precompiled_charsmap"])
    return tokenizer_of(pieces, rules, folding.normalizers() if fold else [])


@pytest.fixture(scope="module")
def made() -> folding.Pieces:
    return folding.folded(PIECES, build(PIECES, False), build, TEXTS, ["islet", "christmas"])


def test_a_piece_that_was_only_known_with_a_capital_takes_the_folded_spelling_and_keeps_its_id(
    made: folding.Pieces,
) -> None:
    ids = {spelling: i for i, (spelling, _) in enumerate(made)}
    before = {spelling: i for i, (spelling, _) in enumerate(PIECES)}
    assert ids["▁christmas"] == before["▁Christmas"]  # the likelier of the two
    assert ids["▁CHRISTMAS"] == before["▁CHRISTMAS"]
    assert [score for _, score in made] == [score for _, score in PIECES]
    for text in ("Christmas", "CHRISTMAS", "christmas"):
        assert build(made).encode(text).ids[1:-1] == [before["▁Christmas"]]


def test_a_spelling_that_is_there_already_keeps_its_own_id(made: folding.Pieces) -> None:
    before = [spelling for spelling, _ in PIECES]
    assert build(made).encode("MAY").ids[1:-1] == [before.index("▁may")]


def test_no_other_word_is_cut_anew(made: folding.Pieces) -> None:
    tokenizer = build(made)
    assert tokenizer.encode("Dogs").tokens[1:-1] == ["▁dog", "s"]
    assert "▁Dogs" in dict(made) and "▁dogs" not in dict(made)
    assert tokenizer.encode("ISLAND").tokens[1:-1] == ["▁island"]


@pytest.mark.parametrize(
    "text",
    [
        "CRÈME brûlée",
        "İstanbul",
        "Straße",
        "ŁÓDŹ",
        "Việt",
        "Ёж",
        "バス",
        "हिन्दी",
        "n\u0308 ẍ\u030c",
    ],
)
def test_the_tokenizers_steps_fold_as_pythons_tables_do(text: str) -> None:
    from tokenizers import normalizers

    steps = normalizers.Sequence(folding.normalizers())
    assert steps.normalize_str(text) == folding.fold(text)
