"""Where a training starts from: a space folder's towers, or an open_clip model's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.seen import Packed, joined, read
from mmsearch.spaces import load_encoder
from mmsearch.spaces.folder import CARD, SEEN, TOKENIZER, FolderSpace, digest_of, read_card
from mmsearch.spaces.portable import write_tokenizer
from mmsearch.store.confined import plain
from mmsearch.train.clip import ClipModel, ClipTower
from mmsearch.train.recipe import Recipe
from mmsearch.train.towers import Tower
from mmsearch.types import Modality, Preprocess

CLIP = "openclip:"


class Start:
    """The towers that a recipe trains, and what else its space needs to be written.

    digest: of what was started from, so that a checkpoint fits no other start.
    Raises SpaceUnavailable where there is no such start.
    """

    preprocess: Preprocess
    dimension: int
    digest: str
    modalities: tuple[Modality, ...]

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._clip: ClipModel | None = None
        self._space: FolderSpace | None = None
        if recipe.start.startswith(CLIP):
            self._clip = ClipModel(recipe.start.removeprefix(CLIP), recipe.lora, recipe.folder)
            self.preprocess, self.dimension = self._clip.preprocess, self._clip.dimension
            self.modalities = (Modality.IMAGE, Modality.TEXT)
            self.digest = self._clip.digest()
        else:
            self._space = _folder_space(recipe)
            self.preprocess = self._space.space.preprocess
            self.dimension = self._space.space.dimension
            self.modalities, self.digest = self._space.space.modalities, self._space.space.digest

    def tower(self, modality: Modality) -> Any:
        """The tower of a modality, as the recipe asks for it."""
        if modality not in self.modalities:
            raise UsageError(
                f"the pairs hold {modality}, which {self.recipe.start} has no tower for; "
                f"it has: {', '.join(self.modalities)}."
            )
        what = self.recipe.tower(modality)
        if self._clip is not None:
            return ClipTower(self._clip, modality, what)
        assert self._space is not None
        return Tower(self._space, modality, what)

    def write(
        self,
        folder: Path,
        towers: dict[Modality, nn.Module],
        trained_on: list[dict[str, str]],
        measured: dict[str, Any],
        seen: Packed,
    ) -> str:
        """The space's files and card into an empty folder; returns its digest.

        seen: what was trained on, to which that of the start is added.
        """
        np.save(folder / SEEN, joined([seen, *self._seen_before()]), allow_pickle=False)
        for modality in self.modalities:
            tower: Any = towers.get(modality)
            if tower is not None:
                tower.export(folder / f"{modality}.onnx")
            elif self._clip is not None:  # an export needs both sides, trained or not
                self.tower(modality).export(folder / f"{modality}.onnx")
            else:
                self._copy(folder, str(modality))
        card: dict[str, Any] = {
            "name": self.recipe.name,
            "version": "1",
            "dimension": self.dimension,
            "modalities": [str(m) for m in self.modalities],
        }
        if self._clip is not None:
            clip = self._clip
            cleaning = write_tokenizer(clip.tokenizer, clip.tokens, folder / TOKENIZER)
            card |= {
                "cleaning": cleaning,
                "preprocess": {
                    "image_px": self.preprocess.image_px,
                    "sample_rate_hz": self.preprocess.sample_rate_hz,
                    "window_s": self.preprocess.window_s,
                },
                "max_tokens": int(self._clip.tokenizer.context_length),
            }
        else:
            assert self._space is not None
            shutil.copyfile(plain(self._space.files[TOKENIZER]), folder / TOKENIZER)
            before = read_card(self._space.files[CARD].parent)
            kept = ("preprocess", "max_tokens", "end", "languages", "towers", "limits", "terms")
            card |= {name: before[name] for name in kept if name in before}
            trained_on = [*before.get("trained_on", []), *trained_on]
        card |= {
            "trained_on": trained_on,
            "trained_from": {"start": self.recipe.start, "digest": self.digest},
            "digest": digest_of(folder),
            "measured": measured,
        }
        text = json.dumps(card, ensure_ascii=False, indent=2)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")
        return str(card["digest"])

    def _seen_before(self) -> list[Packed]:
        path = self._space.files.get(SEEN) if self._space is not None else None
        if path is None:
            return []
        with path.open("rb") as file:
            return [read(file.read())]

    def _copy(self, folder: Path, stem: str) -> None:
        assert self._space is not None
        for name, path in self._space.files.items():
            if plain(path).stem == stem:
                shutil.copyfile(plain(path), folder / name)


def _folder_space(recipe: Recipe) -> FolderSpace:
    beside = recipe.place(recipe.start)
    found = load_encoder(str(beside) if beside.is_dir() else recipe.start)
    if not isinstance(found, FolderSpace):
        raise SpaceUnavailable(f"training cannot start from {recipe.start}.")
    return found
