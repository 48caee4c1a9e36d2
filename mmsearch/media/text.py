"""Texts: bytes → passages of about 200 words, each with its place in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from mmsearch.errors import DecodeError
from mmsearch.media.cutting import normalised
from mmsearch.media.encoding import decode_text
from mmsearch.media.headings import MAX_TITLE_CHARS, Heading, in_plain_text, passages_below
from mmsearch.media.limits import Limits
from mmsearch.types import Modality, Part, Preprocess

_FRONT_MATTER = re.compile(r"---[ \t]*\n((?:[\w-]+:.*\n|[ \t]+.*\n|- .*\n|\s*\n){1,60})---[ \t]*\n")
_FIELD = re.compile(r"^(title|author):(.*)$", re.MULTILINE)
_NO_PLAIN_VALUE = tuple("[{|>&*!")  # a list, say
# What reStructuredText tells of a document behind its title.
_DOCINFO = re.compile(r"\s*((?::[^:\n]{1,40}:(?:[ \t].*)?(?:\n|\Z)(?:[ \t]+\S.*(?:\n|\Z))*){1,30})")
_DOCINFO_AUTHOR = re.compile(r"^:authors?:[ \t]+(\S.*)$", re.MULTILINE | re.IGNORECASE)
_OVERLINE = "=-~^\"'`*+#"
_HEADING = re.compile(r"\s*#[ \t]+(\S.*)")


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a text file. meta: offset (in characters); title, author and section where
    there are any."""
    text = decode_text(data)
    begin, told = _head(text)
    number = -1
    headings = in_plain_text(text, begin)
    if "author" not in told:
        told["author"] = _author_behind_title(text, begin, headings)
    plain = {key: normalised(value)[:MAX_TITLE_CHARS] for key, value in told.items()}
    about = {key: value for key, value in plain.items() if value}
    passages = passages_below(text, preprocess, headings, begin)
    for number, (start, end, section) in enumerate(passages):
        if number >= skip_parts:
            meta: dict[str, Any] = about | {"offset": start}
            if section:
                meta["section"] = section
            yield Part(Modality.TEXT, number, normalised(text[start:end]), meta=meta)
    if number < 0:
        raise DecodeError("holds no words")


def _head(text: str) -> tuple[int, dict[str, str]]:
    """Where the text begins behind a Markdown file's front matter; its title, and its author."""
    matter = _FRONT_MATTER.match(text)
    begin = matter.end() if matter else 0
    if begin and not text[begin:].strip():
        begin = 0
    told: dict[str, str] = {}
    for key, written in _FIELD.findall(matter[1]) if matter else ():
        value = written.strip()
        if value[:1] in ("'", '"') and value[:1] == value[-1:]:
            value = value[1:-1]
        elif key == "author" and value.startswith(_NO_PLAIN_VALUE):
            continue
        if value:
            told.setdefault(key, value)
    if "title" not in told and (heading := _HEADING.match(text, begin)) is not None:
        told["title"] = heading[1]
    return begin, told


def _author_behind_title(text: str, begin: int, headings: Sequence[Heading]) -> str:
    """Who wrote a text of reStructuredText, if it begins with a title and says so behind it."""
    if not headings or text[begin : headings[0].start].strip(_OVERLINE).strip():
        return ""
    told = _DOCINFO.match(text, headings[0].end)
    author = _DOCINFO_AUTHOR.search(told[1]) if told else None
    return author[1] if author else ""
