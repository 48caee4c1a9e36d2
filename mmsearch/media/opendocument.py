"""Documents of LibreOffice and others (OpenDocument, ISO 26300): texts, slides and spreadsheets.

Paragraphs, headings, cells, notes, comments, and what is said of pictures; what is kept of deleted
text is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmsearch.errors import DecodeError
from mmsearch.media.alt_text import MAX_WRITTEN_CHARS, alt_text
from mmsearch.media.limits import Limits
from mmsearch.media.office import described_in
from mmsearch.media.writing import Writing, passages_of
from mmsearch.media.zipped import Zipped
from mmsearch.types import Part, Preprocess

_ABOUT = {"title": "title", "initial-creator": "author"}
_LAST = {"creator": "author"}  # who changed it last
# Deleted text; who wrote a comment, and when; the mark of a note; what indexes repeat; what the
# program puts on each page.
_UNREAD = frozenset(
    "tracked-changes creator creator-initials sender-initials date note-citation table-of-content "
    "alphabetical-index index-title-template page-number page-count".split()
)
_BLOCKS = frozenset(("p", "h"))
_LEVELS = {str(level): level for level in range(1, 11)}
_SAID = frozenset(("svg:title", "svg:desc"))
_MAX_SPACES = 100


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a document. meta: offset, section, title and author; of slides the page."""
    archive = Zipped(data, limits)
    if b":encryption-data" in archive.read("META-INF/manifest.xml"):
        raise DecodeError("is encrypted with a password")
    about = described_in(archive, "meta.xml", _LAST) | described_in(archive, "meta.xml", _ABOUT)
    content = _Content(limits)
    archive.parse("content.xml", content)
    writings = ((about | more, writing) for more, writing in content.writings())
    yield from passages_of(writings, preprocess, skip_parts)


class _Content:
    """The body of a document; a writing for each slide."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pages: list[Writing] = []
        self._rest = self._writing = Writing(limits)
        self._unread = self._cells = self._body = 0
        # The open paragraphs, which may lie in each other: what they are written to, and levels.
        self._open: list[tuple[Writing, int | None]] = []
        self._sheets = self._title = False
        self._said: str | None = None  # of a picture, while that is told

    def writings(self) -> Iterator[tuple[dict[str, Any], Writing]]:
        """All text with the number of its slide, or all in one."""
        for number, page in enumerate(self._pages, 1):
            yield {} if self._sheets else {"page": number}, page
        yield {}, self._rest

    def _begin_page(self) -> None:
        before = self._rest.length + sum(page.length for page in self._pages)
        self._writing = Writing(self._limits, before)
        self._pages.append(self._writing)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name == "body":
            self._body += 1
        elif name in _UNREAD:
            self._unread += 1
        elif name in _SAID and self._body:
            self._said = ""
        elif name == "page":
            self._begin_page()
        elif name in _BLOCKS and self._body:
            level = _LEVELS.get(attributes.get("outline-level", "1")) if name == "h" else None
            if self._open:
                self._writing.add(" ")
            self._writing.begin_paragraph()
            self._open.append((self._writing, 0 if self._title else level))
        elif name == "spreadsheet":
            self._sheets = True
        elif name == "table" and self._sheets and attributes.get("name"):
            self._begin_page()
            self._writing.add_heading(0, attributes["name"])
        elif name == "frame":
            self._title = attributes.get("class") == "title"
        elif name == "table-cell":
            self._cells += 1
        elif self._open and not self._unread:
            if name == "s":
                count = attributes.get("c", "1")
                spaces = int(count) if count.isdigit() and len(count) < 4 else 1
                self._writing.add(" " * min(spaces, _MAX_SPACES))
            elif name in ("tab", "line-break"):
                self._writing.add(" " if name == "tab" else "\n")
            elif name in ("note-body", "annotation"):
                self._writing.add(" ")

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name == "body":
            self._body -= 1
        elif name in _UNREAD:
            self._unread -= 1
        elif name in _SAID and self._said is not None:
            said, self._said = alt_text(self._said), None
            if said and not self._unread:
                self._writing.add_apart(said)
        elif name == "page":
            self._writing = self._rest
        elif name in _BLOCKS and self._open:
            writing, level = self._open.pop()
            writing.end_paragraph(None if self._unread or self._cells else level)
            self._writing.add(" " if self._cells or self._open else "\n\n")
        elif name == "table-cell":
            self._cells -= 1
            self._writing.add(" ")
        elif name == "table-row":
            self._writing.add("\n")
        elif name == "frame":
            self._title = False

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if self._said is not None:
            if len(self._said) < MAX_WRITTEN_CHARS:
                self._said += text
        elif self._open and not self._unread:
            self._writing.add(text)
