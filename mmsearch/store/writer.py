"""The one writer of an index: buffers rows, commits them, merges segments, cleans up.

Every change becomes visible by one manifest swap; until then nothing refers to
the new files, and a crash leaves only strays that the next writer removes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch import errors
from mmsearch.store import manifest as manifests
from mmsearch.store.blocks import SUFFIX, seal
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import (
    Bytes,
    checksum,
    make_folder,
    replace_file,
    sync_above,
    writing_to,
)
from mmsearch.store.lane_files import codes_name
from mmsearch.store.layout import is_ours
from mmsearch.store.ledger import LedgerRow, append
from mmsearch.store.lock import SOON_S, WriterLock
from mmsearch.store.manifest import AnnRef, FileRef, Manifest, Root, SegmentRef, Unfinished
from mmsearch.store.names import mark_home
from mmsearch.store.rows import BATCH_ROWS, PartRow, rows_to_batch
from mmsearch.store.segment import Segment
from mmsearch.store.segment_writing import Chunk, live_chunks, write_deletions, write_segment
from mmsearch.store.sharing import keep, of_source
from mmsearch.store.snapshot import Snapshot, ann_path
from mmsearch.store.strays import refuse_foreign, remove_ours, strays
from mmsearch.types import Space

# Rows of segments: (segment, first row, how many).
Replaced = Sequence[tuple[Segment, int, int]]
# An item's place, one of its parts, its vector, and the rows that go when it comes.
_Buffered = tuple[int, PartRow, NDArray[np.float16], Replaced]

# A segment with more than this share of deleted rows is rewritten.
_MAX_DEAD = 0.3
_MAX_FRESH_SEGMENTS = 32


class Writer:
    """Holds the lock of one index folder and changes it, commit by commit.

    Creates the folder if there is no index yet. ``with`` releases the lock;
    what was not committed is dropped.
    Raises IndexLocked, IndexNotWritable, SpaceMismatch and what reading raises.
    """

    def __init__(
        self, folder: AnyPath, space: Space, version: str = "", wait_s: float = SOON_S
    ) -> None:
        """wait_s: how long to wait for another writer, in seconds."""
        self.place = ConfinedPath(folder)
        self._version = version
        self._buffer: list[_Buffered] = []
        self._order: dict[str, int] = {}  # item id -> place of its first buffered part
        self._dead: dict[str, set[int]] = {}  # segment name -> rows to delete at the next commit
        self._retired: list[str] = []  # files that the next manifest replaces
        self._sums: dict[str, FileRef] = {}  # path below the index -> the checks of its blocks
        with writing_to(folder):
            refuse_foreign(self.place)
            make_folder(folder)
            (self.place / "segments").mkdir()
        self._lock = WriterLock(self.place)
        self._lock.acquire(wait_s)
        try:
            self._begin(space)
        except BaseException:
            self._lock.release()
            raise

    @property
    def folder(self) -> Path:
        """The index's folder."""
        return self.place.path

    def _begin(self, space: Space) -> None:
        try:
            self.manifest = manifests.read(self.place)
        except errors.IndexNotFound:
            if (self.place / "segments").iterdir():
                raise errors.IndexDamaged(
                    f"{self.folder} holds segments, but its {manifests.MANIFEST_NAME} is gone. "
                    "Restore that from a copy, or remove the folder and index again."
                ) from None
            mark_home(self.folder)
            with writing_to(self.folder):
                # a writer that was killed may have made the folder, and not have synced its name
                sync_above(self.folder)
                self.manifest = Manifest(space=space, written_by=self._version)
                manifests.write(self.place, self.manifest)
        if self.manifest.space.fingerprint != space.fingerprint:
            raise errors.SpaceMismatch(
                f"{self.folder} holds {self.manifest.space}; the encoder is {space}. "
                "Leave out --space to use the index's own, or choose another --index."
            )
        # a moved model's place is the one named last
        self.manifest = replace(self.manifest, space=space)
        self.snapshot = Snapshot.open(self.place)
        self._earlier = {s.name for s in self.manifest.segments}
        self.remove_strays()

    def keep_space(self, files: Mapping[str, AnyPath], shared: ConfinedPath | None = None) -> None:
        """Keeps the space's files inside the index; the next commit names them.

        files: name -> where it lies; of lanes, a name is FINGERPRINT/NAME. They take the place
        of those of before; with none, those stay. shared: a folder of copies of them, see
        ``sharing``.
        """
        if not files:
            return
        old = self.manifest
        with writing_to(self.folder):
            if old.query and self._keeps(files):
                return
            # readers use the old files until a manifest names the new ones
            new = replace(old, query_no=old.query_no + bool(old.query))
            where = self.place / new.query_folder
            kept = {}
            for name, path in files.items():
                (where / name).parent.mkdir()
                copy = None if shared is None else shared / name
                kept[name] = keep(path, where / name, copy)
        if old.kept_space is not None:
            self._retired.append(old.kept_space)
        self.manifest = replace(new, query=kept)

    def _keeps(self, files: Mapping[str, AnyPath]) -> bool:
        """Whether the index has these very files, and they are whole."""
        if self.manifest.query != {name: of_source(path) for name, path in files.items()}:
            return False
        try:
            self.snapshot.check_kept_space()
        except errors.IndexDamaged:
            return False
        return True

    # -- what goes in -------------------------------------------------------

    @property
    def pending(self) -> int:
        """Rows that wait for the next commit."""
        return len(self._buffer)

    def root(self, path: str) -> int:
        """The id of a root, which is added if it is new."""
        for root in self.manifest.roots:
            if root.path == path:
                return root.id
        new = Root(max((r.id for r in self.manifest.roots), default=-1) + 1, path)
        self.manifest = replace(self.manifest, roots=(*self.manifest.roots, new))
        return new.id

    def extend(
        self, parts: Iterable[tuple[PartRow, NDArray[Any]]], instead_of: Replaced = ()
    ) -> None:
        """Buffers an item's parts and unit vectors (d,) for the next commit.

        instead_of: rows that the commit deletes, as (segment, first row, rows). All of it is
        done or nothing, wherever a signal strikes.
        """
        rows: list[_Buffered] = []
        for row, vector in parts:
            order = self._order.setdefault(row.item_id, len(self._order))
            replaced = tuple(instead_of) if not rows else ()
            rows.append((order, row, np.asarray(vector, np.float16), replaced))
        self._buffer.extend(rows)

    def drop(self, *item_ids: str) -> set[str]:
        """Forgets items' buffered parts and deletes their committed ones.

        Returns the ids of those that had any.
        """
        doomed = set(item_ids)
        if not doomed:
            return set()
        found = doomed.intersection(row.item_id for _, row, *_ in self._buffer)
        self._buffer = [b for b in self._buffer if b[1].item_id not in doomed]
        for segment in self.snapshot.segments:
            rows = self._left(segment, doomed)
            self.delete(segment, rows)
            found.update(rows.values())
        return found

    def present(self, items: set[str]) -> set[str]:
        """Which of some items there will be after the next commit."""
        found = items.intersection(row.item_id for _, row, *_ in self._buffer)
        for segment in self.snapshot.segments:
            found.update(self._left(segment, items).values())
        return found

    def parts_of(self, items: set[str]) -> dict[str, list[tuple[PartRow, NDArray[np.float16]]]]:
        """The parts of some items, with their vectors, as they will be after the next commit.

        By item id; what is not there is left out. Raises IndexDamaged.
        """
        found: dict[str, list[tuple[PartRow, NDArray[np.float16]]]] = {}
        for segment in self.snapshot.segments:
            left = self._left(segment, items)
            rows = np.array(sorted(left), np.int64)
            if len(rows):
                segment.check_copied(rows)
                for row, vector in zip(rows.tolist(), segment.stored(rows), strict=True):
                    found.setdefault(left[row], []).append((segment.row(row), vector))
        for _, part, vector, _ in self._buffer:
            if part.item_id in items:
                found.setdefault(part.item_id, []).append((part, vector))
        return {item: sorted(each, key=lambda p: p[0].part_no) for item, each in found.items()}

    def _left(self, segment: Segment, items: set[str]) -> dict[int, str]:
        """The rows of some items that the next commit leaves: row -> item id."""
        rows, dead = segment.item_rows(items), self._dead.get(segment.ref.name, ())
        return {row: item for row, item in rows.items() if row not in dead}

    def delete(self, segment: Segment, rows: Iterable[int]) -> None:
        """Deletes rows of a segment at the next commit."""
        if doomed := set(rows):
            self._dead.setdefault(segment.ref.name, set()).update(doomed)

    # -- commits ------------------------------------------------------------

    def commit(
        self,
        *,
        unfinished: Iterable[Unfinished] = (),
        ledger: Sequence[LedgerRow] = (),
        segments: Sequence[SegmentRef] = (),
    ) -> None:
        """Makes the buffered rows, the deletions and new rows of the ledger visible, in one swap.

        segments: others that were written, numbered from ``manifest.next_segment`` on.
        """
        self._lock.check()
        with writing_to(self.folder):
            for *_, replaced in self._buffer:
                for segment, first, n in replaced:
                    self.delete(segment, range(first, first + n))
            all_segments = [self._with_deletions(ref) for ref in self.manifest.segments]
            all_segments += segments
            number = self.manifest.next_segment + len(segments)
            if self._buffer:
                all_segments.append(self._write_buffer(number))
                number += 1
            new = replace(
                self.manifest,
                segments=tuple(s for s in all_segments if s.deleted < s.rows),
                next_segment=number,
                unfinished=tuple(unfinished),
            )
            if ledger:
                runs = append(self.place, new.generation + 1, ledger, new.ledger, new.roots)
                self._retired += [run.name for run in new.ledger if run not in runs]
                new = replace(new, ledger=runs)
            self._retire(s for s in all_segments if s.deleted >= s.rows)
            # before the swap: if that is cut off, a later commit must not write them twice
            self._buffer, self._order, self._dead = [], {}, {}
            if new != self.snapshot.manifest:
                self._swap(new)
            # a long run must not pile up segments: each costs two open files
            fresh = [s for s in self.manifest.segments if s.name not in self._earlier]
            if len(fresh) >= _MAX_FRESH_SEGMENTS:
                for group in _groups(tuple(fresh)):
                    self._merge(group)

    def compact(self, whole: bool = False, most_rows: int | None = None) -> None:
        """Merges small neighbours, and rewrites segments that are mostly deleted.

        Sizes grow geometrically, so a part is rewritten a logarithmic number of
        times and the segments stay few. Ids, order and vectors are kept.
        whole: everything becomes one segment without deleted rows. most_rows: only the newest
        segments are merged, which have no more rows than that together.
        """
        segments = self.manifest.segments
        if most_rows is not None:
            segments = _newest(segments, most_rows)
        untidy = len(segments) > 1 or any(s.deleted for s in segments)
        everything = [[s.name for s in segments]] if untidy else []
        with writing_to(self.folder):
            for group in everything if whole else _groups(segments):
                self._merge(group)

    def want(
        self, ann: str | None, recall: float | None = None, memory_bytes: int | None = None
    ) -> None:
        """Says how the index should be searched; None leaves a wish as it is.

        The next commit keeps it. See ``Manifest``.
        """
        known = self.manifest
        self.manifest = replace(
            known,
            ann_wanted=ann or known.ann_wanted,
            recall=known.recall if recall is None else recall,
            memory_bytes=known.memory_bytes if memory_bytes is None else memory_bytes,
        )

    def remember(
        self,
        *,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        follow_links: bool | None = None,
    ) -> None:
        """Says what later runs do without being told; None leaves a wish as it is.

        The next commit keeps it. See ``Manifest``.
        """
        known = self.manifest
        self.manifest = replace(
            known,
            include=known.include if include is None else tuple(sorted(set(include))),
            exclude=known.exclude if exclude is None else tuple(sorted(set(exclude))),
            follow_links=known.follow_links if follow_links is None else follow_links,
        )

    def codes_of(self, segment: str, ann_name: str) -> FileRef:
        """The reference of a segment's codes under a quantiser, for ``set_ann``."""
        ref = next(s for s in self.manifest.segments if s.name == segment)
        return ref.files[codes_name(ann_name)]

    def set_ann(self, lane: str, ann: AnnRef | None, codes: dict[str, FileRef]) -> None:
        """Makes a lane's quantiser and its codes current: segment name -> reference of its codes.

        lane: its fingerprint. The files must have been written by ``write_ann`` and
        ``write_codes``.
        """
        segments = []
        for ref in self.manifest.segments:
            mine = f"codes-{lane}-"
            files = {n: f for n, f in ref.files.items() if not n.startswith(mine)}
            self._retired += [f"segments/{ref.name}/{n}" for n in ref.files if n not in files]
            if ann is not None and ref.name in codes:
                name = codes_name(ann.name)
                path = f"segments/{ref.name}/{name}"
                sums = self._sums.pop(path, ref.files.get(name + SUFFIX))
                files[name] = codes[ref.name]
                if sums is not None:
                    files[name + SUFFIX] = sums
                self._retired = [p for p in self._retired if p not in (path, path + SUFFIX)]
            segments.append(replace(ref, files=files))
        anns = {n: a for n, a in self.manifest.anns.items() if n != lane}
        old = self.manifest.anns.get(lane)
        if old is not None and (ann is None or ann.name != old.name):
            self._retired.append(f"ann/{old.name}.quantiser")
        if ann is not None:
            anns[lane] = ann
        new = replace(self.manifest, anns=anns, segments=tuple(segments))
        if new != self.manifest:
            with writing_to(self.folder):
                self._swap(new)

    def write_ann(self, name: str, content: NDArray[np.uint8]) -> FileRef:
        """Writes a trained, empty quantiser durably; ``set_ann`` makes it current."""
        path = ann_path(self.place, name)
        with writing_to(self.folder):
            path.parent.mkdir()
            replace_file(path, content)
            return FileRef(*checksum(path))

    def write_codes(self, segment: str, name: str, content: Bytes | Iterable[Bytes]) -> FileRef:
        """Writes a segment's codes durably, and the checks of their blocks beside them;
        ``set_ann`` makes both current.

        content: the whole file, or pieces of it, which are written as they come.
        """
        path = self.place / "segments" / segment / codes_name(name)
        with writing_to(self.folder):
            replace_file(path, content)
            files = seal(path)
        self._sums[f"segments/{segment}/{path.name}"] = files[path.name + SUFFIX]
        return files[path.name]

    def finish(self) -> None:
        """Removes what the last generation replaced: by now every new reader uses the new one."""
        if self.manifest.retired:
            with writing_to(self.folder):
                self._swap(self.manifest)

    def publish(self, new: Manifest, retired: Iterable[str]) -> None:
        """Makes another manifest current, whose files were written; see ``switching``.

        retired: paths below the folder that it no longer names.
        """
        self._retired += retired
        with writing_to(self.folder):
            self._swap(new)

    # -- inside -------------------------------------------------------------

    def _swap(self, new: Manifest) -> None:
        """Publishes a manifest; then removes what the one before had retired."""
        self._lock.check()
        doomed = self.manifest.retired
        still = tuple(path for path in doomed if _in_use(self.place / path))
        new = replace(
            new,
            generation=self.manifest.generation + 1,
            retired=(*self._retired, *still),
            written_by=self._version,
            committed_ns=time.time_ns(),
        )
        manifests.write(self.place, new, self.manifest.segments)
        self.manifest, self._retired = new, []
        self.snapshot = Snapshot.open(self.place, self.snapshot)
        for path in doomed:
            if path not in new.retired:
                remove_ours(self.place, path)

    def _write_buffer(self, number: int) -> SegmentRef:
        buffer = sorted(self._buffer, key=lambda b: (b[0], b[1].part_no))

        def chunks() -> Iterator[Chunk]:
            for start in range(0, len(buffer), BATCH_ROWS):
                piece = buffer[start : start + BATCH_ROWS]
                vectors = np.stack([vector for _, _, vector, _ in piece])
                yield rows_to_batch([row for _, row, *_ in piece]), vectors

        return write_segment(self.place, number, self.manifest.space, len(buffer), chunks())

    def _with_deletions(self, ref: SegmentRef) -> SegmentRef:
        doomed = self._dead.get(ref.name)
        if not doomed:
            return ref
        segment = next(s for s in self.snapshot.segments if s.ref.name == ref.name)
        new = write_deletions(segment, ref, doomed, self.manifest.generation + 1)
        if new is not ref and ref.deletions is not None:
            self._retired.append(f"segments/{ref.name}/{ref.deletions}")
        return new

    def _retire(self, gone: Iterable[SegmentRef]) -> None:
        for ref in gone:
            inside = f"segments/{ref.name}/"
            self._retired = [p for p in self._retired if not p.startswith(inside)]
            self._retired.append(f"segments/{ref.name}")

    def _merge(self, names: list[str]) -> None:
        sources = [s for s in self.snapshot.segments if s.ref.name in names]
        for segment in sources:
            segment.check_whole()  # damage must not be copied under a new checksum
        live = sum(s.ref.rows - s.ref.deleted for s in sources)

        number, space = self.manifest.next_segment, self.manifest.space
        chunks = chain.from_iterable(map(live_chunks, sources))
        merged = write_segment(self.place, number, space, live, chunks)
        segments: list[SegmentRef] = []
        for ref in self.manifest.segments:
            if ref.name == names[0]:
                segments.append(merged)
            elif ref.name not in names:
                segments.append(ref)
        self._retire(s.ref for s in sources)
        self._swap(replace(self.manifest, segments=tuple(segments), next_segment=number + 1))

    def remove_strays(self) -> list[str]:
        """Removes what no manifest refers to: the leavings of a killed writer."""
        found = strays(self.place, self.manifest)
        ours = (path for path in found if is_ours(path.relative_to(self.place)))
        return [str(path) for path in ours if remove_ours(self.place, path.relative_to(self.place))]

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _newest(segments: tuple[SegmentRef, ...], most_rows: int) -> tuple[SegmentRef, ...]:
    """The last segments, as many as have so many rows together."""
    first, rows = len(segments), 0
    while first and (rows := rows + segments[first - 1].rows) <= most_rows:
        first -= 1
    return segments[first:]


def _groups(segments: tuple[SegmentRef, ...]) -> list[list[str]]:
    """Runs of neighbouring segments to merge, by name, newest last."""
    groups = []  # each a list of names, in the manifest's order
    run: list[SegmentRef] = []
    total = 0
    for ref in reversed(segments):
        live = ref.rows - ref.deleted
        if run and live > 2 * total:
            groups.append(run)
            run, total = [], 0
        run.append(ref)
        total += live
    if run:
        groups.append(run)
    return [
        [s.name for s in reversed(group)]
        for group in groups
        if len(group) > 1 or group[0].deleted > _MAX_DEAD * group[0].rows
    ]


def _in_use(path: ConfinedPath) -> bool:
    """Whether removing must wait: only Windows refuses while a reader maps a file."""
    if os.name != "nt" or not path.is_file():
        return False
    try:
        with path.open("rb+"):
            return False
    except OSError:
        return True
