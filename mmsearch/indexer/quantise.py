"""Keeps the ANN structure of an index in step with its segments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann import ivfpq
from mmsearch.store import Segment, Writer
from mmsearch.store.manifest import AnnRef
from mmsearch.store.segment import codes_name
from mmsearch.types import Vectors

_CHUNK_ROWS = 16384


def update_ann(writer: Writer) -> None:
    """Trains, extends or drops the quantiser, as ``manifest.ann_wanted`` and the size ask."""
    manifest = writer.manifest
    ann = manifest.ann
    verdict = ivfpq.wanted(manifest.ann_wanted, manifest.live, ann.trained_on if ann else None)
    if verdict == "none":
        if ann is not None:
            writer.set_ann(None, {})
        return
    segments = writer.snapshot.segments
    mapped = writer.snapshot.ann_blocks
    if verdict == "train" or ann is None or mapped is None:
        number = 1 if ann is None else int(ann.name.rsplit("q", 1)[1]) + 1
        name = f"{manifest.space.fingerprint}-q{number:03d}"
        d = manifest.space.dimension
        quantiser, facts = ivfpq.train(manifest.live, d, _sample(segments, manifest.live))
        ann = AnnRef(name, "ivfpq", manifest.live, facts, writer.write_ann(name, quantiser))
    else:
        mapped.check_all()
        quantiser = mapped.data
    codes = {}  # segment name -> reference of its codes
    for segment in segments:
        whole = segment.code_blocks is not None
        present = segment.ref.files.get(codes_name(ann.name)) if whole else None
        codes[segment.ref.name] = present or writer.write_codes(
            segment.ref.name, ann.name, ivfpq.encode(quantiser, _chunks(segment))
        )
    writer.set_ann(ann, codes)


def _chunks(segment: Segment) -> Iterator[NDArray[np.float16]]:
    segment.check_whole()
    for start in range(0, segment.ref.rows, _CHUNK_ROWS):
        yield segment.vectors[start : start + _CHUNK_ROWS]


def _sample(segments: tuple[Segment, ...], live: int) -> Vectors:
    """An even sample of the live vectors: the same for the same snapshot."""
    rng = np.random.default_rng(0)
    share = ivfpq.sample_size(live) / live
    chosen = []  # (segment, rows)
    for segment in segments:
        rows = np.flatnonzero(segment.live)
        n = min(len(rows), int(np.ceil(share * len(rows))))
        chosen.append((segment, np.sort(rng.choice(rows, n, replace=False))))
    d = segments[0].vectors.shape[1]
    out = np.empty((sum(len(rows) for _, rows in chosen), d), np.float32)
    at = 0
    for segment, rows in chosen:
        for start in range(0, len(rows), _CHUNK_ROWS):
            some = rows[start : start + _CHUNK_ROWS]
            segment.check_rows(some)
            out[at : at + len(some)] = segment.vectors[some]
            at += len(some)
    return out
