"""The text of a document while it is read, and the passages that it is cut into at last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.cutting import normalised
from mmsearch.media.headings import MAX_TITLE_CHARS, Heading, passages_below
from mmsearch.media.limits import Limits
from mmsearch.types import Modality, Part, Preprocess


class Writing:
    """Text that is put together piece by piece, with its headings.

    Raises LimitExceeded where it, and what was ``before`` it in the same document, have more than
    ``limits.max_document_chars``.
    """

    def __init__(self, limits: Limits, before: int = 0) -> None:
        self.length = 0
        self.headings: list[Heading] = []
        self._pieces: list[str] = []
        self._most, self._before = limits.max_document_chars, before

    def add(self, text: str) -> None:
        """Goes on with a piece of text."""
        self.length += len(text)
        if self._before + self.length > self._most:
            raise LimitExceeded(f"holds more than {self._most:,} characters of text")
        self._pieces.append(text)

    def add_heading(self, level: int, title: str) -> None:
        """A heading in a paragraph of its own. level: 0 for the highest."""
        self.add("\n\n")
        start = self.length
        self.add(title)
        self.mark_heading(level, start)
        self.add("\n\n")

    def mark_heading(self, level: int, start: int) -> None:
        """Makes a heading of what was added since the text was ``start`` characters long."""
        words = self._since(start)
        title = normalised(words)[:MAX_TITLE_CHARS]
        if title:
            begin = start + len(words) - len(words.lstrip())
            self.headings.append(Heading(begin, start + len(words.rstrip()), level, title))

    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    def _since(self, start: int) -> str:
        pieces, at = [], self.length
        for piece in reversed(self._pieces):
            if at <= start:
                break
            at -= len(piece)
            pieces.append(piece[max(0, start - at) :])
        return "".join(reversed(pieces))


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
