"""Files of pairs: which pictures, sounds and texts belong together.

A row is one thing: a picture, a sound, or both, and what is said of it.

    {"image": "rose.png", "en": ["a red rose", "a flower"], "zh": "一朵玫瑰"}
    {"audio": "rain.ogg", "text": "rain on a roof"}
    {"image": "dog.jpg", "audio": "bark.wav"}

``image`` and ``audio`` are paths below the file's folder, or members of a tar of the same
name beside it. ``text`` and two-letter language codes hold a text or a list of texts.
JSONL, Parquet with the same columns, and a tar in which files of one stem belong together
(``rose.png``, ``rose.txt`` or ``rose.json``: WebDataset's form) are read.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmsearch.errors import UsageError

MAX_ROWS = 5_000_000  # a row is held in memory, about a kilobyte
MAX_LINE_CHARS = 1 << 20
MAX_MEMBER_BYTES = 1 << 30  # as media's limit for one file
LANGUAGE = re.compile(r"text|[a-z]{2}(_[A-Z]{2})?")
IMAGE_ENDINGS = frozenset(".jpg .jpeg .png .webp .gif .bmp .tif .tiff .heic .avif".split())
AUDIO_ENDINGS = frozenset(".wav .flac .ogg .oga .mp3 .opus .aiff .aif".split())


@dataclass(frozen=True)
class Thing:
    """One row. image, audio: a path, or (tar, member); texts: language -> what is said.

    key: what makes it the same thing wherever it is named.
    """

    key: str
    where: str
    image: Path | tuple[Path, str] | None
    audio: Path | tuple[Path, str] | None
    texts: dict[str, tuple[str, ...]]


def read_pairs(path: Path) -> list[Thing]:
    """Every row of a file. Raises UsageError that names file, line and field."""
    readers: dict[str, Callable[[Path], Iterator[Thing]]] = {
        ".jsonl": _jsonl,
        ".parquet": _parquet,
        ".tar": _tar,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: pairs are read from {', '.join(readers)}, not {path.suffix!r}.")
    try:
        things = []
        for thing in reader(path):
            things.append(thing)
            if len(things) > MAX_ROWS:
                raise UsageError(f"{path} has more than {MAX_ROWS:,} rows; train on a part of it.")
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror or e}.") from None
    if not things:
        raise UsageError(f"{path} holds no pairs.")
    return things


def held_out(thing: Thing, share: float) -> bool:
    """Whether a thing is among the share that is kept for validation: by its key alone."""
    digest = hashlib.sha256(thing.key.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def _jsonl(path: Path) -> Iterator[Thing]:
    members = _members(path.with_suffix(".tar"))
    with path.open(encoding="utf-8", errors="strict") as file:
        number = 0
        while True:
            number += 1
            where = f"{path}:{number}"
            try:
                line = file.readline(MAX_LINE_CHARS + 1)
            except UnicodeDecodeError:
                raise UsageError(f"{where}: not UTF-8 text.") from None
            if not line:
                return
            if len(line) > MAX_LINE_CHARS:
                raise UsageError(f"{where}: longer than {MAX_LINE_CHARS:,} characters.")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as e:
                raise UsageError(f"{where}: not JSON: {e}.") from None
            yield _thing(row, where, path, members)


def _parquet(path: Path) -> Iterator[Thing]:
    import pyarrow as pa
    from pyarrow import parquet as pq

    members = _members(path.with_suffix(".tar"))
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    given = {k: v for k, v in row.items() if v is not None}
                    yield _thing(given, f"{path}: row {number}", path, members)
    except pa.ArrowInvalid as e:
        raise UsageError(f"{path} is not a Parquet file: {e}.") from None


def _members(tar: Path) -> dict[str, tuple[Path, str]]:
    """Name -> (tar, name) of every file in a tar; nothing where there is no tar."""
    if not tar.is_file():
        return {}
    with _open(tar) as file:
        return {m.name: (tar, m.name) for m in file if m.isfile()}


def _open(tar: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(tar)
    except tarfile.TarError as e:
        raise UsageError(f"{tar} is not a tar: {e}.") from None


def _tar(path: Path) -> Iterator[Thing]:
    """Files of one stem belong together."""
    rows: dict[str, dict[str, Any]] = {}
    with _open(path) as file:
        for member in file:
            if not member.isfile():
                continue
            name = PurePosixPath(member.name)
            row = rows.setdefault(str(name.with_suffix("")), {})
            ending = name.suffix.lower()
            if ending in IMAGE_ENDINGS:
                row["image"] = member.name
            elif ending in AUDIO_ENDINGS:
                row["audio"] = member.name
            elif ending in (".txt", ".json"):
                row |= _said(file, member, path)
    members = {name: (path, name) for row in rows.values() for name in _files(row)}
    for stem, row in rows.items():
        yield _thing(row, f"{path}: {stem}", path, members)


def _files(row: dict[str, Any]) -> list[str]:
    return [row[kind] for kind in ("image", "audio") if kind in row]


def _said(file: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> dict[str, Any]:
    if member.size > MAX_LINE_CHARS:
        raise UsageError(f"{path}: {member.name} is longer than {MAX_LINE_CHARS:,} bytes.")
    opened = file.extractfile(member)
    content = opened.read() if opened else b""
    try:
        text = content.decode("utf-8")
        if member.name.endswith(".txt"):
            return {"text": [line.strip() for line in text.splitlines() if line.strip()]}
        row = json.loads(text)
    except (UnicodeDecodeError, ValueError, RecursionError) as e:
        raise UsageError(f"{path}: {member.name}: {e}.") from None
    if not isinstance(row, dict):
        raise UsageError(f"{path}: {member.name}: an object was wanted, not {row!r:.80}.")
    return {name: value for name, value in row.items() if LANGUAGE.fullmatch(name)}


def _thing(row: Any, where: str, path: Path, members: dict[str, tuple[Path, str]]) -> Thing:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: an object was wanted, not {row!r:.80}.")
    texts = {}
    for name, value in row.items():
        if LANGUAGE.fullmatch(name):
            several = [value] if isinstance(value, str) else value
            if not isinstance(several, list) or not all(isinstance(t, str) for t in several):
                raise UsageError(
                    f"{where}: field {name!r}: a text or a list of texts was wanted, "
                    f"not {value!r:.80}."
                )
            said = tuple(t.strip() for t in several if t.strip())
            if said:
                texts[name] = said
    image = _file(row, "image", where, path, members)
    audio = _file(row, "audio", where, path, members)
    if (image is None) + (audio is None) + (not texts) > 1:
        raise UsageError(
            f"{where}: a pair needs two of `image`, `audio` and a text (`text`, `en`, `zh`, …); "
            f"it has the fields: {', '.join(map(str, row)) or 'none'}."
        )
    key = str(row.get("image") or row.get("audio"))
    return Thing(key, where, image, audio, texts)


def _file(
    row: dict[str, Any],
    field: str,
    where: str,
    path: Path,
    members: dict[str, tuple[Path, str]],
) -> Path | tuple[Path, str] | None:
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{where}: field {field!r}: a path was wanted, not {value!r:.80}.")
    if value in members:
        return members[value]
    place = path.parent / value
    if not place.is_file():
        raise UsageError(
            f"{where}: field {field!r}: there is no file {value!r} beside {path.name}."
        )
    return place
