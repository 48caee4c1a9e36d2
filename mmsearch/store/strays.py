"""What lies in an index's folder beside what its manifest names: leavings, and other people's."""

from __future__ import annotations

from contextlib import suppress

from mmsearch import errors
from mmsearch.store import manifest as manifests
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import writing_to
from mmsearch.store.layout import NEXT, is_ours
from mmsearch.store.lock import HOLDER_NAME, LOCK_NAME, TURN_NAME, WriterLock
from mmsearch.store.manifest import Manifest

_LOCKS = (TURN_NAME, HOLDER_NAME, LOCK_NAME)
_AT_THE_TOP = frozenset(("segments", "ann", *_LOCKS, manifests.MANIFEST_NAME))


def strays(folder: AnyPath, manifest: Manifest) -> list[ConfinedPath]:
    """Files and folders inside an index that its manifest does not account for."""
    top = ConfinedPath(folder)
    expected = {manifests.MANIFEST_NAME, LOCK_NAME, TURN_NAME, HOLDER_NAME, *manifest.retired}
    folders = {"segments", "ann"}
    switched = f"next-{manifest.space.fingerprint}"  # killed before it could remove that
    if manifest.kept_space is not None:
        folders |= {"query", manifest.kept_space}
        kept = [f"{manifest.kept_space}/{name}" for name in manifest.query]
        expected.update(kept)
        folders.update(path.rpartition("/")[0] for path in kept)
    for ref in manifest.segments:
        folders.add(f"segments/{ref.name}")
        expected.update(f"segments/{ref.name}/{name}" for name in ref.files)
    expected.update(f"ann/{ann.name}.quantiser" for ann in manifest.anns.values())
    expected.update(run.name for run in manifest.ledger)
    found = []

    def look(at: ConfinedPath) -> None:
        for path in at.iterdir():
            relative = path.relative_to(top)
            if relative in expected or (NEXT.fullmatch(relative) and relative != switched):
                continue
            if relative in folders and path.is_dir():
                look(path)
            else:
                found.append(path)

    if top.is_dir():
        look(top)
    return found


def remove_ours(top: ConfinedPath, relative: str) -> bool:
    """Removes a file or a folder of ours below an index; False if it is still there.

    In a folder only what a writer makes is removed: what somebody else put there stays, and so
    does the folder. A link is removed itself.
    """
    path = top / relative
    with suppress(OSError):
        _remove(path, relative)
    return not path.exists()


def _remove(path: ConfinedPath, relative: str) -> None:
    if not path.is_dir():
        path.unlink()
        return
    whole = NEXT.fullmatch(relative) is not None  # an index of its own
    for below in path.iterdir():
        name = below.relative_to(path)
        inside = name if whole else f"{relative}/{name}"
        if (is_ours(inside) or inside in _AT_THE_TOP) and not NEXT.fullmatch(inside):
            with suppress(OSError):
                _remove(below, inside)
    path.rmdir()


def remove_index(folder: AnyPath) -> None:
    """Removes an index, once nobody writes to it; what else lies in its folder stays.

    Raises IndexNotFound, IndexLocked and IndexNotWritable.
    """
    top = ConfinedPath(folder)
    if not (top / manifests.MANIFEST_NAME).exists():
        raise errors.IndexNotFound(f"there is no index at {folder}.")
    with writing_to(folder):
        with WriterLock(top):
            (top / manifests.MANIFEST_NAME).unlink()  # from now on there is no index
            for path in top.iterdir():
                name = path.relative_to(top)
                whole = NEXT.fullmatch(name) is not None
                if (is_ours(name) or name in _AT_THE_TOP or whole) and name not in _LOCKS:
                    with suppress(OSError):
                        _remove(path, name)
            for name in _LOCKS:
                with suppress(OSError):
                    (top / name).unlink()
        with suppress(OSError):
            top.path.rmdir()


def refuse_foreign(folder: ConfinedPath) -> None:
    """Raises UsageError where making an index would mix it with somebody's files."""
    if folder.path.is_symlink() and not folder.path.exists():
        raise errors.UsageError(f"{folder} is a link that leads nowhere.")
    if not folder.exists() or (folder / manifests.MANIFEST_NAME).exists():
        return
    if not folder.is_dir():
        raise errors.UsageError(f"{folder} is a file: name a folder for the index.")
    # what a writer leaves that was killed at its first breath
    known = {*_AT_THE_TOP, "query"}
    names = [path.name for path in folder.iterdir()]
    named = (n for n in names if n not in known and not n.startswith(manifests.MANIFEST_NAME))
    foreign = [n for n in named if not is_ours(n)]
    if foreign:
        raise errors.UsageError(
            f"{folder} is not an index and holds other things ({foreign[0]}, …): "
            "choose an empty or a new folder for --index."
        )
