"""Decodes what pairs name, and runs what is frozen over it, once, kept on disk."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from mmsearch.errors import DecodeError, LimitExceeded, UsageError
from mmsearch.query import audio_parts, image_part
from mmsearch.seen import content_hash
from mmsearch.train.onnx_torch import TOO_DEEP
from mmsearch.train.pairs import MAX_MEMBER_BYTES, Place, Thing
from mmsearch.types import Modality, Preprocess

CROP_AREA = (0.5, 1.0)  # of the picture
JITTER = 0.25  # of brightness, contrast and colour, as the logarithm of a factor
BATCH = 256  # inputs that are decoded before they are run

BAD = "bad.json"  # beside kept rows: what could not be read, and why

_UNREADABLE = (
    DecodeError,
    UsageError,
    OSError,
    RuntimeError,
    tarfile.TarError,
    EOFError,
    zlib.error,
)
_OBJECT = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>")  # a library's word for bytes in memory

Pixels = NDArray[np.uint8]
Rows = list[NDArray[Any]]


@dataclass
class Column:
    """One modality of all things. rows: what crosses into the trained part, each array
    (views * count, …), view by view, mapped from disk; row: thing -> the number of its file,
    which is its row too; -1 where it has none that can be read."""

    rows: Rows
    row: NDArray[np.int64]
    count: int
    views: int = 1

    def draw(self, things: NDArray[np.int64], rng: np.random.Generator | None) -> list[Tensor]:
        """Some things' rows, each in a view drawn at random; without ``rng`` the first view."""
        return self.take(self.row[things], rng)

    def take(self, at: NDArray[np.int64], rng: np.random.Generator | None = None) -> list[Tensor]:
        """The rows of files, by their numbers."""
        if rng is not None and self.views > 1:
            at = at + self.count * rng.integers(0, self.views, len(at))
        return [torch.from_numpy(r[at]) for r in self.rows]


@dataclass
class Texts:
    """What is said of all things in one language.

    rows: as in ``Column``, one for each distinct text; own: thing -> its texts' rows.
    """

    rows: Rows
    own: list[NDArray[np.int64]] = field(default_factory=list)

    def pick(self, things: NDArray[np.int64], rng: np.random.Generator | None) -> NDArray[np.int64]:
        """One text row for each thing, drawn at random; without ``rng`` the first."""
        chosen = [self.own[i] for i in things]
        if rng is None:
            return np.array([rows[0] for rows in chosen], np.int64)
        return np.array([rows[int(rng.integers(len(rows)))] for rows in chosen], np.int64)

    def draw(self, at: NDArray[np.int64]) -> list[Tensor]:
        """Rows of texts."""
        return [torch.from_numpy(r[at]) for r in self.rows]


class Reader:
    """Opens files and members of tars, and decodes them as indexing does."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._tars: dict[Path, tarfile.TarFile] = {}

    def read(self, modality: Modality, place: Place) -> NDArray[Any]:
        """uint8 (px, px, 3) of a picture; float32 (samples,), the first window, of a sound.

        Raises DecodeError for what cannot be read.
        """
        try:
            given = self._content(place)
            if modality == Modality.IMAGE:
                return np.asarray(image_part(given, self.preprocess).data)
            part = next(iter(audio_parts(given, self.preprocess)), None)
        except _UNREADABLE as e:
            name = place[1] if isinstance(place, tuple) else str(place)
            raise DecodeError(_OBJECT.sub(name, str(e))) from None
        if part is None:
            raise DecodeError("the sound is empty")
        return np.asarray(part.data)

    def content_hash(self, place: Place) -> bytes | None:
        """The hash of a file's or member's bytes (``seen``); None for what cannot be read."""
        try:
            given = self._content(place)
            with io.BytesIO(given) if isinstance(given, bytes) else Path(given).open("rb") as file:
                return content_hash(file)
        except _UNREADABLE:
            return None

    def _content(self, place: Place) -> Any:
        """What ``mmsearch.query`` takes: a path, or the bytes of a member."""
        if isinstance(place, Path):
            return str(place)
        tar, name = place
        if tar not in self._tars:
            self._tars[tar] = tarfile.open(tar)  # noqa: SIM115 - open for the whole run
        member = self._tars[tar].getmember(name)
        if member.size > MAX_MEMBER_BYTES:
            raise LimitExceeded(f"{name} is larger than {MAX_MEMBER_BYTES:,} bytes")
        opened = self._tars[tar].extractfile(member)
        return opened.read() if opened else b""


def views_of(name: str, picture: Pixels, count: int) -> list[Pixels]:
    """A picture as it is, mirrored, and random pieces of it in other light: ``count`` in all."""
    found = [picture, np.ascontiguousarray(picture[:, ::-1])][:count]
    for number in range(2, count):
        rng = np.random.default_rng(zlib.crc32(f"{name}{number}".encode("utf-8", "replace")))
        found.append(_piece(picture, rng))
    return found


def _piece(picture: Pixels, rng: np.random.Generator) -> Pixels:
    px = len(picture)
    area, shape = rng.uniform(*CROP_AREA), math.exp(rng.uniform(-0.25, 0.25))
    width, height = min(1.0, math.sqrt(area * shape)), min(1.0, math.sqrt(area / shape))
    left, top = rng.uniform(0, 1 - width) * px, rng.uniform(0, 1 - height) * px
    box = (left, top, left + width * px, top + height * px)
    image = Image.fromarray(picture).resize((px, px), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(math.exp(rng.uniform(-JITTER, JITTER)))
    return np.asarray(image)


class Frozen:
    """Runs the untouched part of towers over everything, and keeps what comes out.

    skipped: what could not be read, by where it is named, now or when it was kept.
    """

    def __init__(
        self,
        towers: Mapping[Modality, Any],
        reader: Reader,
        cache: Path,
        key: str,
        threads: int,
        say: Callable[[str], None],
    ) -> None:
        self._towers, self._reader, self._cache = towers, reader, cache
        self._key, self._threads, self._say = key, threads, say
        self.skipped: list[str] = []

    def column(self, modality: Modality, things: Sequence[Thing], views: int) -> Column:
        """A modality of all things that have it; each file once, however many have it."""
        views = views if modality == Modality.IMAGE else 1
        number: dict[Place, int] = {}
        first: list[Thing] = []  # number -> the thing that has it first
        row = np.full(len(things), -1, np.int64)
        for i, thing in enumerate(things):
            place = getattr(thing, str(modality))
            if place is not None:
                row[i] = number.setdefault(place, len(number))
                if row[i] == len(first):
                    first.append(thing)
        places = list(number)
        names = [signature(place) for place in places]

        def make(kept: Kept) -> dict[int, str]:
            bad: dict[int, str] = {}
            for start in range(0, len(names), BATCH):
                some = range(start, min(start + BATCH, len(names)))
                decoded = self._decoded(modality, [places[i] for i in some])
                bad |= {i: d for i, d in zip(some, decoded, strict=True) if isinstance(d, str)}
                good = [i for i in some if i not in bad]
                inputs = [d for d in decoded if not isinstance(d, str)]
                each = [
                    views_of(first[i].key, one, views) if modality == Modality.IMAGE else [one]
                    for i, one in zip(good, inputs, strict=True)
                ]
                for view in range(views if good else 0):
                    rows = self._prepare(modality, [one[view] for one in each])
                    kept.put(view * len(names) + np.array(good), rows)
                self._say(f"{modality}: {some.stop:,} of {len(names):,}")
            if len(bad) == len(names):
                reason = f"{first[0].where}: {modality}: {bad[0]}"
                raise UsageError(
                    f"none of the {len(names):,} {modality} files can be read: {reason}."
                )
            return bad

        rows, bad = self._kept(f"{modality}-{views}", modality, names, views * len(names), make)
        self.skipped += [f"{first[i].where}: {modality}: {reason}" for i, reason in bad.items()]
        row[np.isin(row, list(bad))] = -1
        return Column(rows, row, len(names), views)

    def texts(self, things: Sequence[Thing], language: str) -> Texts:
        """What is said in one language; equal texts are one."""
        number: dict[str, int] = {}
        own = []
        for thing in things:
            said = thing.texts.get(language, ())
            own.append(np.array([number.setdefault(t, len(number)) for t in said], np.int64))
        texts = list(number)

        def make(kept: Kept) -> dict[int, str]:
            for start in range(0, len(texts), BATCH):
                some = texts[start : start + BATCH]
                rows = self._prepare(Modality.TEXT, some)
                kept.put(np.arange(start, start + len(some)), rows)
            return {}

        rows, _ = self._kept("text", Modality.TEXT, texts, len(texts), make)
        return Texts(rows, own)

    def _prepare(self, modality: Modality, inputs: Sequence[Any]) -> Rows:
        rows: Rows = self._towers[modality].prepare(inputs, self._threads)
        return rows

    def _decoded(self, modality: Modality, places: Sequence[Place]) -> list[Any]:
        """What each place holds, or the reason (a str) why it cannot be read."""

        def one(place: Place) -> Any:
            try:
                return self._reader.read(modality, place)
            except DecodeError as e:
                return str(e)

        if modality != Modality.IMAGE or any(isinstance(p, tuple) for p in places):
            return [one(place) for place in places]  # a tar is read by one hand
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(one, places))

    def _kept(
        self,
        name: str,
        modality: Modality,
        names: Sequence[str],
        count: int,
        make: Callable[[Kept], dict[int, str]],
    ) -> tuple[Rows, dict[int, str]]:
        facts = [self._key, self._towers[modality].cut, name, *names]
        digest = hashlib.sha256("\0".join(facts).encode("utf-8", "replace"))
        folder = self._cache / f"{name}-{digest.hexdigest()[:16]}"
        if not folder.is_dir():
            self._cache.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".", dir=self._cache))
            try:
                kept = Kept(part, count)
                bad = make(kept)
                kept.close()
                (part / BAD).write_text(json.dumps(list(bad.items())), "utf-8")
                part.rename(folder)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
        bad = dict(json.loads((folder / BAD).read_text("utf-8")))
        files = sorted(folder.glob("*.npy"), key=lambda path: int(path.stem))
        return [np.asarray(np.load(path, mmap_mode="r")) for path in files], bad


class Kept:
    """Rows on disk, written where they belong as they are made: memory holds a batch of them."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
        self._arrays: list[NDArray[Any]] = []

    def put(self, at: NDArray[np.int64], rows: Rows) -> None:
        """rows: arrays (len(at), …), alike in every call. Raises UsageError where they are not."""
        if not self._arrays:
            for i, one in enumerate(rows):
                path, shape = self._folder / f"{i}.npy", (self._count, *one.shape[1:])
                array = np.lib.format.open_memmap(path, "w+", one.dtype, shape)
                _reserve(path)
                self._arrays.append(array)
        for kept, one in zip(self._arrays, rows, strict=True):
            if kept.shape[1:] != one.shape[1:]:
                raise UsageError(TOO_DEEP)
            kept[at] = one

    def close(self) -> None:
        """Lets go of the files."""
        self._arrays.clear()


def _reserve(path: Path) -> None:
    """Takes a file's whole space: a full disk is an error now, and no crash while it is mapped."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as e:
                if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise OSError(e.errno, e.strerror, str(path)) from None  # else: not known here


def signature(place: Place) -> str:
    """What tells a file from a changed one, or from one that may be read by now."""
    path, name = place if isinstance(place, tuple) else (place, "")
    stat = path.stat()
    may = "" if os.access(path, os.R_OK) else "closed"
    return f"{path.absolute()}:{name}:{stat.st_size}:{stat.st_mtime_ns}{may}"
