"""Case and accents: texts are folded, and with them the vocabulary.

The pieces of the Universal Sentence Encoder tell "Paris", "paris" and "PARIS" apart, and know
them unequally well: what is typed in capitals falls into letters. So the tokenizer folds a text
first. A piece that was only known with a capital letter ("▁Christmas") then takes the folded
spelling ("▁christmas") and keeps its row in the tower's tables. Otherwise names would fall into
fragments, as names in lower case did before (``benchmarks/quality_spelling.py``).

A new spelling must not cut other words anew, for the towers learned those in the pieces that they
had. So a piece keeps its old spelling if the new one would be used where its old one was not.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

LATIN_MARKS = r"(?<=\p{Latin})\p{M}+"  # the accents of a decomposed Latin letter

Pieces = list[tuple[str, float]]  # spelling and score, in the order of their ids


def normalizers() -> list[Any]:
    """What folds a text, as the last steps of a tokenizer's normalizer.

    Marks of other scripts than Latin stay: in Japanese or Hindi they are a part of the letter.
    """
    from tokenizers import Regex
    from tokenizers import normalizers as steps

    return [
        steps.Lowercase(),
        steps.NFD(),
        steps.Replace(Regex(LATIN_MARKS), ""),
        steps.NFC(),
    ]


def fold(text: str) -> str:
    """The text in lower case, without the accents of Latin letters, by Python's own tables."""
    kept, latin = "", False
    for char in unicodedata.normalize("NFD", text.lower()):
        mark = unicodedata.category(char).startswith("M")
        latin = latin if mark else unicodedata.name(char, "").startswith("LATIN")
        kept += "" if mark and latin else char
    return unicodedata.normalize("NFC", kept)


def folded(
    pieces: Pieces,
    cased: Any,
    build: Callable[[Pieces], Any],
    texts: Sequence[str],
    words: Sequence[str],
) -> Pieces:
    """The pieces, some of them in their folded spelling; ids and scores stay.

    cased: the tokenizer over ``pieces`` that does not fold. build: makes one that folds.
    texts: what the towers were taught. words: common English words in lower case.
    """
    known = {spelling for spelling, _ in pieces}
    best: dict[str, int] = {}  # folded spelling, so far nobody's -> id of its likeliest piece
    for i, (spelling, score) in enumerate(pieces):
        lower = fold(spelling)
        if lower not in known and (lower not in best or score > pieces[best[lower]][1]):
            best[lower] = i
    unique = list(dict.fromkeys(texts))
    before = [Counter(map(fold, one.tokens)) for one in cased.encode_batch(unique)]
    capital = [word.capitalize() for word in words]
    named = [Counter(map(fold, one.tokens)) for one in cased.encode_batch(capital)]
    while True:
        made = _respelt(pieces, best)
        tokenizer = build(made)
        told, untold = _compared(tokenizer, unique, before, best)
        _, beyond = _compared(tokenizer, words, named, best)
        # of texts most must be right, for "CHRISTMAS" was no piece before; of words all
        wrong = {spelling for spelling in best if untold[spelling] > told[spelling]} | set(beyond)
        if not wrong:
            return made
        best = {spelling: i for spelling, i in best.items() if spelling not in wrong}


def _respelt(pieces: Pieces, best: dict[str, int]) -> Pieces:
    found = list(pieces)
    for spelling, i in best.items():
        found[i] = (spelling, pieces[i][1])
    return found


def _compared(
    tokenizer: Any, texts: Sequence[str], before: Sequence[Counter[str]], best: dict[str, int]
) -> tuple[Counter[str], Counter[str]]:
    """How often each new spelling is used where the piece was used before, and where it was not."""
    told: Counter[str] = Counter()
    untold: Counter[str] = Counter()
    for one, had in zip(tokenizer.encode_batch(list(texts)), before, strict=True):
        for spelling, times in Counter(one.tokens).items():
            if spelling in best:
                same = min(times, had[spelling])
                told[spelling] += same
                untold[spelling] += times - same
    return told, +untold
