"""What a training run is asked to do: a TOML file, checked key by key.

Every error names the file, the line and the key.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from mmsearch.errors import UsageError
from mmsearch.types import Modality

MAX_RECIPE_BYTES = 1 << 20
LOSSES = ("infonce", "sigmoid")
HEADS = ("none", "linear", "mlp")


@dataclass(frozen=True)
class Source:
    """``[[pairs]]``: a file of pairs, and how much of every batch comes from it."""

    path: str
    share: float = 1.0


@dataclass(frozen=True)
class Validation:
    """``[validation]``: a file of held-out pairs, or a share of the things, by hash."""

    path: str = ""
    share: float = 0.1


@dataclass(frozen=True)
class Training:
    """``[train]``: loss, batches, rates and how long.

    batch: things a step, over all processes; chunk: how many go through a tower at a time
    (gradient caching, Gao et al. 2021). rate: of new heads; towers have their own. ema: share
    of the running mean of the weights that a step keeps. patience: evaluations without a
    gain before it stops; 0 never. views: cut, mirrored and recoloured copies of a picture.
    """

    loss: str = "infonce"
    steps: int = 300
    batch: int = 256
    chunk: int = 256
    rate: float = 1e-3
    decay: float = 0.05
    warm_up: float = 0.1
    scale: float = 20.0
    smoothing: float = 0.0
    ema: float = 0.97
    patience: int = 0
    evaluate_every: int = 25
    views: int = 3
    checkpoint_s: float = 60.0
    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Tower:
    """``[image]``, ``[text]``, ``[audio]``: what of a tower is trained.

    layers: how many of its last layers with weights are, or -1 for all. rate: of these;
    layer_decay: of the rate, from each layer to the one before it. head: what is put on top.
    """

    layers: int = 0
    rate: float = 1e-4
    layer_decay: float = 1.0
    head: str = "mlp"
    hidden: int = 1024
    dropout: float = 0.3
    noise: float = 0.0


@dataclass(frozen=True)
class Teacher:
    """``[teacher]``: a space whose similarities are followed, and how closely."""

    space: str = ""
    weight: float = 0.0


@dataclass(frozen=True)
class Lora:
    """``[lora]``: low-rank adapters in an open_clip model (Hu et al. 2021); rank 0 is none."""

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("c_fc", "c_proj")


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. Paths are relative to the recipe's folder."""

    name: str
    out: str
    start: str = "mini"
    seed: int = 1
    terms: str = ""
    pairs: tuple[Source, ...] = ()
    validation: Validation = field(default_factory=Validation)
    train: Training = field(default_factory=Training)
    image: Tower = field(default_factory=Tower)
    text: Tower = field(default_factory=Tower)
    audio: Tower = field(default_factory=Tower)
    teacher: Teacher = field(default_factory=Teacher)
    lora: Lora = field(default_factory=Lora)
    folder: Path = Path()

    def tower(self, modality: Modality) -> Tower:
        """What is asked of one tower."""
        found: Tower = getattr(self, str(modality))
        return found

    def place(self, path: str) -> Path:
        """A path of the recipe, absolute."""
        return (self.folder / Path(path).expanduser()).absolute()


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises UsageError that names file, line and key."""
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise UsageError(f"{path} is larger than any recipe ({MAX_RECIPE_BYTES:,} bytes).")
        text = path.read_text("utf-8")
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror or e}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text.") from None
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path}: {e}.") from None
    return _Reader(path, text).recipe(body)


class _Reader:
    """Turns TOML values into dataclasses, and says where something is wrong."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.lines = path, text.splitlines()

    def recipe(self, body: dict[str, Any]) -> Recipe:
        parts: dict[str, Any] = {
            "validation": Validation,
            "train": Training,
            "image": Tower,
            "text": Tower,
            "audio": Tower,
            "teacher": Teacher,
            "lora": Lora,
        }
        made: dict[str, Any] = {
            name: self.table(cls, body.pop(name), name)
            for name, cls in parts.items()
            if name in body
        }
        sources = body.pop("pairs", [])
        if not isinstance(sources, list) or not sources:
            self.fail("", "pairs", "name at least one file of pairs under [[pairs]]")
        made["pairs"] = tuple(self.table(Source, one, "pairs") for one in sources)
        found: Recipe = self.table(Recipe, {**body, **made, "folder": self.path.parent}, "")
        self.check(found)
        return found

    def table(self, cls: type, given: Any, section: str) -> Any:
        if not isinstance(given, dict):
            self.fail("", section, f"[{section}] is a table of keys, not {given!r}")
        types, values = get_type_hints(cls), {}
        for name, value in given.items():
            if name not in types:
                known = ", ".join(n for n in types if n != "folder")
                self.fail(section, name, f"there is no key {name!r} here; there is: {known}")
            values[name] = self.value(section, name, value, types[name])
        for one in fields(cls):
            missing = one.default is MISSING and one.default_factory is MISSING
            if missing and one.name not in values:
                self.fail(section, "", f"the key {one.name!r} is missing")
        return cls(**values)

    def value(self, section: str, name: str, value: Any, wanted: Any) -> Any:
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted == tuple[str, ...] and isinstance(value, list):
            value = tuple(value)
        plain = {str: "a text", int: "a whole number", float: "a number"}
        if wanted in plain and type(value) is not wanted:
            self.fail(section, name, f"{name} is {plain[wanted]}, not {value!r}")
        if isinstance(value, tuple) and wanted == tuple[str, ...]:
            if not all(isinstance(one, str) for one in value):
                self.fail(section, name, f"{name} is a list of texts, not {value!r}")
        elif wanted == tuple[str, ...]:
            self.fail(section, name, f"{name} is a list of texts, not {value!r}")
        return value

    def check(self, recipe: Recipe) -> None:
        """Values that have the right type and make no sense."""
        train = recipe.train
        self.among("train", "loss", train.loss, LOSSES)
        for number in ("steps", "batch", "chunk", "evaluate_every", "views"):
            self.at_least("train", number, getattr(train, number), 1)
        if train.batch < 2:
            self.fail("train", "batch", "a batch of one has nothing to tell apart; take 2 or more")
        for number in ("rate", "scale", "checkpoint_s"):
            self.above_zero("train", number, getattr(train, number))
        self.inside("train", "ema", train.ema, 0.0, 1.0)
        self.inside("train", "smoothing", train.smoothing, 0.0, 1.0)
        if not recipe.validation.path:
            self.inside("validation", "share", recipe.validation.share, 0.0, 0.9)
        for source in recipe.pairs:
            self.above_zero("pairs", "share", source.share)
        for modality in Modality:
            tower, name = recipe.tower(modality), str(modality)
            self.among(name, "head", tower.head, HEADS)
            self.at_least(name, "layers", tower.layers, -1)
            self.at_least(name, "hidden", tower.hidden, 1)
            self.inside(name, "dropout", tower.dropout, 0.0, 1.0)
            self.above_zero(name, "rate", tower.rate)
        if recipe.lora.rank and not recipe.start.startswith("openclip:"):
            self.fail("lora", "rank", "adapters are for start = 'openclip:…' only")

    def among(self, section: str, name: str, value: str, choices: tuple[str, ...]) -> None:
        if value not in choices:
            self.fail(section, name, f"{name} is one of {', '.join(choices)}, not {value!r}")

    def at_least(self, section: str, name: str, value: int, least: int) -> None:
        if value < least:
            self.fail(section, name, f"{name} is {least} or more, not {value}")

    def above_zero(self, section: str, name: str, value: float) -> None:
        if not value > 0:
            self.fail(section, name, f"{name} is above 0, not {value}")

    def inside(self, section: str, name: str, value: float, low: float, high: float) -> None:
        if not low <= value < high:
            self.fail(section, name, f"{name} is from {low:g} to below {high:g}, not {value:g}")

    def fail(self, section: str, name: str, why: str) -> None:
        where = f"[{section}] " if section else ""
        raise UsageError(f"{self.path}:{self.line(section, name)}: {where}{why}.")

    def line(self, section: str, name: str) -> int:
        """Where a key is written; else where its table begins; else 1."""
        inside, header = not section, 1
        key = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=") if name else None
        for number, line in enumerate(self.lines, 1):
            if table := re.match(r"\s*\[+\s*([\w.]+)\s*\]+", line):
                inside = table[1] == section
                header = number if inside or (not section and table[1] == name) else header
            elif inside and key and key.match(line):
                return number
        return header
