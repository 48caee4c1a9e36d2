"""Which signatures tell an unchanged file: those that are old enough when they are taken."""

from __future__ import annotations

import time

from mmsearch.indexer.plan import Plan
from mmsearch.types import Signature

# File systems keep times this exactly at least; some (FAT) to two seconds, which
# shows in times of whole seconds.
_RACY_NS, _COARSE_NS = 100_000_000, 2_000_000_000
UNTRUSTED = -1  # a time that no file has


class Trust:
    """The signatures of one run's files.

    A file that changed shortly before the run, or during it, may change again without its times
    changing: its signature is not trusted.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._started_ns = plan, time.time_ns()

    def settled(self, signature: Signature, path: str) -> Signature:
        """The signature, with its time made unequal to any if the file is too fresh.

        One that was too fresh for an earlier run and is the same still is trusted, whatever its
        times say: they may lie in the future for ever.
        """
        size, mtime_ns, ctime_ns, inode = signature
        margin_ns = _COARSE_NS if mtime_ns % 1_000_000_000 == 0 else _RACY_NS
        if self._started_ns - max(mtime_ns, ctime_ns) >= margin_ns:
            return signature
        fresh = size, UNTRUSTED, ctime_ns, inode
        if self._started_ns - self._plan.snapshot.manifest.committed_ns < margin_ns:
            return fresh  # an earlier run has not waited long enough either
        item = self._plan.known.find(path)
        if item is not None and self._plan.known.signature[item] == hash(fresh):
            return signature
        if self._plan.unindexed.remembers(path, fresh):
            return signature
        return fresh
