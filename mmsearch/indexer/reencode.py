"""Changing the model of an index: its content is made in another space beside the old, which
answers meanwhile; then the two are switched in one commit.

The new content is an index of its own inside the old (``next-<fingerprint>``), filled by the
same pipeline as any other, so it is resumed as any other run. What is encoded is what the index
holds: files that came since are left to the next ``index``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch.errors import (
    DecodeError,
    IndexNotFound,
    LimitExceeded,
    ProcessingFailed,
    SpaceUnavailable,
    StoreError,
    UsageError,
)
from mmsearch.indexer.add import New, decoded_files, encode_parts
from mmsearch.indexer.opening import open_writer
from mmsearch.indexer.options import Options, Progress, Report
from mmsearch.indexer.plan import Plan, Wishes
from mmsearch.indexer.running import Run
from mmsearch.media import META_KEYS, joined
from mmsearch.media.pool import Finished, Task
from mmsearch.query import text_parts
from mmsearch.spaces import Encoder, load_encoder
from mmsearch.store import PartRow, Segment, Snapshot, Writer, manifest
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.known import KnownItems
from mmsearch.store.ledger import LedgerRow, Outcome, read_ledger
from mmsearch.store.lock import WriterLock
from mmsearch.store.rows import MODALITIES, OWN_KEY
from mmsearch.store.snapshot import join
from mmsearch.store.strays import remove_ours
from mmsearch.store.switching import (
    keep_copy,
    needs_copy,
    next_folder,
    next_folders,
    switch,
)
from mmsearch.types import Modality, Part, Space, signature_of
from mmsearch.version import __version__

_DECODED = META_KEYS | {"cut_tokens", "unknown_share", OWN_KEY}
# Metadata that differs from part to part. An application that adds a text may use the other names.
_OF_A_TEXT = {"cut_tokens", "unknown_share"}
_OF_A_PART = {"offset", "page", "section"} | _OF_A_TEXT
_ROUNDS = 3  # of catching up with other writers, before they have to wait
_NAMED = 3  # items, in a message
_LISTED = 1_000  # in JSON
_COMMIT_ITEMS = 1024


@dataclass
class Reencoded:
    """What came of it. ``parts`` were encoded in this call; ``lost`` items could not be."""

    old: Space
    new: Space
    report: Report = field(default_factory=Report)
    lost: list[tuple[str, str]] = field(default_factory=list)  # (path or id, why)
    kept: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch reencode --json`` prints."""
        return {
            "schema": 1,
            "from": str(self.old),
            "to": str(self.new),
            "indexed": self.report.indexed,
            "parts": self.report.parts,
            "lost": len(self.lost),
            "left_out": [{"path": path, "why": why} for path, why in self.lost[:_LISTED]],
            "cut": self.report.cut,
            "unknown": self.report.unknown,
            "kept": None if self.kept is None else str(self.kept),
            "seconds": round(self.report.seconds, 3),
            "stages": self.report.stages.to_json(),
        }


def reencode(
    folder: Path,
    space: str,
    options: Options | None = None,
    keep: Path | None = None,
    drop_missing: bool = False,
    progress: Progress | None = None,
) -> Reencoded:
    """Encodes all that an index holds in another space, then switches it over.

    options: of these ``placement``, ``workers``, limits and when to commit. keep: where the old
    index stays, as one of its own (its files are shared); None is nowhere. drop_missing: go
    on without items that cannot be encoded, such as files that are gone.
    Readers go on with the old; ids, roots and metadata stay. Killed at any moment, the same call
    goes on; where the index is in that space already, nothing is done. Raises UsageError where
    items would be lost, and what ``run`` raises.
    """
    options = options or Options()
    if not isinstance(space, str):
        raise UsageError(f"a space is a name or a path, not {space!r}.")
    old = Snapshot.open(folder)
    encoder = load_encoder(space, options.placement)
    done = Reencoded(old.manifest.space, encoder.space, kept=keep)
    remove_next(folder, old.manifest.space.fingerprint)  # of one that was killed after the switch
    if encoder.space.fingerprint == old.manifest.space.fingerprint:
        return done
    _check_others(folder, encoder.space)
    if keep is not None and not _made_before(keep, old):
        needs_copy(old, keep)
    if not drop_missing:
        _check_towers(old, encoder.space)
    beside = next_folder(folder, encoder.space.fingerprint)
    for attempt in range(_ROUNDS + 1):
        if attempt < _ROUNDS:
            done.lost = _bring_up(beside, old, encoder, options, done.report, progress)
            if (newer := Snapshot.open(folder)).manifest != old.manifest:
                old = newer  # somebody wrote meanwhile
                continue
            _check_lost(done, folder, drop_missing)
        with Writer(folder, old.manifest.space, __version__) as writer:
            if attempt == _ROUNDS:  # others write all the time: now they wait
                old = writer.snapshot
                done.lost = _bring_up(beside, old, encoder, options, done.report, progress)
                _check_lost(done, folder, drop_missing)
            if writer.snapshot.manifest == old.manifest:
                new = Snapshot.open(beside)
                if keep is not None:
                    keep_copy(writer.snapshot, keep)
                switch(writer, new, _ledger(writer, beside))
                break
            old = writer.snapshot
    remove_next(folder, encoder.space.fingerprint)
    return done


def _made_before(keep: Path, old: Snapshot) -> bool:
    """Whether the place for the old index holds a copy of it: of a run that was killed then."""
    try:
        return manifest.read(keep).space.fingerprint == old.manifest.space.fingerprint
    except (StoreError, OSError):
        return False


def _check_towers(old: Snapshot, space: Space) -> None:
    """Raises UsageError for parts of a kind that the new space takes nothing of."""
    counts = sum(
        (np.bincount(s.modality_codes[s.live], minlength=len(MODALITIES)) for s in old.segments),
        np.zeros(len(MODALITIES), np.int64),
    )
    lacking = [
        f"{int(n):,} of {m}"
        for m, n in zip(MODALITIES, counts, strict=True)
        if n and m not in space.modalities
    ]
    if lacking:
        raise UsageError(
            f"{old.folder} holds {' and '.join(lacking)}, and {space.name} has no tower for them. "
            "Nothing was done. Choose another space, or go on without them: --drop-missing "
            "(drop_missing=True)."
        )


def remove_next(folder: Path, fingerprint: str | None = None) -> list[Path]:
    """Removes what was made for another space and not switched to; None: for any.

    Raises IndexLocked while it is being made, and UsageError if it holds somebody's own files.
    """
    removed = []
    for path in next_folders(folder):
        if fingerprint is None or path.name == f"next-{fingerprint}":
            with WriterLock(path):
                pass
            if not remove_ours(ConfinedPath(folder), path.name):
                raise UsageError(
                    f"{path} holds files that are not the index's, and was to be removed: move "
                    "them to another place."
                )
            removed.append(path.path)
    return removed


def _check_others(folder: Path, space: Space) -> None:
    for path in next_folders(folder):
        if path == next_folder(folder, space.fingerprint):
            continue
        try:
            name = str(manifest.read(path).space)
        except IndexNotFound:
            continue
        raise UsageError(
            f"{folder} is on its way to {name} already: finish that with --space, or give it up "
            "with --abandon."
        )


def _bring_up(
    beside: ConfinedPath,
    old: Snapshot,
    encoder: Encoder,
    options: Options,
    report: Report,
    progress: Progress | None,
) -> list[tuple[str, str]]:
    """Makes the index beside hold what ``old`` holds; returns what it could not, and why."""
    started = time.monotonic() - report.seconds
    writer, encoder = open_writer(beside, None, options.placement, encoder)
    with writer:
        known = old.manifest
        writer.want(known.ann_wanted, known.recall, known.memory_bytes)
        own = _Own(writer, encoder, old)
        own.bring_up()  # before the plan, which numbers the segments that there are
        plan = Held(writer, [], Wishes(include=known.include), _known(writer, old), source=old)
        found = Run(plan, encoder, options, progress).go()
        report.indexed += found.indexed + own.indexed
        report.parts += found.parts + own.parts
        report.cut += found.cut
        report.unknown += found.unknown
        report.stages, report.seconds = found.stages, time.monotonic() - started
        lost, failed = {**plan.lost, **own.lost}, []
        for row in read_ledger(beside, writer.manifest):
            if row.outcome is not Outcome.FAILED:
                lost[row.path] = row.reason or "there is no tower for it in that space"
            elif hash(row.path) in plan.known.number:
                continue  # it was encoded before
            elif row.stage == "read":
                lost[row.path] = row.reason or "it cannot be read"
            else:
                failed.append(f"{row.path} ({row.reason})")
        if failed:
            raise ProcessingFailed(
                f"{len(failed):,} items were not encoded, and not because of their content: "
                f"{_some(failed)}. Nothing was switched; run the same command to try them again."
            )
        return sorted(lost.items())


def _known(writer: Writer, old: Snapshot) -> KnownItems:
    """What the index beside holds; all of it is to be compared."""
    return KnownItems.load(writer.snapshot, [r.path for r in old.manifest.roots if r.path])


def _check_lost(done: Reencoded, folder: Path, drop_missing: bool) -> None:
    if not done.lost or drop_missing:
        return
    some = _some([f"{path} ({why})" for path, why in done.lost])
    raise UsageError(
        f"{len(done.lost):,} items of {folder} cannot be encoded in {done.new.name}: {some}. "
        "Nothing was switched. Bring them back and run again, or go on without them: "
        "--drop-missing (drop_missing=True)."
    )


def _some(things: Sequence[str]) -> str:
    """The first few of many, for a message."""
    return "; ".join(things[:_NAMED]) + (", …" if len(things) > _NAMED else "")


def _ledger(writer: Writer, beside: ConfinedPath) -> Iterator[LedgerRow]:
    """Of files without parts: those skipped or failed before and now. Ignored ones are looked at
    again by the next run, for the new space may have towers for them."""
    for folder, known in ((writer.place, writer.manifest), (beside, manifest.read(beside))):
        for row in read_ledger(folder, known):
            if row.outcome is not Outcome.IGNORED:
                yield row


@dataclass
class Held(Plan):
    """Asks for the files of another index's items, wherever they lie."""

    source: Snapshot | None = None
    lost: dict[str, str] = field(default_factory=dict)  # absolute path -> why
    _extra: dict[str, dict[str, Any]] = field(default_factory=dict)  # absolute path -> metadata

    def _everything(self) -> None:
        """See ``Plan``: wherever they lie."""

    def ahead(self) -> Iterator[int]:
        """See ``Plan``."""
        for _ in self._items():
            yield 1

    def more_meta(self, task: Task) -> dict[str, Any]:
        """See ``Plan``: what came with the item."""
        return self._extra.get(join(task.item.root, task.item.path), {})

    def copied_meta(self, task: Task, meta: dict[str, Any]) -> dict[str, Any]:
        """See ``Plan``: what came with one of two equal files is not the other's."""
        decoded = {k: v for k, v in meta.items() if k in _DECODED}
        return {**self.more_meta(task), **decoded}

    def tasks(self) -> Iterator[Task]:
        """The files that must be opened, in the order of the index's rows."""
        for path, root, segment, row in self._items():
            self.found += 1
            try:
                signature = signature_of(os.stat(path))
            except (OSError, ValueError) as e:
                self._missing(path, getattr(e, "strerror", None) or str(e))
                continue
            task = self._compare(path, signature, root)
            if task is None:
                self.settled += 1
                continue
            extra = {k: v for k, v in segment.row(row).meta.items() if k not in _DECODED}
            if extra:
                self._extra[path] = extra
            yield task

    def vanished(self, prune: bool, moved: Collection[bytes]) -> tuple[list[int], list[str]]:
        """Items that the other index no longer holds."""
        return self.known.vanished(), []

    def _missing(self, path: str, why: str) -> None:
        self.settled += 1
        item = self.known.number.get(hash(path))
        if item is None:
            self.lost[path] = f"the file cannot be read: {why}"
        else:  # encoded while it was there
            self.known.seen[item] = 1

    def _items(self) -> Iterator[tuple[str, str, Segment, int]]:
        """Of each item with a file below a root: its path, that root, its first part's place."""
        assert self.source is not None
        for segment, row, root, path in _first_parts(self.source):
            if path is not None and (base := self.source.root_path(root)):
                yield join(base, path), base, segment, row


class _Own:
    """Brings what applications added under ids of their own, or without a file."""

    def __init__(self, writer: Writer, encoder: Encoder, source: Snapshot) -> None:
        self.writer, self.encoder, self.source = writer, encoder, source
        self.lost: dict[str, str] = {}  # path or id -> why
        self.indexed = self.parts = 0

    def bring_up(self) -> None:
        """Encodes what is not there yet, and drops what is no longer held."""
        there = {}  # item id -> content hash
        for segment, row, root, _ in _first_parts(self.writer.snapshot):
            if not self.writer.snapshot.root_path(root):
                part = segment.row(row)
                there[part.item_id] = part.content_hash
        wanted = set()
        for rows in self._items():
            first = rows[0]
            wanted.add(first.item_id)
            if there.get(first.item_id) == first.content_hash:
                continue
            try:
                new, meta = self._encoded(rows)
            except (DecodeError, LimitExceeded, SpaceUnavailable) as e:
                self.lost[first.path or first.id] = str(e)
                continue
            if first.item_id in there:
                self.writer.drop(first.item_id)
            self.indexed, self.parts = self.indexed + 1, self.parts + len(new.parts)
            self.writer.extend(new.rows(meta))
            if self.writer.pending >= _COMMIT_ITEMS:
                self._commit()
        if gone := set(there) - wanted:
            self.writer.drop(*gone)
        self._commit()

    def _commit(self) -> None:
        self.writer.commit(unfinished=self.writer.manifest.unfinished)

    def _items(self) -> Iterator[list[PartRow]]:
        """All rows of each such item."""
        for segment, row, root, _ in _first_parts(self.source):
            if self.source.root_path(root):
                continue
            rows = [segment.row(row)]
            for at in range(row + 1, segment.ref.rows):
                part = segment.row(at)
                if part.part_no == 0 or part.item_id != rows[0].item_id:
                    break
                rows.append(part)
            yield rows

    def _encoded(self, rows: list[PartRow]) -> tuple[New, dict[str, Any]]:
        """The item in the new space, and the metadata that came with it."""
        first = rows[0]
        new = New(first.id, self.writer.root(""), first.path)
        new.content_hash = first.content_hash
        new.signature = (first.size, first.mtime_ns, first.ctime_ns, first.inode)
        varying = _OF_A_TEXT if first.path is None else _OF_A_PART
        came = {k: v for k, v in first.meta.items() if k not in varying}
        if first.path is not None:
            end = self._from_file(first.path, new)
            if end.content_hash != first.content_hash:  # what was decoded then holds no more
                came = {k: v for k, v in first.meta.items() if k not in _DECODED}
            new.content_hash, new.signature = end.content_hash, end.signature
        elif first.modality is Modality.TEXT:
            share = self.source.manifest.space.preprocess.passage_overlap
            text = joined([row.text or "" for row in rows], share)
            encode_parts(self.encoder, text_parts(text, self.encoder.space.preprocess), new)
        else:
            raise DecodeError(f"it was added as {first.modality} without a file")
        if not new.parts:
            raise DecodeError("there is nothing in it to index")
        return new, came

    def _from_file(self, path: str, new: New) -> Finished:
        try:  # before a process is started to decode it
            os.stat(path)
        except (OSError, ValueError) as e:
            why = getattr(e, "strerror", None) or e
            raise DecodeError(f"the file cannot be read: {why}", stage="read") from None
        end: list[Finished] = []

        def parts() -> Iterator[Part]:
            for event in decoded_files(self.encoder, [path]):
                if isinstance(event, Finished):
                    end.append(event)
                else:
                    self.encoder.space.require(event.modality)
                    yield event

        encode_parts(self.encoder, parts(), new)
        return end[0]


def _first_parts(snapshot: Snapshot) -> Iterator[tuple[Segment, int, int, str | None]]:
    """The live first part of every item: its segment, row, root and path."""
    for segment in snapshot.segments:
        first = 0
        for batch in segment.batches(["part_no", "root", "path", "path_bytes"]):
            columns = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            for row, (part_no, root, path, raw) in enumerate(columns, first):
                if part_no == 0 and segment.live[row]:
                    yield segment, row, root, path if raw is None else os.fsdecode(raw)
            first += batch.num_rows
