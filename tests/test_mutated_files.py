"""Damaged copies of files of every format: each is accounted for, and nothing dies."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from documents import harmed, whole
from hostile import pdf_with_text, pictures, sounds
from memos import WRITTEN, tone, written
from mmsearch.media import Limits
from mmsearch.media.pool import DecodePool, Failed, Finished, Ignored, PartReady, Skipped, Task
from mmsearch.types import Item, Preprocess

PREPROCESS = Preprocess(image_px=64, sample_rate_hz=16000, window_s=10.0)


def files() -> dict[str, bytes]:
    """A whole file of each format, by its name."""
    found = {f"picture.{suffix}": data for suffix, data in pictures().items()}
    found |= {f"sound.{suffix}": data for suffix, data in sounds().items()}
    found |= {name.replace("x.", "document."): data for name, data in whole().items()}
    for number, (name, format, encoder, rate_hz, channels, _) in enumerate(WRITTEN):
        data = written(format, encoder, rate_hz, channels, tone(rate_hz, 3.0))
        found[f"{number}-{name}"] = data
    page = "<html><head><title>A page</title></head><body><h1>Words</h1><p>more</p></body></html>"
    return found | {"text.md": b"# Words\n\nmore of them\n" * 9, "page.html": page.encode() * 5,
                    "pages.pdf": pdf_with_text("one page", "and another")}  # fmt: skip


def mutated(folder: Path, copies: int, seed: int) -> Counter[str]:
    """What became of damaged copies of each format, written into a folder and decoded."""
    rng, outcomes = random.Random(seed), Counter[str]()
    tasks = []
    for name, data in files().items():
        for number in range(copies):
            (folder / f"{number}-{name}").write_bytes(harmed(data, rng))
            tasks.append(Task(Item(str(folder), f"{number}-{name}", 0, 0, 0, 0)))
    limits = Limits(worker_cpu_s=30.0)
    with DecodePool(PREPROCESS, limits=limits, workers=2, timeout_s=60) as pool:
        for event in pool.run(iter(tasks), lambda task, digest: True):
            match event:
                case PartReady():
                    continue
                case Skipped(reason=reason) | Failed(reason=reason):
                    assert len(reason) > 8 and "Traceback" not in reason
                    died = "crashed" in reason or "gave up" in reason or "killed" in reason
                    kind = "died" if died else type(event).__name__.lower()
                    if kind != "skipped":
                        outcomes[f"{kind}: {event.task.item.path}: {reason}"] += 1
                    outcomes[kind] += 1
                case Finished() | Ignored():
                    outcomes[type(event).__name__.lower()] += 1
    assert outcomes["finished"] + outcomes["skipped"] + outcomes["ignored"] == len(tasks), outcomes
    return outcomes


def test_a_few_damaged_copies_of_every_format(tmp_path: Path) -> None:
    found = mutated(tmp_path, 2, seed=1)
    assert found["finished"] and found["skipped"]


@pytest.mark.campaign
def test_thousands_of_damaged_copies_of_every_format(tmp_path: Path) -> None:
    found = mutated(tmp_path, 60, seed=2)
    assert found.total() >= 2000
    print(found)
