"""Spaces: decoded parts in, unit vectors out.

One class an encoder, one line a name in ``SPACES`` or ``FAMILIES``. With ``train/`` this is the
only room that imports onnxruntime, torch or open_clip, and it does so only when
an encoder is loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from mmsearch import forks
from mmsearch.errors import MmsearchError, SpaceUnavailable, UsageError
from mmsearch.given import checked_word, expanded, shown
from mmsearch.spaces import own_vectors
from mmsearch.spaces.naming import did_you_mean, meant, nearest
from mmsearch.spaces.plugins import module_of, plugins
from mmsearch.spaces.spread import devices_of, spread
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.types import Modality, Space, Vectors

if TYPE_CHECKING:
    from mmsearch.spaces.folder import FolderSpace

# name -> (module, class, what it needs): one line for each space
SPACES: dict[str, tuple[str, str, str]] = {
    "mini": ("mmsearch.spaces.mini", "Mini", "nothing: it is built in"),
}
# what stands before a model's name -> the same, for each library whose models can be used
FAMILIES: dict[str, tuple[str, str, str]] = {
    "openclip": ("mmsearch.spaces.openclip", "OpenClip", "the extra torch, and weights"),
    "clap": ("mmsearch.spaces.clap", "Clap", "the extra torch, and weights"),
    "bridge": ("mmsearch.spaces.bridge", "Bridge", "a folder of `mmsearch bridge`"),
    "gemma": ("mmsearch.spaces.gemma", "Gemma", "the extra torch, and weights"),
}
# a family's name alone -> the model that is meant
USUAL = {"gemma": "google/embeddinggemma-2"}


CARRY = ("text", "all")  # which towers an index is to carry
DTYPES = ("fp32", "fp16", "bf16")
FORMS = ("fp32", "fp16", "int8")  # in which a kept tower's weights may be stored, see narrow
# Enough for every core to have work, few enough to hold: 32 windows of 10 s at 44.1 kHz
# would be 56 MB, so sounds go in smaller batches.
CPU_BATCH: Mapping[Modality, int] = {Modality.IMAGE: 32, Modality.TEXT: 64, Modality.AUDIO: 8}
MAX_BATCH = 65_536
_DEVICE = "(cpu|cuda|mps)(:[0-9]{1,4})?"
_DEVICES = re.compile(f"all| *{_DEVICE} *(, *{_DEVICE} *)*")
GPU_BATCH: Mapping[Modality, int] = {Modality.IMAGE: 256, Modality.TEXT: 512, Modality.AUDIO: 64}


@dataclass(frozen=True)
class Placement:
    """Where and how exactly a model on PyTorch runs; the other spaces know no choice.

    device: ``cpu``, ``cuda``, ``cuda:1``, … or ``mps``; several, as in ``cuda:0,cuda:1``, or
    ``all`` GPUs take a batch each; None is a GPU where there is one.
    dtype: ``fp32``, ``fp16``, ``bf16``; None is fp16 on a GPU (bf16 for a model that cannot
    have it), else fp32. batch_size: inputs at a time; None is what suits the device, fewer where
    its memory runs out. tower: how the text tower that an index keeps is stored: ``fp32``,
    ``fp16`` (half the size) or ``int8`` (a quarter, and not quite the same vectors); None is
    fp32, or as it is stored already. carry: which towers the index keeps, ``text`` or ``all``
    that can be; None is texts', and the others where they are small, or as it is already.
    Raises UsageError for a value that none of them can have.
    """

    device: str | None = None
    dtype: str | None = None
    batch_size: int | None = None
    tower: str | None = None
    compile: bool = False
    carry: str | None = None

    def __post_init__(self) -> None:
        for name in ("device", "dtype", "tower", "carry"):
            checked_word(getattr(self, name), name)
        _one_of("tower", self.tower, FORMS)
        _one_of("carry", self.carry, CARRY)
        size = self.batch_size
        if size is not None and (type(size) is not int or not 1 <= size <= MAX_BATCH):
            raise UsageError(f"a batch has 1 to {MAX_BATCH:,} inputs, not {shown(size)}.")


def _one_of(option: str, value: str | None, among: Sequence[str]) -> None:
    if value is not None and value not in among:
        raise UsageError(f"--{option} is one of {', '.join(among)}, not {shown(value)}.")


ANYWHERE = Placement()


class Encoder(Protocol):
    """What every class in ``SPACES`` meets. Safe to call from several threads."""

    @property
    def space(self) -> Space:
        """Where its vectors live."""

    @property
    def side_by_side(self) -> int:
        """How many batches may be on their way at once, so that a device need not wait."""

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """How many inputs of each modality are best given at a time."""

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """What an index keeps to be asked without the space's own home: name -> file.
        ``FolderSpace`` opens a folder of them. Empty where a space cannot be kept."""

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """One unit vector for each decoded input, in order.

        data: what ``types.Part.data`` holds for that modality, as
        ``space.preprocess`` asks for it. asked: whether texts are questions, and not what is
        stored; some models tell the two apart.
        Returns float32 (n, d), rows of unit L2 norm; the same input gives the
        same row whatever else is in the batch.
        """

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text the tower leaves out; mostly 0."""

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """The share of each text's letters that the tokenizer does not know; mostly 0.

        Texts of a script that it lacks (1.0) all have one vector: nothing can be told of them.
        """

    @property
    def languages(self) -> str:
        """What texts may be in, for people; empty where that is not known."""


@forks.native
def load_encoder(name: str, placement: Placement = ANYWHERE) -> Encoder:
    """The encoder of a space, by its name or by the path of a space folder.

    A name is one of ``SPACES``, or one of ``FAMILIES``, a colon and a model; or one of
    ``USUAL``. A path is what holds a separator, or a folder with a card. ``a+b`` is several
    side by side (``lanes``).
    Raises SpaceUnavailable if there is none, UsageError for a device or dtype.
    """
    if len(lanes := several(name)) > 1:
        from mmsearch.spaces.lanes import load

        return load(lanes, placement)
    try:
        return _load_one(name, placement)
    except SpaceUnavailable as e:
        if "+" not in name:
            raise
        last = name.rpartition("+")[2].strip()
        raise SpaceUnavailable(
            f"{e} (A + joins spaces where the name of one follows it, and {last!r} is none.)"
        ) from None


def _load_one(name: str, placement: Placement) -> Encoder:
    name = _whole(name)
    if name == own_vectors.NAME:
        raise SpaceUnavailable(own_vectors.WHY)
    family, colon, model = name.partition(":")
    check_placement(name, placement)
    if colon and (named := family_of(name)) is not None:
        return _of_family(name, *named[:2], placement)
    if name in SPACES:
        return _built_in(name)
    if colon and (near := _near_family(family)) and not os.path.exists(name):
        raise SpaceUnavailable(f"no space is called {name!r}; did you mean {near}:{model}?")
    folder = expanded(name)
    if not os.path.exists(folder / "card.json") and (names := _meant(name)):
        raise SpaceUnavailable(f"no space is called {name!r}{did_you_mean(names)}")
    if os.sep in name or (os.altsep or os.sep) in name or os.path.exists(folder / "card.json"):
        return open_folder(folder)
    families = [f"{family}:MODEL" for family in [*FAMILIES, *plugins()]]
    known = ", ".join([*sorted(SPACES), *USUAL, *families])
    raise SpaceUnavailable(
        f"no space is called {name!r}; there is: {known}, or the "
        "path of a folder that `mmsearch train` wrote. `mmsearch spaces` lists what each one needs."
    )


_in_use: WeakValueDictionary[str, Encoder] = WeakValueDictionary()
_looking_up = forks.Lock()


def _built_in(name: str) -> Encoder:
    """The encoder of a built-in space, one for all of the process while anything uses it."""
    with _looking_up:
        encoder = _in_use.get(name)
        if encoder is None:
            module, cls, _ = SPACES[name]
            encoder = _in_use[name] = getattr(import_module(module), cls)()
        return encoder


def check_placement(name: str, placement: Placement) -> None:
    """Raises UsageError for a placement that the space of that name cannot have, wherever it runs.

    A family of another package has its own devices, and checks them itself.
    """
    if family_of(name) is not None:
        if name.partition(":")[0] in FAMILIES:
            _one_of("dtype", placement.dtype, DTYPES)
            if placement.device is not None and not _DEVICES.fullmatch(placement.device):
                raise UsageError(
                    "--device is cpu, cuda, cuda:1, …, mps, several with commas, or all; not "
                    f"{shown(placement.device)}."
                )
        return
    if placement not in (ANYWHERE, Placement("cpu"), Placement("cpu", "fp32")):
        raise UsageError(
            f"{name} runs on the CPU in fp32, part by part: leave out --device, --dtype, "
            "--batch-size, --tower, --carry and --compile, which are for models on PyTorch."
        )


def check_placements(space: Space, placement: Placement) -> None:
    """Raises UsageError as ``check_placement`` does, for each lane that runs on PyTorch."""
    placed = [lane.name for lane in space.each if family_of(lane.name) is not None]
    for name in placed or [space.name]:
        check_placement(name, placement)


def family_of(name: str) -> tuple[str, str, str] | None:
    """The line of ``FAMILIES``, or of a package that is installed, for a space's name."""
    family, colon, _ = name.partition(":")
    return (FAMILIES.get(family) or plugins().get(family)) if colon else None


def placeable(space: Space) -> bool:
    """Whether a placement can be chosen for a space, or for one of its lanes."""
    return any(family_of(lane.name) is not None for lane in space.each)


def _of_family(name: str, module: str, cls: str, placement: Placement) -> Encoder:
    family = name.partition(":")[0]
    ours = family in FAMILIES
    make = getattr(import_module(module) if ours else module_of(family), cls)

    def load(device: str | None) -> Encoder:
        try:
            made: Encoder = make(name, replace(placement, device=device))
        except Exception as e:
            if ours or isinstance(e, MmsearchError):
                raise
            raise SpaceUnavailable(
                f"{name} cannot be loaded ({type(e).__name__}: {e}): ask who makes {family}."
            ) from e
        return made

    devices = devices_of(placement.device)
    return spread(devices, load) if devices else load(placement.device)


def several(name: str) -> list[str]:
    """The names of the lanes; of one space alone its own."""
    if "+" not in name:
        return [name]
    from mmsearch.spaces.lanes import lanes_of

    return lanes_of(name)


def _whole(name: str) -> str:
    """The name with its model: that of a family alone means one of ``USUAL``."""
    family, at, more = name.partition("@")
    return f"{family}:{USUAL[family]}{at}{more}" if family in USUAL else name


def _near_family(word: str) -> str | None:
    return next(iter(nearest(word, FAMILIES)), None)


def _meant(name: str) -> list[str]:
    from mmsearch.spaces.catalogue import CATALOGUE

    return meant(name, [*SPACES, *USUAL], [known.name for known in CATALOGUE])


def missing_for(name: str) -> str | None:
    """What a space of a family lacks on this machine, in words; None where it is all here."""
    name = _whole(name)
    try:
        getattr(_family(name), "check_here", lambda _: None)(name)
    except SpaceUnavailable as e:
        return str(e)
    return None


def pull(name: str) -> str:
    """Fetches what a space of a family needs, from where its library says; its full name.

    Raises SpaceUnavailable where it cannot be fetched, UsageError for what needs no fetching.
    """
    if len(lanes := several(name)) > 1:
        return "+".join(one if one in SPACES else pull(one) for one in lanes)
    name = _whole(name)
    family = _family(name)
    if not hasattr(family, "pull"):
        raise UsageError(f"{name}: the package that brings it has nothing to fetch.")
    full: str = family.pull(name)
    return full


def known_names() -> list[str]:
    """Every name that the libraries at hand know weights for: hundreds."""
    modules = [_family(f"{family}:") for family in FAMILIES]
    for family in plugins():
        with suppress(SpaceUnavailable):  # said where it is used
            modules.append(module_of(family))
    return [name for module in modules if hasattr(module, "names") for name in module.names()]


def _family(name: str) -> Any:
    family, colon, model = name.partition(":")
    if (named := family_of(name)) is None:
        near = _near_family(family) if colon else None
        names = [f"{near}:{model}"] if near else [n for n in _meant(name) if n not in SPACES]
        begin = ", ".join(f"{one}:" for one in [*FAMILIES, *plugins()])
        raise UsageError(
            f"{name!r} is no model that is fetched: those begin with {begin}{did_you_mean(names)}"
        )
    return import_module(named[0]) if family in FAMILIES else module_of(family)


def open_folder(folder: AnyPath, check: bool = True) -> FolderSpace:
    """The encoder of a space folder. check: whether its files fit the digest in its card.

    Raises SpaceUnavailable for a folder that is no space, or was changed.
    """
    from mmsearch.spaces.folder import FolderSpace, digest_of

    inside = ConfinedPath(folder)  # it may come from anywhere
    encoder = FolderSpace(inside)
    try:
        found = digest_of(inside) if check else encoder.space.digest
    except OSError as e:
        raise SpaceUnavailable(f"{e.filename or folder} cannot be read: {e.strerror}.") from None
    if found != encoder.space.digest:
        raise SpaceUnavailable(
            f"{folder} was changed since it was written: its files do not fit the digest in "
            "card.json. Train or copy it again."
        )
    return encoder
