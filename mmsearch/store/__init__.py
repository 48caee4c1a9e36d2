"""The index folder: what is on disk, how it is read, and how it changes.

A reader calls ``Snapshot.open``; the one writer holds a ``Writer``. Nothing here
knows what a picture is or how a vector was made.
"""

from mmsearch.store.lock import WriterLock
from mmsearch.store.manifest import SCHEMA, Manifest, Root, SegmentRef
from mmsearch.store.names import default_home, resolve
from mmsearch.store.segment import PARTS_SCHEMA, PartRow, Segment
from mmsearch.store.snapshot import Snapshot
from mmsearch.store.verify import Problem, verify
from mmsearch.store.writer import Writer

__all__ = [
    "PARTS_SCHEMA",
    "SCHEMA",
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
