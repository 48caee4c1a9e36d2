"""One training from recipe to space folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmsearch.cores import available_cores
from mmsearch.errors import UsageError
from mmsearch.seen import Packed, file_key, pack, sentence_keys, set_keys
from mmsearch.spaces.folder import README, read_card
from mmsearch.train import checkpoint
from mmsearch.train.data import Data
from mmsearch.train.inputs import Column, Frozen, Reader
from mmsearch.train.loop import Loop
from mmsearch.train.model_card import model_card
from mmsearch.train.pairs import Thing
from mmsearch.train.place import held, place_of, publish
from mmsearch.train.plot import write_plot
from mmsearch.train.processes import Processes
from mmsearch.train.recipe import Recipe
from mmsearch.train.split import Read, read
from mmsearch.train.start import Start
from mmsearch.train.teacher import Teacher
from mmsearch.train.written import refuse_unlike
from mmsearch.types import Modality

WORK = ".work"  # beside the space folder: features, checkpoint, history, plot
CACHE_VERSION = "2"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What a training did. recalls: R@1, R@5 and R@10 in percent over the held-out things,
    before the first step and of what was written, by direction. skipped: what could not be
    read; notes: what a reader must know, one sentence each."""

    out: Path
    name: str
    digest: str
    steps: int
    things: int
    held: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    before: dict[str, list[float]]
    after: dict[str, list[float]]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch train --json`` prints."""
        lists = {"skipped": list(self.skipped), "notes": list(self.notes)}
        return {"schema": 1, **asdict(self), "out": str(self.out), **lists}


def run(recipe: Recipe, fresh: bool, say: Say) -> Report:
    """Trains, and writes ``recipe.out``."""
    out = place_of(recipe)
    work = out.with_name(out.name + WORK)
    processes = Processes(recipe.train.device, recipe.train.threads)
    try:
        with held(out, work) if processes.first else nullcontext(), _memory():
            quiet: Say = lambda _: None  # noqa: E731
            return _run(recipe, fresh, say if processes.first else quiet, out, work, processes)
    finally:
        processes.end()


@contextmanager
def _memory() -> Iterator[None]:
    """Says what to do where torch finds no memory."""
    try:
        yield
    except RuntimeError as e:
        if not any(words in str(e).lower() for words in ("out of memory", "allocate memory")):
            raise
        raise UsageError(
            f"out of memory ({str(e).splitlines()[0]:.150}): take a smaller `chunk` in [train], "
            "then a smaller `batch`."
        ) from None


def _run(
    recipe: Recipe, fresh: bool, say: Say, out: Path, work: Path, processes: Processes
) -> Report:
    started = time.monotonic()
    train = recipe.train
    found = read(recipe, say)
    things = found.things
    start = Start(recipe)
    teacher = Teacher(recipe) if recipe.teacher.space and recipe.teacher.weight else None
    towers = _towers(start, things)
    for tower in towers.values():
        tower.to(processes.device)
    reader = Reader(start.preprocess)
    key = _key(recipe, [start.digest, teacher.digest if teacher else ""], things)
    threads, features = train.threads or available_cores(), work / "features"
    frozen_key = f"{CACHE_VERSION} {start.digest}"
    frozen = Frozen(towers, reader, features, frozen_key, threads, say)
    if not processes.first:
        processes.wait()  # the first makes what the others find made
    elif fresh:
        (work / checkpoint.NAME).unlink(missing_ok=True)
    data = _data(frozen, found, towers, train.views)
    if not data.tasks():
        raise UsageError(
            "no two of image, audio and text belong together in two of the pairs or more."
        )
    if teacher is not None:
        data.taught = teacher.vectors(things, towers, data.texts, features, threads, say)
    if processes.first:
        processes.wait()
    loop = Loop(recipe, towers, data, processes)
    if at := checkpoint.resume(work, loop, key):
        say(at)

    def saved() -> None:
        if processes.first:
            checkpoint.save(work, loop, key)

    loop.run(saved, say)
    loop.use(loop.best)
    after = loop.recalls(data.held)
    before = loop.history[0]["recall"]
    skipped = sorted([*found.heard.skipped, *frozen.skipped])
    notes = []
    if found.heard.ignored:
        notes.append(f"fields without a meaning here: {', '.join(sorted(found.heard.ignored))}.")
    if not after:
        what = "nothing that can be asked" if found.held else "nothing"
        notes.append(f"{what} is held out: recall was not measured.")
    if processes.first:
        measured = {
            "held out": {
                "things": len(data.held),
                "independent groups": loop.groups,
                "rule": recipe.validation.path or f"share {recipe.validation.share} by SHA-256",
                "R@1, R@5, R@10 before": before,
                "R@1, R@5, R@10": after,
            }
        }
        looked_at = [things[i] for i in found.held] or things
        _write(recipe, start, towers, measured, out, looked_at, reader, _seen(found, reader))
        (work / "history.json").write_text(json.dumps(loop.history, indent=1) + "\n", "utf-8")
        if write_plot(work / "training.png", loop.history):
            say(f"loss and recall over the steps: {work / 'training.png'}")
    return Report(
        out=out,
        name=recipe.name,
        digest=str(read_card(out)["digest"]) if processes.first else "",
        steps=loop.step,
        things=len(things),
        held=len(data.held),
        skipped=tuple(skipped),
        notes=tuple(notes),
        before=before,
        after=after,
        seconds=round(time.monotonic() - started, 1),
    )


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


def _data(frozen: Frozen, found: Read, towers: dict[Modality, Any], views: int) -> Data:
    things = found.things
    columns: dict[Modality, Column] = {
        m: frozen.column(m, things, views) for m in towers if m != Modality.TEXT
    }
    languages = sorted({language for thing in things for language in thing.texts})
    return Data(
        columns,
        {language: frozen.texts(things, language) for language in languages},
        [(np.array(own, np.int64), share) for own, share in found.sources],
        np.array(found.held, np.int64),
    )


def _key(recipe: Recipe, digests: list[str], things: Sequence[Thing]) -> str:
    """What a checkpoint belongs to: the recipe, start and teacher, the pairs and what their
    files hold (by size and time), but not the place."""
    facts = asdict(recipe)
    for name in ("folder", "out", "terms", "name"):
        del facts[name]
    for name in ("checkpoint_s", "device", "threads", "chunk"):
        del facts["train"][name]
    found = hashlib.sha256(json.dumps([facts, *digests], sort_keys=True).encode())
    for thing in things:
        files = []
        for place in (thing.image, thing.audio):
            if place is not None:
                stat = (place[0] if isinstance(place, tuple) else place).stat()
                files.append((stat.st_size, stat.st_mtime_ns))
        one = repr((thing.key, files, sorted(thing.texts.items())))
        found.update(one.encode("utf-8", "replace"))
    return found.hexdigest()


def _seen(found: Read, reader: Reader) -> Packed:
    """What is trained on, for ``mmsearch eval`` to tell it from what is not."""
    keys: list[int] = []
    for number in sorted({number for own, _ in found.sources for number in own}):
        thing = found.things[number]
        keys += [*sentence_keys(thing.texts), *set_keys(thing.texts)]
        for place in (thing.image, thing.audio):
            digest = None if place is None else reader.content_hash(place)
            keys += [] if digest is None else [file_key(digest)]
    return pack(keys)


def _write(
    recipe: Recipe,
    start: Start,
    towers: dict[Modality, Any],
    measured: dict[str, Any],
    out: Path,
    looked_at: Sequence[Thing],
    reader: Reader,
    seen: Packed,
) -> None:
    """The space folder, whole or not at all, once its vectors were looked at."""
    names = ", ".join(Path(s.path).name for s in recipe.pairs)
    trained_on = [{"what": f"pairs of {names}", "terms": recipe.terms or "not stated"}]

    def write(folder: Path) -> None:
        start.write(folder, {m: t.cpu() for m, t in towers.items()}, trained_on, measured, seen)
        refuse_unlike(folder, towers, looked_at, reader)
        (folder / README).write_text(model_card(read_card(folder)), "utf-8")

    publish(out, write)
