"""The values of a filter's ``?``, as they are typed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="VALUE",
        show_default=False,
        help="The value of a ? in the condition; once for each, in their order. It is compared as "
        "it is: nothing in it needs quotes. A text, unless it is written as JSON is: 5, 2.5, true, "
        'false, a list ["a", "b"], or a quoted text ("5" is the text, not the number).',
    ),
]


def param_of(typed: str) -> Any:
    """Return the value that was typed: what JSON calls a number, truth, list or text; else all of
    it as a text."""
    try:
        value = json.loads(typed, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return typed
    return typed if value is None or isinstance(value, dict) else value


def _no_number(word: str) -> None:
    """NaN and Infinity, which JSON does not have."""
    raise ValueError(word)
