"""What the trainer measured of sounds: figures that need heads which never heard the fold.

They are read from the space's card, or from the JSON that the trainer's ``--folds`` wrote;
nothing is computed here but the mean of several folds.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import Line

GOALS = {  # by the end of a figure's name
    "ESC-10 held out, en": 93.0,
    "ESC-10 never heard, en": 85.0,
    "effects by held-out caption, R@5": 60.0,
}
SOUNDS = ("ESC", "sound", "audio", "triple")  # words in the names of the card's figures


def figures(name: str, value: Any) -> Iterator[Line]:
    """The figures in a piece of JSON: numbers, lists of numbers (folds: their mean, and
    each), objects with ``value``, ``low`` and ``high``, and objects of such."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    goal = next((goal for end, goal in GOALS.items() if name.endswith(end)), None)
    if isinstance(value, int | float):
        yield Line(name, float(value), goal=goal, digits=_digits(value))
    elif isinstance(value, list):
        if value and all(isinstance(one, int | float) for one in value):
            each = ", ".join(f"{one:.{_digits(one)}f}" for one in value)
            mean = statistics.fmean(value)
            yield Line(name, mean, goal=goal, digits=_digits(mean), note=each)
    elif "value" in value:
        ends = (value.get("low"), value.get("high"))
        note = f"{value['queries']} asked" if "queries" in value else ""
        number = value["value"]
        yield Line(name, number, *ends, goal=goal, digits=_digits(number), note=note)
    else:
        for key, one in value.items():
            yield from figures(f"{name}, {key}" if name else key, one)


def _digits(value: float) -> int:
    return 1 if abs(value) > 1 else 3


def lines(folds: Path | None, space: Path) -> list[Line]:
    """The trainer's figures of sounds, from ``folds`` or else the card of the space folder."""
    if folds is not None:
        return list(figures("", json.loads(folds.read_text("utf-8"))))
    measured = json.loads((space / "card.json").read_text("utf-8")).get("measured", {})
    chosen = {
        name: value
        for name, value in measured.items()
        if any(word in name for word in SOUNDS) and name != "scores"
    }
    return list(figures("", chosen)) or [Line("sounds", note="the card has no figures of them")]
