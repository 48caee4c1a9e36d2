"""What a run has to do: compares a walk with what the index already holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.items import Folder, Scope, Unreadable, scope_of
from mmsearch.media import included
from mmsearch.media.pool import Task
from mmsearch.store import Snapshot, Writer
from mmsearch.store.known import KnownItems
from mmsearch.store.ledger import LedgerRow
from mmsearch.store.snapshot import join
from mmsearch.types import Item

# Files from this size on tell their content hash before they are decoded, so
# that a long one can be committed in pieces.
LARGE_BYTES = 8 << 20


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
        if not isinstance(source, str | os.PathLike):
            raise UsageError(f"a source is a path, not {source!r}.")
        try:
            scope = scope_of(source)
        except UsageError:
            places = _places(source)
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
        if not any(folder != s.path and _inside(s.path, folder) for folder in folders)
    ]
    return kept, missing


def _places(source: str | os.PathLike[str]) -> list[str]:
    """Where a source that is gone may have been: as it is written, and with its links followed."""
    try:
        path = Path(source).expanduser()
        return [str(path.absolute()), str(path.resolve())]
    except (RuntimeError, ValueError, OSError):
        return []


def _holds(snapshot: Snapshot, path: str) -> bool:
    """Whether an item at or below a path is known."""
    return any(KnownItems.load(snapshot, [path]).in_scope)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(join(folder, ""))


@dataclass
class Plan:
    """The comparison of one run; the counts fill as ``tasks`` is consumed."""

    writer: Writer
    scopes: list[Scope]
    exclude: Sequence[str]
    include: Sequence[str]
    known: KnownItems
    pruned: Sequence[str] = ()  # sources that are gone, and whose items must go
    unchanged: int = 0
    found: int = 0  # files met, whatever became of them
    settled: int = 0  # files met that need not be opened
    ledger: dict[str, LedgerRow] = field(default_factory=dict)  # absolute path -> row, in scope
    unreadable: list[str] = field(default_factory=list)  # folders and files that gave errors
    again: list[Task] = field(default_factory=list)  # tasks that came back
    empty: list[str] = field(default_factory=list)  # scopes in which no file was met

    def __post_init__(self) -> None:
        """Sorts the old ledger into what this walk decides anew and what stays."""
        paths = [*(s.path for s in self.scopes), *self.pruned]
        self.snapshot = self.writer.snapshot  # the one that ``known`` numbers
        self._old: dict[str, LedgerRow] = {}  # absolute path -> row inside the scopes
        self._elsewhere: list[LedgerRow] = []
        for row in self.writer.ledger:
            if any(_inside(row.path, p) for p in paths):
                self._old[row.path] = row
            else:
                self._elsewhere.append(row)
        self._resume = {u.item_id: u for u in self.writer.manifest.unfinished}

    def new_ledger(self) -> list[LedgerRow]:
        """What the index should know of files without parts after this run."""
        return sorted([*self._elsewhere, *self.ledger.values()], key=lambda row: row.path)

    def folder(self, scope: Scope) -> Folder:
        """The walk of a scope, which never enters the index itself."""
        own = str(self.writer.folder)
        return Folder(scope, self.exclude, (own, os.path.realpath(own)))

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
            before, walk = self.found, self.folder(scope)
            for found in walk.walk():
                if isinstance(found, Unreadable):
                    self._note_unreadable(found)
                    continue
                self.found += 1
                task = self._compare(found[0], found[1:], root)
                if task is None:
                    self.settled += 1
                else:
                    yield task
            if self.found == before and not walk.left_out:
                self.empty.append(scope.path)

    def _compare(self, path: str, signature: tuple[int, ...], root: str) -> Task | None:
        known = self.known
        item = known.number.get(hash(path))
        resume = None
        if item is not None:
            known.seen[item] = 1
            resume = self._resume.get(item_id(path)) if self._resume else None
            if known.signature[item] == hash(signature) and resume is None:
                self.unchanged += 1
                return None
        old = self._old.get(path)
        if old is not None and old.signature == signature and not self._now_included(old):
            self.ledger[path] = old
            return None
        size, mtime_ns, ctime_ns, inode = signature
        relative = path[len(root) :].lstrip(os.sep)
        if os.sep != "/":
            relative = relative.replace(os.sep, "/")
        found = Item(root, relative, size, mtime_ns, ctime_ns, inode)
        ask = resume is not None or size in known.sizes or size >= LARGE_BYTES
        return Task(found, ask=ask, skip_parts=resume.parts if resume else 0)

    def _now_included(self, row: LedgerRow) -> bool:
        """Whether an ignored file matches an --include pattern that is new."""
        new = set(self.include) - set(self.writer.manifest.include)
        return bool(new) and row.stage is None and included(row.path, tuple(new))

    def _note_unreadable(self, what: Unreadable) -> None:
        if what.ignored:
            self.ledger[what.path] = LedgerRow(what.path, None, what.reason, 0, -1, -1, 0)
            return
        self.unreadable.append(what.path)
        # the time is never equal to a real one: it is looked at again next time
        self.ledger[what.path] = LedgerRow(what.path, "walk", what.reason, 0, -1, -1, 0)

    def _root(self, scope: Scope) -> str:
        """The root that a scope's items are stored under: a known one above it, if any."""
        above = [
            r.path for r in self.writer.manifest.roots if r.path and _inside(scope.path, r.path)
        ]
        if above:
            return min(above, key=len)
        path = str(Path(scope.path).parent) if scope.is_file else scope.path
        self.writer.root(path)
        return path

    def vanished(self, prune: bool) -> tuple[list[int], list[str]]:
        """(items whose files are gone, folders whose items were kept all the same).

        Kept without ``prune``: items below a folder that could not be read, and
        those of a scope in which suddenly no file is left (an unplugged drive).
        """
        gone = self.known.vanished()
        if not gone or prune:
            return gone, []
        spared = [*self.unreadable, *self.empty]
        if not spared:
            return gone, []
        kept_below = set()
        removed = []
        for item in gone:
            segment_no, row, _ = self.known.rows[item][0]
            part = self.snapshot.segments[segment_no].row(row)
            path = self.snapshot.absolute(part.root, part.path) or ""
            above = next((s for s in spared if _inside(path, s)), None)
            if above is None:
                removed.append(item)
            else:
                kept_below.add(above)
        return removed, sorted(kept_below)
