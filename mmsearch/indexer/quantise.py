"""Keeps the ANN structure of an index in step with its segments."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch import ann
from mmsearch.ann import quantiser, tune
from mmsearch.ann.effort import TARGET
from mmsearch.errors import MmsearchError, UsageError
from mmsearch.sample_queries import sample_queries
from mmsearch.spaces import Encoder
from mmsearch.spaces.kept import encoder_of
from mmsearch.store import Segment, Writer
from mmsearch.store.manifest import AnnRef, FileRef
from mmsearch.store.rows import MODALITIES
from mmsearch.store.segment import codes_name
from mmsearch.types import Modality, Vectors

_CHUNK_ROWS = 16384
# Queries that the tuner asks: enough for recall to within 0.004. Each is compared with
# every vector, so of a very large index fewer.
_TUNE_QUERIES, _TUNE_LEAST, _TUNE_PRODUCTS = 1000, 400, 2_000_000_000
_ENCODED = 256  # texts encoded at a time
_FRAGMENT_CHARS = 200
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
    sample = _sample(writer.snapshot.segments, manifest.live)
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
        queries, kind = _sample_vectors(writer, encoder, n)
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


def _sample_vectors(writer: Writer, encoder: Encoder | None, n: int) -> tuple[Vectors, str]:
    """Queries of the kind that people ask: float32 (n, d), and what they are.

    Of pictures and sounds people ask with sentences like the sample texts; of texts, with
    words that are in them. So as many of the queries as there are texts among the parts
    are fragments of those.
    """
    space = writer.manifest.space
    if Modality.TEXT in space.modalities:
        try:
            own = _fragments(writer.snapshot.segments, n)
            snapshot = writer.snapshot
            encoder = encoder or encoder_of(space, snapshot.kept_space, snapshot.check_kept_space)
            asked = own + [q for q in sample_queries(n) if q not in own][: n - len(own)]
            kind = "sample texts" if not own else "fragments of the index's texts"
            kind += " and sample texts" if own and len(own) < len(asked) else ""
            blocks = [asked[at : at + _ENCODED] for at in range(0, len(asked), _ENCODED)]
            return np.concatenate([encoder.encode(Modality.TEXT, b) for b in blocks]), kind
        except MmsearchError:  # the index can be built without its encoder, only less well
            pass
    rows = _sample(writer.snapshot.segments, writer.manifest.live)
    pick = np.random.default_rng(1).choice(len(rows), min(n, len(rows)), replace=False)
    return rows[pick], "stored vectors"


def _fragments(segments: Sequence[Segment], n: int) -> list[str]:
    """A few words out of each of some stored texts, which people might ask for.

    Of n queries as many as texts are among the live parts, all different.
    """
    rng = np.random.default_rng(2)
    text = MODALITIES.index(Modality.TEXT)
    rows = [np.flatnonzero(s.live & (s.modality_codes == text)) for s in segments]
    n_live = sum(int(np.count_nonzero(s.live)) for s in segments)
    n_texts = sum(map(len, rows))
    wanted = round(n * n_texts / max(1, n_live))
    found: dict[str, None] = {}
    for segment, mine in zip(segments, rows, strict=True):
        # twice as many: short texts give the same words
        take = min(len(mine), math.ceil(2 * wanted * len(mine) / max(1, n_texts)))
        picked = np.sort(rng.choice(mine, take, replace=False)).tolist()
        for row in segment.rows(picked):
            if row.text and (fragment := _fragment(row.text, rng)):
                found[fragment] = None
    return rng.permutation(list(found))[:wanted].tolist() if found else []


def _fragment(text: str, rng: np.random.Generator) -> str:
    """Three to twelve neighbouring words; of a text without spaces as many pairs of signs."""
    size = int(rng.integers(3, 13))
    words = text.split()
    if len(words) >= 3:
        at = int(rng.integers(max(1, len(words) - size + 1)))
        return " ".join(words[at : at + size])[:_FRAGMENT_CHARS]
    joined = " ".join(words)
    at = int(rng.integers(max(1, len(joined) - 2 * size + 1)))
    return joined[at : at + 2 * size]


def _chunks(segment: Segment) -> Iterator[NDArray[np.float16]]:
    for start in range(0, segment.ref.rows, _CHUNK_ROWS):
        yield segment.vectors[start : start + _CHUNK_ROWS]


def _sample(segments: tuple[Segment, ...], live: int) -> Vectors:
    """An even sample of the live vectors: the same for the same snapshot."""
    rng = np.random.default_rng(0)
    share = quantiser.sample_size(live) / live
    chosen = []  # (segment, rows)
    for segment in segments:
        rows = np.flatnonzero(segment.live)
        n = min(len(rows), int(np.ceil(share * len(rows))))
        chosen.append((segment, np.sort(rng.choice(rows, n, replace=False))))
    d = segments[0].vectors.shape[1]
    out = np.empty((sum(len(rows) for _, rows in chosen), d), np.float32)
    at = 0
    for segment, rows in chosen:
        segment.check_rows(rows)
        for start in range(0, len(rows), _CHUNK_ROWS):
            some = rows[start : start + _CHUNK_ROWS]
            out[at : at + len(some)] = segment.vectors[some]
            at += len(some)
    return out
