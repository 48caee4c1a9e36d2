"""Keeps the ANN structure of an index in step with its segments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch import ann
from mmsearch.ann import quantiser, tune
from mmsearch.ann.effort import TARGET
from mmsearch.errors import MmsearchError, UsageError
from mmsearch.indexer.sampling import likely_queries, row_sample
from mmsearch.spaces import Encoder
from mmsearch.store import Segment, Writer
from mmsearch.store.manifest import AnnRef, FileRef
from mmsearch.store.segment import codes_name
from mmsearch.types import Vectors

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
Progress = Callable[[str], None]


def update_ann(
    writer: Writer,
    encoder: Encoder | None = None,
    progress: Progress = lambda _: None,
) -> None:
    """Trains, extends or drops the quantiser, as ``manifest.ann_wanted`` and the size ask.

    Adds to the lists of new segments; trains anew when the corpus has outgrown the
    quantiser or drifted away from it. Readers go on with what they have opened.
    encoder: makes the tuner's queries where it has to be tuned; None loads the index's own.
    """
    manifest = writer.manifest
    present = manifest.ann
    verdict = ann.wanted(
        manifest.ann_wanted,
        manifest.live,
        present.trained_on if present else None,
        drift(manifest.ann) if present else 1.0,
    )
    if verdict == "none":
        if present is not None:
            writer.set_ann(None, {})
        return
    mapped = writer.snapshot.ann_blocks
    code_bytes = quantiser.code_bytes(
        manifest.live, manifest.space.dimension, manifest.memory_bytes
    )
    if present is not None and code_bytes < present.facts.get("code_bytes", 1 << 30):
        verdict = "train"  # the memory allowed is outgrown, or the lists are of an older kind
    if verdict == "train" or present is None or mapped is None:
        _train(writer, encoder, progress)
        return
    mapped.check_all()
    if manifest.recall is not None:
        present = replace(present, facts={**present.facts, "target": manifest.recall})
    _code(writer, present, np.asarray(mapped.data), progress)


def parsed_bytes(size: int | str | None) -> int | None:
    """A size in bytes from a number or a text such as ``2GB``, ``512MiB``. Raises UsageError."""
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0):
        return size
    found = _SIZE.fullmatch(str(size).strip())
    value = float(found[1]) * _UNITS[found[2].upper()] if found else 0
    if value < 1:
        raise UsageError(f"a size is a number with a unit, such as 512MB or 2GB; got {size!r}.")
    return int(value)


def drift(present: AnnRef | None) -> float:
    """How much worse the coded vectors fit their lists than those of training: 1 is as well."""
    if present is None or not present.facts.get("error"):
        return 1.0
    errors = present.facts.get("errors", {}).values()  # of each segment: (rows, error)
    rows = sum(n for n, _ in errors)
    mean = sum(n * error for n, error in errors) / rows if rows else present.facts["error"]
    return float(mean / present.facts["error"])


def _train(writer: Writer, encoder: Encoder | None, progress: Progress) -> None:
    manifest = writer.manifest
    number = 1 if manifest.ann is None else int(manifest.ann.name.rsplit("q", 1)[1]) + 1
    name = f"{manifest.space.fingerprint}-q{number:03d}"
    # every code is written anew in any case, and one segment is searched faster than several
    progress("merging segments")
    writer.compact(whole=True)
    progress("training the lists")
    sample = row_sample(writer.snapshot.segments, quantiser.sample_size(manifest.live))
    trained, facts = quantiser.train(
        manifest.live, manifest.space.dimension, sample, manifest.memory_bytes
    )
    new = AnnRef(name, "ivfpq", manifest.live, facts, writer.write_ann(name, trained))
    _code(writer, new, trained, progress)
    tune_ann(writer, encoder, progress)


def _code(writer: Writer, current: AnnRef, trained: NDArray[np.uint8], progress: Progress) -> None:
    """Writes the lists of segments that have none, and makes the quantiser current."""
    codes: dict[str, FileRef] = {}  # segment name -> reference of its codes
    errors = {}  # segment name -> [rows, mean squared distance to the lists' centroids]
    known = current.facts.get("errors", {})
    for i, segment in enumerate(writer.snapshot.segments):
        name = segment.ref.name
        if segment.code_blocks is not None and codes_name(current.name) in segment.ref.files:
            codes[name] = writer.codes_of(name, current.name)
            errors[name] = known.get(name, [segment.ref.rows, current.facts.get("error", 0.0)])
            continue
        progress(f"coding segment {i + 1} of {len(writer.snapshot.segments)}")
        segment.check_whole()  # damage must not get a checksum of its own
        pieces, error = quantiser.encode(trained, _chunks(segment))
        codes[name] = writer.write_codes(name, current.name, pieces)
        errors[name] = [segment.ref.rows, error]
    facts = {**current.facts, "errors": errors}
    if "error" not in facts:  # just trained: how well vectors fit now is what drift starts from
        rows = sum(n for n, _ in errors.values())
        facts["error"] = sum(n * e for n, e in errors.values()) / max(1, rows)
    writer.set_ann(replace(current, facts=facts), codes)


def tune_ann(
    writer: Writer,
    encoder: Encoder | None = None,
    progress: Progress = lambda _: None,
    recall: float | None = None,
    queries: Vectors | None = None,
) -> dict[str, Any]:
    """Measures recall and speed of the present quantiser, keeps them, and returns the facts.

    recall: what searches will aim at from now on; None leaves it. queries: float32
    (nq, d) of the kind that will be asked; None takes sample queries.
    """
    present, snapshot = writer.manifest.ann, writer.snapshot
    if present is None or snapshot.ann_blocks is None:
        raise MmsearchError("there is no quantiser to tune")
    kind = "given"
    if queries is None:
        n = min(_TUNE_QUERIES, max(_TUNE_LEAST, _TUNE_PRODUCTS // max(1, writer.manifest.live)))
        queries, kind = likely_queries(writer.snapshot, encoder, n)
    indexes = []
    for segment in snapshot.segments:
        if segment.code_blocks is not None:
            indexes.append(
                ann.IvfPq(
                    segment.vectors,
                    segment.vector_blocks,
                    segment.code_blocks,
                    snapshot.ann_blocks,
                    present.facts,
                )
            )
    live = [s.live for s in snapshot.segments if s.code_blocks is not None]
    masks = [None if mask.all() else mask for mask in live]
    target = recall or writer.manifest.recall or present.facts.get("target", TARGET)
    facts = {
        **present.facts,
        **tune.tuned(indexes, masks, queries, target, progress),
        "queries_of": kind,
    }
    codes = {s.ref.name: writer.codes_of(s.ref.name, present.name) for s in snapshot.segments}
    writer.set_ann(replace(present, facts=facts), codes)
    return facts


def _chunks(segment: Segment) -> Iterator[NDArray[np.float16]]:
    for start in range(0, segment.ref.rows, _CHUNK_ROWS):
        yield segment.vectors[start : start + _CHUNK_ROWS]
