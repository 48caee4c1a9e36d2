"""Looking after an index: tuning, compacting, and merging others into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsearch import ann, store
from mmsearch.errors import IndexNotFound, SpaceMismatch, UsageError
from mmsearch.given import listed
from mmsearch.indexer.quantise import tune_ann, update_ann
from mmsearch.indexer.sampling import encoded
from mmsearch.query import check_text, checked_recall
from mmsearch.spaces.kept import encoder_of, what_is_wrong
from mmsearch.store import Problem, Snapshot, Writer, manifest
from mmsearch.store.absorbing import absorb
from mmsearch.store.verifying import Deeper
from mmsearch.types import Modality
from mmsearch.version import __version__

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Compacted:
    """What ``compact`` did. trained: whether lists of approximate search were trained anew."""

    segments_before: int
    segments: int
    trained: bool
    changed: bool

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch compact --json`` prints."""
        return {
            "schema": 1,
            "segments_before": self.segments_before,
            "segments": self.segments,
            "trained": self.trained,
        }


@dataclass(frozen=True)
class Merged:
    """What ``merge`` did: parts that it took over, and items of before that it replaced."""

    parts: int
    replaced: int

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch merge --json`` prints."""
        return {"schema": 1, "parts": self.parts, "replaced": self.replaced}


_LEAST_QUERIES = 20  # recall measured with fewer says nothing


def tune(
    folder: Path,
    recall: float | None = None,
    queries: Iterable[str] | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Measures recall and speed of an index's approximate search, and keeps what it found.

    recall: what searches will aim at from now on, 0.5 to 1; None leaves it. queries: texts
    of the kind that will be asked, at least 20; None takes sample queries. Returns the facts
    with ``curve``, ``depths``, ``target``, ``queries`` and ``queries_of``.
    Raises UsageError for an index that is searched exactly, and what writing raises.
    """
    known = manifest.read(folder)
    checked_recall(recall)
    if known.ann is None:
        raise UsageError(
            f"{folder} is searched exactly, so its recall is 1 and there is nothing to tune. "
            f"It gets approximate search from {ann.AUTO_MIN:,} parts, or with --ann ivfpq."
        )
    texts = None if queries is None else listed(queries, "queries")
    with Writer(folder, known.space, __version__) as writer:
        xq = None
        if texts is not None:
            xq = _encoded(writer, texts)
        facts = tune_ann(writer, None, progress, recall, xq)
        writer.finish()
    return facts


def verify(folder: Path, progress: Progress = lambda _: None) -> list[Problem]:
    """Reads all of an index and says what is wrong; writes nothing. See ``store.verify``."""
    return store.verify(folder, progress, Deeper(ann.what_is_wrong, what_is_wrong))


def compact(folder: Path, progress: Progress = lambda _: None) -> Compacted:
    """Makes one segment of all, without deleted rows; trains lists anew where vectors drifted.

    Readers go on meanwhile. Raises what writing raises; killed at any moment, nothing is lost.
    """
    before = manifest.read(folder)
    with Writer(folder, before.space, __version__) as writer:
        progress("merging segments")
        writer.compact(whole=True)
        update_ann(writer, None, progress)
        writer.finish()
        after = writer.manifest
    names = [{one.name for one in known.anns.values()} for known in (before, after)]
    return Compacted(
        len(before.segments),
        len(after.segments),
        not names[1] <= names[0],
        before.segments != after.segments,
    )


def merge(folder: Path, others: Iterable[Path], progress: Progress = lambda _: None) -> Merged:
    """Copies everything that other indexes hold into this one, which is made if need be.

    An item that is in several is taken from the last. All of an index comes in one commit;
    its vectors are copied, not made again. Raises SpaceMismatch for an index of another space,
    IndexNotFound, and what writing raises.
    """
    snapshots = [Snapshot.open(Path(other)) for other in others]
    if not snapshots:
        raise UsageError("name at least one index to merge.")
    try:
        space = manifest.read(folder).space
    except IndexNotFound:
        space = snapshots[0].manifest.space
    if any(s.folder.resolve() == folder.resolve() for s in snapshots):
        raise UsageError(f"{folder} cannot be merged into itself.")
    for other in snapshots:  # before anything is made
        if other.manifest.space.fingerprint != space.fingerprint:
            raise SpaceMismatch(
                f"{other.folder} holds {other.manifest.space}; {folder} holds or gets {space}. "
                "Only indexes of one space can be merged."
            )
        progress(f"checking {other.folder}")
        for segment in other.segments:
            segment.check_whole()
    parts = replaced = 0
    with Writer(folder, space, __version__) as writer:
        kept = None if writer.manifest.query else snapshots[0].kept_space
        if kept is not None:
            snapshots[0].check_kept_space()
            writer.keep_space({name: kept / name for name in snapshots[0].manifest.query})
        for other in snapshots:
            progress(f"taking over {other.folder}")
            took, instead = absorb(writer, other)
            parts, replaced = parts + took, replaced + instead
        writer.compact()
        update_ann(writer, None, progress)
        writer.finish()
    return Merged(parts, replaced)


def _encoded(writer: Writer, texts: list[str]) -> Any:
    for text in texts:
        check_text(text)
    if len(texts) < _LEAST_QUERIES:
        raise UsageError(
            f"at least {_LEAST_QUERIES} different queries are needed; got {len(texts)}."
        )
    snapshot = writer.snapshot
    encoder = encoder_of(snapshot.manifest.space, snapshot.kept_space, snapshot.check_kept_space)
    if Modality.TEXT not in encoder.space.modalities:
        raise UsageError(f"{encoder.space} has no tower for texts.")
    return encoded(encoder, texts)
