"""One run of ``index``: bring an index up to date with folders."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch import ann
from mmsearch.cores import available_cores
from mmsearch.errors import (
    IndexNotFound,
    MmsearchError,
    UsageError,
)
from mmsearch.indexer.encoding import Batches, OpenItem
from mmsearch.indexer.opening import open_writer
from mmsearch.indexer.options import Options, Progress, Report
from mmsearch.indexer.plan import Plan, item_id, scopes_of
from mmsearch.indexer.quantise import parsed_bytes, update_ann
from mmsearch.indexer.stages import Stages
from mmsearch.media.pool import DecodePool, Failed, Finished, Ignored, Known, PartReady, Task
from mmsearch.query import checked_recall, listed
from mmsearch.spaces import Encoder, placeable
from mmsearch.store import PartRow, Snapshot
from mmsearch.store.known import KnownItems
from mmsearch.store.ledger import LedgerRow
from mmsearch.store.manifest import Unfinished
from mmsearch.store.rows import part_id
from mmsearch.types import Modality, Part, Signature

# File systems keep times this exactly at least; some (FAT) to two seconds, which
# shows in times of whole seconds.
_RACY_NS, _COARSE_NS = 100_000_000, 2_000_000_000
_UNTRUSTED = -1
_QUEUE_PARTS = 64  # that are decoded and wait for the encoder, at least
# A long item is committed in pieces of at least this many parts.
_PIECE_PARTS = 16


def run(
    sources: Sequence[str | os.PathLike[str]],
    folder: Path,
    space: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Brings the index in ``folder`` up to date with the sources.

    progress: told the counts so far and the path just dealt with.
    Raises UsageError for a source that is not there, SpaceMismatch, IndexLocked,
    IndexNotWritable. A bad file raises nothing: it is counted as skipped. After
    KeyboardInterrupt all that was encoded is committed.
    """
    options = options or Options()
    if options.ann not in (None, *ann.CHOICES):
        raise UsageError(f"--ann is one of {', '.join(ann.CHOICES)}, not {options.ann!r}.")
    checked_recall(options.recall)
    memory_bytes = parsed_bytes(options.memory)
    sources = listed(sources, "folders and files")
    if not sources:
        raise UsageError("name at least one folder or file to index.")
    started = time.monotonic()
    # before anything is made: a mistyped source must not leave an empty index
    try:
        known = Snapshot.open(folder)
    except IndexNotFound:
        known = None
    scopes_of(sources, known)
    loading = time.perf_counter()
    writer, encoder = open_writer(folder, space, options.placement)
    load_s = time.perf_counter() - loading
    with writer:
        writer.want(options.ann, options.recall, memory_bytes)
        scopes, missing = scopes_of(sources, writer.snapshot)
        pruned = missing if options.prune else []
        items = KnownItems.load(writer.snapshot, [s.path for s in scopes] + pruned)
        include = tuple(sorted({*writer.manifest.include, *options.include}))
        plan = Plan(writer, scopes, options.exclude, include, items, pruned)
        report = Run(plan, encoder, options, progress, missing, load_s).go()
    report.seconds = time.monotonic() - started
    return report


class Run:
    """The state of one run: what a plan asks for is decoded, encoded and written.

    missing: sources that are gone, whose items stay unless ``options.prune``.
    """

    def __init__(
        self,
        plan: Plan,
        encoder: Encoder,
        options: Options,
        progress: Progress | None = None,
        missing: Sequence[str] = (),
        load_s: float = 0.0,
    ) -> None:
        self.plan, self.encoder, self.options, self.progress = plan, encoder, options, progress
        self.writer, self.include, self.missing = plan.writer, tuple(plan.include), missing
        # a file changed shortly before the run, or during it, may change again
        # without its times changing: its signature is not trusted
        self.started_ns = time.time_ns()
        self.batches = Batches(encoder)
        self.open: dict[Task, OpenItem] = {}
        stages = Stages(cores=available_cores(), wall_s=load_s, load_s=load_s)
        stages.placeable = placeable(encoder.space)
        self.report = Report(stages=stages)
        self.last_commit = time.monotonic()
        self.committing = False
        self.write_s = 0.0  # spent writing rows and commits
        self.events = 0  # files that were opened and are dealt with
        self.ahead = 0  # files that the counting walk has met
        self.copied: list[int] = []  # known items whose vectors were reused at another path
        self.resumed = {u.item_id: u for u in plan.writer.manifest.unfinished}

    def go(self) -> Report:
        tasks = self.plan.tasks()
        try:
            with self.batches:
                # a run that finds nothing to do starts no process and loads no model
                for first in tasks:
                    self._work(_chain(first, tasks))
                while self.plan.again:
                    again, self.plan.again = self.plan.again, []
                    self._work(iter(again))
            self._remove_vanished()
        except KeyboardInterrupt:
            # keep what has its vectors; a commit that was cut off is whole or absent
            if not self.committing:
                self._commit()
            raise
        self._tally()
        self._commit(final=True)
        self.writer.compact()
        update_ann(self.writer, self.encoder, self._tell)
        self.writer.finish()
        return self.report

    def _tell(self, stage: str) -> None:
        """Says what is done once all files are: lists take a minute to train at a million."""
        self.report.stage = stage
        if self.progress is not None:
            self.progress(self.report, "")

    def _count_ahead(self) -> None:
        """Walks in front of the work, so that the progress bar knows the end of it."""
        for one in self.plan.ahead():
            self.ahead += one

    def _work(self, tasks: Iterator[Task]) -> None:
        options, stages = self.options, self.report.stages
        if self.progress is not None and self.ahead == 0:
            threading.Thread(target=self._count_ahead, daemon=True).start()
        loading = time.perf_counter()  # an encoder may be loaded only now
        # as many parts as an encoder takes at once may wait for it, and half as many again
        batches = max(3, self.encoder.side_by_side + 1)
        queued = max(_QUEUE_PARTS, self.encoder.batch_sizes.get(Modality.IMAGE, 0) * batches // 2)
        started, waited_s, write_s = time.perf_counter(), self.batches.waited_s, self.write_s
        stages.load_s += started - loading
        stages.wall_s += started - loading
        with DecodePool(
            self.encoder.space.preprocess,
            workers=options.workers or available_cores(),
            limits=options.limits,
            include=self.include,
            modalities=self.encoder.space.modalities,
            queue_parts=queued,
        ) as pool:
            for event in pool.run(tasks, self._accept, self._commit_if_due):
                self._handle(event)
                self._commit_if_due()
            self._settle(self.batches.flush())
        stages.wall_s += time.perf_counter() - started
        stages.workers = max(stages.workers, pool.most_workers)
        stages.encoder_waited_s += self.batches.waited_s - waited_s
        stages.write_s += self.write_s - write_s
        stages.encoder_busy_s = self.batches.busy_s
        stages.decoders_waited_s += pool.waited_s
        stages.start_s += pool.start_s
        stages.read_s += pool.read_s
        stages.decode_s += pool.decode_s

    def _commit_if_due(self) -> None:
        if (
            self.writer.pending >= self.options.commit_parts
            or time.monotonic() - self.last_commit >= self.options.commit_s
        ):
            self._settle(self.batches.flush())
            self._commit()

    # -- events ---------------------------------------------------------------

    def _accept(self, task: Task, content_hash: bytes) -> bool:
        """Whether a file with this content must be decoded."""
        path = _absolute(task)
        unfinished = self.resumed.get(item_id(path))
        if unfinished is not None:
            same = unfinished.content_hash == content_hash.hex()
            if same and task.skip_parts == unfinished.parts:
                item = self._open_item(task)
                item.content_hash = content_hash
                item.committed = unfinished.parts
                return True
            # other content by now: decoding starts over, and the first parts go then
            del self.resumed[unfinished.item_id]
            if task.skip_parts:
                return False
            self._open_item(task).content_hash = content_hash
            return True
        if content_hash in self.plan.known.by_content:
            old = self.plan.known.by_content[content_hash]
            if not self._is_unfinished(old):
                return False
        self._open_item(task).content_hash = content_hash
        return True

    def _is_unfinished(self, item: int) -> bool:
        return bool(self.resumed) and self._id_of(item) in self.resumed

    def _id_of(self, item: int) -> str:
        segment_no, row, _ = self.plan.known.rows[item][0]
        return self.plan.snapshot.segments[segment_no].row(row).item_id

    def _handle(self, event: PartReady | Finished | Failed | Ignored | Known) -> None:
        task = event.task
        match event:
            case PartReady(part=part):
                item = self._open_item(task)
                self._settle(self.batches.add(item, part))
            case Finished():
                item = self._open_item(task)
                item.content_hash, item.signature = event.content_hash, event.signature
                item.expected = event.n_parts
                self._settle([item])
            case Failed(stage=stage, reason=reason):
                self._fail(task, stage, reason)
            case Ignored():
                self._note(task, None, None)
            case Known():
                self._reuse(task, event.content_hash, event.signature)

    def _open_item(self, task: Task) -> OpenItem:
        item = self.open.get(task)
        if item is None:
            path = _absolute(task)
            root = self.writer.root(task.item.root)
            old = self.plan.known.find(path)
            item = OpenItem(task, item_id(path), root, task.item.path, old)
            self.open[task] = item
        return item

    def _settle(self, touched: Sequence[OpenItem]) -> None:
        """Writes the items whose last vector came."""
        for item in {id(i): i for i in touched}.values():
            if not item.complete and item.failed is None:
                continue
            task = item.task
            if self.open.get(task) is not item or item.expected is None:
                continue  # settled before, or its decoder is not through
            if item.failed is not None:
                self._fail(task, "encode", item.failed)
            elif item.expected == 0:
                self._fail(task, "decode", "there is nothing in it to index")
            else:
                del self.open[task]
                self.resumed.pop(item.id, None)
                self.report.indexed += 1
                self._append(item)
                self._progress(task)

    # -- rows -----------------------------------------------------------------

    def _append(self, item: OpenItem) -> None:
        """Moves an item's vectors to the writer; the parts it replaces go with that commit."""
        if item.committed == 0 and item.old is not None:
            self._delete(item.old)
        i = item.task.item
        signature = item.signature or (i.size, i.mtime_ns, i.ctime_ns, i.inode)
        settled = self._settled(signature)
        started = time.perf_counter()
        more = self.plan.more_meta(item.task)
        self.writer.extend([(_row(item, part, settled, more), v) for part, v in item.encoded])
        if not self.committing:  # which counts its own time
            self.write_s += time.perf_counter() - started
        self.report.parts += len(item.encoded)
        item.committed += len(item.encoded)
        item.encoded = []

    def _settled(self, signature: Signature) -> Signature:
        """The signature, with its time made unequal to any if the file is too fresh."""
        size, mtime_ns, ctime_ns, inode = signature
        margin_ns = _COARSE_NS if mtime_ns % 1_000_000_000 == 0 else _RACY_NS
        if self.started_ns - max(mtime_ns, ctime_ns) < margin_ns:
            return size, _UNTRUSTED, ctime_ns, inode
        return signature

    def _delete(self, known: int) -> None:
        for segment_no, first, n in self.plan.known.rows[known]:
            segment = self.plan.snapshot.segments[segment_no]
            self.writer.delete(segment, range(first, first + n))

    def _reuse(self, task: Task, content_hash: bytes, signature: Signature) -> None:
        """The content is known: takes over its vectors under this path."""
        known, path = self.plan.known, _absolute(task)
        source = known.by_content.get(content_hash)
        if source is None or self._is_unfinished(source):
            # its first parts were committed under other content: start over
            self._delete_at(path)
            self.plan.again.append(replace(task, skip_parts=0))
            return
        here = known.find(path)
        root = self.writer.root(task.item.root)
        size, mtime_ns, ctime_ns, inode = self._settled(signature)
        taken = []
        for segment_no, first, n in known.rows[source]:
            segment = self.plan.snapshot.segments[segment_no]
            rows = np.arange(first, first + n)
            segment.check_copied(rows)
            for row, vector in zip(rows.tolist(), segment.stored(rows), strict=True):
                old = segment.row(row)
                new = replace(
                    old,
                    id=part_id(item_id(path), old.part_no),
                    root=root,
                    path=task.item.path,
                    meta=self.plan.copied_meta(task, old.meta),
                    size=size,
                    mtime_ns=mtime_ns,
                    ctime_ns=ctime_ns,
                    inode=inode,
                )
                taken.append((new, vector))
        if here is not None:
            self._delete(here)
        self.writer.extend(taken)
        if here is not None and known.content[here] == content_hash:
            self.report.unchanged += 1
        else:
            self.copied.append(source)
        self._progress(task)

    def _delete_at(self, path: str) -> None:
        if (here := self.plan.known.find(path)) is not None:
            self._delete(here)

    def _fail(self, task: Task, stage: str, reason: str) -> None:
        item = self.open.pop(task, None)
        # a file that could not be read at all may be back in a moment: what was
        # known of it stays; one with other content now must not be found by the old
        if stage == "read":
            if item is not None and item.committed and item.content_hash is not None:
                self.resumed[item.id] = Unfinished(item.id, item.content_hash.hex(), item.committed)
        else:
            self._delete_at(_absolute(task))
            self.resumed.pop(item_id(_absolute(task)), None)
            if item is not None and item.committed:
                self.writer.drop(item.id)
        if item is not None:
            item.failed = reason  # parts of it that still wait are not encoded
        self._note(task, stage, reason)

    def _note(self, task: Task, stage: str | None, reason: str | None) -> None:
        i, path = task.item, _absolute(task)
        signature = (i.size, i.mtime_ns, i.ctime_ns, i.inode)
        if stage == "read":
            signature = (i.size, _UNTRUSTED, _UNTRUSTED, i.inode)  # looked at again next time
        if stage is None:
            self._delete_at(path)
            self.resumed.pop(item_id(path), None)
        self.plan.ledger[path] = LedgerRow(path, stage, reason, *self._settled(signature))
        self.report.skipped_so_far += stage is not None
        self._progress(task)

    # -- the end ----------------------------------------------------------------

    def _remove_vanished(self) -> None:
        gone, kept = self.plan.vanished(self.options.prune)
        if not self.options.prune:
            kept = sorted({*kept, *self.missing})
        self.report.kept = tuple(kept)
        moved = set(gone) & set(self.copied)
        for item in gone:
            if self._is_unfinished(item):
                del self.resumed[self._id_of(item)]
            self._delete(item)
        self.report.moved = len(moved)
        self.report.removed = len(gone) - len(moved)

    def _tally(self) -> None:
        report, plan = self.report, self.plan
        report.unchanged += plan.unchanged + report.moved
        report.indexed += len(self.copied) - report.moved
        report.ignored = sum(row.stage is None for row in plan.ledger.values())
        report.skipped = len(plan.ledger) - report.ignored
        report.cut, report.unknown = self.batches.cut, self.batches.unknown

    def _commit(self, final: bool = False) -> None:
        unfinished = []
        self.committing = True
        started = time.perf_counter()
        for item in self.open.values():
            if item.failed is None and item.content_hash is not None:
                if len(item.encoded) >= _PIECE_PARTS:
                    self._append(item)
                if item.committed:
                    unfinished.append(Unfinished(item.id, item.content_hash.hex(), item.committed))
        open_ids = {u.item_id for u in unfinished}
        # those of an earlier run whose turn has not come yet
        unfinished += [u for i, u in self.resumed.items() if i not in open_ids]
        self.writer.commit(
            unfinished=unfinished,
            ledger=self.plan.new_ledger() if final else None,
            include=self.include if final else (),
        )
        self.committing = False
        self.write_s += time.perf_counter() - started
        self.last_commit = time.monotonic()

    def _progress(self, task: Task) -> None:
        report, plan = self.report, self.plan
        self.events += 1
        report.found = max(plan.found, self.ahead)
        report.done = self.events + plan.settled
        if self.progress is not None:
            self.progress(report, task.item.path)


def _chain(first: Task, rest: Iterator[Task]) -> Iterator[Task]:
    yield first
    yield from rest


def _absolute(task: Task) -> str:
    from mmsearch.store.snapshot import join

    return join(task.item.root, task.item.path)


def _row(item: OpenItem, part: Part, signature: Signature, more: dict[str, Any]) -> PartRow:
    if item.content_hash is None:
        raise MmsearchError(f"{item.path} came without a content hash")
    text = str(part.data) if part.modality is Modality.TEXT else None
    return PartRow(
        part_id(item.id, part.part_no),
        item.root,
        item.path,
        part.modality,
        part.part_no,
        part.start_s,
        part.end_s,
        text,
        {**more, **part.meta},
        *signature,
        item.content_hash,
    )
