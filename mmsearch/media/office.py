"""Documents of Word, PowerPoint and Excel since 2007 (Office Open XML, ECMA-376).

Everything that people read in them: paragraphs, cells of tables, text boxes, foot- and endnotes,
comments, headers; speakers' notes; sheets; what is said of pictures. Deleted text and codes of
fields are left out.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from mmsearch.errors import DecodeError
from mmsearch.media.alt_text import alt_text
from mmsearch.media.cell_looks import Looks
from mmsearch.media.cutting import normalised
from mmsearch.media.headings import MAX_TITLE_CHARS, level_of_style
from mmsearch.media.html import read_page
from mmsearch.media.limits import Limits
from mmsearch.media.sniff import HEAD_BYTES, looks_like_html
from mmsearch.media.writing import Writing, passages_of
from mmsearch.media.zipped import Fields, Zipped
from mmsearch.types import Part, Preprocess

_CORE = "docProps/core.xml"
_ABOUT = {"title": "title", "creator": "author"}
# Of two forms of the same drawing the older is left out, as are codes, what was moved away, and how
# a paragraph was before a change.
_UNREAD = frozenset(("Fallback", "instrText", "delText", "moveFrom", "tabs", "pPrChange"))
# Headers and footers of sheets, and the codes in them: &L begins the left part, &P is the page, …
_PAGE_MARGINS = frozenset(
    f"{which}{what}" for which in ("odd", "even", "first") for what in ("Header", "Footer")
)
_MARGIN_CODES = re.compile(r'&(?:"[^"]*"|\d{1,3}|K[0-9A-Fa-f]{6}|[A-Za-z])')
_MAX_SHARED_STRINGS = 2_000_000


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a document. meta: offset, section, title and author; of slides the page."""
    archive = Zipped(data, limits)
    about = described_in(archive, _CORE, _ABOUT)
    for main, read in (
        ("word/document.xml", _word),
        ("ppt/presentation.xml", _slides),
        ("xl/workbook.xml", _sheets),
    ):
        if main in archive.names:
            writings = ((about | more, writing) for more, writing in read(archive, limits))
            yield from passages_of(writings, preprocess, skip_parts)
            return
    raise DecodeError("is an office document of a kind that is not known here")


def described_in(archive: Zipped, name: str, wanted: dict[str, str]) -> dict[str, str]:
    """Title and author, where an entry tells of them."""
    fields = Fields(wanted)
    try:
        archive.parse(name, fields)
    except DecodeError:  # what the document says of itself; its text may still be whole
        return {}
    plain = {key: normalised(value)[:MAX_TITLE_CHARS] for key, value in fields.found.items()}
    return {key: value for key, value in plain.items() if value}


# -- Word -----------------------------------------------------------------------------


def _word(archive: Zipped, limits: Limits) -> Iterator[tuple[dict[str, Any], Writing]]:
    styles = _Styles()
    archive.parse("word/styles.xml", styles)
    writing = Writing(limits)
    archive.parse("word/document.xml", _Paragraphs(writing, styles.levels))
    for kind in ("footnotes", "endnotes", "comments", "header", "footer"):
        for name in _numbered(archive, f"word/{kind}"):
            writing.add("\n\n")
            archive.parse(name, _Paragraphs(writing, {}))
    for kind, target in _relations(archive, "word/document.xml").values():
        if kind in ("chart", "diagramData"):
            writing.add("\n\n")
            archive.parse(target, _Slide(writing))
        elif kind == "aFChunk":  # a page that programs put in as it is
            page = archive.read(target)
            if looks_like_html(page[:HEAD_BYTES]) and len(page) <= limits.max_html_bytes:
                writing.add("\n\n" + read_page(page).text)
    yield {}, writing


class _Styles:
    """Which styles of paragraphs are headings, and of which level."""

    def __init__(self) -> None:
        self.levels: dict[str, int] = {}
        self._style = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        value = attributes.get("val", "")
        if name == "style":
            self._style = attributes.get("styleId", "")
        elif name == "name" and self._style:
            level = level_of_style(value)
            if level is not None:
                self.levels[self._style] = level
        elif name == "outlineLvl" and self._style and value.isdigit() and int(value) < 9:
            self.levels.setdefault(self._style, int(value) + 1)

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name == "style":
            self._style = ""

    def data(self, text: str) -> None:
        """See ``Handler``."""


class _Paragraphs:
    """Paragraphs and tables of Word, and what is drawn on a slide."""

    def __init__(self, writing: Writing, levels: dict[str, int]) -> None:
        self._writing, self._levels = writing, levels
        self._unread = self._cells = 0  # how many such elements are open
        self._reading = False
        self._open: list[int | None] = []  # levels of the open paragraphs; a text box lies in one
        self._described = ""  # what was said of the last drawing in a text

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name in _UNREAD:
            self._unread += 1
        elif name == "p":
            if self._open:
                self._writing.add("\n\n")
            self._writing.begin_paragraph()
            self._open.append(None)
        elif name == "t":
            self._reading = True
        elif name == "pStyle" and self._open and not self._unread:
            self._open[-1] = self._levels.get(attributes.get("val", ""), self._open[-1])
        elif name == "outlineLvl" and attributes.get("val", "") in tuple("012345678"):
            if self._open and not self._unread:
                self._open[-1] = int(attributes["val"]) + 1
        elif name in ("docPr", "cNvPr") and not self._unread:
            self._describe(name, attributes.get("descr") or attributes.get("title", ""))
        elif name in ("tab", "ptab"):
            self._writing.add(" ")
        elif name in ("br", "cr"):
            self._writing.add("\n")
        elif name == "noBreakHyphen":
            self._writing.add("-")
        elif name == "tc":
            self._cells += 1

    def _describe(self, name: str, written: str) -> None:
        """What is said of a drawing: by Word of it in the text, and of the picture that it is."""
        said = alt_text(written)
        if said and (name == "docPr" or said != self._described):
            self._writing.add_apart(said)
        if name == "docPr":
            self._described = said

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name in _UNREAD:
            self._unread -= 1
        elif name == "t":
            self._reading = False
        elif name == "p":
            level = self._open.pop()
            self._writing.end_paragraph(None if self._cells else level)
            self._writing.add(" " if self._cells else "\n\n")
        elif name == "tc":
            self._cells -= 1
            self._writing.add(" ")
        elif name == "tr" or name == "tbl":
            self._writing.add("\n")

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if self._reading and not self._unread:
            self._writing.add(text)


def _numbered(archive: Zipped, stem: str) -> list[str]:
    """``stem.xml``, ``stem1.xml``, ``stem2.xml``, …, in that order, as far as they are there."""
    found = re.compile(re.escape(stem) + r"(\d*)\.xml")
    names = [(int(m[1] or 0), m[0]) for m in map(found.fullmatch, archive.names) if m]
    return [name for _, name in sorted(names)]


# -- PowerPoint -----------------------------------------------------------------------


def _slides(archive: Zipped, limits: Limits) -> Iterator[tuple[dict[str, Any], Writing]]:
    before = 0
    for page, name in enumerate(_in_order(archive, "ppt/presentation.xml", "sldId"), 1):
        writing = Writing(limits, before)
        archive.parse(name, _Slide(writing))
        for kind, target in _relations(archive, name).values():
            if kind in ("notesSlide", "comments", "diagramData", "chart"):
                writing.add("\n\n")
                archive.parse(target, _Slide(writing, notes=kind == "notesSlide"))
        before += writing.length
        yield {"page": page}, writing


class _Slide(_Paragraphs):
    """What stands on a slide, or in the speaker's notes to it, without the number and date that
    the program puts there."""

    def __init__(self, writing: Writing, notes: bool = False, values: bool = True) -> None:
        super().__init__(writing, {})
        self._notes, self._values = notes, values  # values: of charts, and their labels
        self._title = self._automatic = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name == "ph":
            kind = attributes.get("type", "")
            self._title = kind in ("title", "ctrTitle") and not self._notes
            self._automatic = kind in ("sldNum", "dt", "sldImg")
        super().start(name, attributes)
        if name == "p":
            self._open[-1] = 0 if self._title else None
        elif name == "text" or (name == "v" and self._values):  # of comments, of charts
            self._reading = True

    def end(self, name: str) -> None:
        """See ``Handler``."""
        super().end(name)
        if name == "sp":  # a table or a picture may come next
            self._title = self._automatic = False
        elif name in ("text", "v"):
            self._reading = False
            self._writing.add("\n")

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if not self._automatic:
            super().data(text)


# -- Excel ----------------------------------------------------------------------------


def _sheets(archive: Zipped, limits: Limits) -> Iterator[tuple[dict[str, Any], Writing]]:
    shared = _Strings(limits)
    archive.parse("xl/sharedStrings.xml", shared)
    workbook = _Named("sheet", "workbookPr")
    archive.parse("xl/workbook.xml", workbook)
    targets = _relations(archive, "xl/workbook.xml")
    properties = workbook.found["workbookPr"]
    since_1904 = any(one.get("date1904") in ("1", "true") for one in properties)
    looks = Looks(since_1904)
    archive.parse("xl/styles.xml", looks)
    before = 0
    for attributes in workbook.found["sheet"]:
        writing = Writing(limits, before)
        if attributes.get("name"):
            writing.add_heading(0, attributes["name"])
        _, target = targets.get(attributes.get("r:id", ""), ("", ""))
        archive.parse(target, _Cells(writing, shared.found, looks))
        for kind, more in _relations(archive, target).values():
            if kind in ("comments", "threadedComment", "drawing"):
                writing.add("\n\n")
                archive.parse(more, _Slide(writing))
            if kind == "drawing":
                _charts(archive, more, writing)
        before += writing.length
        yield {}, writing


def _charts(archive: Zipped, drawing: str, writing: Writing) -> None:
    """The titles of the charts in a drawing; what they are drawn from stands in cells."""
    for kind, target in _relations(archive, drawing).values():
        if kind == "chart":
            writing.add("\n\n")
            with suppress(DecodeError):  # the sheet may be whole
                archive.parse(target, _Slide(writing, values=False))


class _Strings:
    """The texts that cells share; phonetic guides to them (``rPh``) are left out."""

    def __init__(self, limits: Limits) -> None:
        self.found: list[str] = []
        self._counting = Writing(limits)
        self._pieces: list[str] = []
        self._reading = False
        self._phonetic = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name == "si":
            self._pieces = []
        elif name == "rPh":
            self._phonetic += 1
        elif name == "t":
            self._reading = not self._phonetic

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name == "t":
            self._reading = False
        elif name == "rPh":
            self._phonetic -= 1
        elif name == "si" and len(self.found) < _MAX_SHARED_STRINGS:
            self.found.append("".join(self._pieces))

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if self._reading:
            self._counting.add(text)
            self._pieces.append(text)


class _Cells:
    """The rows of a sheet, a line each."""

    def __init__(self, writing: Writing, shared: list[str], looks: Looks) -> None:
        self._writing, self._shared, self._looks = writing, shared, looks
        self._type = self._value = self._style = ""
        self._reading = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name == "c":
            self._type, self._value = attributes.get("t", "n"), ""
            self._style = attributes.get("s", "")
        elif name in _PAGE_MARGINS:
            self._value, self._reading = "", True
        elif name in ("v", "t"):
            self._reading = True

    def end(self, name: str) -> None:
        """See ``Handler``."""
        if name in ("v", "t"):
            self._reading = False
        elif name in _PAGE_MARGINS:
            self._reading = False
            self._writing.add("\n" + normalised(_MARGIN_CODES.sub(" ", self._value)) + "\n")
        elif name == "c" and self._value:
            value = self._value
            if self._type == "s":
                at = int(value) if value.strip().isdigit() else len(self._shared)
                value = self._shared[at] if at < len(self._shared) else ""
            elif self._type == "n":
                value = self._looks.shown(value, self._style)
            elif self._type == "b":
                value = "TRUE" if value.strip() == "1" else "FALSE"
            if self._type != "e" and value:
                self._writing.add(value + " ")
        elif name == "row":
            self._writing.add("\n")

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if self._reading:
            self._value += text


# -- how entries refer to each other --------------------------------------------------


class _Named:
    """The attributes of all elements of some names."""

    def __init__(self, *names: str) -> None:
        self.found: dict[str, list[dict[str, str]]] = {name: [] for name in names}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name in self.found:
            self.found[name].append(attributes)

    def end(self, name: str) -> None:
        """See ``Handler``."""

    def data(self, text: str) -> None:
        """See ``Handler``."""


def _relations(archive: Zipped, name: str) -> dict[str, tuple[str, str]]:
    """Relation -> what kind of thing it leads to, and which entry of the archive that is."""
    folder, leaf = posixpath.split(name)
    found = _Named("Relationship")
    archive.parse(f"{folder}/_rels/{leaf}.rels", found)
    relations = {}
    for one in found.found["Relationship"]:
        if one.get("TargetMode") != "External":
            kind = one.get("Type", "").rpartition("/")[2]
            target = posixpath.normpath(posixpath.join("/" + folder, one.get("Target", "")))
            relations[one.get("Id", "")] = kind, target.lstrip("/")
    return relations


def _in_order(archive: Zipped, name: str, element: str) -> list[str]:
    """The entries that elements of a name refer to, in the order of these."""
    found = _Named(element)
    archive.parse(name, found)
    relations = _relations(archive, name)
    targets = [relations.get(one.get("r:id", ""), ("", ""))[1] for one in found.found[element]]
    return [target for target in targets if target]
