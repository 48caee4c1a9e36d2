"""Folders of notes, and what an index has of them: shared by tests of runs."""

from __future__ import annotations

from pathlib import Path

from corpora import settle
from mmsearch.store import Snapshot
from mmsearch.store.ledger import read_ledger


def write_notes(folder: Path, n: int, about: str) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(n):
        (folder / f"{i}.txt").write_text(f"The {i}th note is about {about}.")
    settle()


def texts(index: Path) -> list[str]:
    """Every passage that an index holds, sorted."""
    snapshot = Snapshot.open(index)
    rows = [s.row(r) for s in snapshot.segments for r in s.live.nonzero()[0].tolist()]
    return sorted(str(row.text) for row in rows)


def unindexed(index: Path) -> dict[str, tuple[str, str | None]]:
    """Name of each file without parts -> (outcome, reason)."""
    manifest = Snapshot.open(index).manifest
    return {
        Path(row.path).name: (str(row.outcome), row.reason) for row in read_ledger(index, manifest)
    }
