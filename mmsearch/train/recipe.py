"""What a training run is asked to do: a TOML file, checked key by key.

Every error names the file, the line and the key.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from mmsearch.errors import UsageError
from mmsearch.given import expanded
from mmsearch.train.recipe_limits import wrong
from mmsearch.types import Modality

MAX_RECIPE_BYTES = 1 << 20


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
    weight: float = 1.0


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
        return (self.folder / expanded(path)).absolute()


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises UsageError that names file, line and key."""
    try:
        if not path.is_file() and path.exists():
            raise UsageError(f"{path} is not a file.")
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise UsageError(f"{path} is larger than any recipe ({MAX_RECIPE_BYTES:,} bytes).")
        text = path.read_text("utf-8-sig")
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror or e}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text.") from None
    except ValueError as e:
        raise UsageError(f"{str(path)!r} is no path: {e}.") from None
    try:
        body = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as e:
        at = re.search(r" \(at line (\d+), (column \d+)\)$", str(e))
        line = at[1] if at else len(text.splitlines()) or 1
        why = (
            f"{str(e)[: at.start()]}, {at[2]}"
            if at
            else str(e).removesuffix(" (at end of document)")
        )
        raise UsageError(f"{path}:{line}: not TOML: {why}.") from None
    return _Reader(path, text).recipe(body)


class _Reader:
    """Turns TOML values into dataclasses, and says where something is wrong."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.lines = path, text.splitlines()
        self.named: set[tuple[str, str]] = set()  # (section, key) that stand in the file

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
        if "folder" in body:
            self.fail("", "folder", "there is no key 'folder' here")
        sources = body.pop("pairs", [])
        if isinstance(sources, dict):
            self.fail("", "pairs", "several files may be named, so write [[pairs]], not [pairs]")
        if not isinstance(sources, list) or not sources:
            self.fail("", "pairs", "name at least one file of pairs under [[pairs]]")
        made["pairs"] = tuple(self.table(Source, one, "pairs") for one in sources)
        found: Recipe = self.table(Recipe, {**body, **made, "folder": self.path.parent}, "")
        for section, name, why in wrong(found, self.named):
            self.fail(section, name, why)
        return found

    def table(self, cls: type, given: Any, section: str) -> Any:
        if not isinstance(given, dict):
            self.fail("", section, f"[{section}] is a table of keys, not {given!r:.60}")
        types, values = get_type_hints(cls), {}
        for name, value in given.items():
            if name not in types:
                known = ", ".join(n for n in types if n != "folder")
                self.fail(section, name, f"there is no key {name!r} here; there is: {known}")
            self.named.add((section, name))
            values[name] = self.value(section, name, value, types[name])
        for one in fields(cls):
            missing = one.default is MISSING and one.default_factory is MISSING
            if missing and one.name not in values:
                self.fail(section, "", f"the key {one.name!r} is missing")
        return cls(**values)

    def value(self, section: str, name: str, value: Any, wanted: Any) -> Any:
        if wanted is float and type(value) is int:
            value = float(value) if abs(value) < 1 << 64 else math.inf
        if wanted == tuple[str, ...] and isinstance(value, list):
            value = tuple(value)
        plain = {str: "a text", int: "a whole number", float: "a number"}
        if wanted in plain and type(value) is not wanted:
            self.fail(section, name, f"{name} is {plain[wanted]}, not {value!r:.60}")
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(section, name, f"{name} is a finite number, not {value!r}")
        if isinstance(value, str) and "\0" in value:
            self.fail(section, name, f"{name} holds a NUL character")
        if isinstance(value, tuple) and wanted == tuple[str, ...]:
            if not all(isinstance(one, str) for one in value):
                self.fail(section, name, f"{name} is a list of texts, not {value!r}")
        elif wanted == tuple[str, ...]:
            self.fail(section, name, f"{name} is a list of texts, not {value!r}")
        return value

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
