"""The index folder: what is on disk, how it is read, and how it changes.

A reader calls ``Snapshot.open``; the one writer holds a ``Writer``. Nothing here
knows what a picture is or how a vector was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsearch.store.manifest import SCHEMA, Manifest, Root, SegmentRef
from mmsearch.store.names import default_home, resolve
from mmsearch.store.rows import PARTS_SCHEMA, HitRow, PartRow
from mmsearch.store.segment import Segment
from mmsearch.store.snapshot import Snapshot

if TYPE_CHECKING:
    from mmsearch.store.lock import WriterLock
    from mmsearch.store.verifying import Problem, verify
    from mmsearch.store.writer import Writer

# A query needs none of these, and they take a while to load.
_LAZY = {
    "Problem": "verifying",
    "Writer": "writer",
    "WriterLock": "lock",
    "verify": "verifying",
}

__all__ = [
    "PARTS_SCHEMA",
    "SCHEMA",
    "HitRow",
    "Manifest",
    "PartRow",
    "Problem",
    "Root",
    "Segment",
    "SegmentRef",
    "Snapshot",
    "Writer",
    "WriterLock",
    "default_home",
    "resolve",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"mmsearch.store.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'mmsearch.store' has no attribute {name!r}")
