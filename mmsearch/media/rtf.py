"""Documents in Rich Text Format (RTF 1.9), as WordPad, TextEdit and older programs write them.

An own reader, of one pass: striprtf 0.0.35 leaves footnotes, headers and text boxes out, and its
patterns take quadratic time on documents that are made so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mmsearch.errors import DecodeError
from mmsearch.media.cutting import normalised
from mmsearch.media.headings import MAX_TITLE_CHARS, level_of_style
from mmsearch.media.limits import Limits
from mmsearch.media.writing import Writing, passages_of
from mmsearch.types import Part, Preprocess

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|[\r\n]+"
    rb"|([^\\{}\r\n]+)|(\\)"
)
# Groups whose text is no part of the document.
_UNREAD = frozenset(
    b"fonttbl colortbl stylesheet listtable listoverridetable rsidtbl generator pict object "
    b"objdata themedata colorschememapping datastore latentstyles xmlnstbl filetbl revtbl "
    b"mmathPr fldinst bkmkstart bkmkend datafield formfield pgptbl passwordhash ftnsep ftnsepc "
    b"aftnsep aftnsepc atnid atnauthor atndate atnref atnparent falt panose sp nonshppict".split()
)
# Behind ``\*`` programs skip what they do not know; these hold text for people all the same.
_READ_THOUGH_OPTIONAL = frozenset(b"shptxt shpinst annotation footnote".split())
_APART = frozenset(
    b"footnote annotation shptxt header headerl headerr headerf footer footerl footerr "
    b"footerf".split()
)
_MARKS = {
    b"par": "\n\n", b"sect": "\n\n", b"page": "\n\n", b"line": "\n", b"tab": " ", b"cell": " ",
    b"nestcell": " ", b"row": "\n", b"nestrow": "\n", b"emdash": "—", b"endash": "–",
    b"emspace": " ", b"enspace": " ", b"qmspace": " ", b"bullet": "•", b"lquote": "‘",
    b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”",
}  # fmt: skip
_LOOKS = frozenset(b"pard intbl outlinelevel s".split())
_SYMBOLS = {b"~": " ", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}"}
_ENDS = frozenset(b"par sect cell nestcell row nestrow".split())  # of paragraphs
_CHARSETS = {  # of fonts; others have that of the document
    77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk",
    136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256",
    186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
_MAX_DEPTH = 10_000
_MAX_FONTS = 10_000
_MAX_STYLES = 10_000


class _Group(NamedTuple):
    """What holds until a brace closes."""

    read: bool = True
    field: str = ""  # the title or author, while the group holds one
    unicode: bool = False  # whether it says in Unicode what the group before it said in part
    fallback: int = 1  # so many bytes stand in for a character of Unicode
    font: int = -1
    table: bool = False  # whether fonts are described
    apart: bool = False  # whether it stands beside the text around it
    styles: bool = False  # whether styles of paragraphs are described
    style: int = -1  # the one that is described
    level: int | None = None  # of the paragraph, if it is a heading
    cell: bool = False  # whether the paragraph lies in a table


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a document. meta: offset, section, title and author."""
    reader = _Reader(limits)
    reader.read(data)
    plain = {key: normalised(value)[:MAX_TITLE_CHARS] for key, value in reader.about.items()}
    about = {key: value for key, value in plain.items() if value}
    yield from passages_of(iter([(about, reader.writing)]), preprocess, skip_parts)


class _Reader:
    def __init__(self, limits: Limits) -> None:
        self.writing = Writing(limits)
        self.about: dict[str, Any] = {"title": "", "author": ""}
        self._now = _Group()
        self._above: list[_Group] = []
        self._encoding = "cp1252"
        self._fonts: dict[int, str] = {}
        self._levels: dict[int, int] = {}  # style -> level of the headings that have it
        self._style_name = ""
        self._bytes = bytearray()  # of characters that may have several
        self._skip = 0  # bytes that stand in for a character that was there already
        self._high = 0  # the first half of a pair of UTF-16
        self._opened = False  # behind a brace
        self._optional = False  # behind \*, which means something there alone
        self.writing.begin_paragraph()

    def read(self, data: bytes) -> None:
        """All of a document."""
        at = 0
        while (found := _TOKEN.search(data, at)) is not None:
            at = found.end()
            word, number, code, symbol, brace, text, _ = found.groups()
            if word == b"bin":  # so many bytes of anything follow
                at += max(0, int(number or 0))
            elif not any((word, code, symbol, brace, text)):  # an end of a line means nothing
                continue
            elif code:
                self._byte(int(code, 16))
            elif text:
                self._opened = self._optional = False
                self._plain(text)
            else:
                opened, self._opened = self._opened, brace == b"{"
                self._flush()
                if symbol == b"*":
                    self._optional = opened
                elif word:
                    self._word(word, int(number) if number else None)
                elif symbol in (b"\r", b"\n"):
                    self._word(b"par", None)
                elif symbol:
                    self._put(_SYMBOLS.get(symbol, ""))
                elif brace:
                    self._brace(brace)
        self._flush()

    def _brace(self, brace: bytes) -> None:
        self._skip = 0
        if brace == b"}" and self._above:
            left, self._now = self._now, self._above.pop()
            if left.apart and not self._now.apart:
                self.writing.end_paragraph()
                self._put(" ")
            elif left.styles and self._now.styles:
                self._end_style(left)
        elif brace == b"}":
            return
        elif len(self._above) >= _MAX_DEPTH:
            raise DecodeError("the document is nested too deeply")
        else:
            self._above.append(self._now)
            self._style_name = ""

    def _end_style(self, style: _Group) -> None:
        named = level_of_style(self._style_name.partition(";")[0].strip())
        level = style.level if named is None else named
        if level is not None and len(self._levels) < _MAX_STYLES:
            self._levels[style.style] = level

    def _word(self, word: bytes, number: int | None) -> None:
        optional, self._optional = self._optional, False
        if word == b"ud":
            self._now = self._now._replace(read=False, unicode=True)
        elif word in _UNREAD or (optional and word not in _READ_THOUGH_OPTIONAL):
            table, styles = word == b"fonttbl", word == b"stylesheet"
            self._now = self._now._replace(read=False, table=table, styles=styles)
        elif word in _APART:
            self._put(" ")
            if not self._now.apart:
                self.writing.begin_paragraph()
            self._now = self._now._replace(apart=True)
        elif word == b"info":
            self._now = self._now._replace(read=False)
        elif word in (b"title", b"author") and not self._now.read:
            field = word.decode()
            if self._now.unicode:
                self.about[field] = ""
            # LibreOffice names behind the author who changed the document last.
            if not self.about[field]:
                self._now = self._now._replace(field=field)
        elif word in _ENDS:
            self._end_paragraph(word)
        elif word in _MARKS:
            self._put(_MARKS[word])
        elif word in _LOOKS:
            self._look(word, number)
        elif word == b"u" and number is not None:
            self._unicode(number & 0xFFFF)
            self._skip = self._now.fallback
        elif word == b"uc" and number is not None:
            self._now = self._now._replace(fallback=max(0, min(number, 16)))
        elif word == b"ansicpg" and number is not None and _is_known(f"cp{number}"):
            self._encoding = f"cp{number}"
        elif word == b"f" and number is not None:
            self._now = self._now._replace(font=number)
        elif word == b"fcharset" and self._now.table and len(self._fonts) < _MAX_FONTS:
            self._fonts[self._now.font] = _CHARSETS.get(number or 0, self._encoding)

    def _end_paragraph(self, word: bytes) -> None:
        heading = word == b"par" and not self._now.cell and not self._now.apart
        if self._now.read:
            self.writing.end_paragraph(self._now.level if heading else None)
            self.writing.begin_paragraph()
        self._put(_MARKS[word])

    def _look(self, word: bytes, number: int | None) -> None:
        """How a paragraph looks, until its group ends or ``pard``."""
        if word == b"pard":
            self._now = self._now._replace(level=None, cell=False)
        elif word == b"intbl":
            self._now = self._now._replace(cell=True)
        elif word == b"outlinelevel" and number is not None:
            self._now = self._now._replace(level=number + 1 if 0 <= number < 9 else None)
        elif word == b"s" and number is not None:
            level = self._levels.get(number, self._now.level)
            self._now = self._now._replace(style=number, level=level)

    def _byte(self, value: int) -> None:
        if self._skip:
            self._skip -= 1
        else:
            self._bytes.append(value)

    def _plain(self, text: bytes) -> None:
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        self._bytes += text[skipped:]

    def _unicode(self, value: int) -> None:
        if 0xD800 <= value < 0xDC00:
            self._high = value
        elif 0xDC00 <= value < 0xE000:
            if self._high:
                self._put(chr(0x10000 + ((self._high - 0xD800) << 10) + (value - 0xDC00)))
            self._high = 0
        else:
            self._put(chr(value))

    def _flush(self) -> None:
        if self._bytes:
            encoding = self._fonts.get(self._now.font, self._encoding)
            text = bytes(self._bytes).decode(encoding, "replace")
            self._bytes.clear()
            self._put(text)

    def _put(self, text: str) -> None:
        if self._now.field:
            if len(self.about[self._now.field]) < MAX_TITLE_CHARS * 4:
                self.about[self._now.field] += text
        elif self._now.styles:
            if len(self._style_name) < MAX_TITLE_CHARS:
                self._style_name += text[:MAX_TITLE_CHARS]
        elif self._now.read:
            self.writing.add(text)


def _is_known(encoding: str) -> bool:
    try:
        b" ".decode(encoding)
    except (LookupError, UnicodeDecodeError):
        return False
    return True
