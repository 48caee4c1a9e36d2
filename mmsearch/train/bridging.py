"""Learning a map between two spaces from captions alone, and writing it as a bridge.

Each caption has a vector in both spaces; the map takes those of the one to those of the other.
What is carried over later is not text but, say, a sound, whose vectors lie apart from those of
texts (the modality gap: Liang et al. 2022, arXiv:2203.02053): with some sounds, of which nothing
needs to be known, their mean takes the place of the captions'.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.cores import available_cores
from mmsearch.errors import LimitExceeded, SpaceUnavailable, UsageError
from mmsearch.given import expanded
from mmsearch.items import Unreadable, scope_of
from mmsearch.items.folder import Folder
from mmsearch.media.pool import DecodePool, PartReady, Task
from mmsearch.pairs import lines, parsed
from mmsearch.spaces import ANYWHERE, SPACES, Encoder, Placement, family_of, load_encoder, maps
from mmsearch.spaces.bridge import PREFIX, described, space_of
from mmsearch.spaces.folder import CARD
from mmsearch.spaces.maps import Affine, Map, Memory, Network, unit
from mmsearch.types import Item, Modality, Space, Vectors

METHODS = ("memory", "ridge", "procrustes", "c-mcr")
LEAST_CAPTIONS, MOST_CAPTIONS = 200, 500_000
_HELD_SHARE, _HELD_MOST = 0.1, 1_000  # of the captions, to measure with
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # of ridge, in mean squares of a direction
_TEMPERATURE = 0.05
_HEARD_MOST = 2_000  # inputs whose mean is taken
Progress = Callable[[str, int, int], None]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Report:
    """What was learned: of held-out captions, how their own is found among all of them."""

    name: str
    method: str
    captions: int
    held_out: int
    recall_at_1: float
    mrr: float
    carried: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch bridge --json`` prints."""
        return {"schema": 1, **self.__dict__, "carried": list(self.carried)}


def procrustes(x: Rows, y: Rows) -> Affine:
    """The rotation (with the dimensions that fit) of centred x nearest to centred y.

    x: (n, d_from); y: (n, d_to). Source: Schönemann 1966, doi:10.1007/BF02289451.
    """
    mean, bias = x.mean(0), y.mean(0)
    u, _, v = np.linalg.svd((y - bias).T @ (x - mean), full_matrices=False)
    return Affine(np.asarray(u @ v, np.float32), bias, mean)


def ridge(x: Rows, y: Rows, strength: float) -> Affine:
    """The linear map of centred x to centred y with least squared error, kept small.

    strength: of the penalty, in mean squares of one of x's directions. Source: Hoerl and
    Kennard 1970, doi:10.1080/00401706.1970.10488634.
    """
    mean, bias = x.mean(0), y.mean(0)
    a, b = (x - mean).astype(np.float64), (y - bias).astype(np.float64)
    square = a.T @ a
    penalty = strength * np.trace(square) / len(square)
    weight = np.linalg.solve(square + penalty * np.eye(len(square)), a.T @ b).T
    return Affine(weight.astype(np.float32), bias, mean)


def memory(x: Rows, y: Rows, temperature: float = _TEMPERATURE) -> Memory:
    """The captions themselves; see ``maps.Memory``. Keys are centred as what is asked will be."""
    mean = x.mean(0)
    return Memory(unit(x - mean), unit(y), mean, np.array([temperature], np.float32))


def learned(
    x: Rows, y: Rows, method: str, heard: Rows | None = None, seen: Rows | None = None
) -> tuple[Map, float, float]:
    """A map of that method and how it does on held-out captions: R@1 and MRR, 0 to 1.

    heard: vectors of what will be carried over, whose mean takes the place of the captions';
    ``c-mcr`` needs them, and seen: vectors of what it is to find.
    """
    order = np.random.default_rng(0).permutation(len(x))
    n_held = min(_HELD_MOST, max(20, int(len(x) * _HELD_SHARE)))
    held, kept = order[:n_held], order[n_held:]
    best: tuple[float, float, Callable[[Rows, Rows], Map]] | None = None
    for make in _candidates(method, heard, seen):
        recall, mrr = found(make(x[kept], y[kept])(x[held]), y[held])
        if best is None or mrr > best[1]:
            best = recall, mrr, make
    assert best is not None
    made = best[2](x, y)
    if heard is not None and not isinstance(made, Network):
        made = replace(made, mean=heard.mean(0))
    return made, best[0], best[1]


def _candidates(
    method: str, heard: Rows | None, seen: Rows | None
) -> list[Callable[[Rows, Rows], Map]]:
    if method == "c-mcr":
        from mmsearch.train import mcr

        assert heard is not None and seen is not None
        return [partial(mcr.c_mcr, heard=heard, seen=seen, steps=mcr.STEPS)]
    if method == "ridge":
        return [partial(ridge, strength=strength) for strength in _STRENGTHS]
    return [procrustes if method == "procrustes" else memory]


def found(asked: Vectors, base: Vectors) -> tuple[float, float]:
    """How row i of one is found among the rows of the other: R@1 and MRR, ties against it."""
    scores = asked @ base.T
    own = scores.diagonal()[:, None]
    ranks = (scores >= own).sum(1)
    return float((ranks == 1).mean()), float((1 / ranks).mean())


def bridge(
    source: str,
    target: str,
    captions: Path,
    out: Path,
    method: str = METHODS[0],
    heard: Path | None = None,
    seen: Path | None = None,
    placement: Placement = ANYWHERE,
    progress: Progress = lambda what, done, of: None,
) -> Report:
    """Learns a map from one space to another from captions, and writes the bridge.

    source, target: names of spaces; the target's vectors stay as they are. captions: a text
    file, one a line, or ``.jsonl`` pairs as for ``mmsearch eval``. heard: a folder or file of
    what will be carried over, unlabelled; its mean closes the gap to the captions. seen: of what it
    is to find, for ``c-mcr``, which needs both. out: a new folder, or one of a bridge, which is
    replaced.
    Raises UsageError, SpaceUnavailable, LimitExceeded.
    """
    started = time.monotonic()
    if method not in METHODS:
        raise UsageError(f"--method is one of {', '.join(METHODS)}, not {method!r}.")
    if method == "c-mcr" and (heard is None or seen is None):
        raise UsageError(
            "--method c-mcr learns from unpaired sounds and pictures, too: name a folder of what "
            "is carried over with --heard, and of what it is to find with --seen."
        )
    if method != "c-mcr" and seen is not None:
        raise UsageError(f"--seen is for --method c-mcr; {method} learns without it.")
    texts = read_captions(captions)
    _check_out(out, (source, target))
    encoders = [
        load_encoder(name, placement if family_of(name) is not None else ANYWHERE)
        for name in (source, target)
    ]
    for encoder in encoders:
        encoder.space.require(Modality.TEXT)
    theirs, ours = (encoder.space for encoder in encoders)
    carried = tuple(str(m) for m in theirs.modalities if m not in ours.modalities)
    if not carried:
        raise UsageError(
            f"{theirs.name} takes nothing that {ours.name} does not: nothing is to carry over."
        )
    if method == "memory":
        _check_size(len(texts), max(theirs.dimension, ours.dimension))
    x = _encoded(encoders[0], texts, source, progress)
    y = _encoded(encoders[1], texts, target, progress)
    mean = None if heard is None else _heard(encoders[0], heard, Modality(carried[0]), progress)
    views = None if seen is None else _heard(encoders[1], seen, _sought(ours), progress)
    if method == "c-mcr":
        progress("learning", 0, 1)
    made, recall, mrr = learned(x, y, method, mean, views)
    report = Report(
        f"{PREFIX}{out.absolute()}", method, len(texts),
        min(_HELD_MOST, max(20, int(len(texts) * _HELD_SHARE))), recall, mrr, carried,
        time.monotonic() - started,
    )  # fmt: skip
    places = [_place(one, encoder) for one, encoder in zip((source, target), encoders, strict=True)]
    _write(out, encoders, places, made, report, 0 if mean is None else len(mean))
    return report


def _sought(space: Space) -> Modality:
    """What a space is searched for beside texts. Raises UsageError where there is nothing."""
    found = next((m for m in space.modalities if m is not Modality.TEXT), None)
    if found is None:
        raise UsageError(f"{space.name} holds nothing but texts: --method c-mcr needs more.")
    return found


def read_captions(path: Path) -> list[str]:
    """The different captions of a file, in order. Raises UsageError, LimitExceeded."""
    texts: dict[str, None] = {}
    ignored: set[str] = set()
    for number, raw in lines(path):
        if path.suffix == ".jsonl":
            row = parsed(f"{path}:{number}", number, raw, ignored)
            several = [one for many in row.captions.values() for one in many]
        else:
            try:
                several = [raw.decode("utf-8")]
            except UnicodeDecodeError:
                raise UsageError(f"{path}:{number}: the line is not UTF-8.") from None
        texts.update(dict.fromkeys(one.strip() for one in several if one.strip()))
        if len(texts) > MOST_CAPTIONS:
            raise LimitExceeded(f"{path} has more than {MOST_CAPTIONS:,} captions: take fewer.")
    if len(texts) < LEAST_CAPTIONS:
        raise UsageError(
            f"{path} has {len(texts):,} different captions; at least {LEAST_CAPTIONS} are needed, "
            "and thousands are better. Any sentences will do that are like what is searched."
        )
    return list(texts)


def _encoded(encoder: Encoder, texts: Sequence[str], name: str, progress: Progress) -> Rows:
    size = encoder.batch_sizes[Modality.TEXT]
    out = []
    for at in range(0, len(texts), size):
        out.append(encoder.encode(Modality.TEXT, texts[at : at + size]))
        progress(f"captions in {name}", at + len(out[-1]), len(texts))
    rows = np.concatenate(out)
    if not np.isfinite(rows).all():
        raise SpaceUnavailable(f"{encoder.space} gave vectors that are not finite.")
    return rows


def _heard(encoder: Encoder, where: Path, modality: Modality, progress: Progress) -> Rows:
    """The vectors of what lies in a folder: one for each window or picture that can be read."""
    tasks = (Task(Item("", path, 0, 0, 0, 0), ask=False) for path in _files(where))
    size = encoder.batch_sizes[modality]
    rows: list[Rows] = []
    waiting: list[Any] = []
    pool = DecodePool(encoder.space.preprocess, workers=available_cores(), modalities=(modality,))
    with pool:
        for event in pool.run(tasks, lambda task, content: True):
            if not isinstance(event, PartReady):
                continue  # what is of another kind or damaged: others will do
            waiting.append(event.part.data)
            if len(waiting) >= min(size, _HEARD_MOST - len(rows)):
                rows += list(encoder.encode(modality, waiting))
                waiting = []
                progress(f"{modality} in {encoder.space.name}", len(rows), _HEARD_MOST)
            if len(rows) >= _HEARD_MOST:
                break
    if waiting:
        rows += list(encoder.encode(modality, waiting))
    if not rows:
        raise UsageError(f"{where} holds no {modality} that can be read.")
    found = np.stack(rows)
    if not np.isfinite(found).all():
        raise SpaceUnavailable(f"{encoder.space} gave vectors that are not finite.")
    return found


def _files(where: Path) -> Iterator[str]:
    for one in Folder(scope_of(where), (), ()).walk():
        if not isinstance(one, Unreadable):
            yield str(one[0])


def _place(name: str, encoder: Encoder) -> str:
    """What loads a space from anywhere: its own full name, or the absolute path of its folder."""
    # by what was asked for: a folder's card may call it as a built-in space is called
    is_folder = family_of(encoder.space.name) is None and name not in SPACES
    return str(expanded(name).absolute()) if is_folder else encoder.space.name


def _check_out(out: Path, spaces: Sequence[str]) -> None:
    """Raises UsageError where a bridge cannot be written, before anything is encoded."""
    for name in spaces:
        place = expanded(name.removeprefix(PREFIX))
        if os.path.exists(place) and os.path.realpath(place) == os.path.realpath(out):
            raise UsageError(f"{out} is one of the two spaces: name a new folder.")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-"):
            pass
        entries = sorted(one.name for one in out.iterdir()) if out.exists() else []
    except OSError as e:
        raise UsageError(f"{out} cannot be written: {e.strerror}. Name another folder.") from None
    if not entries:
        return
    if not _is_bridge(out):
        raise UsageError(f"{out} is there already and is no bridge: name a new folder.")
    if other := next((one for one in entries if one not in maps.FILES and one != CARD), None):
        raise UsageError(f"{out} holds other things than a bridge ({other}): name a new folder.")


def _check_size(captions: int, width: int) -> None:
    most = (maps.MAX_FILE_BYTES - 4_096) // (4 * width)  # 4 kB: what stands before the numbers
    if captions > most:
        raise LimitExceeded(
            f"{captions:,} captions of {width} numbers are more than a memory holds: give at most "
            f"{most:,}, or take --method ridge."
        )


def _is_bridge(out: Path) -> bool:
    try:
        return "bridge" in json.loads((out / CARD).read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _write(
    out: Path,
    encoders: Sequence[Encoder],
    places: Sequence[str],
    made: Map,
    report: Report,
    heard: int,
) -> None:
    theirs, ours = (encoder.space for encoder in encoders)
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        work = Path(name) / "bridge"
        work.mkdir()
        kind, digest = maps.write(work, made)
        card = {
            "bridge": 1,
            "name": report.name,
            "from": described(theirs, places[0]),
            "to": described(ours, places[1]),
            "kind": kind,
            "digest": digest,
            "method": report.method,
            "captions": report.captions,
            "heard": heard,
            "held_out": {
                "captions": report.held_out,
                "recall_at_1": round(report.recall_at_1, 4),
                "mrr": round(report.mrr, 4),
            },
            "fingerprint": space_of(report.name, theirs, ours, digest).fingerprint,
        }
        text = json.dumps(card, ensure_ascii=False, indent=2)
        (work / CARD).write_text(text + "\n", encoding="utf-8")
        _put(work, out, Path(name) / "old")


def _put(work: Path, out: Path, old: Path) -> None:
    """The new folder in the place of the old one, which stays where that fails."""
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(work, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
