"""An open index with every verb of the command line: search, add, sync, tune, …"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mmsearch import store
from mmsearch.errors import SpaceMismatch, UsageError
from mmsearch.filters import filter_of
from mmsearch.given import checked_flag, checked_path, checked_seconds, listed
from mmsearch.searcher import Page, Searcher, listing

if TYPE_CHECKING:
    from mmsearch.filters import Params, Where
    from mmsearch.indexer import Captioned, Compacted, Merged, Reencoded, Report
    from mmsearch.indexer.options import Progress
    from mmsearch.store import Problem

WAIT_S = 60.0
"""How long a change waits for other processes that write; a commit takes milliseconds."""
AnyPath = str | os.PathLike[str]
Telling = Callable[[str], None]
"""Is told in a few words what is being done."""


def _silent(what: str) -> None:
    """Tells nobody."""


class Index(Searcher):
    """An open index: search it, add to it, look after it.

    It shows the snapshot that was current when it was opened or last refreshed, whatever a writer
    does meanwhile.

    **Long-lived processes.** An index may stay open as long as the process runs. It keeps the files
    of its snapshot open, also after a writer has replaced them. ``refresh`` shows the newest
    snapshot, and loads and evaluates only what changed: lists, vectors and filters of segments that
    stayed are kept. Results that were found before keep showing the snapshot that they were found
    in.

    **Threads.** Any number of threads may call every method at the same time, ``refresh`` included.
    A search answers from one snapshot, from its start to its end. Writers take turns.

    **Forks.** A process may open and search an index and then fork, as ``gunicorn --preload`` and
    ``multiprocessing`` do: each child answers as its parent would, and may refresh, add and delete.
    Vectors and lists that were loaded are shared with the parent. Models and DuckDB cannot be: a
    child loads its own when it first needs them. A fork waits for searches that other threads have
    begun, at most five seconds. A model on a GPU cannot be used on both sides of a fork:
    SpaceUnavailable says so, and the index must be opened in each child. A process that forks while
    it writes keeps the writer's lock for itself: writing on in the child raises IndexLocked.
    """

    report: Report | None = None
    """What the last ``sync`` did."""
    merged: Merged | None = None
    """What the last ``merge`` did."""

    def add(
        self,
        items: Iterable[Any],
        ids: Sequence[str] | None = None,
        meta: Sequence[dict[str, Any]] | None = None,
        *,
        vectors: Any = None,
        on_conflict: str = "replace",
        wait_s: float = WAIT_S,
    ) -> list[str]:
        """Add things, show the result and return their ids; it is durable then.

        Threads may add at the same time: each encodes by itself, and what is ready is committed
        together. items: paths, or dicts with one of ``text``, ``image`` (path, bytes or PIL
        image) and ``audio`` (path or (samples, sample_rate_hz)). ids, meta:
        one for each item. Without ids, that of a file is made from its path and that of another
        item from its content, so things of equal content are one item, with the last one's meta. A
        key of meta may not be one that was read out of that very item, such as a picture's
        ``width``. on_conflict: what happens if an id is there already: ``replace`` its item,
        ``skip`` the new one (its id is returned, too), or ``error``: nothing is added.
        vectors: (n, d) numbers of this index's space, for those who encode themselves. They are
        scaled to unit length and no model is loaded. An item then is ``{"text": …}``, which is
        stored as it is, or ``{"modality": "image"}`` (``audio``, ``text``) for what is kept
        elsewhere: of that only id and meta are. wait_s: how long to wait while other processes
        write, in seconds.
        Raises UsageError, DecodeError or LimitExceeded for an item that cannot be read,
        DimensionMismatch or SpaceMismatch for vectors of another space, ProcessingFailed if the
        encoder or a decoder fails, and IndexLocked if another process goes on writing, before
        anything is changed.
        """
        from mmsearch.indexer import add_items, add_vectors

        several, wait_s = listed(items, "items"), checked_seconds(wait_s, "wait_s")
        given = ids, meta
        if vectors is not None:
            of = vectors, self.space
            added = add_vectors(self.path, several, *of, *given, wait_s, on_conflict)
        else:
            how = wait_s, on_conflict
            try:
                added = add_items(self.path, several, *given, self._own_encoder(), *how)
            except SpaceMismatch:  # it was encoded anew meanwhile
                if not self.refresh():
                    raise
                added = add_items(self.path, several, *given, self._own_encoder(), *how)
        self.refresh()
        return added

    def delete(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        paths: AnyPath | Iterable[AnyPath] | None = None,
        where: Where | None = None,
        params: Params | None = None,
        wait_s: float = WAIT_S,
    ) -> int:
        """Delete items, show the result and return how many there were.

        Exactly one of the first three says which. ids: of items, one or several; a hit's
        ``item_id``. paths: of files, and of folders with all below them. A file that is still there
        comes back with the next ``sync`` of its folder. where, params: as for ``search``; an
        item goes if any of its parts meets it. Unknown ids and paths are ignored. wait_s: how
        long to wait while other processes write, in seconds.
        Raises UsageError, also for the id of a part (``book#2``): parts are not deleted one by one.
        Raises LimitExceeded for a condition that takes too much, and IndexLocked.
        """
        from mmsearch.indexer import delete_items, delete_paths, delete_where

        wait_s = checked_seconds(wait_s, "wait_s")
        given = sum(one is not None for one in (ids, paths, where))
        if given != 1:
            raise UsageError(f"give exactly one of ids, paths and where; got {given}.")
        asked = filter_of(where, params)
        if asked is not None:
            deleted = delete_where(self.path, asked, wait_s)
        elif paths is not None:
            deleted = delete_paths(self.path, paths, wait_s)
        else:
            assert ids is not None
            deleted = delete_items(self.path, ids, wait_s)
        self.refresh()
        return deleted

    def update(
        self,
        ids: str | Iterable[str],
        meta: dict[str, Any] | Iterable[dict[str, Any]],
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        """Change the metadata of items without encoding them, and show the result.

        ids: of items, one or several; a hit's ``item_id``. meta: a dict for one id, else one for
        each, in order. Its keys are set in all parts of the item, and a key with the value None is
        removed; other keys stay, and so do vectors, texts and times. wait_s: how long to wait while
        other processes write, in seconds. A file that changes is read anew by the next ``sync`` of
        its folder, without what was set here.
        Raises UsageError for ids that nothing has, and for keys that were read out of the item
        itself, such as a picture's ``width``; IndexLocked. Nothing is changed then.
        """
        from mmsearch.indexer import update_items

        update_items(self.path, ids, meta, checked_seconds(wait_s, "wait_s"))
        self.refresh()

    def sync(
        self,
        sources: AnyPath | Sequence[AnyPath],
        *,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        forget: Sequence[str] = (),
        follow_links: bool | None = None,
        retry_skipped: bool = False,
        ann: str | None = None,
        recall: float | None = None,
        memory: int | str | None = None,
        prune: bool = False,
        workers: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | None = None,
        tower: str | None = None,
        carry: str | None = None,
        compile: bool = False,
        progress: Progress | None = None,
    ) -> Report:
        """Bring the index up to date with folders and files, and show the result.

        What is new or changed is encoded; what moved or stayed is not; what is gone is removed.
        sources: a folder or file, or several. exclude, include: glob patterns of what to leave out
        and of further texts to read; later runs remember both, but for those to forget.
        follow_links: follow links that lead out of their folder; None is as before, at first no.
        retry_skipped: try files again that could not be read. ann: ``auto``, ``flat`` or
        ``ivfpq``. recall: the share of the ten nearest that searches aim at, 0.5 to 1. memory: what
        the lists may take, in bytes or as "2GB". prune: remove items even of a source that is
        missing or empty. workers: decoding processes; None is one for each core. device, dtype,
        batch_size, compile: where and how a model on PyTorch runs. tower, carry: which towers the
        index carries, and in which form. progress: called with the Report so far and the path just
        dealt with.
        Returns the Report, which stays as ``report``. A file that cannot be read is counted as
        skipped. Raises UsageError, SpaceMismatch, IndexLocked, IndexNotWritable, and
        ProcessingFailed if the encoder or the decoders stop working: what was committed stays.
        """
        from mmsearch.indexer import Options, run
        from mmsearch.spaces import Placement

        options = Options(
            exclude=exclude,
            include=include,
            forget=forget,
            follow_links=follow_links,
            retry_skipped=retry_skipped,
            ann=ann,
            recall=recall,
            memory=memory,
            prune=prune,
            workers=workers,
            placement=Placement(device, dtype, batch_size, tower, compile, carry),
        )
        several = [sources] if isinstance(sources, str | os.PathLike) else sources
        self.report = run(several, self.path, self._place, options, progress)
        self.refresh()
        return self.report

    def reencode(
        self,
        space: AnyPath,
        *,
        keep: AnyPath | None = None,
        drop_missing: bool = False,
        workers: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | None = None,
        tower: str | None = None,
        carry: str | None = None,
        compile: bool = False,
        progress: Progress | None = None,
    ) -> Reencoded:
        """Encode everything in another space beside the old, then switch; show the result.

        Stopped or killed, the same call goes on. keep: where the old index stays, as one of its
        own. drop_missing: go on without what cannot be encoded any more. The other arguments: as
        for ``sync``. Raises UsageError if something would be lost.
        """
        from mmsearch.indexer import Options, reencode
        from mmsearch.spaces import Placement

        name = checked_path(space, "a space", named=True)
        kept = None if keep is None else store.resolve(keep)
        drop_missing = checked_flag(drop_missing, "drop_missing")
        placement = Placement(device, dtype, batch_size, tower, compile, carry)
        options = Options(workers=workers, placement=placement)
        done = reencode(self.path, name, options, kept, drop_missing, progress)
        self._place = None
        self.refresh()
        return done

    def abandon_reencode(self) -> bool:
        """Give up a ``reencode`` that was begun and not finished; False if there was none."""
        from mmsearch.indexer.reencode import remove_next

        return bool(remove_next(self.path))

    def caption(
        self,
        model: str,
        *,
        again: bool = False,
        workers: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Captioned:
        """Write into the metadata of pictures, as ``caption``, what is on them.

        model: an open_clip CoCa model. again: also where there is a caption. progress: called with
        how many were written, and of how many. Vectors stay. Stopped, the same call goes on.
        Raises UsageError, SpaceUnavailable and what writing raises.
        """
        from mmsearch.indexer import caption
        from mmsearch.spaces import Placement

        placement = Placement(device, dtype, batch_size)
        done = caption(self.path, model, placement, again, workers, progress)
        self.refresh()
        return done

    def merge(self, others: AnyPath | Sequence[AnyPath], *, progress: Telling = _silent) -> Merged:
        """Copy everything that other indexes of the same space hold into this one.

        others: names or folders of indexes. An item that is in several is taken from the last.
        Raises SpaceMismatch, IndexNotFound and what writing raises. Returns what was done, which
        stays as ``merged``.
        """
        from mmsearch.indexer import merge

        several = [others] if isinstance(others, str | os.PathLike) else listed(others, "indexes")
        self.merged = merge(self.path, [store.resolve(other) for other in several], progress)
        self.refresh()
        return self.merged

    def compact(self, *, progress: Telling = _silent) -> Compacted:
        """Make one segment of all, without deleted rows; train lists anew if vectors drifted.

        Others go on searching meanwhile. Raises what writing raises.
        """
        from mmsearch.indexer import compact

        done = compact(self.path, progress)
        self.refresh()
        return done

    def tune(
        self,
        recall: float | None = None,
        *,
        queries: Iterable[str] | None = None,
        progress: Telling = _silent,
    ) -> dict[str, Any]:
        """Measure recall and speed of approximate search, and keep the curve for later searches.

        recall: what searches aim at from now on, 0.5 to 1; None leaves it. queries: texts of the
        kind that will be asked, at least 20; None makes some up. Returns the facts that were
        measured. Raises UsageError for an index that is searched exactly.
        """
        from mmsearch.indexer import tune

        facts = tune(self.path, recall, queries, progress)
        self.refresh()
        return facts

    def verify(self, *, progress: Telling = _silent) -> list[Problem]:
        """Read all of the index and say what is wrong and what to do; an empty list if nothing is.

        Writes nothing.
        """
        from mmsearch.indexer import verify

        return verify(self.path, progress)

    def info(self, *, skipped: bool = False, ignored: bool = False) -> dict[str, Any]:
        """What the index holds and how it is searched, as plain JSON values.

        skipped: also the files that could not be indexed, and why. ignored: also those of a kind
        that is not indexed.
        """
        from mmsearch.api.info import describe, ignored_files, skipped_files

        files = skipped_files(self) if checked_flag(skipped, "skipped") else {}
        passed_over = ignored_files(self) if checked_flag(ignored, "ignored") else {}
        return describe(self) | files | passed_over

    def count(self, where: Where | None = None, params: Params | None = None) -> int:
        """How many items there are; ``len(index)`` counts parts.

        where, params: as for ``search``; an item counts once if any of its parts meets it.
        Raises UsageError or LimitExceeded for a condition that is none or takes too much.
        """
        return listing.count(self._view, filter_of(where, params))

    # the last method: behind it, ``list`` means this one
    def list(
        self,
        where: Where | None = None,
        params: Params | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """A page of items, of each its first part, ordered by id.

        where, params: as for ``search``; an item is listed if any of its parts meets it.
        limit: how many at most, 1 to 10,000. after: the ``cursor`` of the page before, which is the
        last id on it; it holds after any change: what was added since comes if its id lies behind
        it, and what was deleted does not. Each page reads all ids once (some 0.1 s a million), and
        keeps no more of them than it shows: to go through everything, take large pages.
        Raises UsageError or LimitExceeded for a condition that is none or takes too much.
        """
        return listing.page(self._view, filter_of(where, params), limit, after)
