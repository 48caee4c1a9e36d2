"""What an index already holds, arranged for comparing it with a walk.

A run over an unchanged corpus is mostly this comparison, so a file costs two
hash look-ups: its path and its signature are each kept as Python's 64-bit hash
(some 600 bytes an item, 200 a file without parts; a false match needs both to collide).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmsearch.store.confined import ConfinedPath
from mmsearch.store.ledger import LedgerRow, Outcome, read_ledger
from mmsearch.store.manifest import Manifest
from mmsearch.store.snapshot import Snapshot, join
from mmsearch.types import Signature


@dataclass
class KnownItems:
    """Every live item of a snapshot that has a file, numbered from 0."""

    number: dict[int, int] = field(default_factory=dict)  # hash of absolute path -> item
    signature: list[int] = field(default_factory=list)  # item -> hash of its signature
    content: list[bytes] = field(default_factory=list)  # item -> content hash
    rows: list[list[tuple[int, int, int]]] = field(default_factory=list)
    # item -> [(segment number, first row, rows)]: runs of adjacent rows
    in_scope: bytearray = field(default_factory=bytearray)  # item -> 1 where a walk covers it
    seen: bytearray = field(default_factory=bytearray)  # item -> 1 once the walk met it
    by_content: dict[bytes, int] = field(default_factory=dict)  # content hash -> an item
    sizes: set[int] = field(default_factory=set)  # sizes of the items' files, in bytes

    @classmethod
    def load(cls, snapshot: Snapshot, scopes: list[str]) -> KnownItems:
        """Reads the live items; those at or below one of ``scopes`` are in scope.

        scopes: absolute paths of the folders and files that a walk will cover.
        """
        known = cls()
        roots = {r.id: r.path for r in snapshot.manifest.roots}
        below = tuple(join(s, "") for s in scopes)
        exact = set(scopes)
        columns = ["root", "path", "path_bytes", "size", "mtime_ns", "ctime_ns", "inode"]
        for segment_no, segment in enumerate(snapshot.segments):
            live = segment.live
            first = 0
            for batch in segment.batches([*columns, "content_hash"]):
                *values, hashes = (column.to_pylist() for column in batch.columns)
                alive = live[first : first + batch.num_rows].tolist()
                known._add(
                    roots, below, exact, segment_no, first, zip(alive, hashes, *values, strict=True)
                )
                first += batch.num_rows
        known.seen = bytearray(len(known.signature))
        return known

    def _add(self, roots, below, exact, segment_no, first, rows) -> None:  # type: ignore[no-untyped-def]
        from os import fsdecode

        last_key, last = None, -1
        for row, (alive, content, root, path, raw, *signature) in enumerate(rows, first):
            if not alive or path is None or not roots[root]:
                continue  # what an application added under its own id is not compared
            key = (root, path if raw is None else raw)
            if key == last_key:
                item = last
            else:
                absolute = join(roots[root], path if raw is None else fsdecode(raw))
                path_hash = hash(absolute)
                item = self.number.get(path_hash, -1)
                if item < 0:
                    item = self.number[path_hash] = len(self.signature)
                    self.signature.append(hash(tuple(signature)))
                    self.content.append(content)
                    self.rows.append([])
                    self.in_scope.append(absolute in exact or absolute.startswith(below))
                    self.by_content[content] = item
                    self.sizes.add(signature[0])
                last_key, last = key, item
            runs = self.rows[item]
            if runs and runs[-1][0] == segment_no and runs[-1][1] + runs[-1][2] == row:
                runs[-1] = (segment_no, runs[-1][1], runs[-1][2] + 1)
            else:
                runs.append((segment_no, row, 1))

    def find(self, absolute: str) -> int | None:
        """The item at that absolute path."""
        return self.number.get(hash(absolute))

    def vanished(self) -> list[int]:
        """Items in scope that the walk did not meet."""
        if not self.seen:
            return []
        scope = np.frombuffer(self.in_scope, np.uint8)
        seen = np.frombuffer(self.seen, np.uint8)
        return [int(i) for i in np.flatnonzero((scope == 1) & (seen == 0))]


@dataclass(frozen=True, slots=True)
class Unindexed:
    """What is remembered of a file without parts. ``current``: by the decoders of today."""

    outcome: Outcome
    current: bool


class KnownUnindexed:
    """The files without parts that a snapshot knows of, below some scopes."""

    def __init__(self, snapshot: Snapshot, scopes: Sequence[str] | None, decoders: str) -> None:
        """Reads the ledger. scopes: absolute paths; None is everywhere. decoders: of today, see
        ``media.versions``. Raises IndexDamaged."""
        self._exact = None if scopes is None else set(scopes)
        self._below = tuple(join(s, "") for s in scopes or ())
        self._number: dict[int, int] = {}  # hash of absolute path -> number of the file
        self._signature = array("q")  # number -> hash of its signature
        self._row = array("q")  # number -> hash of its whole row
        self._kind: list[Unindexed] = []  # number -> one of six
        self.seen = bytearray()  # number -> 1 once the walk met it
        kinds = {(o, now): Unindexed(o, now) for o in Outcome for now in (True, False)}
        for row in self._rows(snapshot.place, snapshot.manifest):
            assert row.outcome is not None
            self._number[hash(row.path)] = len(self._kind)
            self._signature.append(hash(row.signature))
            self._row.append(hash(row))
            self._kind.append(kinds[row.outcome, row.decoders == decoders])
        self.seen = bytearray(len(self._kind))

    def __len__(self) -> int:
        return len(self._kind)

    def _rows(self, folder: ConfinedPath, manifest: Manifest) -> Iterator[LedgerRow]:
        for row in read_ledger(folder, manifest):
            if self._exact is None or row.path in self._exact or row.path.startswith(self._below):
                yield row

    def meet(self, path: str, signature: Signature) -> Unindexed | None:
        """What is remembered of the file at a path, if it is the same; it counts as seen."""
        number = self._number.get(hash(path))
        if number is None:
            return None
        self.seen[number] = 1
        return self._kind[number] if self._signature[number] == hash(signature) else None

    def has(self, path: str) -> bool:
        """Whether anything is remembered of the file at a path, however it looks now."""
        return hash(path) in self._number

    def remembers(self, path: str, signature: Signature) -> bool:
        """Whether the file at a path is remembered with that signature."""
        number = self._number.get(hash(path))
        return number is not None and self._signature[number] == hash(signature)

    def holds(self, row: LedgerRow) -> bool:
        """Whether the ledger has this very row."""
        number = self._number.get(hash(row.path))
        return number is not None and self._row[number] == hash(row)

    def unseen(self, folder: ConfinedPath, manifest: Manifest) -> Iterator[LedgerRow]:
        """The rows of files that the walk did not meet. manifest: the index's newest."""
        if all(self.seen):
            return
        for row in self._rows(folder, manifest):
            number = self._number.get(hash(row.path))
            if number is not None and not self.seen[number]:
                yield row
