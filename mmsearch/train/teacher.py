"""A teacher: another space, whose similarities are followed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.spaces import Encoder, load_encoder
from mmsearch.train.inputs import Frozen, Reader, Rows
from mmsearch.train.pairs import Thing
from mmsearch.train.recipe import Recipe
from mmsearch.types import Modality, Vectors


class Teacher:
    """The space that a recipe names as teacher. Raises SpaceUnavailable where there is none."""

    def __init__(self, recipe: Recipe) -> None:
        place = recipe.place(recipe.teacher.space)
        self._encoder = load_encoder(str(place) if place.is_dir() else recipe.teacher.space)

    @property
    def digest(self) -> str:
        """Of its space, so that a checkpoint fits no other teacher."""
        return self._encoder.space.digest

    def vectors(
        self,
        things: Sequence[Thing],
        modalities: Iterable[Modality],
        languages: Iterable[str],
        cache: Path,
        threads: int,
        say: Callable[[str], None],
    ) -> dict[str, Vectors]:
        """For each slot the unit rows of its files or texts, numbered as in ``Column`` and
        ``Texts``, kept on disk. A row of zeros is one that the teacher cannot read.

        Raises UsageError where the teacher knows less than two kinds of what is trained.
        """
        space = self._encoder.space
        known = [m for m in modalities if m in space.modalities]
        if len(known) < 2:
            raise UsageError(
                f"the teacher {space.name} knows {', '.join(space.modalities)}: nothing that "
                "belongs together in the pairs."
            )
        towers = {m: _Tower(self._encoder, m) for m in known}
        key = f"teacher {space.digest}"
        frozen = Frozen(towers, Reader(space.preprocess), cache, key, threads, say)
        found: dict[str, Vectors] = {}
        for modality in known:
            say(f"teacher: {modality}")
            if modality == Modality.TEXT:
                for language in languages:
                    found[f"text:{language}"] = frozen.texts(things, language).rows[0]
            else:
                found[str(modality)] = frozen.column(modality, things, 1).rows[0]
        return found


class _Tower:
    """A teacher's side, of which nothing is trained."""

    cut = ""

    def __init__(self, encoder: Encoder, modality: Modality) -> None:
        self._encoder, self._modality = encoder, modality

    def prepare(self, inputs: Sequence[Any], threads: int) -> Rows:
        return [self._encoder.encode(self._modality, list(inputs))]
