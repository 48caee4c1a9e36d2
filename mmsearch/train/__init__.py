"""Contrastive training: a recipe in, a space folder out.

    from mmsearch.train import train
    report = train("recipe.toml")

Rooms: ``recipe`` with ``recipe_limits``, ``pairs`` with ``split`` (what is asked, what is
read, what is held out), ``place`` (where it may be written), ``start`` (the towers that a
training begins with: ``towers`` and ``onnx_torch`` for space folders, ``clip`` for open_clip),
``inputs`` (decoding, and frozen features, cached), ``data``, ``teacher``, ``losses``, ``loop``
with ``processes`` and ``stopping``, ``checkpoint``, ``written`` (a last look at what is
published), ``model_card``, ``plot``. ``mini/`` makes the built-in space. Needs the extra
``torch``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmsearch.errors import UsageError, install
from mmsearch.given import expanded

if TYPE_CHECKING:
    from mmsearch.train.run import Report


def train(
    recipe: str | os.PathLike[str],
    *,
    fresh: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Trains what a TOML recipe asks for and writes the space folder that it names.

    A run that was stopped goes on where its last checkpoint stood, unless ``fresh``.
    say: told a line of progress now and then. Ctrl-C and SIGTERM end it after the step that
    it is in, by KeyboardInterrupt, with a checkpoint.
    Raises UsageError for a recipe or a pair file that is wrong (it names file, line and
    field) and SpaceUnavailable for a start that cannot be loaded.
    """
    from mmsearch.train.recipe import read_recipe

    asked = read_recipe(expanded(os.fspath(recipe)).absolute())
    try:
        import onnx
        import open_clip
        import safetensors
        import torch
    except ImportError as e:
        raise UsageError(
            f"training needs {e.name}, which is not installed; {install('torch')}."
        ) from None
    del onnx, open_clip, safetensors, torch
    from mmsearch.train.run import run

    return run(asked, fresh, say)
