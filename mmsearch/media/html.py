"""HTML: the title and the text a reader would see, then passages as of any text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.encoding import decode_text
from mmsearch.media.limits import Limits
from mmsearch.media.text import normalised, spans
from mmsearch.types import Modality, Part, Preprocess

_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([\w-]{2,40})", re.I
)
_HIDDEN = frozenset("script style template noscript svg math head select textarea iframe".split())
_BLOCKS = frozenset(
    "address article aside blockquote body br dd div dl dt fieldset figcaption figure footer form"
    " h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section table tr ul".split()
)
_MAX_TITLE_CHARS = 300
_FEED_CHARS = 1 << 18  # an unclosed construct is scanned again with every piece: few pieces
_TAG = re.compile(r"<[^>]*>?")


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a page. meta: offset in its visible text, and its title."""
    if len(data) > limits.max_html_bytes:
        raise LimitExceeded(f"page of {len(data):,} bytes; at most {limits.max_html_bytes:,}")
    title, text = visible_text(decode_text(data, declared=_declared(data)))
    number = -1
    for number, (start, end) in enumerate(spans(text, preprocess)):
        if number >= skip_parts:
            meta: dict[str, Any] = {"offset": start} | ({"title": title} if title else {})
            yield Part(Modality.TEXT, number, normalised(text[start:end]), meta=meta)
    if number < 0:
        raise DecodeError("holds no visible words")


def visible_text(markup: str) -> tuple[str | None, str]:
    """(title, text): entities resolved, scripts and styles left out, blocks on lines."""
    page = _Page()
    for at in range(0, len(markup), _FEED_CHARS):
        page.feed(markup[at : at + _FEED_CHARS])
    page.finish()
    title = normalised("".join(page.title))[:_MAX_TITLE_CHARS]
    return title or None, "".join(page.text).strip()


class _Page(HTMLParser):
    """Counts open tags instead of keeping a stack: 100,000 nested ones are a number."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.text: list[str] = []
        self._hidden = dict.fromkeys(_HIDDEN, 0)  # tag -> how many of it are open
        self._in_title = False

    def finish(self) -> None:
        """What no `>` closed. HTMLParser.close() would rescan it from every `<` on: 1 MB of
        `<!--` takes it many minutes."""
        rest = self.rawdata
        if self.cdata_elem is None and not rest.startswith("<!--"):
            self.handle_data(unescape(_TAG.sub(" ", rest)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":  # whatever was left open before it, a head mostly
            self._hidden = dict.fromkeys(_HIDDEN, 0)
        if tag in self._hidden:
            self._hidden[tag] += 1
        elif tag == "title" and not self.title and not self._hidden["svg"]:
            self._in_title = True
        elif tag in _BLOCKS:
            self.text.append("\n" if tag in ("br", "li", "tr", "dt", "dd") else "\n\n")
        elif tag in ("td", "th"):
            self.text.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self._hidden:  # <script/> closes itself in XHTML
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            self._hidden[tag] = max(0, self._hidden[tag] - 1)
        elif tag == "title":
            self._in_title = False
        elif tag in _BLOCKS:
            self.text.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not any(self._hidden.values()):
            self.text.append(data)


def _declared(data: bytes) -> str | None:
    """The encoding that the page names for itself, if Python knows it."""
    found = _CHARSET.search(data[:4096])
    if found is None:
        return None
    name = found[1].decode("ascii")
    # Pages that say gb2312 or gbk use characters of its supersets.
    name = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}.get(name.lower(), name)
    try:
        b" ".decode(name)
    except (LookupError, UnicodeDecodeError):
        return None
    return name
