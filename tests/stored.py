"""Small indexes of made-up rows, and what they hold: shared by tests of the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmsearch.store import PartRow, Snapshot, Writer
from mmsearch.types import Modality, Preprocess, Space

D = 8
SPACE = Space("test", "0" * 64, D, tuple(Modality), Preprocess(224, 16000, 10.0))


def unit(seed: int) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal(D).astype(np.float32)
    return v / np.linalg.norm(v)


def row(n: int, part_no: int = 0, path: str | None = None, root: int = 0) -> PartRow:
    item = f"item{n}"
    return PartRow(
        item if part_no == 0 else f"{item}#{part_no}",
        root,
        path or f"a/{n}.jpg",
        Modality.IMAGE,
        part_no,
        None,
        None,
        None,
        {"n": n},
        100 + n,
        200 + n,
        300 + n,
        400 + n,
        n.to_bytes(16, "little"),
    )


def fill(folder: Path, *groups: range) -> None:
    """One commit for each group of item numbers."""
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        for group in groups:
            for n in group:
                writer.extend([(row(n), unit(n))])
            writer.commit()


def contents(folder: Path) -> dict[str, bytes]:
    """Live part id -> vector bytes."""
    snapshot = Snapshot.open(folder)
    return {
        segment.row(int(r)).id: segment.lanes[0].vectors[r].tobytes()
        for segment in snapshot.segments
        for r in np.flatnonzero(segment.live)
    }


def expected(*numbers: int) -> dict[str, bytes]:
    return {f"item{n}": unit(n).astype(np.float16).tobytes() for n in numbers}
