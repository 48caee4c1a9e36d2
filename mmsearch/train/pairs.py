"""Files of pairs: which pictures, sounds and texts belong together.

A row is a picture, a sound, or both, and what is said of it, as ``mmsearch.pairs`` reads it:

    {"image": "rose.png", "en": ["a red rose", "a flower"], "zh": "一朵玫瑰"}
    {"audio": "rain.ogg", "text": "rain on a roof"}
    {"image": "dog.jpg", "audio": "bark.wav"}

``image`` and ``audio`` are paths beside the file, or members of a tar of the same name.
JSONL, Parquet with the same columns, and a tar in which files of one stem belong together
(``rose.png``, ``rose.txt`` or ``rose.json``: WebDataset's form) are read.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.pairs import MAX_LINE_BYTES, PATHS, Row, caption, lines, parsed, row_of, short

MAX_ROWS = 5_000_000  # a row is held in memory, about a kilobyte
MAX_MEMBER_BYTES = 1 << 30  # as media's limit for one file
IMAGE_ENDINGS = frozenset(".jpg .jpeg .png .webp .gif .bmp .tif .tiff .heic .avif".split())
AUDIO_ENDINGS = frozenset(".wav .flac .ogg .oga .mp3 .opus .aiff .aif".split())

Place = Path | tuple[Path, str]  # a file, or (tar, member); links are followed
Members = dict[str, tuple[Path, str]]  # normalised name -> (tar, member)


@dataclass(frozen=True)
class Thing:
    """One row. texts: language -> what is said.

    key: the path of its picture, else of its sound, relative to the file of pairs.
    """

    key: str
    where: str
    image: Place | None
    audio: Place | None
    texts: dict[str, tuple[str, ...]]


@dataclass
class Heard:
    """What was met in files of pairs and not used."""

    ignored: set[str] = field(default_factory=set)  # fields that stand for nothing here
    skipped: list[str] = field(default_factory=list)  # stems of tars that are no pair


def read_pairs(path: Path, heard: Heard | None = None) -> list[Thing]:
    """Every row of a file. Raises UsageError that names file, line and field."""
    readers: dict[str, Callable[[Path, Heard], Iterator[Thing]]] = {
        ".jsonl": _jsonl,
        ".parquet": _parquet,
        ".tar": _tar,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: pairs are read from {', '.join(readers)}, not {path.suffix!r}.")
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise UsageError(f"{path} is not a file: give a file of pairs.")
    things = []
    try:
        for thing in reader(path, heard or Heard()):
            things.append(thing)
            if len(things) > MAX_ROWS:
                raise UsageError(f"{path} has more than {MAX_ROWS:,} rows; train on a part of it.")
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror or e}.") from None
    if not things:
        raise UsageError(f"{path} holds no pairs.")
    return things


def _jsonl(path: Path, heard: Heard) -> Iterator[Thing]:
    members = _members(path.with_suffix(".tar"))
    for line, raw in lines(path):
        where = f"{path}:{line}"
        yield _thing(parsed(where, line, raw, heard.ignored), where, path, members, heard)


def _parquet(path: Path, heard: Heard) -> Iterator[Thing]:
    import pyarrow as pa
    from pyarrow import parquet as pq

    members = _members(path.with_suffix(".tar"))
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for column in file.schema_arrow:
                if column.name in PATHS and not _is_text(column.type):
                    raise UsageError(
                        f"{path}: {column.name}: paths were wanted, not {column.type}: embedded "
                        "files are not read. Write them out and give their paths."
                    )
            for batch in file.iter_batches(1024):
                for body in batch.to_pylist():
                    number += 1
                    where = f"{path}: row {number}"
                    row = row_of(where, number, body, heard.ignored)
                    yield _thing(row, where, path, members, heard)
    except pa.ArrowException as e:
        raise UsageError(f"{path} is not a Parquet file, or is damaged: {e}.") from None


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    )


def _members(tar: Path) -> Members:
    """Every file in a tar; nothing where there is no tar."""
    if not tar.is_file():
        return {}
    place = Path(os.path.realpath(tar))
    return {posixpath.normpath(m.name): (place, m.name) for m, _ in _files_of(tar)}


def _files_of(tar: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """The files in a tar, each with the open tar."""
    try:
        with tarfile.open(tar) as file:
            for member in file:
                if member.isfile():
                    yield member, file
    except (tarfile.TarError, EOFError, zlib.error) as e:
        raise UsageError(f"{tar} is not a tar, or is cut short: {e}.") from None


def _tar(path: Path, heard: Heard) -> Iterator[Thing]:
    """Files of one stem belong together; those of another kind are left alone."""
    paths: dict[str, dict[str, str]] = {}  # stem -> image, audio -> member
    texts: dict[str, dict[str, tuple[str, ...]]] = {}  # stem -> what is said
    place = Path(os.path.realpath(path))
    for member, file in _files_of(path):
        name = PurePosixPath(posixpath.normpath(member.name))
        if "__MACOSX" in name.parts or name.name.startswith("."):
            continue
        stem, ending = str(name.with_suffix("")), name.suffix.lower()
        if ending in IMAGE_ENDINGS:
            paths.setdefault(stem, {})["image"] = member.name
        elif ending in AUDIO_ENDINGS:
            paths.setdefault(stem, {})["audio"] = member.name
        elif ending in (".txt", ".json"):
            said = _said(file, member, f"{path}: {member.name}", ending, heard)
            texts.setdefault(stem, {}).update(said)
    for stem in dict.fromkeys([*paths, *texts]):
        own, said = paths.get(stem, {}), texts.get(stem, {})
        if len(own) + bool(said) < 2:
            heard.skipped.append(f"{path}: {stem}: nothing beside it belongs to it")
            continue
        members = {posixpath.normpath(name): (place, name) for name in own.values()}
        yield _thing(Row(0, own, said), f"{path}: {stem}", path, members, heard)


def _said(
    file: tarfile.TarFile, member: tarfile.TarInfo, where: str, ending: str, heard: Heard
) -> dict[str, tuple[str, ...]]:
    if member.size > MAX_LINE_BYTES:
        raise UsageError(f"{where} is longer than {MAX_LINE_BYTES:,} bytes.")
    opened = file.extractfile(member)
    content = opened.read() if opened else b""
    if ending == ".json":
        return parsed(where, 0, content, heard.ignored).captions
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8 text.") from None
    own = [caption(where, "text", line) for line in text.splitlines() if line.strip()]
    return {"text": tuple(dict.fromkeys(own))} if own else {}


def _thing(row: Row, where: str, path: Path, members: Members, heard: Heard) -> Thing:
    if row.label is not None:
        heard.ignored.add("label")
    if len(row.paths) + bool(row.captions) < 2:
        has = [*row.paths, *row.captions, *(["label"] if row.label is not None else [])]
        raise UsageError(
            f"{where}: a pair needs two of `image`, `audio` and a text (`text`, `en`, `zh`, …); "
            f"it has: {', '.join(has) or 'none'}."
        )
    places, keys = {}, []
    for name in PATHS:
        if name in row.paths:
            places[name], key = _file(row.paths[name], f"{where}: {name}", path, members)
            keys.append(key)
    texts = {name: tuple(t.strip() for t in own) for name, own in row.captions.items()}
    return Thing(keys[0], where, places.get("image"), places.get("audio"), texts)


def _file(written: str, where: str, path: Path, members: Members) -> tuple[Place, str]:
    """Where a written path leads, and the same path in its plainest form."""
    name = posixpath.normpath(written)
    if name in members:
        return members[name], name
    folder = os.path.abspath(path.parent)
    plain = os.path.normpath(os.path.join(folder, written))
    if not os.path.isfile(plain):
        raise UsageError(f"{where}: there is no file {short(written)} beside {path.name}.")
    key = os.path.relpath(plain, folder) if os.path.isabs(written) else os.path.normpath(written)
    return Path(os.path.realpath(plain)), key
