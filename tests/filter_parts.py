"""The parts that filters are tried on, and an index of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mmsearch import Index
from mmsearch.store import PartRow, Writer
from mmsearch.types import Modality, Preprocess, Space

D = 8
SPACE = Space("test", "0" * 64, D, tuple(Modality), Preprocess(224, 16000, 10.0))
README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
DAY_NS = 86_400 * 10**9
Q = np.eye(D, dtype=np.float32)[0]
IMAGE, TEXT, AUDIO = Modality.IMAGE, Modality.TEXT, Modality.AUDIO


def part(id: str, modality: Modality, path: str | None, **more: object) -> PartRow:
    values: dict[str, object] = {"root": 0, "part_no": 0, "start_s": None, "end_s": None}
    values |= {"text": None, "meta": {}, "size": 0, "mtime_ns": 0, "ctime_ns": 1, "inode": 1}
    return PartRow(id=id, path=path, modality=modality, content_hash=bytes(16), **values | more)  # type: ignore[arg-type]


RAIN = {"title": "It's raining", "artist": "The Rains", "album": "Rain", "genre": "Ambient",
        "channels": 2, "sample_rate_hz": 44100}  # fmt: skip
PARTS = [
    part("beach", IMAGE, "2023/Holiday/beach.jpg", size=5000, mtime_ns=19_000 * DAY_NS,
         meta={"width": 4000, "height": 3000, "format": "JPEG",
               "taken": "2023-07-14T18:30:00+02:00", "camera": "FUJIFILM X100V",
              "latitude": 47.38, "longitude": 8.54}),
    part("icon", IMAGE, "icons/my_photo.png", size=90, mtime_ns=19_700 * DAY_NS,
         meta={"width": 64, "height": 64, "format": "PNG"}),
    part("song", AUDIO, "sounds/song.wav", start_s=0.0, end_s=10.0, size=9 * 10**9,
         meta={"duration_s": 95.5, "format": "WAV", **RAIN}),
    part("song#6", AUDIO, "sounds/song.wav", part_no=6, start_s=60.0, end_s=70.0,
         size=9 * 10**9, meta={"duration_s": 95.5, "format": "WAV", **RAIN}),
    part("report", TEXT, "papers/report 100%.pdf", text="The harbour at dawn.\nSecond line",
         mtime_ns=-1, meta={"page": 3, "offset": 0, "title": "Harbours", "author": "A. Harbour",
                             "section": "Harbours › Dawn"}),
    part("note", TEXT, None, root=1, text="A note of mine",
         meta={"by": "me", "rating": 4, "done": True, "camera": {"maker": "Ö"}, "a/b~c": "odd",
               "tags": ["x", "y"]}),
    part("other", TEXT, None, root=1, text="Another", meta={"by": "you", "rating": "four"}),
    part("odd", TEXT, os.fsdecode(b"caf\xe9.txt"), text="odd name", meta={"by": "\udcff"}),
]  # fmt: skip
ALL = {p.id for p in PARTS}


def unit(seed: int) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal(D).astype(np.float32)
    return v / np.linalg.norm(v)


def fill(folder: Path) -> Path:
    """The parts in three segments, with one more in each that is deleted again."""
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        writer.root("")
        for group in (PARTS[:3], PARTS[3:6], PARTS[6:]):
            gone = part(f"gone-{group[0].path}", IMAGE, "gone.jpg", meta=dict(group[0].meta))
            for row in (gone, *group):
                writer.extend([(row, unit(len(row.id)))])
            writer.commit()
        writer.drop(*(f"gone-{PARTS[i].path}" for i in (0, 3, 6)))
        writer.commit()
    return folder


def ids(index: Index, where: str, to: str | None = None) -> set[str]:
    hits = index.search(vector=Q, where=where, to=to, k=100)
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    return {h.id for h in hits}


SONG = {"song", "song#6"}
TEXTS = {"report", "note", "other", "odd"}
