"""What a run has to do: compares a walk with what the index already holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.given import checked_path
from mmsearch.indexer.vanished import MetFolders, inside, kept_folders
from mmsearch.items import Folder, Scope, Unreadable, scope_of
from mmsearch.media import decoders, included
from mmsearch.media.pool import Task
from mmsearch.store import Snapshot, Writer
from mmsearch.store.known import KnownItems, KnownUnindexed, Unindexed
from mmsearch.store.ledger import LedgerRow, Outcome
from mmsearch.store.snapshot import join
from mmsearch.types import Item, Signature

_NO_SIGNATURE: Signature = (0, -1, -1, 0)  # of what could not be looked at


def item_id(absolute: str) -> str:
    """The id of a file's item: 16 hex digits of its absolute path's BLAKE2b."""
    return blake2b(os.fsencode(absolute), digest_size=8).hexdigest()


def scopes_of(
    sources: Sequence[str | os.PathLike[str]], known: Snapshot | None
) -> tuple[list[Scope], list[str]]:
    """(what to walk, sources that are missing now but of which items are known).

    A source inside another is dropped. known: the index's snapshot, if there is one.
    Raises UsageError for a path at which there is nothing and of which nothing is known.
    """
    scopes: dict[str, Scope] = {}  # absolute path -> scope
    missing = []
    for source in sources:
        source = checked_path(source, "a source")
        try:
            scope = scope_of(source)
        except UsageError:
            places = places_of(source)
            held = next((p for p in places if known is not None and _holds(known, p)), None)
            if held is None:
                raise
            missing.append(held)
            continue
        scopes[scope.path] = scope
    folders = [s.path for s in scopes.values() if not s.is_file]
    kept = [
        s
        for s in scopes.values()
        if not any(folder != s.path and inside(s.path, folder) for folder in folders)
    ]
    return kept, missing


def places_of(source: str | os.PathLike[str]) -> list[str]:
    """The absolute path that a name stands for, as it is written and with its links followed; none
    for what is no path."""
    try:
        path = Path(source).expanduser()
        return [os.path.abspath(path), str(path.resolve())]
    except (RuntimeError, ValueError, OSError):
        return []


def _holds(snapshot: Snapshot, path: str) -> bool:
    """Whether an item at or below a path is known."""
    roots, below = {r.id: r.path for r in snapshot.manifest.roots}, join(path, "")
    for segment in snapshot.segments:
        first = 0
        for batch in segment.batches(["root", "path", "path_bytes"]):
            columns = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            for row, (root, relative, raw) in enumerate(columns, first):
                if relative is None or not roots[root] or not segment.live[row]:
                    continue
                here = join(roots[root], relative if raw is None else os.fsdecode(raw))
                if here == path or here.startswith(below):
                    return True
            first += batch.num_rows
    return False


@dataclass(frozen=True)
class Wishes:
    """Which files a run walks and reads; what earlier runs asked for is in it.

    forgotten: patterns of ``include`` that hold no more. drop_links: whether items go that were
    met behind links that are followed no more. retry_skipped: whether files whose
    content could not be read are tried again.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    follow_links: bool = False
    drop_links: bool = False
    retry_skipped: bool = False


@dataclass
class Plan:
    """The comparison of one run; the counts fill as ``tasks`` is consumed."""

    writer: Writer
    scopes: list[Scope]
    wishes: Wishes
    known: KnownItems
    pruned: Sequence[str] = ()  # sources that are gone, and whose items must go
    unchanged: int = 0
    found: int = 0  # files met, whatever became of them
    settled: int = 0  # files met that need not be opened
    counts: Counter[Outcome] = field(default_factory=Counter)  # of files without parts
    unreadable: list[str] = field(default_factory=list)  # folders and files that gave errors
    again: list[Task] = field(default_factory=list)  # tasks that came back
    empty: list[str] = field(default_factory=list)  # scopes in which no file was met

    def __post_init__(self) -> None:
        """Reads what is known of files without parts."""
        self.snapshot = self.writer.snapshot  # the one that ``known`` numbers
        self.unindexed = KnownUnindexed(self.snapshot, self._everything(), decoders())
        self._rows: list[LedgerRow] = []  # for the next commit
        self._met = MetFolders()
        self._resume = {u.item_id: u for u in self.writer.manifest.unfinished}

    def _everything(self) -> list[str] | None:
        """The places that are compared, None for all."""
        return [*(s.path for s in self.scopes), *self.pruned]

    # -- files without parts ----------------------------------------------------

    def note(self, row: LedgerRow) -> None:
        """Keeps for the next commit why a file has no parts."""
        assert row.outcome is not None
        self.counts[row.outcome] += 1
        if not self.unindexed.holds(row):
            self._rows.append(row)

    def forget(self, path: str) -> None:
        """Forgets with the next commit why a file had no parts: it has some."""
        if self.unindexed.has(path):
            self._rows.append(LedgerRow(path, None))

    def forget_unseen(self, spared: Sequence[str]) -> None:
        """Forgets files that the walk did not meet, but for those at or below ``spared``."""
        for row in self.unindexed.unseen(self.writer.place, self.writer.manifest):
            if any(inside(row.path, place) for place in spared):
                assert row.outcome is not None
                self.counts[row.outcome] += 1
            else:
                self._rows.append(LedgerRow(row.path, None))

    @property
    def pending(self) -> int:
        """Rows of the ledger that wait for the next commit."""
        return len(self._rows)

    def take_rows(self) -> list[LedgerRow]:
        """The rows of the ledger for a commit."""
        rows, self._rows = self._rows, []
        return rows

    # -- the walk ---------------------------------------------------------------

    def folder(self, scope: Scope) -> Folder:
        """The walk of a scope, which never enters the index itself."""
        own = str(self.writer.folder)
        return Folder(
            scope,
            self.wishes.exclude,
            (own, os.path.realpath(own)),
            root=self._root(scope),
            follow_links=self.wishes.follow_links,
        )

    def ahead(self) -> Iterator[int]:
        """1 for each file that ``tasks`` will meet; for counting them before."""
        for scope in self.scopes:
            for found in self.folder(scope).walk():
                yield not isinstance(found, Unreadable)

    def more_meta(self, task: Task) -> dict[str, Any]:
        """What the rows of a file carry beside what its decoder says."""
        return {}

    def copied_meta(self, task: Task, meta: dict[str, Any]) -> dict[str, Any]:
        """The metadata of a row that takes over the vector of one with this metadata."""
        return meta

    def tasks(self) -> Iterator[Task]:
        """The files that must be opened, in the walk's order."""
        for scope in self.scopes:
            root = self._root(scope)
            self.writer.root(root)
            before, walk = self.found, self.folder(scope)
            for found in walk.walk():
                if isinstance(found, Unreadable):
                    self._note_unreadable(found)
                    continue
                self.found += 1
                self._met.add(found[0])
                task = self._compare(found[0], found[1:], root)
                if task is None:
                    self.settled += 1
                else:
                    yield task
            if self.found == before and not walk.left_out:
                self.empty.append(scope.path)

    def _compare(self, path: str, signature: Signature, root: str) -> Task | None:
        known, wishes = self.known, self.wishes
        item = known.number.get(hash(path))
        row = self.unindexed.meet(path, signature) if len(self.unindexed) else None
        resume = None
        if item is not None:
            known.seen[item] = 1
            resume = self._resume.get(item_id(path)) if self._resume else None
            same = known.signature[item] == hash(signature) and resume is None
            if same and not (wishes.forgotten and included(path, wishes.forgotten)):
                self.unchanged += 1
                self.forget(path)
                return None
        if row is not None and self._is_final(row, path):
            self.counts[row.outcome] += 1
            return None
        size, mtime_ns, ctime_ns, inode = signature
        relative = path[len(root) :].lstrip(os.sep)
        if os.sep != "/":
            relative = relative.replace(os.sep, "/")
        found = Item(root, relative, size, mtime_ns, ctime_ns, inode)
        ask = resume is not None or size in known.sizes  # else its content cannot be known
        return Task(found, ask=ask, skip_parts=resume.parts if resume else 0)

    def _is_final(self, row: Unindexed, path: str) -> bool:
        """Whether a file without parts would end as it did before."""
        if row.outcome is Outcome.IGNORED:
            new = tuple(set(self.wishes.include) - set(self.writer.manifest.include))
            return row.current and not (new and included(path, new))
        return row.outcome is Outcome.SKIPPED and row.current and not self.wishes.retry_skipped

    def _note_unreadable(self, what: Unreadable) -> None:
        outcome = Outcome.IGNORED if what.ignored else Outcome.FAILED
        if what.may_return:
            self.unreadable.append(what.path)
        self.unindexed.meet(what.path, _NO_SIGNATURE)
        # the times are never equal to real ones: it is looked at again next time
        row = LedgerRow(what.path, outcome, "walk", what.reason, None, *_NO_SIGNATURE)
        self.note(row)

    def _root(self, scope: Scope) -> str:
        """The root that a scope's items are stored under: a known one above it, if any."""
        above = [
            r.path for r in self.writer.manifest.roots if r.path and inside(scope.path, r.path)
        ]
        if above:
            return min(above, key=len)
        return str(Path(scope.path).parent) if scope.is_file else scope.path

    def vanished(self, prune: bool, moved: Collection[bytes]) -> tuple[list[int], list[str]]:
        """(items whose files are gone, folders whose items were kept all the same).

        moved: content that was met at another place. Kept without ``prune``: items below
        a folder that could not be read, those of a scope in which suddenly no file is left (an
        unplugged drive), and those of a vanished folder below, see ``vanished.kept_folders``.
        """
        gone = self.known.vanished()
        if not gone or prune:
            return gone, []
        spared = [*self.unreadable, *self.empty]
        # a link in the place of a folder is followed no more only if somebody said so
        links = self.wishes.drop_links
        walks = [(s.path, self.folder(s)) for s in self.scopes if not s.is_file]
        kept: dict[int, str] = {}  # item -> the folder that it is kept for
        lost: dict[int, str] = {}  # item -> its path
        for item in gone:
            path = self._path(item)
            if (above := next((s for s in spared if inside(path, s)), None)) is not None:
                kept[item] = above
                continue
            left_out = any(walk.leaves_out(path, links) for top, walk in walks if inside(path, top))
            if self.known.content[item] not in moved and not left_out:
                lost[item] = path
        tops = [top for top, _ in walks]
        kept |= kept_folders(lost, self._met, tops, sum(self.known.in_scope))
        return [item for item in gone if item not in kept], sorted(set(kept.values()))

    def _path(self, item: int) -> str:
        """The absolute path of a known item."""
        segment_no, row, _ = self.known.rows[item][0]
        part = self.snapshot.segments[segment_no].row(row)
        return self.snapshot.absolute(part.root, part.path) or ""
