"""A text → passages of about 200 words, each with its place in the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from mmsearch.types import Preprocess

# Scripts written without spaces: Han, kana, their punctuation and full-width forms, Thai, Lao,
# Burmese, Khmer. Korean has spaces and is counted in words.
_CJK = (
    "\u3000-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uffee"
    "\U00020000-\U0003ffff\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"
)
WORD_CHARS = 24
"""A longer run without a space counts as several words: URLs, hashes, base64."""
MAX_CLUSTER_CHARS = 30
"""Unicode's stream-safe bound (UAX 15): more marks on one letter than this may be parted."""
_CJK_CHAR = re.compile(f"[{_CJK}]")
_UNIT = re.compile(f"[{_CJK}]|[^\\s{_CJK}]{{1,{WORD_CHARS}}}")
_WRAPPED_CJK = re.compile(f"(?<=[{_CJK}])[^\\S\\n]*\\n[^\\S\\n]*(?=[{_CJK}])")
_SPACE = re.compile(r"\s+")
_RUN = re.compile(r"([A-Za-z]+)|\d|[^\W\d_]+|[\W_]+")
_WHOLE_CHARS = 7  # English words up to this length are mostly one token, longer ones are several
_TOKEN_CHARS = 4
_PROSE_STOPS = ".,;:!?"
_WORDS_A_TOKEN = 3, 5  # prose has five tokens for three words, punctuation among them

_CLOSERS = "\"'»)]}”’」』）】》〉］｝"
_STOPS = ".!?…。！？；｡।॥؟"
_WIDE_STOPS = "。！？；｡"


class _Unit(NamedTuple):
    """A word, or a character of a script without spaces: ``text[start:end]``."""

    start: int
    end: int
    weight: int


def spans(
    text: str,
    preprocess: Preprocess,
    begin: int = 0,
    starts: Collection[int] = (),
    ends: Collection[int] = (),
) -> Iterator[tuple[int, int]]:
    """Where the passages of ``text[begin:]`` start and end, in order.

    A passage holds at most ``passage_words`` words of prose or ``passage_cjk_chars`` characters, or
    a mixture (300 characters weigh as much as 200 words). Numbers, signs, code and long words weigh
    more, as tokenizers make more tokens of them: see ``_weight``.

    It ends before the last heading in its last 40%, else with the last paragraph, sentence, line or
    word there, and never with a heading if it can be helped; the next one starts up to
    ``passage_overlap`` earlier, at a sentence where one starts there, but never before a heading
    that it could start with. Every character that is
    no white space is in some passage, and no grapheme is parted.

    starts, ends: where headings start and end in the text.
    """
    words, chars = max(1, preprocess.passage_words), max(1, preprocess.passage_cjk_chars)
    budget = words * chars
    overlap = min(preprocess.passage_overlap, 0.5) * budget
    window: list[_Unit] = []  # the passage being filled, and what it shares with the one before
    weight = shared = 0  # shared: units that were in the passage before
    gaps = _Gaps(text, starts, ends)
    for unit in _units(text, begin, word_weight=chars, char_weight=words):
        if window and weight + unit.weight > budget:
            cut = _best_cut(window, shared, unit.start, gaps)
            yield window[0].start, window[cut - 1].end
            first = _shared_from(window, cut, unit.start, overlap, gaps)
            window, shared = window[first:], cut - first
            weight = sum(held.weight for held in window)
            # What was cut off and the overlap may leave no room for a long word.
            while shared and weight + unit.weight > budget:
                weight -= window.pop(0).weight
                shared -= 1
            if window and weight + unit.weight > budget:
                yield window[0].start, window[-1].end
                window, weight = [], 0
        window.append(unit)
        weight += unit.weight
    if window:
        yield window[0].start, window[-1].end


def normalised(passage: str) -> str:
    """White space to single blanks, and none where a line wraps between Chinese characters."""
    return _SPACE.sub(" ", _WRAPPED_CJK.sub("", passage)).strip()


def _units(text: str, begin: int, word_weight: int, char_weight: int) -> Iterator[_Unit]:
    length, at = len(text), begin
    while (found := _UNIT.search(text, at)) is not None:
        start, end = found.span()
        # Marks and joiners all lie beyond U+02FF: plain text pays one comparison.
        while end < length and text[end] > "\u02ff" and not may_split(text, end):
            if end - start >= WORD_CHARS + MAX_CLUSTER_CHARS:
                break
            end += 1
        if _CJK_CHAR.match(text, start):
            yield _Unit(start, end, char_weight)
        else:
            yield _Unit(start, end, _weight(text[start:end], word_weight, char_weight))
        at = end


@lru_cache(maxsize=1 << 14)
def _weight(word: str, word_weight: int, char_weight: int) -> int:
    """What a word weighs: as much as the words of prose that give as many tokens.

    Byte pairs of English are the measure (benchmarks/passages.py): one token for a word and one
    more for every four letters beyond seven, one for every two signs in a row. The stop or comma
    behind a word is free, as prose has those. A digit, or a letter of another alphabet, weighs a
    third of a Chinese character, which differs with the tower.
    """
    tokens = letters = 0
    if word[-1] in _PROSE_STOPS and word[-2:-1].isalpha():
        word = word[:-1]
    for run in _RUN.finditer(word):
        length = run.end() - run.start()
        if run[1]:
            tokens += 1 + max(0, length - _WHOLE_CHARS + _TOKEN_CHARS - 1) // _TOKEN_CHARS
        elif run[0][0].isalnum():
            letters += length
        else:
            tokens += 1 + length // 2 if run[0].isascii() else length
    words, of_tokens = _WORDS_A_TOKEN
    return max(word_weight, tokens * word_weight * words // of_tokens + letters * char_weight // 3)


def may_split(text: str, at: int) -> bool:
    """Whether ``text[:at]`` and ``text[at:]`` part no grapheme (UAX 29, on the careful side)."""
    before, after = text[at - 1], text[at]
    if after.isspace() or before.isspace():
        return True
    if unicodedata.category(after) in ("Mn", "Mc", "Me"):
        return False
    if after in "\u200c\u200d\u0e33\u0eb3\uff9e\uff9f" or before == "\u200d":
        return False
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return False
    if _is_flag_letter(before) and _is_flag_letter(after):
        run = at
        while run > 0 and _is_flag_letter(text[run - 1]):
            run -= 1
        return (at - run) % 2 == 0
    if "\u1160" <= after <= "\u11ff" or "\ud7b0" <= after <= "\ud7fb":  # Hangul vowels and finals
        return False
    if "\u1100" <= before <= "\u115f" and ("\u1100" <= after <= "\u115f" or "가" <= after <= "힣"):
        return False
    # A virama joins the consonant that follows into one letter.
    return unicodedata.combining(before) != 9


def _is_flag_letter(c: str) -> bool:
    return "\U0001f1e6" <= c <= "\U0001f1ff"


_BEFORE_HEADING = 4


class _Gaps:
    """How good it is to part a text at a gap between two units."""

    def __init__(self, text: str, starts: Collection[int], ends: Collection[int]) -> None:
        self.text = text
        self._starts, self._ends = starts, ends

    def level(self, end: int, following: int) -> int:
        """4 before a heading, 3 paragraph, 2 sentence, 1 line, 0 anywhere else, -1 behind a
        heading."""
        if following in self._starts:
            return _BEFORE_HEADING
        return -1 if end in self._ends else _break_level(self.text, end, following)


def _best_cut(window: list[_Unit], shared: int, next_start: int, gaps: _Gaps) -> int:
    """How many units the passage keeps, more than it shares with the one before: up to the best
    break in its last 40%, the last of equals."""
    best, best_level = len(window), -2
    for cut in range(len(window), max(shared + 1, int(len(window) * 0.6)) - 1, -1):
        following = window[cut].start if cut < len(window) else next_start
        level = gaps.level(window[cut - 1].end, following)
        if level > best_level:
            best, best_level = cut, level
    return best


def _shared_from(
    window: list[_Unit], cut: int, next_start: int, overlap: float, gaps: _Gaps
) -> int:
    """The unit that the next passage starts with: a heading, else a sentence's first, within the
    overlap."""
    first, shared = cut, 0
    while first > 1 and shared + window[first - 1].weight <= overlap:
        first -= 1
        shared += window[first].weight
    beginnings = [unit.start for unit in window[first:cut]]
    beginnings.append(window[cut].start if cut < len(window) else next_start)
    levels = [
        gaps.level(before.end, start)
        for before, start in zip(window[first - 1 : cut], beginnings, strict=True)
    ]
    if _BEFORE_HEADING in levels:
        return cut - levels[::-1].index(_BEFORE_HEADING)
    for start, level in enumerate(levels[:-1], first):
        if level >= 2:
            return start
    while first < cut and gaps.text[window[first].start] in _CLOSERS + _STOPS:
        first += 1  # no passage starts with the end of a sentence
    return first


def _break_level(text: str, end: int, following: int) -> int:
    """How good it is to part at a gap: 3 paragraph, 2 sentence, 1 line, 0 anywhere else."""
    gap = text[end:following]
    if gap.count("\n") >= 2:
        return 3
    if not gap and text[following] in _CLOSERS + _STOPS + "，、：,;:":
        return 0
    last = text[max(0, end - 6) : end].rstrip(_CLOSERS)[-1:]
    if last and (last in _WIDE_STOPS or (gap and last in _STOPS)):
        return 2
    return 1 if "\n" in gap else 0
