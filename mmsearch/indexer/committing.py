"""Changes of an index from many threads and processes: one commit for all that wait.

A change is made ready without the lock, encoded above all. Then it queues, and whoever has the
turn commits everything that waits, so that forty writers cost a few commits and not forty.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from mmsearch import forks
from mmsearch.errors import IndexLocked, IndexNotWritable, MmsearchError, SpaceMismatch
from mmsearch.indexer.quantise import update_ann
from mmsearch.store import Writer, manifest
from mmsearch.store.lock import SOON_S
from mmsearch.types import Space
from mmsearch.version import __version__

_TIDIED_ROWS = 8192  # that a commit may copy; more is for ``compact`` and the end of ``index``

Change = Callable[[Writer], tuple[Any, set[str]]]
"""Makes a change with the writer, without committing it.

Returns what the caller gets, and the ids of the items that are new or gone. Calling it again with
another writer must do the same.
"""


@dataclass(eq=False)
class _Waiting:
    """A change in the queue."""

    change: Change
    space: Space | None
    wait_s: float
    alone: bool
    until: float = 0.0  # by time.monotonic(): when wait_s is over
    done: bool = False
    result: Any = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.wait_s

    def left_s(self) -> float:
        """How long to wait for other processes now; also after a long queue one try is made."""
        return max(self.until - time.monotonic(), min(self.wait_s, SOON_S))


class Committer:
    """Commits the changes of this process to one index, in the order in which they came."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[_Waiting] = []
        self._queue, self._turn = forks.Lock(), forks.Lock()
        forks.renewed(self, Committer._renew)

    def _renew(self) -> None:
        """In a forked child: the changes that wait are the parent's to commit."""
        self._waiting = []
        self._queue, self._turn = forks.Lock(), forks.Lock()

    def put(
        self, change: Change, space: Space | None, wait_s: float = SOON_S, alone: bool = False
    ) -> Any:
        """Commit a change, and return what it gives once that is durable.

        space: that the change was encoded in; None for one that holds in any. wait_s: how long to
        wait for other processes, from now on. alone: the change reads what the snapshot holds, and
        not only what the writer tells; so whatever came before it must be committed.
        Raises SpaceMismatch if the index is in another space by now, IndexLocked if another
        process went on writing, what the change raises, and what writing raises.
        """
        mine = _Waiting(change, space, wait_s, alone)
        with self._queue:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                with self._queue:
                    together, self._waiting = self._waiting, []
                try:
                    for run in _runs(together):
                        self._commit(run)
                finally:  # after Ctrl-C the others' turn is still to come
                    with self._queue:
                        left = [one for one in together if not one.done and one is not mine]
                        self._waiting = left + self._waiting
        if mine.error is not None:
            raise mine.error
        return mine.result

    def _commit(self, several: list[_Waiting]) -> None:
        try:
            self._commit_together(several)
        except Exception as error:
            if isinstance(error, IndexLocked) and len(several) > 1:
                now = time.monotonic()  # those who have waited long enough do not wait again
                over = [one for one in several if one.until <= now]
                for one in over:
                    one.error, one.done = IndexLocked(*error.args), True
                several = [one for one in several if not one.done]
            if len(several) != 1:  # each for itself: an error must reach its own caller alone
                for one in several:
                    self._commit([one])
                return
            several[0].error = error
        for one in several:
            one.done = True

    def _commit_together(self, several: list[_Waiting]) -> None:
        wait_s = max(one.left_s() for one in several)
        spaces = {one.space.fingerprint: one.space for one in several if one.space is not None}
        if len(spaces) > 1:
            raise MmsearchError("changes in several spaces")  # each is committed alone
        with self._writer(next(iter(spaces.values()), None), wait_s) as writer:
            replaced: set[str] = set()
            for one in several:
                one.result, items = one.change(writer)
                replaced |= items
            unfinished = [u for u in writer.manifest.unfinished if u.item_id not in replaced]
            writer.commit(unfinished=unfinished)
            # The change is made by now. Tidying up needs more room on the disk.
            with suppress(IndexNotWritable):
                writer.compact(most_rows=_TIDIED_ROWS)
                update_ann(writer, train=False)
                writer.finish()

    def _writer(self, space: Space | None, wait_s: float) -> Writer:
        """The index's writer. space: that it must be in; None for whichever it is in."""
        if space is not None:
            return Writer(self._folder, space, __version__, wait_s)
        try:
            return Writer(self._folder, manifest.read(self._folder).space, __version__, wait_s)
        except SpaceMismatch:  # it was encoded anew while this waited
            return Writer(self._folder, manifest.read(self._folder).space, __version__, wait_s)


def _runs(several: list[_Waiting]) -> Iterator[list[_Waiting]]:
    """What is committed together, in the order in which it came."""
    run: list[_Waiting] = []
    for one in several:
        if one.alone and run:
            yield run
            run = []
        run.append(one)
        if one.alone:
            yield run
            run = []
    if run:
        yield run


_committers: WeakValueDictionary[str, Committer] = WeakValueDictionary()
_making = forks.Lock()


def committer_of(folder: Path) -> Committer:
    """The committer of this process for the index in a folder, by whatever path it was opened."""
    place = os.path.realpath(folder)
    with _making:
        found = _committers.get(place)
        if found is None:
            found = _committers[place] = Committer(folder)
        return found
