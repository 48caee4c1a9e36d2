"""What one run of ``index`` does: files are decoded, encoded and written, and old rows go."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmsearch.cores import available_cores
from mmsearch.errors import MmsearchError, StoreError
from mmsearch.indexer.encoding import Batches, OpenItem
from mmsearch.indexer.options import Options, Progress, Report
from mmsearch.indexer.plan import Plan, item_id
from mmsearch.indexer.quantise import update_ann
from mmsearch.indexer.refusal import Refused
from mmsearch.indexer.stages import Stages
from mmsearch.indexer.trust import UNTRUSTED, Trust
from mmsearch.media import decoders
from mmsearch.media.pool import (
    DecodePool,
    Event,
    Failed,
    Finished,
    Ignored,
    Known,
    PartReady,
    Skipped,
    Task,
)
from mmsearch.spaces import Encoder, placeable
from mmsearch.store import PartRow
from mmsearch.store.ledger import LedgerRow, Outcome
from mmsearch.store.manifest import Unfinished
from mmsearch.store.rows import part_id
from mmsearch.store.writer import Replaced
from mmsearch.types import Modality, Part, Signature

_QUEUE_PARTS = 64  # that are decoded and wait for the encoder, at least
# Files without parts that wait for a commit, at most: some 60 MB.
_COMMIT_ROWS = 65_536
# A long item is committed in pieces of at least this many parts.
_PIECE_PARTS = 16


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
        self.writer, self.missing = plan.writer, missing
        self.trust = Trust(plan)
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
        except (KeyboardInterrupt, MmsearchError) as e:
            # keep what has its vectors; a commit that was cut off is whole or absent
            if not self.committing and not isinstance(e, StoreError):
                self._settle(list(self.open.values()))
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
            include=self.plan.wishes.include,
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
            or self.plan.pending >= _COMMIT_ROWS
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
                self._open_item(task).committed = unfinished.parts
                return True
            # other content by now: decoding starts over, and its parts replace those of before
            return not task.skip_parts
        old = self.plan.known.by_content.get(content_hash)
        return old is None or self._is_unfinished(old)

    def _is_unfinished(self, item: int) -> bool:
        return bool(self.resumed) and self._id_of(item) in self.resumed

    def _id_of(self, item: int) -> str:
        segment_no, row, _ = self.plan.known.rows[item][0]
        return self.plan.snapshot.segments[segment_no].row(row).item_id

    def _handle(self, event: Event) -> None:
        task = event.task
        match event:
            case PartReady(part=part):
                item = self._open_item(task)
                item.content_hash = event.content_hash  # so that a commit may keep what there is
                self._settle(self.batches.add(item, part))
            case Finished():
                item = self._open_item(task)
                item.content_hash, item.signature = event.content_hash, event.signature
                item.expected = event.n_parts
                self._settle([item])
            case Skipped(stage=stage, reason=reason):
                self._skip(task, stage, reason)
            case Failed(stage=stage, reason=reason):
                self._fail(task, stage, reason)
            case Ignored(what=what):
                self._ignore(task, what)
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
            if not item.complete and item.refused is None:
                continue
            task = item.task
            if self.open.get(task) is not item or item.expected is None:
                continue  # settled before, or its decoder is not through
            if item.refused is not None:
                end = self._fail if item.refused.ours else self._skip
                end(task, "encode", item.refused.reason)
            elif item.expected == 0:
                self._skip(task, "decode", "there is nothing in it to index")
            else:
                # in this order: stopped in between, the item counts as unfinished
                self._append(item, last=True)
                self.plan.forget(_absolute(task))
                del self.open[task]
                self.resumed.pop(item.id, None)
                self.report.indexed += 1
                self._progress(task)

    # -- rows -----------------------------------------------------------------

    def _append(self, item: OpenItem, last: bool) -> None:
        """Moves an item's vectors to the writer; the parts they replace go with that commit."""
        replaced = self._replaced(item, last)
        i = item.task.item
        signature = item.signature or (i.size, i.mtime_ns, i.ctime_ns, i.inode)
        settled = self.trust.settled(signature, _absolute(item.task))
        started = time.perf_counter()
        more = self.plan.more_meta(item.task)
        rows = [(_row(item, part, settled, more), vector) for part, vector in item.encoded]
        self.writer.extend(rows, replaced)
        if not self.committing:  # which counts its own time
            self.write_s += time.perf_counter() - started
        self.report.parts += len(item.encoded)
        item.committed += len(item.encoded)
        item.encoded = []

    def _replaced(self, item: OpenItem, last: bool) -> Replaced:
        """The old rows that an item's new parts replace: those of the same parts, and if these are
        its last parts, all that are left. What has no successor yet stays findable."""
        if item.old is None:
            return ()
        if last and not item.committed:
            return self._rows_of(item.old)
        if item.old_rows is None:
            item.old_rows = [
                (segment, row, segment.row(row).part_no)
                for segment, first, n in self._rows_of(item.old)
                for row in range(first, first + n)
            ]
        stop = item.committed + len(item.encoded)
        return [
            (segment, row, 1)
            for segment, row, part_no in item.old_rows
            if part_no >= item.committed and (last or part_no < stop)
        ]

    def _rows_of(self, known: int) -> Replaced:
        segments = self.plan.snapshot.segments
        return [(segments[number], first, n) for number, first, n in self.plan.known.rows[known]]

    def _delete(self, known: int) -> None:
        for segment, first, n in self._rows_of(known):
            self.writer.delete(segment, range(first, first + n))

    def _reuse(self, task: Task, content_hash: bytes, signature: Signature) -> None:
        """The content is known: takes over its vectors under this path."""
        known, path = self.plan.known, _absolute(task)
        source = known.by_content.get(content_hash)
        if source is None or self._is_unfinished(source):
            # its first parts were committed under other content: start over
            self.plan.again.append(replace(task, skip_parts=0))
            return
        here = known.find(path)
        size, mtime_ns, ctime_ns, inode = settled = self.trust.settled(signature, path)
        same = here is not None and known.content[here] == content_hash
        self.plan.forget(path)
        if same and here is not None and known.signature[here] == hash(settled):
            self.report.unchanged += 1  # too fresh still to be trusted
            self._progress(task)
            return
        root = self.writer.root(task.item.root)
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
        self.writer.extend(taken, () if here is None else self._rows_of(here))
        self.resumed.pop(item_id(path), None)
        if same:
            self.report.unchanged += 1
        else:
            self.copied.append(source)
        self._progress(task)

    def _delete_at(self, path: str) -> None:
        if (here := self.plan.known.find(path)) is not None:
            self._delete(here)

    def _skip(self, task: Task, stage: str, reason: str) -> None:
        """The file's content is to blame: what was known of it must not be found any more."""
        path = _absolute(task)
        item = self._close(task)
        if item is not None and item.committed:
            self.writer.drop(item.id)
        self._delete_at(path)
        self.resumed.pop(item_id(path), None)
        self._note(task, Outcome.SKIPPED, stage, reason)

    def _fail(self, task: Task, stage: str, reason: str) -> None:
        """We are to blame: what was known of the file stays, and the next run tries it again."""
        item = self._close(task)
        if item is not None and item.committed and item.content_hash is not None:
            self.resumed[item.id] = Unfinished(item.id, item.content_hash.hex(), item.committed)
        self._note(task, Outcome.FAILED, stage, reason)

    def _ignore(self, task: Task, what: str) -> None:
        path = _absolute(task)
        self._delete_at(path)
        self.resumed.pop(item_id(path), None)
        self.report.passed_over[what] += 1
        self._note(task, Outcome.IGNORED, "sniff", what)

    def _close(self, task: Task) -> OpenItem | None:
        """Ends an item without parts; those that still wait are not encoded."""
        item = self.open.pop(task, None)
        if item is not None:
            item.refused = item.refused or Refused("")
        return item

    def _note(self, task: Task, outcome: Outcome, stage: str | None, reason: str | None) -> None:
        i, path = task.item, _absolute(task)
        signature = (i.size, i.mtime_ns, i.ctime_ns, i.inode)
        if outcome is Outcome.FAILED:
            settled = (i.size, UNTRUSTED, UNTRUSTED, i.inode)
        else:
            settled = self.trust.settled(signature, path)
        self.writer.root(i.root)  # which the row is stored under
        self.plan.note(LedgerRow(path, outcome, stage, reason, decoders(), *settled))
        self.report.skipped_so_far += outcome is Outcome.SKIPPED
        self.report.failed_so_far += outcome is Outcome.FAILED
        self._progress(task)

    # -- the end ----------------------------------------------------------------

    def _remove_vanished(self) -> None:
        gone, kept = self.plan.vanished(self.options.prune, self._copied_content())
        spared = [*kept, *self.plan.unreadable, *self.plan.empty]
        self.plan.forget_unseen([] if self.options.prune else spared)
        if not self.options.prune:
            kept = sorted({*kept, *self.missing})
        self.report.kept = tuple(kept)
        moved = self._moved(gone)
        for item in gone:
            if self._is_unfinished(item):
                del self.resumed[self._id_of(item)]
            self._delete(item)
        self.report.moved = moved
        self.report.removed = len(gone) - moved

    def _copied_content(self) -> set[bytes]:
        return {self.plan.known.content[item] for item in self.copied}

    def _moved(self, gone: Sequence[int]) -> int:
        """How many of the items whose files are gone were met at another place."""
        content = self.plan.known.content
        met = Counter(content[item] for item in self.copied)
        return (met & Counter(content[item] for item in gone)).total()

    def _tally(self) -> None:
        report, plan = self.report, self.plan
        report.unchanged += plan.unchanged + report.moved
        report.indexed += len(self.copied) - report.moved
        report.ignored = plan.counts[Outcome.IGNORED]
        report.skipped = plan.counts[Outcome.SKIPPED]
        report.failed = plan.counts[Outcome.FAILED]
        report.cut, report.unknown = self.batches.cut, self.batches.unknown
        report.cut_in = dict(self.batches.cut_in)

    def _commit(self, final: bool = False) -> None:
        unfinished = []
        self.committing = True
        started = time.perf_counter()
        for item in self.open.values():
            if item.content_hash is not None:
                if item.refused is None and len(item.encoded) >= _PIECE_PARTS:
                    self._append(item, last=False)
                if item.committed:
                    unfinished.append(Unfinished(item.id, item.content_hash.hex(), item.committed))
        open_ids = {u.item_id for u in unfinished}
        # those of an earlier run whose turn has not come yet
        unfinished += [u for i, u in self.resumed.items() if i not in open_ids]
        if final:
            wishes = self.plan.wishes
            self.writer.remember(include=wishes.include, follow_links=wishes.follow_links)
        self.writer.commit(unfinished=unfinished, ledger=self.plan.take_rows())
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
