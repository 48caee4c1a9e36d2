"""The words of the design, as frozen dataclasses that every room shares."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.checking import Holds, Matches, Within
from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.once import once

Vectors = NDArray[np.float32]  # (n, d), rows of unit L2 norm
Scores = NDArray[np.float32]  # (nq, k), inner products
Signature = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode of a file
Mask = NDArray[np.bool_]  # (n,), True where a row may be found
Ids = NDArray[np.int64]  # (nq, k), -1 where fewer than k were found
CheckRows = Callable[[NDArray[np.int64]], None]  # raises where rows about to be read are damaged


class Checked(Protocol):
    """A mapped file whose bytes are compared with what was written, before they are used.

    Whoever reads ``data`` asks for the bytes first. What was checked once is not checked
    again, so asking is cheap. Safe to use from several threads.
    """

    @property
    def data(self) -> NDArray[np.uint8]:
        """The mapped file, uint8 (bytes,)."""

    @property
    def whole(self) -> bool:
        """Whether all of it has been checked (or nothing of it can be)."""

    def check(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Checks the byte ranges [start, stop), each int64 (m,).

        None may be empty or leave the file. Raises IndexDamaged naming the file.
        """

    def take(self, starts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """A copy of the bytes [start, start + width) of each, checked: uint8 (m, width).

        For few places far apart. Raises IndexDamaged naming the file.
        """

    def check_more(self, size: int) -> None:
        """Checks so many bytes more, from the file's start on: called often, it gets whole.

        Raises IndexDamaged naming the file.
        """

    def check_all(self) -> None:
        """Checks what was not checked yet. Raises IndexDamaged naming the file."""


def signature_of(s: os.stat_result) -> Signature:
    """What tells an unchanged file without reading it, as 64-bit numbers.

    Some file systems have 128-bit inodes, and times before 1678 do not fit.
    """

    def fit(n: int) -> int:
        return (n + (1 << 63)) % (1 << 64) - (1 << 63)

    return s.st_size, fit(s.st_mtime_ns), fit(s.st_ctime_ns), fit(s.st_ino)


class Modality(StrEnum):
    """What a part is: something seen, read or heard."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"


# Pixels of a picture or samples of a window, as a model gets them: some 200 MB. A thousand times
# what models take; a card that asks for more was made to exhaust memory.
MAX_PART_VALUES = 1 << 26
MAX_DIMENSION = 65_536


@dataclass(frozen=True)
class Preprocess:
    """How a space wants its inputs decoded; part of the space's fingerprint.

    Pictures arrive as uint8 (image_px, image_px, 3) RGB. ``image_fit``: ``squash`` makes the
    whole picture a square, ``crop`` takes the middle of one whose shorter side fits, ``pad``
    the whole of one whose longer side fits, on the gray ``image_fill`` (0 to 255);
    ``image_resampling`` is ``bicubic`` or ``bilinear``. A JPEG may be unpacked at a fraction
    of its size, but not at less than ``image_draft`` times what it is made into.
    ``cells`` makes the whole picture of so many squares of ``image_px`` as keep its shape best,
    ``image_cells`` at most: pictures arrive as uint8 (rows × image_px, columns × image_px, 3).

    Sounds arrive as float32 (samples,) mono in [-1, 1] at ``sample_rate_hz``, cut into
    windows of ``window_s`` seconds. Texts arrive as passages of about ``passage_words`` words
    (or ``passage_cjk_chars`` characters where words are not spaced), each sharing
    ``passage_overlap`` (a fraction) with the one before.
    """

    image_px: Annotated[int, Within(1, 8192)]
    sample_rate_hz: Annotated[int, Within(1, 1_000_000)]
    window_s: Annotated[float, Within(1e-3, 3600)]
    passage_words: Annotated[int, Within(1, 1_000_000)] = 200
    passage_cjk_chars: Annotated[int, Within(1, 1_000_000)] = 300
    passage_overlap: Annotated[float, Within(0, 0.9)] = 0.15
    image_fit: Annotated[str, Matches("squash|crop|pad|cells")] = "squash"
    image_resampling: Annotated[str, Matches("bicubic|bilinear")] = "bicubic"
    image_fill: Annotated[int, Within(0, 255)] = 0
    image_draft: Annotated[float, Within(1, 100)] = 1.5
    image_cells: Annotated[int, Within(0, 65_536)] = 0

    def __post_init__(self) -> None:
        """Raises ValueError where one part would take more memory than any model's does."""
        if self.image_px**2 * max(1, self.image_cells) > MAX_PART_VALUES:
            raise ValueError(f"a picture has more than {MAX_PART_VALUES:,} pixels")
        if self.sample_rate_hz * self.window_s > MAX_PART_VALUES:
            raise ValueError(f"a window has more than {MAX_PART_VALUES:,} samples")


# Came after the first indexes were written: in a fingerprint only where they say something.
_NEWER = ("image_fit", "image_resampling", "image_fill", "image_draft", "image_cells")
_IMAGE = tuple(f.name for f in fields(Preprocess) if f.name.startswith("image_"))
_AUDIO = ("sample_rate_hz", "window_s")
# A place in a space's name: openclip:local-dir:/FOLDER, clap:/FOLDER, openclip:MODEL//FILE,
# gemma:/FOLDER@DIMENSION (the dimension is a fact of its own).
_PLACE = re.compile(r"(:local-dir:|[:/](?=/|[A-Za-z]:\\)).*", re.DOTALL)


@dataclass(frozen=True)
class Space:
    """An embedding space: two vectors are comparable only inside one.

    ``name`` is what loads its encoder. ``digest`` is the SHA-256 (hex) of the weights,
    tokenizer and graph files. ``lanes``: the spaces that this one is made of, see ``joined``;
    mostly none.
    """

    name: Annotated[str, Holds(4096)]
    digest: Annotated[str, Holds(256)]
    dimension: Annotated[int, Within(1, MAX_DIMENSION)]
    modalities: Annotated[tuple[Modality, ...], Holds(len(Modality))]
    preprocess: Preprocess
    metric: Annotated[str, Matches("inner_product")] = "inner_product"
    lanes: Annotated[tuple[Space, ...], Holds(16)] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for modalities that are there twice."""
        if len({*self.modalities}) != len(self.modalities):
            raise ValueError("a modality is there twice")

    @classmethod
    def joined(cls, lanes: Sequence[Space]) -> Space:
        """Several spaces side by side, as lanes: a vector is one of each, one after the other.

        Pictures, and sounds, go into the first lane that takes them, texts into each that does;
        what is not in a lane is 0 there. So the rows are of unit length in each lane that they
        are in. Raises UsageError for less than two, or for one that answers nothing which those
        before it do not.
        """
        taken = [m for m in Modality if any(m in lane.modalities for lane in lanes)]
        joined = cls(
            "+".join(lane.name for lane in lanes),
            hashlib.sha256(" ".join(lane.fingerprint for lane in lanes).encode()).hexdigest(),
            sum(lane.dimension for lane in lanes),
            tuple(taken),
            _joined_preprocess(lanes),
            lanes=tuple(lanes),
        )
        answered: set[Modality] = set()
        for lane, held in zip(joined.each, joined.held, strict=True):
            if len(lanes) < 2 or lane.lanes or not set(held) - answered:
                raise UsageError(
                    f"{joined.name}: the space {lane.name} adds nothing: pictures, sounds, and "
                    "texts that look for texts, go to the first space that takes them. Name spaces "
                    "for different ones, such as one of CLIP for pictures and one of CLAP for "
                    "sounds."
                )
            answered |= set(held)
        return joined

    @property
    def each(self) -> tuple[Space, ...]:
        """The lanes; of a space that has none, itself."""
        return self.lanes or (self,)

    @once
    def held(self) -> tuple[tuple[Modality, ...], ...]:
        """What is put into each lane."""
        if not self.lanes:
            return (self.modalities,)
        return tuple(
            tuple(
                m
                for m in lane.modalities
                if m is Modality.TEXT or not any(m in other.modalities for other in self.lanes[:i])
            )
            for i, lane in enumerate(self.lanes)
        )

    @once
    def columns(self) -> tuple[slice, ...]:
        """Which numbers of a vector are of each lane."""
        ends = np.cumsum([lane.dimension for lane in self.each]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends], ends, strict=False))

    @once
    def fingerprint(self) -> str:
        """8 hex digits over everything that changes a vector."""
        facts = asdict(self)
        del facts["lanes"]  # the digest is made of theirs
        facts["name"] = _PLACE.sub("", self.name)  # a moved model is the same
        usual = {f.name: f.default for f in fields(Preprocess)}
        for name in _NEWER:
            if facts["preprocess"][name] == usual[name]:
                del facts["preprocess"][name]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def has_place(self) -> bool:
        """Whether the name says where the model's files lie."""
        return _PLACE.search(self.name) is not None

    def require(self, modality: Modality) -> None:
        """Raises SpaceUnavailable where the space takes nothing of that modality."""
        if modality not in self.modalities:
            raise SpaceUnavailable(
                f"the space {self.name} has no tower for {modality}; "
                f"it has: {', '.join(self.modalities)}."
            )

    def __str__(self) -> str:
        return f"{self.name}@{self.fingerprint} (d={self.dimension})"


def _joined_preprocess(lanes: Sequence[Space]) -> Preprocess:
    """Of each kind what the lane asks for that takes it; passages as short as the shortest."""
    texts = [lane.preprocess for lane in lanes if Modality.TEXT in lane.modalities]
    shortest = min(texts, key=lambda p: p.passage_words, default=lanes[0].preprocess)
    facts = asdict(shortest)
    for modality, names in ((Modality.IMAGE, _IMAGE), (Modality.AUDIO, _AUDIO)):
        own = next((x.preprocess for x in lanes if modality in x.modalities), lanes[0].preprocess)
        facts |= {name: getattr(own, name) for name in names}
    chars = min((p.passage_cjk_chars for p in texts), default=shortest.passage_cjk_chars)
    return Preprocess(**{**facts, "passage_cjk_chars": chars})


class SpaceVectors(np.ndarray[Any, np.dtype[np.float32]]):
    """Vectors that know their space, so that an index of another refuses them.

    An array like any other; what is cut out of it or computed from it knows the space, too.
    """

    space: Space | None

    @classmethod
    def of(cls, vectors: NDArray[np.float32], space: Space) -> SpaceVectors:
        """The same array, uncopied, with its space."""
        found = np.asarray(vectors).view(cls)
        found.space = space
        return found

    def __array_finalize__(self, source: Any) -> None:
        self.space = getattr(source, "space", None)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing found in a corpus.

    ``root`` is the absolute folder it was found under and ``path`` its place
    below it, with ``/`` between names; both as ``os.fsdecode`` gives them, so
    a name that is not UTF-8 carries surrogates. The four numbers are the
    signature that tells an unchanged file without reading it.
    """

    root: str
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Part:
    """The piece of an item that gets one vector, decoded.

    ``data`` is what the encoder takes: uint8 (height, width, 3) for a picture,
    float32 (samples,) for a sound, the passage itself for a text.
    ``start_s``/``end_s`` are the span of a sound in seconds, else None.
    ``meta`` holds plain JSON values (width, height, duration_s, title, page, …).
    """

    modality: Modality
    part_no: int
    data: NDArray[Any] | str
    start_s: float | None = None
    end_s: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A part that was found, its score and its rank.

    ``id`` names the part, and ``item_id`` the item that it is a piece of: a document of ten
    passages is one item of ten parts, ``book``, ``book#1``, … ``book#9``. The first part bears the
    id of its item. ``path`` is absolute, or None for something added without a file.
    ``score`` is the cosine between query and part, in [-1, 1]. If hits of several kinds meet
    in an index of several spaces, their cosines cannot be compared, and ``surprise`` decides:
    -log10 of how many parts of its kind would score as high by chance; else it is None.
    ``vector``: float32 (d,), the part's vector as it is stored, if ``get`` was asked for it.
    """

    rank: int
    score: float
    id: str
    item_id: str
    modality: Modality
    path: str | None
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    surprise: float | None = None
    vector: Vectors | None = field(default=None, compare=False, repr=False)

    @property
    def missing(self) -> bool:
        """Whether its file is not there now: moved, deleted, or on a drive that is not mounted.

        Looks at the disk each time it is read.
        """
        return self.path is not None and not os.path.lexists(self.path)

    def to_json(self) -> dict[str, Any]:
        """The hit as the plain object that ``--json`` prints, without its vector."""
        more: dict[str, Any] = {} if self.surprise is None else {"surprise": self.surprise}
        if self.missing:
            more["missing"] = True
        return {
            "rank": self.rank,
            "score": self.score,
            "id": self.id,
            "item_id": self.item_id,
            "modality": str(self.modality),
            "path": self.path,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "text": self.text,
            "meta": self.meta,
            **more,
        }
