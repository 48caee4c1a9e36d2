"""Texts: bytes → passages of about 200 words, each with its place in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mmsearch.errors import DecodeError
from mmsearch.media.cutting import normalised
from mmsearch.media.encoding import decode_text
from mmsearch.media.headings import MAX_TITLE_CHARS, in_plain_text, passages_below
from mmsearch.media.limits import Limits
from mmsearch.types import Modality, Part, Preprocess

_FRONT_MATTER = re.compile(r"---[ \t]*\n((?:[\w-]+:.*\n|[ \t]+.*\n|- .*\n|\s*\n){1,60})---[ \t]*\n")
_TITLE_FIELD = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"\s*#[ \t]+(\S.*)")


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a text file. meta: offset (in characters), title and section where there
    are any."""
    text = decode_text(data)
    begin, title = _head(text)
    number = -1
    headings = in_plain_text(text, begin)
    passages = passages_below(text, preprocess, headings, begin)
    for number, (start, end, section) in enumerate(passages):
        if number >= skip_parts:
            meta: dict[str, Any] = {"offset": start} | ({"title": title} if title else {})
            if section:
                meta["section"] = section
            yield Part(Modality.TEXT, number, normalised(text[start:end]), meta=meta)
    if number < 0:
        raise DecodeError("holds no words")


def _head(text: str) -> tuple[int, str | None]:
    """Where the text begins behind a Markdown file's front matter, and its title."""
    matter = _FRONT_MATTER.match(text)
    begin = matter.end() if matter else 0
    if begin and not text[begin:].strip():
        begin = 0
    named = _TITLE_FIELD.search(matter[1]) if matter else None
    title = named[2] if named else None
    if title is None and (heading := _HEADING.match(text, begin)) is not None:
        title = heading[1]
    return begin, normalised(title)[:MAX_TITLE_CHARS] if title else None
