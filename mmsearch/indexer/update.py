"""Bringing an index up to date with folders: what was asked is checked, then done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmsearch import ann
from mmsearch.errors import IndexNotFound, UsageError
from mmsearch.given import checked_flag, checked_path, listed, shown
from mmsearch.indexer.opening import open_writer
from mmsearch.indexer.options import Options, Progress, Report
from mmsearch.indexer.plan import Plan, Wishes, scopes_of
from mmsearch.indexer.quantise import parsed_bytes
from mmsearch.indexer.running import Run
from mmsearch.query import checked_recall
from mmsearch.store import Snapshot
from mmsearch.store.known import KnownItems
from mmsearch.store.manifest import Manifest


def run(
    sources: Sequence[str | os.PathLike[str]],
    folder: Path,
    space: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Brings the index in ``folder`` up to date with the sources.

    progress: told the counts so far and the path just dealt with.
    Raises UsageError for a source that is not there, SpaceMismatch, IndexLocked,
    IndexNotWritable, and ProcessingFailed if the encoder or the decoders do not work any more.
    A bad file raises nothing: it is counted as skipped. After an error and after
    KeyboardInterrupt all that was encoded is committed.
    """
    options = options or Options()
    if not (options.ann is None or (isinstance(options.ann, str) and options.ann in ann.CHOICES)):
        raise UsageError(f"ann is one of {', '.join(ann.CHOICES)}, not {shown(options.ann)}.")
    for flag in ("prune", "retry_skipped"):
        checked_flag(getattr(options, flag), flag)
    if options.follow_links is not None:
        checked_flag(options.follow_links, "follow_links")
    checked_recall(options.recall)
    memory_bytes = parsed_bytes(options.memory)
    sources = listed(sources, "folders and files")
    if not sources:
        raise UsageError("name at least one folder or file to index.")
    started = time.monotonic()
    # before anything is made: a mistyped source must not leave an empty index
    try:
        known = Snapshot.open(folder)
    except IndexNotFound:
        known = None
    scopes_of(sources, known)
    loading = time.perf_counter()
    writer, encoder = open_writer(folder, space, options.placement)
    load_s = time.perf_counter() - loading
    with writer:
        writer.want(options.ann, options.recall, memory_bytes)
        scopes, missing = scopes_of(sources, writer.snapshot)
        pruned = missing if options.prune else []
        items = KnownItems.load(writer.snapshot, [s.path for s in scopes] + pruned)
        wishes = _wishes(writer.manifest, options)
        # the rest is remembered at the end: until then files that were ignored before are still to
        # be read, and those behind links still to be removed
        writer.remember(exclude=wishes.exclude, follow_links=wishes.follow_links or None)
        plan = Plan(writer, scopes, wishes, items, pruned)
        report = Run(plan, encoder, options, progress, missing, load_s).go()
    report.seconds = time.monotonic() - started
    return report


def _wishes(known: Manifest, options: Options) -> Wishes:
    """What this run and earlier ones asked for. Raises UsageError for what none was asked for."""
    new = {}  # exclude, include, forget -> patterns
    for name in ("exclude", "include", "forget"):
        given = listed(getattr(options, name), f"patterns for {name}")
        patterns = {checked_path(one, f"a pattern for {name}") for one in given}
        new[name] = _from_here(patterns)
    include = _from_here(known.include) | new["include"]
    exclude = _from_here(known.exclude) | new["exclude"]
    forget = new["forget"]
    if unknown := sorted(forget - include - exclude):
        remembered = ", ".join(map(repr, sorted(include | exclude))) or "none"
        raise UsageError(
            f"no earlier run was given the pattern {unknown[0]!r}, so it cannot be forgotten; "
            f"remembered are: {remembered}."
        )
    follow = known.follow_links if options.follow_links is None else options.follow_links
    return Wishes(
        tuple(sorted(include - forget)),
        tuple(sorted(exclude - forget)),
        tuple(sorted(forget & include)),
        follow,
        options.follow_links is False,
        options.retry_skipped,
    )


def _from_here(patterns: Iterable[str]) -> set[str]:
    """The patterns without the ./ to which shells complete names."""
    starts = tuple(f".{separator}" for separator in {"/", os.sep})
    return {one[2:] if one.startswith(starts) and len(one) > 2 else one for one in patterns}
