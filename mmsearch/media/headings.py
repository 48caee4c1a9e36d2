"""The headings of a document, and which section a passage of it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmsearch.media.cutting import normalised, spans
from mmsearch.types import Preprocess

MAX_TITLE_CHARS = 300
_MAX_SECTION_CHARS = 600
_BETWEEN = " › "

_STYLE = re.compile(r"(?:heading|überschrift|titre|título|rubrik|标题)\s*(\d)", re.IGNORECASE)
_LINE = re.compile(r"[^\n]*\n?")
_NUMBER_SIGNS = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")
_UNDERLINE = re.compile(r"([=\-~^\"'`*+#])\1{2,}[ \t]*$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
# Fenced code may look the same, but its fence is seldom as long as the line in it.
_TITLE_IN_TILDES = re.compile(r"(~{4,})[ \t]*\n([^\n]*)\n\1[ \t]*(?:\n|\Z)")
_MOST_WIDER = 4  # than its title
_UNDERLINE_LEVELS = {"=": 0, "-": 1}


class Heading(NamedTuple):
    """A heading at ``text[start:end]``. level: 0 for the highest."""

    start: int
    end: int
    level: int
    title: str

    def moved(self, by: int) -> Heading:
        """The same in a text that has so many characters more before it."""
        return self._replace(start=self.start + by, end=self.end + by)


def passages_below(
    text: str, preprocess: Preprocess, headings: Sequence[Heading], begin: int = 0
) -> Iterator[tuple[int, int, str | None]]:
    """(start, end, section) of the passages of ``text[begin:]``, in order.

    headings: in the order of their places. section: the titles of the headings that a passage
    begins below or with, from the highest on.
    """
    starts = frozenset(one.start for one in headings)
    ends = frozenset(one.end for one in headings if one.end > one.start)
    above: list[Heading] = []
    following = 0
    for start, end in spans(text, preprocess, begin, starts, ends):
        while following < len(headings) and headings[following].start <= start:
            heading = headings[following]
            above = [one for one in above if one.level < heading.level] + [heading]
            following += 1
        section = _BETWEEN.join(one.title for one in above)[:_MAX_SECTION_CHARS]
        yield start, end, section or None


def level_of_style(name: str) -> int | None:
    """The level of the headings that have a style of this name in an office program; else None."""
    if name.casefold() == "title":
        return 0
    numbered = _STYLE.match(name)
    return int(numbered[1]) if numbered is not None else None


def in_plain_text(text: str, begin: int = 0) -> list[Heading]:
    """The headings of a text as Markdown and reStructuredText write them: behind number signs, or
    underlined, with a blank line before; none in fenced code."""
    headings: list[Heading] = []
    fence, blank_before = "", True
    title_line: tuple[int, str] | None = None  # a line behind a blank one: a title if underlined
    above: int | None = None  # where a line above the title begins
    for at, line in _lines(text, begin):
        stripped = line.strip()
        fenced, signs = _FENCE.match(line), _NUMBER_SIGNS.match(line)
        underline = _UNDERLINE.match(line) if title_line is not None else None
        if fenced is not None and underline is not None and len(stripped) == 3:
            underline = None  # a fence right behind a short line
        if underline is not None and title_line is not None:
            start, title = title_line
            start = start if above is None else above
            if len(stripped) * 2 >= len(title):
                level = _UNDERLINE_LEVELS.get(underline[1], 2)
                headings.append(_heading(start, at + len(line.rstrip()), level, title))
            blank_before, title_line, above = True, None, None
        elif not fence and blank_before and _is_above_title(text, at):
            above = at
        elif fenced is not None and (not fence or fenced[1].startswith(fence)):
            fence = "" if fence else fenced[1]
            blank_before, title_line, above = False, None, None
        elif fence:
            continue
        elif blank_before and signs is not None:
            start = at + line.index("#")
            title = _without_closing_signs(_without_attributes(signs[2].rstrip()))
            headings.append(_heading(start, at + len(line.rstrip()), len(signs[1]) - 1, title))
            blank_before, title_line, above = True, None, None
        elif blank_before and _UNDERLINE.match(line) is not None:
            above = at  # a title under it is one behind a blank line all the same
        else:
            title_line = None
            if blank_before and 0 < len(stripped) <= MAX_TITLE_CHARS:
                title_line = at + line.index(stripped), stripped
            else:
                above = None
            blank_before = not stripped
    return headings


def _without_attributes(title: str) -> str:
    """A title without the {#name .class} that Pandoc and Kramdown have behind it."""
    at = title.rfind("{") if title.endswith("}") else -1
    return title[:at].rstrip() if at > 0 and title[at + 1] in "#." else title


def _without_closing_signs(title: str) -> str:
    bare = title.rstrip("#")
    return bare.rstrip() if bare[-1:] in (" ", "\t") else title  # C# is a word


def _is_above_title(text: str, at: int) -> bool:
    """Whether a line of tildes has a title under it that fits, and then the same line again."""
    found = _TITLE_IN_TILDES.match(text, at)
    if found is None or not found[2].strip("~ \t"):
        return False
    return 0 <= len(found[1]) - len(found[2].strip()) <= _MOST_WIDER


def _heading(start: int, end: int, level: int, title: str) -> Heading:
    return Heading(start, end, level, normalised(title)[:MAX_TITLE_CHARS])


def _lines(text: str, begin: int) -> Iterator[tuple[int, str]]:
    for found in _LINE.finditer(text, begin):
        if found[0]:
            yield found.start(), found[0]
