"""PAIRS.jsonl: which pictures, sounds and words belong together, read and checked."""

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
# Every test set in use has fewer (COCO 5 k, WavCaps 400 k captions). Captions are held
# as float32 vectors: 500,000 of 512 numbers are 1 GB.
MAX_ROWS = 200_000
MAX_CAPTIONS = 500_000

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


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of a pairs file, and the names of fields that stand for nothing here.

    Raises UsageError naming file, line and field; LimitExceeded past a stated limit.
    """
    rows: list[Row] = []
    ignored: set[str] = set()
    captions = 0
    for line, raw in _lines(path):
        row = _row(f"{path}:{line}", line, raw, ignored)
        captions += sum(map(len, row.captions.values()))
        if len(rows) == MAX_ROWS or captions > MAX_CAPTIONS:
            raise LimitExceeded(
                f"{path}:{line}: more than {MAX_ROWS:,} rows or {MAX_CAPTIONS:,} captions. "
                "Evaluate on a part of them, drawn at random."
            )
        rows.append(row)
    if not rows:
        raise UsageError(f"{path} is empty: it needs one JSON object a line.")
    return rows, sorted(ignored)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a file: give a JSON Lines file of pairs.")
    try:
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


def _row(where: str, line: int, raw: bytes, ignored: set[str]) -> Row:
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{where}: not JSON: {e}. Write one object a line, as UTF-8.") from None
    if not isinstance(body, dict):
        raise UsageError(f"{where}: wanted a JSON object, got {_short(body)}.")
    paths: dict[str, str] = {}
    captions: dict[str, tuple[str, ...]] = {}
    label = None
    for name, value in body.items():
        if value is None:
            continue
        if name in PATHS:
            paths[name] = _path(where, name, value)
        elif name == "label":
            label = _caption(where, name, value)
        elif name == "text" or _LANGUAGE.fullmatch(name):
            several = value if isinstance(value, list) else [value]
            own = tuple(dict.fromkeys(_caption(where, name, one) for one in several))
            if own:
                captions[name] = own
        else:
            ignored.add(name)
    return Row(line, paths, captions, label)


def _caption(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        wanted = "a text" if name == "label" else "a text or a list of texts"
        raise UsageError(f"{where}: {name}: wanted {wanted}, got {_short(value)}.")
    if not value.strip():
        raise UsageError(f"{where}: {name}: the text is empty. Leave the field out instead.")
    if len(value) > MAX_QUERY_CHARS:
        raise LimitExceeded(
            f"{where}: {name}: {len(value):,} characters; at most {MAX_QUERY_CHARS:,} are taken."
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {name}: {_short(value)} is no valid text.") from None
    return value


def _path(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where}: {name}: wanted the path of one file, got {_short(value)}.")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {name}: {_short(value)} is no path.") from None
    if "\0" in value:
        raise UsageError(f"{where}: {name}: {_short(value)} is no path.")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"
