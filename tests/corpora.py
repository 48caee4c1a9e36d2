"""Small corpora to index, and a run over one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from mmsearch.indexer import Options, Report, run

FILES = [
    "photos/coffee.jpg",
    "photos/tabby.jpg",
    "photos/pagoda.jpg",
    "photos/porch.jpg",
    "sounds/bark.ogg",
    "sounds/rain.ogg",
    "sounds/fiddle.mp3",
    "texts/en/coffee.txt",
    "texts/zh/lute.txt",
]


def copy_samples(samples: Path, folder: Path) -> None:
    """Nine of the samples in ``folder``, old enough for their times to be trusted."""
    for name in FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(samples / name, target)
    settle()


def settle() -> None:
    """Waits until files that were just written count as settled."""
    time.sleep(0.12)


def update(corpus: Path, index: Path, **options: object) -> Report:
    return run([corpus], index, None, Options(**options))  # type: ignore[arg-type]
