"""The text of a document while it is read, and the passages that it is cut into at last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.cutting import normalised
from mmsearch.media.headings import MAX_TITLE_CHARS, Heading, passages_below
from mmsearch.media.limits import Limits
from mmsearch.types import Modality, Part, Preprocess

_MAX_KEPT_CHARS = 4 * MAX_TITLE_CHARS  # of a title; white space in it is left out later


class Writing:
    """Text that is put together piece by piece, with its headings.

    Raises LimitExceeded where it, and what was ``before`` it in the same document, have more than
    ``limits.max_document_chars``.
    """

    def __init__(self, limits: Limits, before: int = 0) -> None:
        self.length = 0
        self.headings: list[Heading] = []
        self._pieces: list[str] = []
        self._open: list[_Paragraph] = []  # a text box or a note lies in another paragraph
        self._most, self._before = limits.max_document_chars, before

    def add(self, text: str) -> None:
        """Goes on with a piece of text."""
        if not text:
            return
        self.length += len(text)
        if self._before + self.length > self._most:
            raise LimitExceeded(f"holds more than {self._most:,} characters of text")
        self._pieces.append(text)
        if self._open:
            self._open[-1].take(text, self.length - len(text))

    def add_heading(self, level: int, title: str) -> None:
        """A heading in a paragraph of its own. level: 0 for the highest."""
        self.add("\n\n")
        self.begin_paragraph()
        self.add(title)
        self.end_paragraph(level)
        self.add("\n\n")

    def add_apart(self, text: str) -> None:
        """Goes on with words that are none of the paragraph's, perhaps a heading's, around them."""
        self.begin_paragraph()
        self.add(f" {text} ")
        self.end_paragraph()
        if not self._open:
            self.add("\n\n")

    def begin_paragraph(self) -> None:
        """Begins a paragraph, maybe inside another."""
        self._open.append(_Paragraph())

    def end_paragraph(self, level: int | None = None) -> None:
        """Ends the paragraph that began last; with a level, it is a heading (0: the highest).

        Its title is made of its own words, not of those of paragraphs inside.
        """
        paragraph = self._open.pop()
        title = paragraph.title() if level is not None else ""
        if level is not None and title:
            self.headings.append(Heading(paragraph.start, paragraph.end, level, title))

    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)


class _Paragraph:
    """A paragraph that is not at its end: where its words are, and as many as a title needs."""

    __slots__ = ("_kept", "_words", "end", "start")

    def __init__(self) -> None:
        self.start = self.end = -1
        self._words: list[str] = []
        self._kept = 0  # characters

    def take(self, text: str, at: int) -> None:
        """Goes on with a piece that stands at a place in the whole text."""
        if not text.isspace():
            self.end = at + len(text.rstrip())
            self.start = at + len(text) - len(text.lstrip()) if self.start < 0 else self.start
        if self._kept < _MAX_KEPT_CHARS:
            self._words.append(text[:_MAX_KEPT_CHARS])
            self._kept += len(text)

    def title(self) -> str:
        """What it says, on one line."""
        return normalised("".join(self._words))[:MAX_TITLE_CHARS]


def passages_of(
    writings: Iterator[tuple[dict[str, Any], Writing]], preprocess: Preprocess, skip_parts: int
) -> Iterator[Part]:
    """The passages of a document's pages, chapters or letters, each with what is known of it.

    Raises DecodeError where there is not one word.
    """
    number = -1
    for about, writing in writings:
        headings = sorted(writing.headings)
        text = writing.text()
        for start, end, section in passages_below(text, preprocess, headings):
            number += 1
            if number >= skip_parts:
                meta = about | {"offset": start} | ({"section": section} if section else {})
                yield Part(Modality.TEXT, number, normalised(text[start:end]), meta=meta)
    if number < 0:
        raise DecodeError("holds no words")
