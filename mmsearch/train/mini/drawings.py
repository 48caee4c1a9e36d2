"""Drawings with words: Tux Paint's stamps and Open Clip Art, for training and kept out of it.

What is kept out, and by which rule, is in ``split``. A drawing is a ``Photo``: its name is
the path below the folder it came from, which for Open Clip Art begins with ``png/``.

- Tux Paint's stamps (Debian ``tuxpaint-stamps-default``, GPL-2) come with a caption in many
  languages; ``data.stamps`` reads them.
- Open Clip Art (Debian ``openclipart-png`` and ``openclipart-svg``, public domain): the
  picture is below ``png/``, its title and keywords in the SVG's metadata at the same path
  below ``svg/``. Titles name the drawing, or a collection it belongs to, or the wrong
  drawing; then the file's name tells more. Flags, logos, gradients and huge pictures are
  left out, and copies (equal bytes) are one drawing with the words of all.
"""

from __future__ import annotations

import hashlib
import html
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmsearch.train.mini import data, split
from mmsearch.train.mini.data import PICTURE_PX, Photo, Picture, Sources

LARGEST_PIXELS = 16_000_000  # a few have half a billion, which take a minute to unpack
OF_A_FAMILY = 6  # variants that are trained on: 1,300 stars of one kind teach one word
KEYWORDS = 3  # in a caption

LEFT_OUT = ("signs_and_symbols/flags/", "logos/", "special/gradients/")

COLLECTIONS = re.compile(  # titles that name a collection instead of a drawing
    r"collection|theme|cliparts?\b|symbol_signs|\bsvg\b|iconset|gramastar|sibmission|"
    r"advertising|sallite|rpg map|etiquette|map symbols|^\s*$",
    re.IGNORECASE,
)
OTHER_LANGUAGES = re.compile(  # who named drawings in Italian, French or Portuguese
    r"rollandin|guillou|tanguy|olivo|balin|monnier|le clec|fidi|doucet|aubry|boitel|erwan|"
    r"ara[uú]jo|gondouin|bersac|zaragoza|olivier|coudoin|c[eé]dric|uliphant|renardjb|grp21",
    re.IGNORECASE,
)
JUNK = frozenset(  # words that say nothing of what is drawn
    "hash unsorted special clip art clipart cliparts openclipart image images picture icon icons "
    "appicon iconset svg png jpg gif eps theme lemon etiquette flat plastik mime mimeicon mapsym "
    "weathersym musicsym networksym roadtravel miscellany miscellaneous geometry magick aiga bwh "
    "contour simple bordered illustration sketch drawn stylized cartoon ganson mpcad rpg "
    "united nations member subnational alt various example new untitled "
    "drawing vector arrowshape religholiday usholiday imformation noze".split()
)
SPELT = {  # keywords that are no words
    "icecream": "ice cream", "roadsign": "road sign", "bodypart": "part of the body",
    "musicstuff": "music", "airtravel": "air travel", "vegitable": "vegetable", "xmas": "christmas",
    "mapsym": "map symbol", "map_symbol": "map symbol", "weathersym": "weather",
    "musicsym": "musical symbol", "arrowshape": "arrow", "foodlabel": "food label",
    "stickmen": "stick man", "callout": "speech bubble", "lightbulb": "light bulb",
    "bullethole": "bullet hole", "baloon": "balloon", "noze": "nose", "rubish": "rubbish",
    "peacesymbol": "peace symbol", "unitedstates": "united states", "dino": "dinosaur",
}  # fmt: skip
SHORT = frozenset("cd pc tv ox dj no of in on at to by up ax go".split())  # two letters, a word
DANGLING = frozenset("no of in on at to by up and with the for from".split())  # end no caption
GENERIC = frozenset(  # keywords that fit everything in a folder
    "signs_and_symbols symbol symbols sign signs shape shapes menu work activities action "
    "application example transportation".split()
)


@dataclass(frozen=True)
class Clip:
    """A drawing of Open Clip Art: path below the folder, what was said of it, captions."""

    name: str
    title: str
    keywords: tuple[str, ...]
    stem: str  # of the file's name, without the author's
    creator: str = ""
    en: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """Everything that was said of it: what a noun is looked for in."""
        named = () if COLLECTIONS.search(self.title) else (self.title,)
        return (*named, self.stem, *self.keywords)

    @property
    def category(self) -> str:
        """The first folder: ``animals``, ``computer``, …"""
        return self.name.split("/")[1]


def metadata(svg: str) -> tuple[str, tuple[str, ...], str]:
    """Title, keywords and creator in an SVG's metadata; empty where there are none."""
    block = re.search(r"<metadata.*?</metadata>", svg, re.DOTALL)
    inside = block[0] if block else ""
    subject = _between(inside, "dc:subject")
    found = [_plain(one) for one in re.findall(r"<rdf:li[^>]*>([^<]*)<", subject)]
    real = tuple(dict.fromkeys(one for one in found if one and "hash" not in one.lower()))
    creator = _between(_between(inside, "dc:creator"), "dc:title")
    return _plain(_between(inside, "dc:title")), real, _plain(creator)


def _plain(text: str) -> str:
    return html.unescape(html.unescape(text)).strip()  # some were escaped twice


def _between(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)
    return found[1] if found else ""


def without_author(stem: str, creator: str) -> str:
    """A file's name without its number and the creator's name, which is cut short there:
    ``straw_tote_linda_kim_01`` by Linda Kim is ``straw_tote``."""
    bare = re.sub(r"_+(\d+[a-z]?|[a-z])?$", "", stem)
    author = re.sub(r"\W+", "_", creator.lower())
    for place in re.finditer("_", bare):
        tail = re.sub(r"\W+", "_", bare[place.end() :].lower()).rstrip("0123456789")
        if len(tail) > 1 and author.startswith(tail):
            return bare[: place.start()]
    return bare


def cleaned(text: str, known: frozenset[str] | None = None) -> str:
    """The words of a title or a file's name that say something, lower case.

    known: the English words; None takes every word for one.
    """
    kept = []
    for word in split.words_of(re.sub(r"\b[bB](?: and |/)[wW]\b", "", text)):
        if word in JUNK or not re.search("[aeiouy]", word) or (len(word) < 3 and word not in SHORT):
            continue
        if known is None or word in known:
            kept.append(SPELT.get(word, word))
    while kept and kept[-1] in DANGLING:
        kept.pop()
    return " ".join(dict.fromkeys(kept))


def captions(clip: Clip, known: frozenset[str], rarity: Counter[str]) -> tuple[str, ...]:
    """One to three captions: what it is called, the same with keywords, keywords alone; where
    nothing usable was said, its folder.

    known: English words, which names by ``OTHER_LANGUAGES`` are held against. rarity: how
    many drawings carry each keyword; the rarest come first.
    """
    foreign = known if OTHER_LANGUAGES.search(clip.creator) else None
    title = "" if COLLECTIONS.search(clip.title) or clip.creator == clip.title else clip.title
    called = cleaned(title, foreign) or cleaned(clip.stem, foreign)
    kinds: list[str] = []
    for keyword in sorted(clip.keywords, key=lambda one: rarity[one]):
        whole = SPELT.get(keyword.lower()) or cleaned(keyword.replace("_", " "), foreign)
        if keyword.lower() in GENERIC or not whole or len(whole.split()) > 3:
            continue
        if split.singular(whole) not in " ".join([called, *kinds]):
            kinds.append(whole)
    if not called and not kinds:
        kinds = [folder for folder in [cleaned(Path(clip.name).parent.name)] if folder]
    kinds = kinds[:KEYWORDS]
    both = ", ".join([called, *kinds]) if called and kinds else ""
    return tuple(dict.fromkeys(one for one in (called, both, " ".join(kinds)) if one))


@lru_cache(maxsize=2)
def clipart(sources: Sources) -> tuple[Clip, ...]:
    """Every drawing of Open Clip Art that has usable words, each once, in order of its path."""
    if sources.clipart is None:
        return ()
    clips: dict[bytes, Clip] = {}  # digest of a picture -> its first file, with all words
    for picture in sorted((sources.clipart / "png").rglob("*.png")):
        name = picture.relative_to(sources.clipart).as_posix()
        if name.removeprefix("png/").startswith(LEFT_OUT):
            continue
        svg = (sources.clipart / "svg" / name.removeprefix("png/")).with_suffix(".svg")
        text = svg.read_text("utf-8", errors="replace") if svg.exists() else ""
        title, keywords, creator = metadata(text)
        clip = Clip(name, title, keywords, without_author(picture.stem, creator), creator)
        content = picture.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # where every PNG has its size
        if width * height > LARGEST_PIXELS:
            continue
        digest = hashlib.sha256(content).digest()
        first = clips.setdefault(digest, clip)
        if first is not clip:
            more = tuple(dict.fromkeys((*first.keywords, *clip.keywords, cleaned(clip.stem))))
            clips[digest] = replace(first, keywords=tuple(word for word in more if word))
    if not clips:
        raise data.MissingTrainingData(
            f"no png/**/*.png below {sources.clipart}: give the folder usr/share/openclipart of "
            "Debian's openclipart-png, with openclipart-svg beside it"
        )
    rarity = Counter(keyword for clip in clips.values() for keyword in clip.keywords)
    known = english(sources, clips.values())
    told = (replace(clip, en=captions(clip, known, rarity)) for clip in clips.values())
    return tuple(clip for clip in told if clip.en)


def english(sources: Sources, clips: Iterable[Clip]) -> frozenset[str]:
    """English words: of the captions of photos and stamps, and of keywords by who uses English."""
    said = [one for photo in data.photos(sources, "train") for one in photo.en]
    said += [one for captions in data.coco_captions(sources) for one in captions]
    said += [one for stamp in data.stamps(sources) for one in stamp.en]
    for clip in clips:
        if not OTHER_LANGUAGES.search(clip.creator):
            said += clip.keywords
    said += split.NOUNS
    return frozenset(word for text in said for word in split.words_of(text))


def held_families(clips: Sequence[Clip]) -> frozenset[str]:
    """The families of drawings of which one carries a noun of ``split.NOUNS``."""
    return frozenset(split.family(clip.stem) for clip in clips if split.nouns_in(clip.said))


def training_clipart(sources: Sources) -> list[Photo]:
    """Open Clip Art to train on: no noun of ``split.NOUNS``, not ``split.CATEGORY``, at
    most ``OF_A_FAMILY`` variants of one drawing; which, the CRC-32 of the path decides."""
    clips = clipart(sources)
    held = held_families(clips)
    taken: Counter[str] = Counter()  # family -> how many
    kept = []
    for clip in sorted(clips, key=lambda clip: zlib.crc32(clip.name.encode())):
        family = split.family(clip.stem)
        if clip.category == split.CATEGORY or family in held or taken[family] == OF_A_FAMILY:
            continue
        taken[family] += 1
        kept.append(Photo(clip.name, clip.en))
    return sorted(kept, key=lambda photo: photo.name)


def held_clipart(sources: Sources) -> list[Clip]:
    """Open Clip Art that is never trained on: of the nouns' families, and ``split.CATEGORY``."""
    clips = clipart(sources)
    held = held_families(clips)
    return [c for c in clips if c.category == split.CATEGORY or split.family(c.stem) in held]


def noun_pictures(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    """The drawings whose title, keywords or file name carries each of ``split.NOUNS``."""
    found: dict[str, list[Clip]] = {noun: [] for noun in split.NOUNS}
    for clip in clips:
        for noun in split.nouns_in(clip.said):
            found[noun].append(clip)
    return found


def stamp_is_held(stamp: Photo) -> bool:
    """Whether a stamp is kept out of training: by its family, or as one of the nouns."""
    stem = Path(stamp.name).stem
    return split.held_out(stem) or bool(split.nouns_in((stem, *stamp.en)))


def training_stamps(sources: Sources) -> list[Photo]:
    """Tux Paint's stamps to train on, about four fifths."""
    return [stamp for stamp in data.stamps(sources) if not stamp_is_held(stamp)]


def held_stamps(sources: Sources) -> list[Photo]:
    """Tux Paint's stamps that are never trained on."""
    return [stamp for stamp in data.stamps(sources) if stamp_is_held(stamp)]


def rgba(sources: Sources, drawing: Photo) -> Image.Image:
    """A drawing as it lies in its file, with what is transparent in it."""
    folder = sources.clipart if drawing.name.startswith("png/") else sources.stamps
    assert folder is not None
    with Image.open(folder / drawing.name) as image:
        return image.convert("RGBA")


def on_white(drawn: Image.Image) -> Picture:
    """A drawing on white, squashed: uint8 (PICTURE_PX, PICTURE_PX, 3)."""
    white = Image.new("RGBA", drawn.size, (255, 255, 255, 255))
    flat = Image.alpha_composite(white, drawn).convert("RGB")
    return np.asarray(flat.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC))


def views(sources: Sources, drawing: Photo, backgrounds: list[Picture]) -> list[Picture]:
    """A drawing on white, on a colour, and pasted into two photos, each uint8
    (PICTURE_PX, PICTURE_PX, 3).

    Whoever sees drawings on white only learns that short captions mean white pictures. The
    same name gives the same views.
    """
    drawn = rgba(sources, drawing)
    found = [on_white(drawn)]
    size = (PICTURE_PX, PICTURE_PX)
    rng = np.random.default_rng(zlib.crc32(drawing.name.encode()))
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    behind = [Image.new("RGB", size, (red, green, blue))]
    behind += [Image.fromarray(backgrounds[i]) for i in rng.integers(0, len(backgrounds), 2)]
    for picture in behind:
        longest = PICTURE_PX * rng.uniform(0.55, 1.0) / max(drawn.size)
        width, height = (max(1, int(side * longest)) for side in drawn.size)
        small = drawn.resize((width, height))
        if rng.random() < 0.5:
            small = ImageOps.mirror(small)
        place = (
            int(rng.integers(0, PICTURE_PX - width + 1)),
            int(rng.integers(0, PICTURE_PX - height + 1)),
        )
        picture.paste(small, place, small)
        found.append(np.asarray(picture))
    return found
