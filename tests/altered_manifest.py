"""Altering the JSON of a manifest, with a checksum that fits, and using an index that has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

import mmsearch
from mmsearch.api.info import describe
from mmsearch.cli.app import app
from mmsearch.errors import MmsearchError
from mmsearch.indexer import compact, verify
from mmsearch.store import manifest


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for name, one in inside:
        yield (*path, name)
        yield from places(one, (*path, name))


def put(body: Any, path: tuple[Any, ...], value: object) -> None:
    """Puts a value at a path; at the end of a list if the last step is no place in it."""
    for name in path[:-1]:
        body = body[name]
    if isinstance(body, list) and not isinstance(path[-1], int):
        body.append(value)
    else:
        body[path[-1]] = value


def forget(body: Any, path: tuple[Any, ...]) -> None:
    """Takes the value at a path away."""
    for name in path[:-1]:
        body = body[name]
    del body[path[-1]]


def signed(body: dict[str, Any]) -> bytes:
    """The bytes of a manifest, with the checksum that ``read`` wants."""
    body = json.loads(json.dumps(body))
    return manifest._text({"checksum": manifest._checksum(body), **body})


def use(base: Path) -> None:
    """Asks, describes and verifies. Raises MmsearchError."""
    index = mmsearch.open(base)
    json.dumps(describe(index))
    done = CliRunner().invoke(app, ["info", "--index", str(base)])
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    xq = np.random.default_rng(0).standard_normal(index.space.dimension)
    for recall in (None, 1.0):
        json.dumps(index.search(vector=xq, k=30, recall=recall).to_json())
    with suppress(MmsearchError):  # where it keeps no towers of that space
        index.search("a red square", k=3)
    verify(base)


def change(base: Path) -> None:
    """Adds, removes and compacts. Raises MmsearchError."""
    index = mmsearch.open(base)
    try:
        index.add([{"text": "a green square"}], ids=["own5"])
    finally:
        with suppress(MmsearchError):
            index.delete("own700")
        compact(base)
        verify(base)
