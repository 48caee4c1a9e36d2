"""What may be asked of a run of ``index``, and what it says that it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmsearch.indexer.stages import Stages
from mmsearch.media import Limits
from mmsearch.spaces import ANYWHERE, Placement


@dataclass(frozen=True)
class Options:
    """What may be asked of a run.

    exclude: glob patterns of what to leave out. include: of further texts to read. Later runs
    over the same index remember both; forget: patterns of either that they no longer remember.
    follow_links: whether links that lead out of their folder are followed; None is as in
    earlier runs, at first no.
    retry_skipped: try files again whose content could not be read.
    ann: ``auto``, ``flat`` or ``ivfpq``; recall: what searches aim at, 0.5 to 1; memory: what
    the lists may take, in bytes or as "2GB"; None leaves the index's own choice of each.
    prune: remove items even where a whole source is missing or empty.
    workers: decoding processes; None is one for each core.
    placement: where and how exactly a space on PyTorch runs.
    commit_s, commit_parts: a commit is due after so many seconds or parts.
    """

    exclude: Sequence[str] = ()
    include: Sequence[str] = ()
    forget: Sequence[str] = ()
    follow_links: bool | None = None
    retry_skipped: bool = False
    ann: str | None = None
    recall: float | None = None
    memory: int | str | None = None
    prune: bool = False
    workers: int | None = None
    placement: Placement = ANYWHERE
    commit_s: float = 30.0
    commit_parts: int = 8192
    limits: Limits = field(default_factory=Limits)


@dataclass
class Report:
    """What a run did. ``moved`` files are among ``unchanged``: nothing was encoded."""

    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    ignored: int = 0
    skipped: int = 0
    failed: int = 0  # not indexed through no fault of theirs: the next run tries them again
    moved: int = 0
    parts: int = 0  # vectors made in this run
    cut: int = 0  # passages of which the text tower left something out
    cut_in: dict[str, int] = field(default_factory=dict)  # the first files with such: how many each
    unknown: int = 0  # passages of which the space knows less than half of the letters
    seconds: float = 0.0
    passed_over: Counter[str] = field(default_factory=Counter)  # what this run ignored: how often
    kept: tuple[str, ...] = ()  # folders that are missing, unreadable or empty: nothing removed
    found: int = 0  # files met so far
    done: int = 0  # files dealt with so far
    skipped_so_far: int = 0
    failed_so_far: int = 0
    stage: str = "indexing"  # what is being done
    stages: Stages = field(default_factory=Stages)

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch index --json`` ends with."""
        return {
            "schema": 1,
            "indexed": self.indexed,
            "unchanged": self.unchanged,
            "removed": self.removed,
            "ignored": self.ignored,
            "skipped": self.skipped,
            "failed": self.failed,
            "moved": self.moved,
            "parts": self.parts,
            "cut": self.cut,
            "cut_in": self.cut_in,
            "unknown": self.unknown,
            "passed_over": dict(self.passed_over.most_common()),
            "kept": list(self.kept),
            "seconds": round(self.seconds, 3),
            "stages": self.stages.to_json(),
        }


Progress = Callable[[Report, str], None]
