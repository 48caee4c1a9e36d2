"""Keeps the ANN structure of an index, of each lane one, in step with its segments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch import ann
from mmsearch.ann import quantiser, tune
from mmsearch.ann.effort import TARGET
from mmsearch.errors import MmsearchError, UsageError
from mmsearch.given import shown
from mmsearch.indexer.sampling import likely_queries
from mmsearch.spaces import Encoder
from mmsearch.store import Segment, Writer
from mmsearch.store.lane_files import LaneFiles, codes_name
from mmsearch.store.manifest import AnnRef, FileRef
from mmsearch.store.sampling import row_sample
from mmsearch.types import Space, Vectors

_CHUNK_ROWS = 16384
# Queries that the tuner asks: enough for recall to within 0.004. Each is compared with
# every vector, so of a very large index fewer.
_TUNE_QUERIES, _TUNE_LEAST, _TUNE_PRODUCTS = 1000, 400, 2_000_000_000
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,3})?)\s*([kKmMgGtT]?(?:i?[bB])?)")
_UNITS = {
    name + suffix: base**i
    for i, name in enumerate(("", "K", "M", "G", "T"))
    for suffix, base in (("", 1000), ("B", 1000), ("IB", 1024))
}
_MOST_BYTES = 1 << 60
Progress = Callable[[str], None]


def update_ann(
    writer: Writer,
    encoder: Encoder | None = None,
    progress: Progress = lambda _: None,
    train: bool = True,
) -> None:
    """Trains, extends or drops the quantiser of each lane, as ``manifest.ann_wanted`` and the
    size ask.

    Adds to the lists of new segments; trains anew when the corpus has outgrown the
    quantiser or drifted away from it. Readers go on with what they have opened.
    encoder: makes the tuner's queries where it has to be tuned; None loads the index's own.
    train: whether it may be trained, which takes seconds to hours; else only lists of new segments
    are made, and an index that has none stays exact.
    """
    lanes = range(len(writer.manifest.space.each))
    for lane in lanes:
        _update(Lane.of(writer, lane), encoder, progress, train)
    for lane in lanes[:-1]:  # one that was trained after it has merged the segments that it coded
        _update(Lane.of(writer, lane), encoder, progress, train)


@dataclass(frozen=True)
class Lane:
    """A lane of the index that is written: its number, live parts, and what it has by now."""

    writer: Writer
    number: int
    live: int
    memory_bytes: int | None  # its share of what the lists may take

    @classmethod
    def of(cls, writer: Writer, number: int) -> Lane:
        """The lane as it is now."""
        manifest = writer.manifest
        if not manifest.space.lanes:
            return cls(writer, number, manifest.live, manifest.memory_bytes)
        live = [_live(writer.snapshot.segments, i) for i in range(len(manifest.space.each))]
        allowed = manifest.memory_bytes
        if allowed is not None:
            allowed = max(1, allowed * live[number] // max(1, sum(live)))
        return cls(writer, number, live[number], allowed)

    @property
    def name(self) -> str:
        """Its fingerprint."""
        return self.space.fingerprint

    @property
    def space(self) -> Space:
        """Its space."""
        return self.writer.manifest.space.each[self.number]

    @property
    def present(self) -> AnnRef | None:
        """Its quantiser."""
        return self.writer.manifest.anns.get(self.name)

    def files(self) -> Iterator[tuple[Segment, LaneFiles]]:
        """Each segment, and its files of this lane."""
        for segment in self.writer.snapshot.segments:
            yield segment, segment.lanes[self.number]


def _live(segments: Sequence[Segment], lane: int) -> int:
    found = 0
    for segment in segments:
        rows = segment.rows_of(lane)
        found += int(np.count_nonzero(segment.live if rows is None else segment.live[rows]))
    return found


def _update(lane: Lane, encoder: Encoder | None, progress: Progress, train: bool) -> None:
    writer, manifest, present = lane.writer, lane.writer.manifest, lane.present
    verdict = ann.wanted(
        manifest.ann_wanted,
        lane.live,
        present.trained_on if present else None,
        drift(present) if present else 1.0,
    )
    if verdict == "none":
        if present is not None:
            writer.set_ann(lane.name, None, {})
        return
    mapped = writer.snapshot.ann_blocks.get(lane.name)
    code_bytes = quantiser.code_bytes(lane.live, lane.space.dimension, lane.memory_bytes)
    if present is not None and code_bytes < present.facts.get("code_bytes", 1 << 30):
        verdict = "train"  # the memory allowed is outgrown, or the lists are of an older kind
    if present is None or mapped is None or (verdict == "train" and train):
        if train:
            _train(lane, encoder, progress)
        return
    mapped.check_all()
    if manifest.recall is not None:
        present = replace(present, facts={**present.facts, "target": manifest.recall})
    _code(lane, present, np.asarray(mapped.data), progress)


def parsed_bytes(size: int | str | None) -> int | None:
    """A size in bytes from a number or a text such as ``2GB``, ``512MiB``. Raises UsageError."""
    if size is None or (
        isinstance(size, int) and not isinstance(size, bool) and 0 < size < _MOST_BYTES
    ):
        return size
    found = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    value = float(found[1]) * _UNITS[found[2].upper()] if found else 0
    if value < 1:
        raise UsageError(
            f"a size is a number with a unit, such as 512MB or 2GB; got {shown(size)}."
        )
    return int(value)


def drift(present: AnnRef | None) -> float:
    """How much worse the coded vectors fit their lists than those of training: 1 is as well."""
    if present is None or not present.facts.get("error"):
        return 1.0
    errors = present.facts.get("errors", {}).values()  # of each segment: (rows, error)
    rows = sum(n for n, _ in errors)
    mean = sum(n * error for n, error in errors) / rows if rows else present.facts["error"]
    return float(mean / present.facts["error"])


def _train(lane: Lane, encoder: Encoder | None, progress: Progress) -> None:
    writer = lane.writer
    number = 1 if lane.present is None else int(lane.present.name.rsplit("q", 1)[1]) + 1
    name = f"{lane.name}-q{number:03d}"
    # every code is written anew in any case, and one segment is searched faster than several
    progress("merging segments")
    writer.compact(whole=True)
    progress("training the lists")
    size = quantiser.sample_size(lane.live)
    sample = row_sample(writer.snapshot.segments, size, None, lane.number)
    trained, facts = quantiser.train(lane.live, lane.space.dimension, sample, lane.memory_bytes)
    new = AnnRef(name, "ivfpq", lane.live, facts, writer.write_ann(name, trained))
    _code(lane, new, trained, progress)
    _tune(lane, encoder, progress)


def _code(lane: Lane, current: AnnRef, trained: NDArray[np.uint8], progress: Progress) -> None:
    """Writes the lists of segments that have none, and makes the quantiser current."""
    writer = lane.writer
    codes: dict[str, FileRef] = {}  # segment name -> reference of its codes
    errors = {}  # segment name -> [rows, mean squared distance to the lists' centroids]
    known = current.facts.get("errors", {})
    for i, (segment, files) in enumerate(lane.files()):
        name = segment.ref.name
        if files.code_blocks is not None and codes_name(current.name) in segment.ref.files:
            codes[name] = writer.codes_of(name, current.name)
            errors[name] = known.get(name, [len(files.vectors), current.facts.get("error", 0.0)])
            continue
        if not len(files.vectors):
            continue  # nothing of a kind that the lane holds
        progress(f"coding segment {i + 1} of {len(writer.snapshot.segments)}")
        segment.check_whole()  # damage must not get a checksum of its own
        pieces, error = quantiser.encode(trained, _chunks(files))
        codes[name] = writer.write_codes(name, current.name, pieces)
        errors[name] = [len(files.vectors), error]
    facts = {**current.facts, "errors": errors}
    if "error" not in facts:  # just trained: how well vectors fit now is what drift starts from
        rows = sum(n for n, _ in errors.values())
        facts["error"] = sum(n * e for n, e in errors.values()) / max(1, rows)
    writer.set_ann(lane.name, replace(current, facts=facts), codes)


def tune_ann(
    writer: Writer,
    encoder: Encoder | None = None,
    progress: Progress = lambda _: None,
    recall: float | None = None,
    queries: Vectors | None = None,
) -> dict[str, Any]:
    """Measures recall and speed of the present quantiser, keeps them, and returns the facts.

    Of several lanes that have one, each is tuned: the facts are those of the first, with
    ``lanes``, those of each with the name of its ``space``.
    recall: what searches will aim at from now on; None leaves it. queries: float32
    (nq, d) of the kind that will be asked; None takes sample queries.
    """
    found = []
    for number, columns in enumerate(writer.manifest.space.columns):
        lane = Lane.of(writer, number)
        if lane.present is not None:
            xq = None if queries is None else np.ascontiguousarray(queries[:, columns])
            facts = _tune(lane, encoder, progress, recall, xq)
            found.append({"space": lane.space.name, **facts})
    if not found:
        raise MmsearchError("there is no quantiser to tune")
    first = {name: value for name, value in found[0].items() if name != "space"}
    return {**first, "lanes": found} if writer.manifest.space.lanes else first


def _tune(
    lane: Lane,
    encoder: Encoder | None,
    progress: Progress,
    recall: float | None = None,
    queries: Vectors | None = None,
) -> dict[str, Any]:
    writer, present, snapshot = lane.writer, lane.present, lane.writer.snapshot
    trained = snapshot.ann_blocks.get(lane.name)
    if present is None or trained is None:
        raise MmsearchError("there is no quantiser to tune")
    kind = "given"
    if queries is None:
        n = min(_TUNE_QUERIES, max(_TUNE_LEAST, _TUNE_PRODUCTS // max(1, lane.live)))
        queries, kind = likely_queries(snapshot, encoder, n, lane.number)
    indexes, masks, codes = [], [], {}
    for segment, files in lane.files():
        if files.code_blocks is None:
            continue
        indexes.append(
            ann.IvfPq(files.vectors, files.blocks, files.code_blocks, trained, present.facts)
        )
        rows = segment.rows_of(lane.number)
        live = segment.live if rows is None else segment.live[rows]
        masks.append(None if live.all() else live)
        codes[segment.ref.name] = writer.codes_of(segment.ref.name, present.name)
    target = recall or writer.manifest.recall or present.facts.get("target", TARGET)
    facts = {
        **present.facts,
        **tune.tuned(indexes, masks, queries, target, progress),
        "queries_of": kind,
    }
    writer.set_ann(lane.name, replace(present, facts=facts), codes)
    return facts


def _chunks(files: LaneFiles) -> Iterator[NDArray[np.float16]]:
    for start in range(0, len(files.vectors), _CHUNK_ROWS):
        yield files.vectors[start : start + _CHUNK_ROWS]
