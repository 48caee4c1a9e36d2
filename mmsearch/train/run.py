"""One training from recipe to space folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmsearch.cores import available_cores
from mmsearch.errors import UsageError
from mmsearch.spaces import Encoder, load_encoder
from mmsearch.spaces.folder import CARD
from mmsearch.train import checkpoint
from mmsearch.train.inputs import Column, Frozen, Reader
from mmsearch.train.loop import Data, Loop
from mmsearch.train.pairs import Thing, held_out, read_pairs
from mmsearch.train.plot import write_plot
from mmsearch.train.processes import Processes
from mmsearch.train.recipe import Recipe
from mmsearch.train.start import Start
from mmsearch.types import Modality

WORK = ".work"  # beside the space folder: features, checkpoint, history, plot
CACHE_VERSION = "1"
LEAST_HELD = 2

Say = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What a training did. recalls: R@1, R@5 and R@10 in percent over the held-out things,
    before the first step and of what was written, by direction."""

    out: Path
    name: str
    digest: str
    steps: int
    things: int
    held: int
    skipped: tuple[str, ...]
    before: dict[str, list[float]]
    after: dict[str, list[float]]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch train --json`` prints."""
        return {"schema": 1, **asdict(self), "out": str(self.out), "skipped": list(self.skipped)}


def run(recipe: Recipe, fresh: bool, say: Say) -> Report:
    """Trains, and writes ``recipe.out``."""
    started = time.monotonic()
    train = recipe.train
    out = recipe.place(recipe.out)
    work = out.with_name(out.name + WORK)
    _refuse_foreign(out)
    processes = Processes(train.device, train.threads)
    talk: Say = say if processes.first else (lambda _: None)
    things, sources, held = _read(recipe, talk)
    start = Start(recipe)
    towers = _towers(start, things)
    reader = Reader(start.preprocess)
    key = _key(recipe, start, things)
    if fresh and processes.first:
        (work / checkpoint.NAME).unlink(missing_ok=True)
    frozen_key = f"{CACHE_VERSION} {start.digest} {_depths(recipe, towers)}"
    threads = train.threads or available_cores()
    frozen = Frozen(towers, reader, work / "features", frozen_key, threads, talk)
    data = _data(frozen, things, sources, held, towers, train.views)
    _teach(recipe, data, things, reader, talk)
    if not data.tasks():
        raise UsageError("no two of image, audio and text belong together in the pairs.")
    loop = Loop(recipe, towers, data, processes)
    if checkpoint.resume(work, loop, key):
        talk(f"going on from step {loop.step}")

    def saved() -> None:
        if processes.first:
            checkpoint.save(work, loop, key)

    loop.run(saved, talk)
    loop.use(loop.best)
    after = loop.recalls(data.held)
    before = loop.history[0]["recall"]
    digest = ""
    if processes.first:
        measured = {
            "held out": {
                "things": len(data.held),
                "rule": recipe.validation.path or f"share {recipe.validation.share} by SHA-256",
                "R@1, R@5, R@10 before": before,
                "R@1, R@5, R@10": after,
            }
        }
        digest = _write(recipe, start, towers, measured, out)
        (work / "history.json").write_text(json.dumps(loop.history, indent=1) + "\n", "utf-8")
        if write_plot(work / "training.png", loop.history):
            talk(f"loss and recall over the steps: {work / 'training.png'}")
    return Report(
        out=out,
        name=recipe.name,
        digest=digest,
        steps=loop.step,
        things=len(things),
        held=len(data.held),
        skipped=tuple(reader.skipped),
        before=before,
        after=after,
        seconds=round(time.monotonic() - started, 1),
    )


def _refuse_foreign(out: Path) -> None:
    """Raises UsageError where writing would replace something that is no space."""
    if out.is_dir() and any(out.iterdir()) and not (out / CARD).exists():
        raise UsageError(f"{out} holds other things than a space: choose another `out`.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: choose another `out`.")


def _read(recipe: Recipe, say: Say) -> tuple[list[Thing], list[tuple[list[int], float]], list[int]]:
    """All things, the training things of each source with its share, and the held-out ones."""
    things: list[Thing] = []
    sources = []
    held: list[int] = []
    apart = read_pairs(recipe.place(recipe.validation.path)) if recipe.validation.path else []
    seen = {_identity(thing) for thing in apart}
    for source in recipe.pairs:
        own: list[int] = []
        for thing in read_pairs(recipe.place(source.path)):
            if apart and _identity(thing) in seen:
                continue  # what is validated is not trained on
            at = len(things)
            things.append(thing)
            aside = not apart and held_out(thing, recipe.validation.share)
            (held if aside else own).append(at)
        if len(own) < 2:
            raise UsageError(
                f"{recipe.place(source.path)} leaves {len(own)} things to train on; 2 or more are "
                "needed. Give more pairs, or hold fewer out."
            )
        sources.append((own, source.share))
    held += range(len(things), len(things) + len(apart))
    things += apart
    say(f"{len(things):,} things, {len(held):,} of them held out")
    if recipe.train.patience and len(held) < LEAST_HELD:
        raise UsageError("patience needs held-out things: raise [validation] share.")
    return things, sources, held


def _identity(thing: Thing) -> tuple[Any, Any]:
    return thing.image, thing.audio


def _towers(start: Start, things: Sequence[Thing]) -> dict[Modality, Any]:
    """The towers that the pairs need."""
    needed = [
        modality
        for modality, there in (
            (Modality.IMAGE, any(t.image for t in things)),
            (Modality.AUDIO, any(t.audio for t in things)),
            (Modality.TEXT, any(t.texts for t in things)),
        )
        if there
    ]
    torch.manual_seed(start.recipe.seed)  # new heads begin the same in every process
    towers = {modality: start.tower(modality) for modality in needed}
    if all(tower.still for tower in towers.values()):
        raise UsageError("the recipe trains nothing: every tower has layers = 0 and head = 'none'.")
    return towers


def _depths(recipe: Recipe, towers: dict[Modality, Any]) -> str:
    return json.dumps({str(m): recipe.tower(m).layers for m in towers})


def _data(
    frozen: Frozen,
    things: Sequence[Thing],
    sources: Sequence[tuple[list[int], float]],
    held: Sequence[int],
    towers: dict[Modality, Any],
    views: int,
) -> Data:
    columns: dict[Modality, Column] = {
        m: frozen.column(m, things, views) for m in towers if m != Modality.TEXT
    }
    languages = sorted({language for thing in things for language in thing.texts})
    return Data(
        columns,
        {language: frozen.texts(things, language) for language in languages},
        [(np.array(own, np.int64), share) for own, share in sources],
        np.array(held, np.int64),
    )


def _teach(recipe: Recipe, data: Data, things: Sequence[Thing], reader: Reader, say: Say) -> None:
    """The teacher's vectors of everything, where the recipe names one."""
    if not recipe.teacher.weight:
        return
    place = recipe.place(recipe.teacher.space)
    teacher = load_encoder(str(place) if place.is_dir() else recipe.teacher.space)
    own = Reader(teacher.space.preprocess)
    for modality, column in data.columns.items():
        say(f"teacher: {modality}")
        read = own.picture if modality == Modality.IMAGE else own.sound
        good = np.flatnonzero(column.row >= 0)
        parts: list[Any] = []
        for start in range(0, len(good), 64):
            decoded = [read(things[i]) for i in good[start : start + 64]]
            parts.append(teacher.encode(modality, [one for one in decoded if one is not None]))
        data.taught[str(modality)] = np.concatenate(parts)
    for language, texts in data.texts.items():
        say(f"teacher: {language}")
        data.taught[f"text:{language}"] = _said(teacher, things, language, len(texts.rows[0]))


def _said(
    teacher: Encoder, things: Sequence[Thing], language: str, count: int
) -> NDArray[np.float32]:
    """The teacher's vectors of a language's texts, in the order of ``Frozen.texts``."""
    distinct = list(dict.fromkeys(t for thing in things for t in thing.texts.get(language, ())))
    assert len(distinct) == count
    return teacher.encode(Modality.TEXT, distinct)


def _key(recipe: Recipe, start: Start, things: Sequence[Thing]) -> str:
    """What a checkpoint belongs to: the recipe, the start and the pairs, but not the place."""
    facts = asdict(recipe)
    for name in ("folder", "out", "terms", "name"):
        del facts[name]
    for name in ("checkpoint_s", "device", "threads", "chunk"):
        del facts["train"][name]
    found = hashlib.sha256(json.dumps([facts, start.digest], sort_keys=True).encode())
    for thing in things:
        found.update(repr((thing.key, sorted(thing.texts.items()))).encode("utf-8", "replace"))
    return found.hexdigest()


def _write(
    recipe: Recipe,
    start: Start,
    towers: dict[Modality, Any],
    measured: dict[str, Any],
    out: Path,
) -> str:
    """The space folder, whole or not at all; returns its digest."""
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = ", ".join(Path(s.path).name for s in recipe.pairs)
    trained_on = [{"what": f"pairs of {names}", "terms": recipe.terms or "not stated"}]
    digest = start.write(part, {m: t.cpu() for m, t in towers.items()}, trained_on, measured)
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    return digest
