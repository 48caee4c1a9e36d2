"""The training loop: batches, gradient caching, running means, checkpoints, validation.

One process, or several through ``torchrun``: each encodes its share of a batch, the loss
sees the whole batch, and the gradients are those that one process would have.
Source of gradient caching: Gao et al. 2021, arXiv:2101.06983.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.errors import UsageError
from mmsearch.train.data import Data, Drawn
from mmsearch.train.losses import Contrast, distilled
from mmsearch.train.processes import Processes
from mmsearch.train.recipe import Recipe
from mmsearch.train.stopping import Asked
from mmsearch.types import Modality

KS = (1, 5, 10)
MOST_GRADIENT = 5.0  # norm that gradients are cut to


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
        self.groups: dict[str, int] = {}  # direction -> files that were asked with or for

    # -- one step -----------------------------------------------------------

    def run(self, saved: Callable[[], None], say: Callable[[str], None]) -> None:
        """All steps that are left. saved: called when a checkpoint is due."""
        train = self.recipe.train
        if not self.history:
            self._evaluate(say, math.nan)
        last_saved = time.monotonic()
        with Asked() as asked:
            while self.step < train.steps:
                if train.patience and self.since_best >= train.patience:
                    say(f"step {self.step}: no gain in {train.patience} evaluations, stopped early")
                    break
                loss = self.advance()
                self.step += 1
                if self.step % train.evaluate_every == 0 or self.step == train.steps:
                    self._evaluate(say, loss)
                if self.processes.any(asked.stop):
                    saved()
                    raise KeyboardInterrupt(
                        f"stopped at step {self.step} of {train.steps}, which is kept; run the "
                        "same command to go on."
                    )
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
        self._refuse_diverged("loss", loss)
        if loss.requires_grad:  # else chance drew no two things that belong to one task
            loss.backward()
        for slot, one in drawn.items():
            gradient = whole[slot].grad
            if gradient is not None:
                self._backward(slot, one, own[slot], gradient[own[slot]], states[slot])
        self.processes.add_up([p for t in self.towers.values() for p in t.parameters()])
        self._refuse_diverged("gradient", nn.utils.clip_grad_norm_(self.weights, MOST_GRADIENT))
        self.optimiser.step()
        keep = min(train.ema, (1 + self.step) / (10 + self.step))
        for mean, weight in zip(self.mean, self.weights, strict=True):
            mean.lerp_(weight.detach(), 1 - keep)
        return float(loss.detach())

    def _refuse_diverged(self, what: str, value: Tensor) -> None:
        if not math.isfinite(float(value.detach())):
            raise UsageError(
                f"step {self.step + 1}: the {what} is {float(value.detach())}: the training has "
                "diverged. Lower `rate` (of [train], or of the tower whose layers are trained), or "
                "raise `warm_up`."
            )

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
        column = self.data.columns[Modality(slot)]
        return Drawn(have, column.row[have], column.draw(have, rng))

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
            kinds_a, kinds_b = drawn[a].kinds[at_a], drawn[b].kinds[at_b]
            same = (kinds_a[:, None] == kinds_a) | (kinds_b[:, None] == kinds_b)
            one, other = vectors[a][at_a], vectors[b][at_b]
            found = found + self.loss(one, other, torch.from_numpy(same).to(self.device))
            if a in self.data.taught and b in self.data.taught:
                found = found + self._followed((a, kinds_a, one), (b, kinds_b, other))
        return found

    def _followed(self, *sides: tuple[str, NDArray[np.int64], Tensor]) -> Tensor:
        """How far two slots are from the teacher's, over what it can read of both."""
        taught = [self.data.taught[slot][kinds] for slot, kinds, _ in sides]
        read = torch.from_numpy(taught[0].any(1) & taught[1].any(1))
        if int(read.sum()) < 2:
            return torch.zeros((), device=self.device)
        theirs = [torch.from_numpy(t)[read].to(self.device) for t in taught]
        ours = [vectors[read.to(self.device)] for _, _, vectors in sides]
        far = distilled(ours[0], ours[1], theirs[0], theirs[1], self.recipe.train.scale)
        return self.recipe.teacher.weight * far

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
        found: dict[str, list[float]] = {}
        sides = {
            slot: self._side(slot, things) for slot in {s for task in self.tasks for s in task}
        }
        for a, b in self.tasks:
            (things_a, places_a, one), (things_b, places_b, other) = sides[a], sides[b]
            if not len(things_a) or not len(things_b):
                continue
            place = np.full(int(max(things_a.max(), things_b.max())) + 1, -1, np.int64)
            place[things_a] = places_a  # a thing has one file of a modality
            at = place[things_b]
            right = torch.zeros((len(one), len(other)), dtype=torch.bool)
            right[torch.from_numpy(at[at >= 0]), torch.from_numpy(places_b[at >= 0])] = True
            scores = (one @ other.T).cpu()
            for name, s, r in ((f"{a} to {b}", scores, right), (f"{b} to {a}", scores.T, right.T)):
                s, r = s[r.any(1)], r[r.any(1)]
                if len(s):
                    found[name], self.groups[name] = recall(s, r), int(right.any(1).sum())
        return found

    def _side(
        self, slot: str, things: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Tensor]:
        """The vectors (n, d) of a slot's files or texts over some things, each once; and as
        (m,) each thing that has one with its row among them."""
        have = things[self.data.has(slot, things)]
        if slot.startswith("text:"):
            texts = self.data.texts[slot[5:]]
            kinds = np.concatenate([texts.own[i] for i in have]) if len(have) else have
            have = np.repeat(have, [len(texts.own[i]) for i in have])
        else:
            kinds = self.data.columns[Modality(slot)].row[have]
        distinct, places = np.unique(kinds, return_inverse=True)
        if not len(distinct):
            return have, places, torch.empty((0, 1))
        if slot.startswith("text:"):
            rows = self.data.texts[slot[5:]].draw(distinct)
        else:
            rows = self.data.columns[Modality(slot)].take(distinct)
        one = Drawn(distinct, distinct, rows)
        chunks = [self._encode(slot, one, c) for c in self._chunks(slice(0, len(distinct)))]
        return have, places, torch.cat(chunks)


def recall(scores: Tensor, right: Tensor) -> list[float]:
    """R@1, R@5 and R@10 in percent. scores (n, m); right: bool (n, m), one or more a row.

    What is as good as the right answer counts as better, so a tower that gives the same
    vector for everything finds nothing; and a score that is no number is a miss.
    """
    best = scores.masked_fill(~right, -math.inf).amax(1, keepdim=True)
    better = (~(scores < best) & ~right).sum(1)
    hit = torch.isfinite(best[:, 0])
    return [round(100 * float(((better < k) & hit).float().mean()), 2) for k in KS]


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
