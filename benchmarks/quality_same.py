"""Whether a vector is the same, bit for bit, whatever is encoded beside it.

Batches of 1, 3 and 64 on one thread and on two, straight from the encoder; and whole
indexes, made with one decoding process and with three.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from common import SAMPLES, Line
from mmsearch.indexer import Options, run
from mmsearch.media import audio_windows
from mmsearch.spaces.folder import FolderSpace
from mmsearch.train.mini.data import Sources
from mmsearch.types import Modality
from quality_speed import captions, pictures

COUNT, SOUND_S = 64, 2.0  # parts of each kind; seconds of each sound
WAYS = ((1, 3), (1, 64), (2, 3), (2, 64))  # (threads, batch), against one thread and one part
WORKERS = (1, 3)


def parts(sources: Sources, space: FolderSpace) -> dict[Modality, list[Any]]:
    """Decoded pictures, captions and windows of sound."""
    samples = round(SOUND_S * space.space.preprocess.sample_rate_hz)
    windows = (
        window[at : at + samples]
        for path in sorted((SAMPLES / "sounds").iterdir())
        for window, _, _ in audio_windows(path, space.space.preprocess)
        for at in range(0, max(1, len(window) - samples), samples)
    )
    found: dict[Modality, list[Any]] = {
        Modality.IMAGE: pictures(sources, COUNT, space.space.preprocess.image_px),
        Modality.TEXT: captions(sources, COUNT),
        Modality.AUDIO: list(itertools.islice(windows, COUNT)),
    }
    return {kind: found[kind] for kind in space.space.modalities}


def batched(space: FolderSpace, kind: Modality, data: list[Any], batch: int) -> np.ndarray:
    """The vectors of some parts, so many at a time: float32 (n, d)."""
    several = range(0, len(data), batch)
    return np.concatenate([space.encode(kind, data[i : i + batch]) for i in several])


def stored(index: Path) -> dict[tuple[str, int], bytes]:
    """What an index holds: (path, number of the part) -> the bytes of its vector."""
    found = {}
    for segment in sorted((index / "segments").iterdir()):
        rows = pq.read_table(segment / "parts.parquet", columns=["path", "part_no"]).to_pylist()
        (vectors,) = segment.glob("vectors-*.npy")
        for row, vector in zip(rows, np.load(vectors, allow_pickle=False), strict=True):
            found[row["path"], row["part_no"]] = vector.tobytes()
    return found


def lines(sources: Sources, folder: Path, name: str, work: Path) -> list[Line]:
    """1 where every vector is the same, else 0: for each modality, and for whole indexes."""
    found = []
    spaces = {threads: FolderSpace(folder, threads=threads) for threads, _ in WAYS}
    for kind, data in parts(sources, spaces[1]).items():
        first = batched(spaces[1], kind, data, 1)
        same = all(
            np.array_equal(first, batched(spaces[threads], kind, data, batch))
            for threads, batch in WAYS
        )
        note = f"{len(data)} parts; batches of 1, 3, 64; 1 and 2 threads"
        what = f"same bits whatever the batch, {kind}"
        found.append(Line(what, float(same), goal=1, digits=0, note=note))
    indexes = []
    for workers in WORKERS:
        index = work / f"same-{workers}.index"
        run([SAMPLES], index, name, Options(workers=workers))
        indexes.append(stored(index))
    same = all(one == indexes[0] for one in indexes[1:])
    what = "same index whatever the number of decoding processes"
    note = f"{len(indexes[0])} parts, {' and '.join(map(str, WORKERS))} of them"
    found.append(Line(what, float(same), goal=1, digits=0, note=note))
    return found
