"""E-books (EPUB 2 and 3): the chapters in the order in which they are read."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.html import read_page
from mmsearch.media.limits import Limits
from mmsearch.media.office import described_in
from mmsearch.media.writing import Writing, passages_of
from mmsearch.media.zipped import Zipped
from mmsearch.types import Part, Preprocess

_CONTAINER = "META-INF/container.xml"
_ABOUT = {"title": "title", "creator": "author"}
_PAGES = ("application/xhtml+xml", "text/html")


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a book. meta: offset in the chapter, section, title and author."""
    archive = Zipped(data, limits)
    if "META-INF/rights.xml" in archive.names:
        raise DecodeError("is an e-book that is locked (DRM)")
    container = _Package()
    archive.parse(_CONTAINER, container)
    if not container.path:
        raise DecodeError("the e-book is damaged: it does not say what it holds")
    package = _Package()
    archive.parse(container.path, package)
    about = described_in(archive, container.path, _ABOUT)
    folder = posixpath.dirname(container.path)
    writings = ((about, writing) for writing in _chapters(archive, folder, package, limits))
    yield from passages_of(writings, preprocess, skip_parts)


def _chapters(archive: Zipped, folder: str, package: _Package, limits: Limits) -> Iterator[Writing]:
    before = 0
    for name in package.chapters():
        path = posixpath.normpath(posixpath.join(folder, unquote(name)))
        try:
            page = archive.read(path)
            read = read_page(page[: limits.max_html_bytes])
        except DecodeError:  # a chapter that is damaged; the others may be whole
            continue
        if len(page) > limits.max_html_bytes:
            raise LimitExceeded(
                f"chapter of {len(page):,} bytes; at most {limits.max_html_bytes:,} are read"
            )
        writing = Writing(limits, before)
        writing.add(read.text)
        writing.headings = read.headings
        before += writing.length
        yield writing


class _Package:
    """What a book is made of: its chapters, and the order in which they are read."""

    def __init__(self) -> None:
        self.path = ""
        self._files: dict[str, tuple[str, str]] = {}  # id -> (name, type)
        self._order: list[str] = []

    def chapters(self) -> list[str]:
        """The names of the pages, relative to the package."""
        found = [self._files.get(one, ("", "")) for one in dict.fromkeys(self._order)]
        return [name for name, kind in found if kind in _PAGES]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        if name == "rootfile" and not self.path:
            self.path = attributes.get("full-path", "")
        elif name == "item":
            kind = attributes.get("media-type", "")
            self._files[attributes.get("id", "")] = attributes.get("href", ""), kind
        elif name == "itemref":
            self._order.append(attributes.get("idref", ""))

    def end(self, name: str) -> None:
        """See ``Handler``."""

    def data(self, text: str) -> None:
        """See ``Handler``."""
