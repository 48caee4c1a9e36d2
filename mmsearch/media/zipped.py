"""Documents that are ZIP archives of XML: read entry by entry, nothing of them is unpacked to disk.

XML is parsed by expat as it comes, without a tree and without document types: no entity is
expanded and nothing else is opened.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any, NoReturn, Protocol
from xml.parsers import expat

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.limits import Limits

_CHUNK_BYTES = 1 << 16
# What zipfile raises where an archive's own figures make no sense.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
            OverflowError, NotImplementedError)  # fmt: skip
_MAX_ENTRIES = 100_000


class Handler(Protocol):
    """What is told of an XML document.

    Names are without their namespaces; ``r:`` stands before those of relations between entries,
    ``svg:`` before the title and description of a drawing.
    """

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def data(self, text: str) -> None:
        """Text inside elements; a run of it may come in pieces."""


class Zipped:
    """A document's archive. Raises DecodeError where it is damaged or encrypted, LimitExceeded
    where more than ``limits.max_unpacked_bytes`` were read of it in all."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGED as error:
            raise DecodeError("the document is damaged or cut short") from error
        entries = self._archive.infolist()
        if len(entries) > _MAX_ENTRIES:
            raise LimitExceeded(f"holds {len(entries):,} files; at most {_MAX_ENTRIES:,} are read")
        self.names = frozenset(entry.filename for entry in entries)
        self._left, self._most = limits.max_unpacked_bytes, limits.max_unpacked_bytes

    def read(self, name: str) -> bytes:
        """An entry; empty where there is none."""
        return b"".join(self._chunks(name))

    def parse(self, name: str, handler: Handler) -> None:
        """Tells a handler of an entry of XML; of nothing where there is none."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = lambda tag, attributes: handler.start(
            _local(tag), {_local(key): value for key, value in attributes.items()}
        )
        parser.EndElementHandler = lambda tag: handler.end(_local(tag))
        parser.CharacterDataHandler = handler.data
        parser.StartDoctypeDeclHandler = _no_document_type
        try:
            some = False
            for chunk in self._chunks(name):
                some = True
                parser.Parse(chunk, False)
            if some:
                parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, ValueError) as error:  # two of encodings
            raise DecodeError(f"the document is damaged: {name}: {error}") from error

    def _chunks(self, name: str) -> Any:
        if name not in self.names:
            return
        try:
            with self._archive.open(name) as entry:
                while chunk := entry.read(_CHUNK_BYTES):
                    self._left -= len(chunk)
                    if self._left < 0:
                        raise LimitExceeded(f"unpacks to more than {self._most:,} bytes")
                    yield chunk
        except _DAMAGED as error:
            raise DecodeError(f"the document is damaged: {name} cannot be unpacked") from error
        except RuntimeError as error:  # so zipfile says that a password is needed
            raise DecodeError("is encrypted with a password") from error


def _local(name: str) -> str:
    space, _, local = name.rpartition(" ")
    if local == "id" and space.endswith("/relationships"):
        return "r:id"
    if local in ("title", "desc") and "svg" in space:
        return f"svg:{local}"
    return local


def _no_document_type(*_: object) -> NoReturn:
    raise DecodeError(
        "defines entities or elements of its own (a DTD), which may do harm: it is not read"
    )


class Fields:
    """Collects the text of some elements, such as the title and author of a document."""

    def __init__(self, wanted: dict[str, str]) -> None:
        """wanted: name of an element -> key that its text is found under."""
        self.found: dict[str, str] = {}
        self._wanted, self._key, self._most = wanted, "", 10_000

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See ``Handler``."""
        self._key = self._wanted.get(name, "")
        if self._key in self.found:  # a second author
            self.data("; ")

    def end(self, name: str) -> None:
        """See ``Handler``."""
        self._key = ""

    def data(self, text: str) -> None:
        """See ``Handler``."""
        if self._key and len(self.found.get(self._key, "")) < self._most:
            self.found[self._key] = self.found.get(self._key, "") + text
