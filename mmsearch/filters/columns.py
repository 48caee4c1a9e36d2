"""The columns that a filter may name, and the limits of a filter. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_FILTER_CHARS = 20_000  # some 500 ids in one `id in (…)`; more is a program's mistake
MAX_PARAM_VALUES = 1_000_000  # of all parameters of a filter together; they take a second
MAX_PARAM_BYTES = 64 << 20  # likewise; with so many a filter takes some 600 MB
MAX_PARAM_CHARS = 20_000  # of one text, as of a filter
MAX_SINGLE_BYTES = 1 << 20  # of all that are in no list: they become SQL
MAX_FILTER_S = 30.0  # 100 million parts take about this long; 200,000 some 50 ms
MAX_FILTER_DEPTH = 100  # conditions inside conditions; people write five
# Patterns with `_` become regular expressions: their worst case grows with their length, and
# doubles with each `_` that stands behind a `%` (with 100 of them one page takes 60 ms).
MAX_PATTERN_CHARS = 256
MAX_PATTERN_ONES = 8
INEXACT = 1 << 53  # from here on several whole numbers are one double
MEMORY_MB = 256  # of all filters of the process together; rows are streamed
THREADS = 2  # of all filters of the process together
META = "meta"
META_ABOUT = "any other key that was stored with the part; `meta.camera.maker` inside an object"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Column:
    """One column of the view.

    type: DuckDB's name of it. sql: how it is made from what is stored. stored: which stored
    columns that needs (see ``engine``). about: one line for people.
    """

    type: str
    sql: str
    stored: tuple[str, ...]
    about: str


def _of_meta(key: str, type: str, about: str) -> Column:
    return Column(type, f"TRY_CAST({meta_sql((key,))} AS {type})", ("meta",), about)


def meta_sql(keys: tuple[str, ...]) -> str:
    """The text under a key of ``meta``, or under a key of an object in it; NULL for none.

    TRY, because meta may hold escapes that JSON allows and DuckDB does not (lone surrogates).
    """
    return f"TRY(json_extract_string(meta, {quoted(pointer(keys))}))"


def pointer(keys: tuple[str, ...]) -> str:
    """Where a key of meta, or one of an object in it, stands: RFC 6901."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)


def word(name: str) -> str:
    """A name as a condition writes it: in double quotes where it needs them."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def meta_name(keys: Sequence[str]) -> str:
    """A key of ``meta``, or of an object in it, as a condition writes it."""
    return ".".join([META, *map(word, keys)])


def quoted(text: str) -> str:
    """The text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


COLUMNS: dict[str, Column] = {
    "id": Column("VARCHAR", "id", ("id",), "the part's id"),
    "path": Column(
        "VARCHAR",
        "(prefix || path)",
        ("prefix", "path"),
        "absolute, as hits show it; bytes that are not UTF-8 as `\\xff`",
    ),
    "root": Column("VARCHAR", "folder", ("folder",), "the folder that was named to `index`"),
    "modality": Column("VARCHAR", "modality", ("modality",), "`image`, `text` or `audio`"),
    "start_s": Column("DOUBLE", "start_s", ("start_s",), "where a window of sound starts"),
    "end_s": Column("DOUBLE", "end_s", ("end_s",), "where it ends"),
    "text": Column("VARCHAR", "text", ("text",), "the passage"),
    "width": _of_meta("width", "BIGINT", "of a picture, in pixels, upright"),
    "height": _of_meta("height", "BIGINT", "likewise"),
    "taken": Column(
        "TIMESTAMP",
        f"TRY_CAST(left({meta_sql(('taken',))}, 19) AS TIMESTAMP)",
        ("meta",),
        "when a picture was taken (EXIF), by the camera's clock",
    ),
    "camera": _of_meta("camera", "VARCHAR", "that took a picture, by maker and model"),
    "latitude": _of_meta("latitude", "DOUBLE", "where, in degrees; north is positive"),
    "longitude": _of_meta("longitude", "DOUBLE", "likewise; east is positive"),
    "duration_s": _of_meta("duration_s", "DOUBLE", "of the whole sound"),
    "sample_rate_hz": _of_meta("sample_rate_hz", "BIGINT", "of a sound"),
    "channels": _of_meta("channels", "BIGINT", "of a sound"),
    "format": _of_meta("format", "VARCHAR", "of a picture or sound: `JPEG`, `WAV`, …"),
    "title": _of_meta("title", "VARCHAR", "of a document or a sound"),
    "artist": _of_meta("artist", "VARCHAR", "of a sound"),
    "album": _of_meta("album", "VARCHAR", "likewise"),
    "genre": _of_meta("genre", "VARCHAR", "likewise"),
    "author": _of_meta("author", "VARCHAR", "of a document; of a mail, the sender"),
    "section": _of_meta("section", "VARCHAR", "the headings above a passage: `Birds › Owls`"),
    "page": _of_meta("page", "BIGINT", "of a PDF or of slides, from 1"),
    "size": Column(
        "BIGINT",
        "(CASE WHEN path IS NOT NULL THEN size END)",
        ("path", "size"),
        "of the file, in bytes",
    ),
    # -1: so fresh when it was indexed that the time was not trusted; the next run corrects it
    "mtime": Column(
        "TIMESTAMP",
        "(CASE WHEN path IS NOT NULL AND mtime_ns <> -1 THEN make_timestamp(mtime_ns // 1000) END)",
        ("path", "mtime_ns"),
        "when the file was last changed, UTC",
    ),
}
MEANT = {  # what people call a column -> what a filter calls it
    **dict.fromkeys(("name", "file", "filename", "folder", "dir", "directory"), "path"),
    **dict.fromkeys(("ext", "extension", "suffix"), "path ilike '%.jpg'"),
    **dict.fromkeys(("type", "kind", "filetype"), "modality, or path ilike '%.jpg'"),
    **dict.fromkeys(("date", "time", "created"), "taken or mtime"),
    **dict.fromkeys(("modified", "changed"), "mtime"),
    **dict.fromkeys(("length", "duration"), "duration_s"),
    "lat": "latitude",
    **dict.fromkeys(("lon", "lng"), "longitude"),
    **dict.fromkeys(("subject", "headline"), "title"),
    **dict.fromkeys(("sender", "creator"), "author"),
}
NAMES = ("path", "root")  # come as "é" in one character or in two, by who made the file
ALIKE = 0.7  # how alike two names are, by difflib, from 0 to 1, if one may be meant by the other
