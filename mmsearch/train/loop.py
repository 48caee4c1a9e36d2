"""The training loop: batches, gradient caching, running means, checkpoints, validation.

One process, or several through ``torchrun``: each encodes its share of a batch, the loss
sees the whole batch, and the gradients are those that one process would have.
Source of gradient caching: Gao et al. 2021, arXiv:2101.06983.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.train.inputs import Column, Texts
from mmsearch.train.losses import Contrast, distilled
from mmsearch.train.processes import Processes
from mmsearch.train.recipe import Recipe
from mmsearch.types import Modality

KS = (1, 5, 10)
MOST_GRADIENT = 5.0  # norm that gradients are cut to


@dataclass
class Data:
    """Everything that is trained on. things are numbered over all sources.

    sources: the training things of each file, with its share of a batch; held: those for
    validation. taught: for each slot, the teacher's unit rows, if there is one.
    """

    columns: dict[Modality, Column]
    texts: dict[str, Texts]
    sources: list[tuple[NDArray[np.int64], float]]
    held: NDArray[np.int64]
    taught: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def slots(self) -> list[str]:
        """What has vectors: modalities, and ``text:en`` and the like."""
        return [*map(str, self.columns), *(f"text:{one}" for one in self.texts)]

    def tasks(self) -> list[tuple[str, str]]:
        """Which slots are drawn together: every two of them but two languages."""
        slots = self.slots()
        pairs = [(a, b) for i, a in enumerate(slots) for b in slots[i + 1 :]]
        found = [(a, b) for a, b in pairs if not a.startswith("text:")]
        things = np.concatenate([own for own, _ in self.sources])
        return [(a, b) for a, b in found if (self.has(a, things) & self.has(b, things)).any()]

    def has(self, slot: str, things: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some things have that slot."""
        if slot.startswith("text:"):
            own = self.texts[slot[5:]].own
            return np.array([len(own[i]) > 0 for i in things], bool)
        return self.columns[Modality(slot)].row[things] >= 0


@dataclass
class Drawn:
    """A slot's part of a batch: which things, what they are the same by, and their inputs."""

    things: NDArray[np.int64]
    kinds: NDArray[np.int64]  # equal numbers are the same text; -1 - thing for other slots
    rows: list[Tensor]


class Loop:
    """Trains towers on data as a recipe asks. ``step`` may be 0 or where a checkpoint stood."""

    def __init__(
        self, recipe: Recipe, towers: dict[Modality, Any], data: Data, processes: Processes
    ) -> None:
        self.recipe, self.towers, self.data, self.processes = recipe, towers, data, processes
        train = recipe.train
        self.device, self.tasks = processes.device, data.tasks()
        torch.manual_seed(recipe.seed + processes.rank)
        self.rng = np.random.default_rng(recipe.seed)
        self.loss = Contrast(train.loss, train.scale, train.smoothing).to(self.device)
        groups: list[dict[str, Any]] = [
            {"params": list(self.loss.parameters()), "lr": 5 * train.rate, "weight_decay": 0.0}
        ]
        for tower in towers.values():
            tower.to(self.device)
            groups += tower.groups(train.rate, train.decay)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self.rates = [group["lr"] for group in groups]
        self.weights: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.mean = [p.detach().clone() for p in self.weights]
        self.best = [p.detach().clone() for p in self.weights]
        self.best_recall, self.since_best = -1.0, 0
        self.step = 0
        self.history: list[dict[str, Any]] = []

    # -- one step -----------------------------------------------------------

    def run(self, saved: Callable[[], None], say: Callable[[str], None]) -> None:
        """All steps that are left. saved: called when a checkpoint is due."""
        train = self.recipe.train
        if not self.history:
            self._evaluate(say, math.nan)
        last_saved = time.monotonic()
        while self.step < train.steps:
            loss = self.advance()
            self.step += 1
            if self.step % train.evaluate_every == 0 or self.step == train.steps:
                self._evaluate(say, loss)
                if train.patience and self.since_best >= train.patience:
                    say(f"step {self.step}: no gain in {train.patience} evaluations, stopped early")
                    break
            if time.monotonic() - last_saved > train.checkpoint_s:
                saved()
                last_saved = time.monotonic()
        saved()

    def advance(self) -> float:
        """One step; returns the loss."""
        train = self.recipe.train
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * _rate_at(self.step, train.steps, train.warm_up)
        for tower in self.towers.values():
            tower.train()
        drawn = self.draw()
        own = {slot: self.processes.share(len(one.things)) for slot, one in drawn.items()}
        self.optimiser.zero_grad()
        vectors, states = {}, {}
        with torch.no_grad():
            for slot, one in drawn.items():
                vectors[slot], states[slot] = self._forward(slot, one, own[slot])
        whole = {
            slot: self.processes.gathered(v, len(drawn[slot].things)).requires_grad_()
            for slot, v in vectors.items()
        }
        loss = self.total(drawn, whole)
        loss.backward()
        for slot, one in drawn.items():
            gradient = whole[slot].grad
            if gradient is not None:
                self._backward(slot, one, own[slot], gradient[own[slot]], states[slot])
        self.processes.add_up([p for t in self.towers.values() for p in t.parameters()])
        nn.utils.clip_grad_norm_(self.weights, MOST_GRADIENT)
        self.optimiser.step()
        keep = min(train.ema, (1 + self.step) / (10 + self.step))
        for mean, weight in zip(self.mean, self.weights, strict=True):
            mean.lerp_(weight.detach(), 1 - keep)
        return float(loss.detach())

    def draw(self) -> dict[str, Drawn]:
        """The things of a step and what is said of them, the same in every process."""
        shares = sum(share for _, share in self.data.sources)
        chosen = []
        for things, share in self.data.sources:
            count = min(len(things), max(1, round(self.recipe.train.batch * share / shares)))
            chosen.append(self.rng.choice(things, count, replace=False))
        things = np.concatenate(chosen)
        used = {slot for task in self.tasks for slot in task}
        return {slot: self._drawn(slot, things, self.rng) for slot in sorted(used)}

    def _drawn(
        self, slot: str, things: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Drawn:
        have = things[self.data.has(slot, things)]
        if slot.startswith("text:"):
            texts = self.data.texts[slot[5:]]
            at = texts.pick(have, rng)
            return Drawn(have, at, texts.draw(at))
        return Drawn(have, -1 - have, self.data.columns[Modality(slot)].draw(have, rng))

    def _tower(self, slot: str) -> Any:
        return self.towers[Modality.TEXT if slot.startswith("text:") else Modality(slot)]

    def _chunks(self, rows: slice) -> list[slice]:
        size = self.recipe.train.chunk
        return [slice(i, min(i + size, rows.stop)) for i in range(rows.start, rows.stop, size)]

    def _encode(self, slot: str, one: Drawn, rows: slice) -> Tensor:
        given = [r[rows].to(self.device) for r in one.rows]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self._tower(slot)(given).float()

    def _forward(self, slot: str, one: Drawn, rows: slice) -> tuple[Tensor, list[Any]]:
        """Vectors of this process's rows, and the state of chance before each chunk."""
        found, states = [], []
        for chunk in self._chunks(rows):
            states.append(_chance(self.device))
            found.append(self._encode(slot, one, chunk))
        empty = torch.empty((0, 0), device=self.device)
        return (torch.cat(found) if found else empty), states

    def _backward(
        self, slot: str, one: Drawn, rows: slice, gradient: Tensor, states: list[Any]
    ) -> None:
        if self._tower(slot).still:
            return
        after = _chance(self.device)
        for chunk, state in zip(self._chunks(rows), states, strict=True):
            _set_chance(self.device, state)
            part = gradient[chunk.start - rows.start : chunk.stop - rows.start]
            self._encode(slot, one, chunk).backward(part)
        _set_chance(self.device, after)

    def total(self, drawn: dict[str, Drawn], vectors: dict[str, Tensor]) -> Tensor:
        """The loss of a whole batch: every task's contrast, and the teacher's."""
        found = torch.zeros((), device=self.device)
        for a, b in self.tasks:
            _, at_a, at_b = np.intersect1d(
                drawn[a].things, drawn[b].things, assume_unique=True, return_indices=True
            )
            if len(at_a) < 2:
                continue
            kinds = drawn[b].kinds[at_b]
            same = torch.from_numpy(kinds[:, None] == kinds).to(self.device)
            one, other = vectors[a][at_a], vectors[b][at_b]
            found = found + self.loss(one, other, same)
            teacher = self.recipe.teacher
            if a in self.data.taught and b in self.data.taught:
                taught = [
                    torch.from_numpy(
                        self.data.taught[slot][self._taught_rows(slot, drawn[slot], at)]
                    )
                    for slot, at in ((a, at_a), (b, at_b))
                ]
                far = distilled(
                    one,
                    other,
                    taught[0].to(self.device),
                    taught[1].to(self.device),
                    self.recipe.train.scale,
                )
                found = found + teacher.weight * far
        return found

    def _taught_rows(self, slot: str, one: Drawn, at: NDArray[np.int64]) -> NDArray[np.int64]:
        if slot.startswith("text:"):
            return one.kinds[at]
        return self.data.columns[Modality(slot)].row[one.things[at]]

    # -- validation -----------------------------------------------------------

    def _evaluate(self, say: Callable[[str], None], loss: float) -> None:
        now = [p.detach().clone() for p in self.weights]
        self.use(self.mean)
        found = self.recalls(self.data.held)
        self.use(now)
        recall = float(np.mean([r[-1] for r in found.values()])) if found else 0.0
        if recall > self.best_recall or not found:
            self.best_recall, self.since_best = recall, 0
            self.best = [p.clone() for p in self.mean]
        else:
            self.since_best += 1
        record = {"step": self.step, "loss": None if math.isnan(loss) else loss, "recall": found}
        self.history.append(record)
        heard = ", ".join(f"{name} {r[0]:.1f}/{r[-1]:.1f}" for name, r in found.items())
        said = "" if math.isnan(loss) else f"loss {loss:.3f}  "
        say(f"step {self.step}/{self.recipe.train.steps}  {said}R@1/R@10 held out: {heard or '-'}")

    def use(self, weights: list[Tensor]) -> None:
        """Puts these values into the weights."""
        with torch.no_grad():
            for weight, value in zip(self.weights, weights, strict=True):
                weight.copy_(value)

    @torch.no_grad()
    def recalls(self, things: NDArray[np.int64]) -> dict[str, list[float]]:
        """R@1, R@5 and R@10 in percent, each way, among these things."""
        for tower in self.towers.values():
            tower.eval()
        found = {}
        vectors: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], Tensor]] = {}
        for slot in {s for task in self.tasks for s in task}:
            vectors[slot] = self._all(slot, things)
        for a, b in self.tasks:
            (things_a, _, one), (things_b, kinds_b, other) = vectors[a], vectors[b]
            right = torch.from_numpy(things_a[:, None] == things_b[None])
            if b.startswith("text:"):  # an equal text of another thing is right as well
                said = torch.zeros(
                    (len(things_a), int(kinds_b.max(initial=0)) + 1), dtype=torch.bool
                )
                rows, columns = np.nonzero(right.numpy())
                said[rows, kinds_b[columns]] = True
                right = said[:, kinds_b]
            scores = (one @ other.T).cpu()
            for name, s, r in ((f"{a} to {b}", scores, right), (f"{b} to {a}", scores.T, right.T)):
                s, r = s[r.any(1)], r[r.any(1)]
                if not len(s):
                    continue
                best = s.masked_fill(~r, -math.inf).amax(1, keepdim=True)
                better = (s > best).sum(1)
                found[name] = [round(100 * float((better < k).float().mean()), 2) for k in KS]
        return found

    def _all(
        self, slot: str, things: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Tensor]:
        """Every vector of a slot over some things: for each its thing, its text and itself."""
        have = things[self.data.has(slot, things)]
        if slot.startswith("text:"):
            texts = self.data.texts[slot[5:]]
            have = np.repeat(have, [len(texts.own[i]) for i in have])
            kinds = np.concatenate([texts.own[i] for i in dict.fromkeys(have.tolist())] or [have])
            one = Drawn(have, kinds, texts.draw(kinds))
        else:
            one = self._drawn(slot, have, None)
        chunks = [self._encode(slot, one, c) for c in self._chunks(slice(0, len(one.things)))]
        return one.things, one.kinds, torch.cat(chunks) if chunks else torch.empty((0, 1))


def _rate_at(step: int, steps: int, warm_up: float) -> float:
    """Share of the full rate: a short rise, then half a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, warm_up * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def _chance(device: torch.device) -> Any:
    return torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()


def _set_chance(device: torch.device, state: Any) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state)
    else:
        torch.set_rng_state(state)
