"""Documents of LibreOffice and others (OpenDocument, ISO 26300): texts, slides and spreadsheets.

Paragraphs, headings, cells, notes, comments, headers and footers of texts, charts, and what is said
of pictures; what is kept of deleted text is left out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from mmsearch.errors import DecodeError
from mmsearch.media.alt_text import MAX_WRITTEN_CHARS, alt_text
from mmsearch.media.cutting import normalised
from mmsearch.media.limits import Limits
from mmsearch.media.office import described_in
from mmsearch.media.writing import Writing, passages_of
from mmsearch.media.zipped import Zipped
from mmsearch.types import Part, Preprocess

_ABOUT = {"title": "title", "initial-creator": "author", "creator": "last"}
# Deleted text; who wrote a comment, and when; the mark of a note; what indexes repeat; what the
# program puts on each page.
_UNREAD = frozenset(
    "tracked-changes creator creator-initials sender-initials date note-citation table-of-content "
    "alphabetical-index index-title-template page-number page-count".split()
)
_BLOCKS = frozenset(("p", "h"))
_LEVELS = {str(level): level for level in range(1, 11)}
_SAID = frozenset(("svg:title", "svg:desc"))
_MARGINS = frozenset("header header-left header-first footer footer-left footer-first".split())
_MAX_SPACES = 100


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a document. meta: offset, section, title and author; of slides the page."""
    archive = Zipped(data, limits)
    if b":encryption-data" in archive.read("META-INF/manifest.xml"):
        raise DecodeError("is encrypted with a password")
    about = described_in(archive, "meta.xml", _ABOUT)
    if last := about.pop("last", ""):  # who changed it last, if no one else is named
        about.setdefault("author", last)
    content = _Content(archive, limits)
    archive.parse("content.xml", content)
    if content.kind == "text":
        content.add_margins()
    writings = ((about | more, writing) for more, writing in content.writings())
    yield from passages_of(writings, preprocess, skip_parts)


class _Content:
    """The body of a document; a writing for each slide."""

    def __init__(self, archive: Zipped, limits: Limits) -> None:
        self.kind = ""  # text, presentation or spreadsheet
        self._archive, self._limits = archive, limits
        self._pages: list[Writing] = []
        self._before = 0  # characters on the pages before the last
        self._rest = self._writing = Writing(limits)
        self._unread = self._cells = self._body = 0
        # The open paragraphs, which may lie in each other: what they are written to, and levels.
        self._open: list[tuple[Writing, int | None]] = []
        self._title = False
        self._charts: list[str] = []  # of a sheet, which are read behind its cells
        self._said: str | None = None  # of a picture, while that is told

    def writings(self) -> Iterator[tuple[dict[str, Any], Writing]]:
        """All text with the number of its slide, or all in one."""
        for number, page in enumerate(self._pages, 1):
            yield {} if self.kind == "spreadsheet" else {"page": number}, page
        yield {}, self._rest

    def add_margins(self) -> None:
        """Goes on with what stands above and below the text of each page."""
        margins = _Margins(self._archive, self._limits)
        with suppress(DecodeError):  # the text may be whole
            self._archive.parse("styles.xml", margins)
        for text in margins.found:
            self._rest.add(f"\n\n{text}")

    def _begin_page(self) -> None:
        self._before += self._pages[-1].length if self._pages else 0
        self._writing = Writing(self._limits, self._rest.length + self._before)
        self._pages.append(self._writing)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if self._body and not self.kind:
            self.kind = name
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
        elif name == "table" and self.kind == "spreadsheet" and attributes.get("name"):
            self._begin_page()
            self._writing.add_heading(0, attributes["name"])
        elif name == "object" and self._body and not self._unread:
            self._charts.append(attributes.get("href", ""))
            if self.kind != "spreadsheet":
                self._add_charts()
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

    def _add_charts(self) -> None:
        charts, self._charts = self._charts, []
        for folder in charts:
            self._writing.begin_paragraph()
            self._writing.add("\n")
            chart = _Chart(self._writing, labels=self.kind != "spreadsheet")
            with suppress(DecodeError):  # the text around it may be whole
                self._archive.parse(posixpath.normpath(f"{folder}/content.xml"), chart)
            self._writing.end_paragraph()

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
        elif name == "table":
            self._add_charts()
        elif name == "frame":
            self._title = False

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if self._said is not None:
            if len(self._said) < MAX_WRITTEN_CHARS:
                self._said += text
        elif self._open and not self._unread:
            self._writing.add(text)


class _Margins(_Content):
    """Headers and footers; sections of a document mostly repeat them, so each text once."""

    def __init__(self, archive: Zipped, limits: Limits) -> None:
        super().__init__(archive, limits)
        self.found: dict[str, None] = {}
        self._shown = True

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name in _MARGINS:
            self._body += 1
            self._shown = attributes.get("display") != "false"
            self._writing = Writing(self._limits, self._before)
        else:
            super().start(name, attributes)

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name in _MARGINS:
            self._body -= 1
            self._before += self._writing.length
            text = normalised(self._writing.text())
            if text and self._shown:
                self.found[text] = None
        else:
            super().end(name)


class _Chart:
    """What stands on a chart: titles, and labels if they stand in no sheet. A ``Handler``."""

    def __init__(self, writing: Writing, labels: bool) -> None:
        self._writing, self._labels = writing, labels
        self._chart = self._reading = self._left_out = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name == "chart":
            self._chart = True
        elif name == "table-cell":
            self._left_out = not self._labels or attributes.get("value-type") != "string"
        elif name == "p":
            self._reading = self._chart and not self._left_out

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name == "table-cell":
            self._left_out = False
        elif name == "p" and self._reading:
            self._reading = False
            self._writing.add("\n")

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if self._reading:
            self._writing.add(text)
