"""Putting one index's content in the place of another's, in one commit; and keeping the other."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mmsearch.errors import StoreError, UsageError
from mmsearch.store import manifest as manifests
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import link_or_copy, make_folder, remove, writing_to
from mmsearch.store.layout import NEXT
from mmsearch.store.ledger import LedgerRow, append
from mmsearch.store.manifest import Manifest, Root
from mmsearch.store.snapshot import Snapshot
from mmsearch.store.writer import Writer


def next_folder(folder: AnyPath, fingerprint: str) -> ConfinedPath:
    """Where an index's content in another space is made, beside the old."""
    return ConfinedPath(folder) / f"next-{fingerprint}"


def next_folders(folder: AnyPath) -> list[ConfinedPath]:
    """All such folders that an index has; none where there is no index."""
    try:
        inside = ConfinedPath(folder).iterdir()
    except OSError:
        return []
    return [path for path in inside if NEXT.fullmatch(path.name) and path.is_dir()]


def switch(writer: Writer, other: Snapshot, ledger: Iterable[LedgerRow]) -> None:
    """Makes all that another index holds this index's content, space and all, in one swap.

    Its files get second names here, or are copied where a file system has no such thing;
    they are not read. What was here before is retired: it outlives this generation.
    ledger: what the index knows of files without parts from now on.
    Raises IndexNotWritable; killed at any moment, the index is as before or switched.
    """
    writer.finish()  # what an earlier generation retired may bear the same names
    old, new = writer.manifest, other.manifest
    folder, number = writer.place, max(old.next_segment, new.next_segment)
    with writing_to(folder):
        segments, names = [], {}
        for ref in new.segments:
            name = f"{number:06d}-{secrets.token_hex(2)}"
            _link_all(other.place / "segments" / ref.name, folder / "segments" / name, ref.files)
            segments.append(replace(ref, name=name))
            names[ref.name] = name
            number += 1
        anns = {}
        for lane, ann in new.anns.items():
            _link_all(other.place / "ann", folder / "ann", [f"{ann.name}.quantiser"])
            errors = {names[n]: e for n, e in ann.facts.get("errors", {}).items() if n in names}
            anns[lane] = replace(ann, facts={**ann.facts, "errors": errors})
        if new.kept_space is not None:
            _link_all(other.place / new.kept_space, folder / new.kept_space, new.query)
        roots = _roots(old, new)
        runs = append(folder, old.generation + 1, ledger, (), roots)
    writer.publish(
        replace(
            new,
            generation=old.generation,
            roots=roots,
            segments=tuple(segments),
            anns=anns,
            ann_wanted=old.ann_wanted,
            recall=old.recall,
            memory_bytes=old.memory_bytes,
            include=old.include,
            exclude=old.exclude,
            follow_links=old.follow_links,
            ledger=runs,
            retired=old.retired,
            next_segment=number,
        ),
        _files_of(old),
    )


def keep_copy(snapshot: Snapshot, target: Path) -> None:
    """An index of its own, at another place, that shares the files of a snapshot.

    Does nothing where that very copy is there. Raises UsageError where something else is there,
    or for a place inside the index, IndexNotWritable.
    """
    known = snapshot.manifest
    if not needs_copy(snapshot, target):
        return
    beside = ConfinedPath(target.parent)
    unfinished = beside / f".{target.name}.unfinished"
    with writing_to(target):
        make_folder(target.parent)
        remove(unfinished)
        (unfinished / "segments").mkdir()
        for ref in known.segments:
            inside = f"segments/{ref.name}"
            _link_all(snapshot.place / inside, unfinished / inside, ref.files)
        names = [f"{ann.name}.quantiser" for ann in known.anns.values()]
        _link_all(snapshot.place / "ann", unfinished / "ann", names)
        if known.kept_space is not None:
            _link_all(snapshot.place / known.kept_space, unfinished / known.kept_space, known.query)
        _link_all(snapshot.place, unfinished, [run.name for run in known.ledger])
        manifests.write(unfinished, replace(known, retired=()))
        unfinished.replace(beside / target.name)
        beside.sync()


def needs_copy(snapshot: Snapshot, target: Path) -> bool:
    """Whether a snapshot is still to be copied there. Raises as ``keep_copy`` does."""
    with writing_to(target):
        here = snapshot.folder.resolve()
        if here == target.resolve() or here in target.resolve().parents:
            raise UsageError(f"{target} lies inside the index: name a place outside of it.")
        if not (target.exists() or target.is_symlink()):
            return True
    try:
        there = manifests.read(target)
    except StoreError:
        there = None
    if there is None or replace(there, written_by="") != replace(
        snapshot.manifest, retired=(), written_by=""
    ):
        raise UsageError(f"{target} is there already: name a new place for the old index.")
    return False


def _link_all(source: ConfinedPath, target: ConfinedPath, names: Iterable[str]) -> None:
    for name in names:
        (target / name).parent.mkdir()
        link_or_copy(source / name, target / name)


def _roots(old: Manifest, new: Manifest) -> tuple[Root, ...]:
    """The new content's roots, and under new numbers those that only the old one had."""
    roots = list(new.roots)
    there = {root.path for root in roots}
    for root in old.roots:
        if root.path not in there:
            roots.append(Root(max((r.id for r in roots), default=-1) + 1, root.path))
    return tuple(roots)


def _files_of(old: Manifest) -> list[str]:
    files = [f"segments/{ref.name}" for ref in old.segments]
    files += [f"ann/{ann.name}.quantiser" for ann in old.anns.values()]
    if old.kept_space is not None:
        files.append(old.kept_space)
    files += [run.name for run in old.ledger]
    return files
