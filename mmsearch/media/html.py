"""HTML: the title, the author and the text a reader would see, then passages as of any text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from itertools import accumulate
from typing import Any, NamedTuple

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.alt_text import alt_text
from mmsearch.media.cutting import normalised
from mmsearch.media.encoding import decode_text
from mmsearch.media.headings import MAX_TITLE_CHARS, Heading, passages_below
from mmsearch.media.limits import Limits
from mmsearch.types import Modality, Part, Preprocess

_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([\w-]{2,40})", re.I
)
_HIDDEN = frozenset("script style template noscript svg math head select iframe".split())
_BLOCKS = frozenset(
    "address article aside blockquote body br dd details div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section summary table tr"
    " ul".split()
)
_HEADINGS = {f"h{level + 1}": level for level in range(6)}
_FEED_CHARS = 1 << 18  # an unclosed construct is scanned again with every piece: few pieces
_MAX_AUTHORS = 20
_TAG = re.compile(r"<[^>]*>?")
# Python before 3.13.4 does not see the end of a script that has more words in it.
_WORDY_END = re.compile(r"</(script|style)[\s/][^<>]{0,200}>", re.IGNORECASE)


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a page. meta: offset in its visible text, its title and author, and the
    section."""
    if len(data) > limits.max_html_bytes:
        raise LimitExceeded(f"page of {len(data):,} bytes; at most {limits.max_html_bytes:,}")
    page = read_page(data)
    told = {"title": page.title, "author": page.author}
    about = {key: value for key, value in told.items() if value}
    number = -1
    passages = passages_below(page.text, preprocess, page.headings)
    for number, (start, end, section) in enumerate(passages):
        if number >= skip_parts:
            meta: dict[str, Any] = about | {"offset": start}
            if section:
                meta["section"] = section
            yield Part(Modality.TEXT, number, normalised(page.text[start:end]), meta=meta)
    if number < 0:
        raise DecodeError("holds no visible words")


class Visible(NamedTuple):
    """What a page says; its headings by their places in the text."""

    title: str | None
    author: str | None
    text: str
    headings: list[Heading]


def read_page(data: bytes) -> Visible:
    """What a page says, whatever its encoding; see ``visible_text``."""
    return visible_text(decode_text(data, declared=_declared(data)))


def visible_text(markup: str) -> Visible:
    """What a page says: entities resolved, scripts and styles left out, blocks on lines."""
    page = _Page()
    markup = _WORDY_END.sub(r"</\1>", markup)
    for at in range(0, len(markup), _FEED_CHARS):
        page.feed(markup[at : at + _FEED_CHARS])
    page.finish()
    title = normalised("".join(page.title))[:MAX_TITLE_CHARS]
    author = normalised("; ".join(page.authors))[:MAX_TITLE_CHARS]
    text = "".join(page.text)
    headings = list(_headings(page, text))
    front = len(text) - len(text.lstrip())
    moved = [one.moved(-front) for one in headings]
    return Visible(title or None, author or None, text.strip(), moved)


def _headings(page: _Page, text: str) -> Iterator[Heading]:
    ends = [0, *accumulate(map(len, page.text))]
    for level, first, behind in page.headings:
        words = text[ends[first] : ends[behind]]
        title = normalised(words)[:MAX_TITLE_CHARS]
        if title:
            start = ends[first] + len(words) - len(words.lstrip())
            yield Heading(start, ends[first] + len(words.rstrip()), level, title)


class _Page(HTMLParser):
    """Counts open tags instead of keeping a stack: 100,000 nested ones are a number."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.authors: dict[str, None] = {}  # in their order, each once
        self.text: list[str] = []
        self.headings: list[tuple[int, int, int]] = []  # level, and which pieces of the text
        self._heading: tuple[int, int] | None = None
        self._hidden = dict.fromkeys(_HIDDEN, 0)  # tag -> how many of it are open
        self._in_title = False

    def finish(self) -> None:
        """What no `>` closed. HTMLParser.close() would rescan it from every `<` on: 1 MB of
        `<!--` takes it many minutes."""
        rest = self.rawdata
        if self.cdata_elem in (None, "textarea") and not rest.startswith("<!--"):
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
            if tag in _HEADINGS:
                self._heading = _HEADINGS[tag], len(self.text)
        elif tag in ("td", "th", "textarea"):
            self.text.append(" ")
        elif tag == "img" and not any(self._hidden.values()):
            self.text.append(_said_of_picture(dict(attrs)))
        elif tag == "meta" and len(self.authors) < _MAX_AUTHORS:
            named = {key: value or "" for key, value in attrs}
            author = named.get("content", "").strip()
            if author and named.get("name", "").strip().lower() == "author":
                self.authors[author] = None

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self._hidden:  # <script/> closes itself in XHTML
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            self._hidden[tag] = max(0, self._hidden[tag] - 1)
        elif tag == "title":
            self._in_title = False
        elif tag in _BLOCKS:
            if tag in _HEADINGS and self._heading is not None:
                self.headings.append((*self._heading, len(self.text)))
                self._heading = None
            self.text.append("\n")
        elif tag == "textarea":
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not any(self._hidden.values()):
            self.text.append(data)


def _said_of_picture(attributes: dict[str, str | None]) -> str:
    size = attributes.get("width"), attributes.get("height")
    if any((one or "").strip().removesuffix("px") in ("0", "1") for one in size):
        return ""  # a pixel that tells who reads a page
    said = alt_text(attributes.get("alt") or "")
    return f" {said} " if len(said) > 1 else said  # a letter may be the first of a word


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
