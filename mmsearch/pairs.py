"""Rows of pairs, as ``mmsearch eval`` and ``mmsearch train`` read them: which pictures,
sounds and words belong together. Both take the same rows, so this is their one reader."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.query import MAX_QUERY_CHARS

# A caption has at most 20,000 characters and a row a handful: more is another file by mistake.
MAX_LINE_BYTES = 1 << 20
MAX_PATH_BYTES = 4096  # Linux's PATH_MAX; no system opens more

PATHS = ("image", "audio")
# ISO 639-1, but for `id`, which is what a row's number is called: Indonesian is `ind`.
_CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da "
    "de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy "
    "hz ia ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li "
    "ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os "
    "pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te "
    "tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu ind yue"
)
_LANGUAGE = re.compile(rf"(?:{'|'.join(_CODES.split())})(?:[-_][A-Za-z0-9]{{2,8}})*")


@dataclass(frozen=True)
class Row:
    """One line: paths as they are written, captions by language (``text`` where unnamed)."""

    line: int
    paths: dict[str, str] = field(default_factory=dict)  # image, audio -> path
    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    label: str | None = None


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, each with its number from 1; without a BOM.

    Raises UsageError for what is no file or cannot be read, LimitExceeded for a long line.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise UsageError(f"{path} is not a file: give a JSON Lines file of pairs.")
        with path.open("rb") as file:
            line = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                line += 1
                if len(raw) > MAX_LINE_BYTES:
                    raise LimitExceeded(
                        f"{path}:{line}: the line has more than {MAX_LINE_BYTES:,} bytes. "
                        "A pairs file has one JSON object a line."
                    )
                raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
                if raw.strip():
                    yield line, raw
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        raise UsageError(f"{path} cannot be read: {reason}. Name a file of pairs.") from None


def parsed(where: str, line: int, raw: bytes, ignored: set[str]) -> Row:
    """A line as a row. ignored: gets the names of fields that stand for nothing."""
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{where}: not JSON: {e}. Write one object a line, as UTF-8.") from None
    return row_of(where, line, body, ignored)


def row_of(where: str, line: int, body: Any, ignored: set[str]) -> Row:
    """A decoded row, checked. Raises UsageError naming the field."""
    if not isinstance(body, dict):
        raise UsageError(f"{where}: wanted a JSON object, got {short(body)}.")
    paths: dict[str, str] = {}
    captions: dict[str, tuple[str, ...]] = {}
    label = None
    for name, value in body.items():
        if value is None:
            continue
        if name in PATHS:
            paths[name] = _path(where, name, value)
        elif name == "label":
            label = caption(where, name, value)
        elif name == "text" or _LANGUAGE.fullmatch(name):
            several = value if isinstance(value, list) else [value]
            own = tuple(dict.fromkeys(caption(where, name, one) for one in several))
            if own:
                captions[name] = own
        else:
            ignored.add(name)
    return Row(line, paths, captions, label)


def caption(where: str, name: str, value: Any) -> str:
    """A text as it is, checked."""
    if not isinstance(value, str):
        wanted = "a text" if name == "label" else "a text or a list of texts"
        raise UsageError(f"{where}: {name}: wanted {wanted}, got {short(value)}.")
    if not value.strip():
        raise UsageError(f"{where}: {name}: the text is empty. Leave the field out instead.")
    if len(value) > MAX_QUERY_CHARS:
        raise LimitExceeded(
            f"{where}: {name}: {len(value):,} characters; at most {MAX_QUERY_CHARS:,} are taken."
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {name}: {short(value)} is no valid text.") from None
    return value


def _path(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where}: {name}: wanted the path of one file, got {short(value)}.")
    try:
        length = len(os.fsencode(value))
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {name}: {short(value)} is no path.") from None
    if "\0" in value:
        raise UsageError(f"{where}: {name}: {short(value)} is no path.")
    if length > MAX_PATH_BYTES:
        raise UsageError(f"{where}: {name}: {short(value)} is too long for a path ({length:,}).")
    return value


def short(value: Any) -> str:
    """A value as an error message shows it."""
    text = json.dumps(value, default=lambda one: f"<{type(one).__name__}>")
    return text if len(text) <= 60 else text[:59] + "…"
