"""Checkpoints: everything that a run needs to go on as if it had never stopped.

Tensors lie as safetensors, the rest as JSON beside them in its metadata: no pickle.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmsearch.train.loop import Loop

NAME = "checkpoint.safetensors"


def save(folder: Path, loop: Loop, key: str) -> None:
    """Writes the run's state, atomically."""
    tensors: dict[str, Tensor] = {"chance": torch.get_rng_state()}
    if loop.device.type == "cuda":
        tensors["chance.cuda"] = torch.cuda.get_rng_state()
    for i, (weight, mean, best) in enumerate(zip(loop.weights, loop.mean, loop.best, strict=True)):
        tensors[f"{i}.weight"], tensors[f"{i}.mean"] = weight.detach(), mean
        tensors[f"{i}.best"] = best
        for name, value in loop.optimiser.state.get(weight, {}).items():
            tensors[f"{i}.adam.{name}"] = value
    facts = {
        "key": key,
        "step": loop.step,
        "best_recall": loop.best_recall,
        "since_best": loop.since_best,
        "history": loop.history,
        "rng": loop.rng.bit_generator.state,
    }
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{NAME}.{os.getpid()}.tmp"
    plain = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(plain, part, metadata={"facts": json.dumps(facts)})
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(folder / NAME)


def resume(folder: Path, loop: Loop, key: str) -> str:
    """Puts a saved state into a fresh run; returns what happened, empty where there is none."""
    path = folder / NAME
    if not path.exists():
        return ""
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            if facts["key"] != key:
                return "the recipe or the pairs changed since the checkpoint: beginning anew"
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return "the checkpoint is damaged: beginning anew"  # cut short by a crash of the disk
    states: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for i, weight in enumerate(loop.weights):
            weight.copy_(tensors[f"{i}.weight"])
            loop.mean[i].copy_(tensors[f"{i}.mean"])
            loop.best[i].copy_(tensors[f"{i}.best"])
            adam = {n.split(".")[2]: t for n, t in tensors.items() if n.startswith(f"{i}.adam.")}
            if adam:
                states[i] = adam
    found = loop.optimiser.state_dict()
    found["state"] = states
    loop.optimiser.load_state_dict(found)
    loop.step, loop.history = facts["step"], facts["history"]
    loop.best_recall, loop.since_best = facts["best_recall"], facts["since_best"]
    loop.rng.bit_generator.state = facts["rng"]
    torch.set_rng_state(tensors["chance"])
    if "chance.cuda" in tensors and loop.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["chance.cuda"])
    return f"going on from step {loop.step}"
