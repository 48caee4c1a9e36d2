"""What the values of a recipe may be: one table, and what no table can say."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmsearch.types import Modality

if TYPE_CHECKING:
    from mmsearch.train.recipe import Recipe

LOSSES = ("infonce", "sigmoid")
HEADS = ("none", "linear", "mlp")
MAX_NAME_CHARS = 100
MOST = 1 << 31  # steps and things: more is a slip of the finger
TINY = math.ulp(0.0)  # the least number above 0
BELOW_1 = math.nextafter(1.0, 0.0)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")

# (section, key, least, most), all inclusive
NUMBERS: tuple[tuple[str, str, float, float], ...] = (
    ("", "seed", 0, 2**32 - 1),  # what NumPy and torch both take
    ("pairs", "share", TINY, 1e6),
    ("validation", "share", 0.0, math.nextafter(0.9, 0.0)),
    ("train", "steps", 1, MOST),
    ("train", "batch", 2, 1 << 20),  # the loss compares each with each
    ("train", "chunk", 1, MOST),
    ("train", "rate", TINY, 100.0),
    ("train", "decay", 0.0, 1000.0),
    ("train", "warm_up", 0.0, 1.0),
    ("train", "scale", TINY, 1000.0),
    ("train", "smoothing", 0.0, BELOW_1),
    ("train", "ema", 0.0, BELOW_1),
    ("train", "patience", 0, MOST),
    ("train", "evaluate_every", 1, MOST),
    ("train", "views", 1, 64),  # each is a whole copy of the features
    ("train", "checkpoint_s", TINY, 1e9),
    ("train", "threads", 0, 256),  # a million of them end in a crash
    *(
        (str(modality), key, least, most)
        for modality in Modality
        for key, least, most in (
            ("layers", -1, 10_000),
            ("rate", TINY, 100.0),
            ("layer_decay", TINY, 1.0),
            ("hidden", 1, 65_536),
            ("dropout", 0.0, BELOW_1),
            ("noise", 0.0, 1000.0),
        )
    ),
    ("teacher", "weight", 0.0, 1e6),
    ("lora", "rank", 1, 4096),
    ("lora", "alpha", TINY, 1e6),
    ("lora", "dropout", 0.0, BELOW_1),
)

Wrong = tuple[str, str, str]  # section, key, why


def wrong(recipe: Recipe, named: set[tuple[str, str]]) -> Iterator[Wrong]:
    """What has the right type and makes no sense. named: (section, key) that stand in the file;
    those that do not have their defaults, which need no check."""
    train = recipe.train
    if train.batch == 1:
        yield "train", "batch", "a batch of one has nothing to tell apart; take 2 or more"
    for section, key, least, most in NUMBERS:
        if (section, key) in named:
            for value in _values(recipe, section, key):
                if not least <= value <= most:
                    yield section, key, f"{key} is {_span(least, most)}, not {value:g}"
    name = recipe.name
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable() or not name.strip():
        yield "", "name", f"name has 1 to {MAX_NAME_CHARS} printable characters, not {name!r:.60}"
    choices: list[tuple[str, str, str, tuple[str, ...]]] = [("train", "loss", train.loss, LOSSES)]
    choices += [(str(m), "head", recipe.tower(m).head, HEADS) for m in Modality]
    for section, key, text, allowed in choices:
        if text not in allowed:
            yield section, key, f"{key} is one of {', '.join(allowed)}, not {text!r:.60}"
    if not _DEVICE.fullmatch(train.device):
        yield "train", "device", f"device is auto, cpu, cuda or cuda:0, not {train.device!r:.60}"
    if ("teacher", "weight") in named and not recipe.teacher.space:
        yield "teacher", "weight", "a weight needs a teacher: name its `space`"
    if recipe.lora.rank:
        if not recipe.start.startswith("openclip:"):
            yield "lora", "rank", "adapters are for start = 'openclip:…' only"
        if not recipe.lora.targets or not all(recipe.lora.targets):
            yield "lora", "targets", "targets names at least one kind of layer"


def _values(recipe: Recipe, section: str, key: str) -> list[Any]:
    if section == "pairs":
        return [getattr(one, key) for one in recipe.pairs]
    return [getattr(getattr(recipe, section) if section else recipe, key)]


def _span(least: float, most: float) -> str:
    """A range in words, open ends as such: above 0, up to 1; from 0 to below 0.9."""
    low = "above 0" if least == TINY else f"from {least:g}"
    if type(most) is int:
        return f"{low} to {most:,}"
    shown = float(f"{most:.6g}")
    return f"{low} to {'below ' if shown > most else ''}{shown:,g}"
