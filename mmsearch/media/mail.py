"""Mail: a letter (eml) or a box of them (mbox), with subject, sender, receivers and text.

What is attached is named and not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from email import policy
from email.message import Message
from email.parser import BytesParser
from itertools import islice
from typing import Any

from mmsearch.errors import DecodeError
from mmsearch.media.cutting import normalised
from mmsearch.media.encoding import decode_text
from mmsearch.media.headings import MAX_TITLE_CHARS
from mmsearch.media.html import visible_text
from mmsearch.media.limits import Limits
from mmsearch.media.writing import Writing, passages_of
from mmsearch.types import Part, Preprocess

# In a box each letter stands behind a line with its sender, and that behind an empty one.
_ENVELOPE = re.compile(rb"(?:\A|(?<=\n)\r?\n)From [^\n]{1,998}\n(?=[\w-]+:)")
_ESCAPED = re.compile(rb"(?m)^>(>*From )")  # as a box writes what begins so
_MAX_STUB_CHARS = 300  # a plain text so short beside a page is a note that there is a page
_MAX_PIECES = 1000  # of one letter
_SHOWN = ("from", "to", "cc", "date")


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of all letters. meta: offset in the letter; its subject as title, its sender as
    author."""
    yield from passages_of(_letters(data, limits), preprocess, skip_parts)


def _letters(data: bytes, limits: Limits) -> Iterator[tuple[dict[str, Any], Writing]]:
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    places = [found.span() for found in _ENVELOPE.finditer(data)] or [(0, 0)]
    before = 0
    for (_, start), (end, _) in zip(places, [*places[1:], (len(data), 0)], strict=True):
        written = _ESCAPED.sub(rb"\1", data[start:end])
        letter = BytesParser(policy=policy.compat32).parsebytes(written)
        about, writing = _letter(letter, Writing(limits, before))
        before += writing.length
        yield about, writing


def _letter(letter: Message, writing: Writing) -> tuple[dict[str, Any], Writing]:
    subject = _header(letter, "subject")
    if subject:
        writing.add_heading(0, subject)
    for name in _SHOWN:
        if value := _header(letter, name):
            writing.add(f"{name.capitalize()}: {value}\n")
    plain: list[str] = []
    pages: list[str] = []
    attached: list[str] = []
    forwarded: list[str] = []
    for piece in islice(letter.walk(), _MAX_PIECES):
        kind, file = piece.get_content_type(), piece.get_filename()
        if kind == "message/rfc822":
            inner = piece.get_payload()
            if isinstance(inner, list) and inner and isinstance(inner[0], Message):
                told = [_header(inner[0], name) for name in ("subject", "from", "date")]
                forwarded.append("Forwarded: " + ", ".join(filter(None, told)))
        elif file or piece.get_content_disposition() == "attachment":
            attached.append(_decoded(file or kind))
        elif kind in ("text/plain", "text/html"):
            content = piece.get_payload(decode=True)
            charset = piece.get_content_charset()
            if isinstance(content, bytes) and content.strip():
                with suppress(DecodeError):  # what calls itself text and is none
                    text = decode_text(content, declared=_known(charset))
                    (plain if kind == "text/plain" else pages).append(text)
    # A letter has its text twice where it has both.
    seen = [visible_text(page).text for page in pages]
    stub = sum(map(len, plain)) < _MAX_STUB_CHARS and 4 * sum(map(len, plain)) < sum(map(len, seen))
    for text in [*forwarded, *(seen if stub else plain or seen)]:
        writing.add(f"\n\n{text}")
    if attached:
        writing.add(f"\n\nAttached: {', '.join(attached)}")
    about = {"title": subject, "author": _header(letter, "from")}
    return {key: value for key, value in about.items() if value}, writing


def _header(letter: Message, name: str) -> str:
    raw = next((value for key, value in letter.raw_items() if key.lower() == name), "")
    written = str(raw).encode("utf-8", "surrogateescape")
    if not written.isascii():  # against the standard, and common
        charset = next((one for one in letter.get_charsets() if one), None)
        try:
            text = decode_text(written, declared=_known(charset))
        except DecodeError:
            text = written.decode("utf-8", "replace")
        return normalised(text)[:MAX_TITLE_CHARS]
    return _decoded(str(raw))[:MAX_TITLE_CHARS]


def _decoded(value: str) -> str:
    """A value of a header, which may be encoded word by word (RFC 2047)."""
    from email.header import decode_header

    pieces = []
    try:
        for piece, charset in decode_header(value):
            if isinstance(piece, bytes):
                piece = decode_text(piece, declared=_known(charset)) if piece.strip() else " "
            pieces.append(piece)
    except Exception:  # a header that is encoded wrongly raises nearly anything
        return normalised(value)
    return normalised("".join(pieces))


def _known(charset: str | None) -> str | None:
    """An encoding that is named, if Python knows it."""
    try:
        b" ".decode(charset or "")
    except (LookupError, UnicodeDecodeError, ValueError):
        return None
    return charset
