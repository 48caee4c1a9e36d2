"""Whether a space folder gives the vectors that were trained: looked at before it is published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmsearch.errors import DecodeError, UsageError
from mmsearch.spaces import open_folder
from mmsearch.train.inputs import Reader
from mmsearch.train.pairs import Thing
from mmsearch.types import Modality

LOOKED_AT = 16  # inputs of each modality
LEAST_COSINE = 0.99  # weights lie as float16, so it is not 1


def refuse_unlike(
    folder: Path, towers: dict[Modality, Any], things: Sequence[Thing], reader: Reader
) -> None:
    """Raises UsageError where a folder's vectors are not finite, or not those of the towers.

    things: their first inputs are looked at. The towers are on the CPU.
    """
    encoder = open_folder(folder)
    for modality, tower in towers.items():
        inputs = _inputs(modality, things, reader)
        if not inputs:
            continue
        tower.eval()
        with torch.no_grad():
            rows = [torch.from_numpy(r) for r in tower.prepare(inputs, 1)]
            ours = tower(rows).float().numpy()
        theirs = encoder.encode(modality, inputs)
        if not np.isfinite(ours).all() or not np.isfinite(theirs).all():
            raise UsageError(
                f"the trained {modality} tower gives vectors that are not finite, so nothing was "
                "written: the training has diverged. Lower `rate`."
            )
        worst = float((ours * theirs).sum(1).min())
        if worst < LEAST_COSINE:
            raise UsageError(
                f"the written {modality} tower does not give the vectors that were trained (cosine "
                f"{worst:.3f}; {LEAST_COSINE} is wanted), so nothing was written. Lower `rate`."
            )


def _inputs(modality: Modality, things: Sequence[Thing], reader: Reader) -> list[Any]:
    found: list[Any] = []
    for one in _named(modality, things):
        if len(found) == LOOKED_AT:
            break
        try:
            found.append(one if modality == Modality.TEXT else reader.read(modality, one))
        except DecodeError:
            continue  # left out of training, too
    return found


def _named(modality: Modality, things: Sequence[Thing]) -> Iterable[Any]:
    for thing in things:
        if modality == Modality.TEXT:
            yield from (own[0] for own in thing.texts.values())
        elif (place := getattr(thing, str(modality))) is not None:
            yield place
