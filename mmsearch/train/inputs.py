"""Decodes what pairs name, and runs what is frozen over it, once, kept on disk."""

from __future__ import annotations

import hashlib
import io
import math
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
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
from mmsearch.train.pairs import MAX_MEMBER_BYTES, Thing
from mmsearch.types import Modality, Preprocess

CROP_AREA = (0.5, 1.0)  # of the picture
JITTER = 0.25  # of brightness, contrast and colour, as the logarithm of a factor
BATCH = 256  # inputs that are decoded before they are run

Place = Path | tuple[Path, str]
Pixels = NDArray[np.uint8]
Rows = list[NDArray[Any]]


@dataclass
class Column:
    """One modality of all things. rows: what crosses into the trained part, each array
    (views * n, …), view by view; row: thing -> its place, -1 where it has none."""

    rows: Rows
    row: NDArray[np.int64]
    count: int
    views: int = 1

    def draw(self, things: NDArray[np.int64], rng: np.random.Generator | None) -> list[Tensor]:
        """Some things' rows, each in a view drawn at random; without ``rng`` the first view."""
        at = self.row[things]
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
        self.skipped: list[str] = []
        self._tars: dict[Path, tarfile.TarFile] = {}

    def content(self, place: Place) -> Any:
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

    def picture(self, thing: Thing) -> Pixels | None:
        """uint8 (px, px, 3), or None for one that cannot be read, which is noted."""
        assert thing.image is not None
        try:
            part = image_part(self.content(thing.image), self.preprocess)
        except (DecodeError, LimitExceeded, OSError) as e:
            self.skipped.append(f"{thing.where}: {e}")
            return None
        return np.asarray(part.data)

    def sound(self, thing: Thing) -> NDArray[np.float32] | None:
        """The first window, float32 (samples,), or None, which is noted."""
        assert thing.audio is not None
        try:
            given = self.content(thing.audio)
            if isinstance(given, bytes):
                import soundfile

                samples, rate_hz = soundfile.read(io.BytesIO(given), dtype="float32")
                given = (samples, rate_hz)
            part = next(iter(audio_parts(given, self.preprocess)), None)
        except (DecodeError, LimitExceeded, UsageError, OSError, RuntimeError) as e:
            self.skipped.append(f"{thing.where}: {e}")
            return None
        if part is None:
            self.skipped.append(f"{thing.where}: the sound is empty")
            return None
        return np.asarray(part.data)


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
    """Runs the untouched part of towers over everything, and keeps what comes out."""

    def __init__(
        self,
        towers: dict[Modality, Any],
        reader: Reader,
        cache: Path,
        key: str,
        threads: int,
        say: Callable[[str], None],
    ) -> None:
        self._towers, self._reader, self._cache = towers, reader, cache
        self._key, self._threads, self._say = key, threads, say

    def column(self, modality: Modality, things: Sequence[Thing], views: int) -> Column:
        """A modality of all things that have it."""
        wanted = [i for i, t in enumerate(things) if getattr(t, str(modality)) is not None]
        views = views if modality == Modality.IMAGE else 1
        names = [_signature(getattr(things[i], str(modality))) for i in wanted]

        def make() -> tuple[Rows, list[int]]:
            good: list[int] = []
            found: list[list[Rows]] = [[] for _ in range(views)]
            for start in range(0, len(wanted), BATCH):
                some = wanted[start : start + BATCH]
                decoded = self._decoded(modality, [things[i] for i in some])
                good += [i for i, one in zip(some, decoded, strict=True) if one is not None]
                for view, inputs in enumerate(self._views(modality, things, some, decoded, views)):
                    if inputs:
                        tower = self._towers[modality]
                        found[view].append(tower.prepare(inputs, self._threads))
                done = min(start + BATCH, len(wanted))
                self._say(f"{modality}: {done:,} of {len(wanted):,}")
            pieces = [piece for view in found for piece in view]
            if not pieces:
                raise UsageError(f"none of the {len(wanted):,} {modality} files can be read.")
            return [np.concatenate(column) for column in zip(*pieces, strict=True)], good

        rows, good = self._kept(f"{modality}-{views}", names, make)
        row = np.full(len(things), -1, np.int64)
        row[good] = np.arange(len(good))
        return Column(rows, row, len(good), views)

    def texts(self, things: Sequence[Thing], language: str) -> Texts:
        """What is said in one language; equal texts are one."""
        number: dict[str, int] = {}
        own = []
        for thing in things:
            said = thing.texts.get(language, ())
            own.append(np.array([number.setdefault(t, len(number)) for t in said], np.int64))

        def make() -> tuple[Rows, list[int]]:
            tower = self._towers[Modality.TEXT]
            return tower.prepare(list(number), self._threads), []

        rows, _ = self._kept("text", list(number), make)
        return Texts(rows, own)

    def _decoded(self, modality: Modality, things: Sequence[Thing]) -> list[Any]:
        if modality == Modality.IMAGE:
            if any(isinstance(t.image, tuple) for t in things):  # a tar is read by one hand
                return [self._reader.picture(t) for t in things]
            with ThreadPoolExecutor(self._threads) as pool:
                return list(pool.map(self._reader.picture, things))
        return [self._reader.sound(t) for t in things]

    def _views(
        self,
        modality: Modality,
        things: Sequence[Thing],
        some: Sequence[int],
        decoded: Sequence[Any],
        views: int,
    ) -> Iterator[list[Any]]:
        """The inputs of each view, without those that could not be read."""
        if modality != Modality.IMAGE:
            yield [one for one in decoded if one is not None]
            return
        each = [
            views_of(things[i].key, one, views)
            for i, one in zip(some, decoded, strict=True)
            if one is not None
        ]
        for view in range(views):
            yield [one[view] for one in each]

    def _kept(
        self, name: str, names: Sequence[str], make: Callable[[], tuple[Rows, list[int]]]
    ) -> tuple[Rows, list[int]]:
        digest = hashlib.sha256("\0".join([self._key, name, *names]).encode("utf-8", "replace"))
        path = self._cache / f"{name}-{digest.hexdigest()[:16]}.npz"
        if not path.exists():
            rows, good = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part.npz")
            arrays = {str(i): row for i, row in enumerate(rows)}
            np.savez(part, allow_pickle=False, good=np.array(good, np.int64), **arrays)
            part.replace(path)
        with np.load(path, allow_pickle=False) as stored:
            good = stored["good"].tolist()
            return [stored[str(i)] for i in range(len(stored.files) - 1)], good


def _signature(place: Place) -> str:
    """What tells a file from a changed one."""
    path, name = place if isinstance(place, tuple) else (place, "")
    stat = path.stat()
    return f"{path.absolute()}:{name}:{stat.st_size}:{stat.st_mtime_ns}"
