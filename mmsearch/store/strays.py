"""What lies in an index's folder beside what its manifest names: leavings, and other people's."""

from __future__ import annotations

import re
from pathlib import Path

from mmsearch import errors
from mmsearch.store import manifest as manifests
from mmsearch.store.files import writing_to
from mmsearch.store.lock import HOLDER_NAME, LOCK_NAME
from mmsearch.store.manifest import Manifest


def strays(folder: Path, manifest: Manifest) -> list[Path]:
    """Files and folders inside an index that its manifest does not account for."""
    expected = {manifests.MANIFEST_NAME, LOCK_NAME, HOLDER_NAME, *manifest.retired}
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
    expected.update(f"ann/{ann.name}.faiss" for ann in manifest.anns.values())
    expected.update(run.name for run in manifest.ledger)
    found = []

    def look(at: Path) -> None:
        for path in sorted(at.iterdir()):
            relative = path.relative_to(folder).as_posix()
            if relative in expected or (_NEXT.fullmatch(relative) and relative != switched):
                continue
            if relative in folders and path.is_dir() and not path.is_symlink():
                look(path)
            else:
                found.append(path)

    if folder.is_dir():
        look(folder)
    return found


_NEXT = re.compile(r"next-[0-9a-f]{8}")  # content in another space on its way, see switching
# What a writer makes. Anything else in the folder is the user's and is never removed.
_OURS = re.compile(
    r"(ann|segments/[^/]+|query/[0-9a-f]{8}(/[0-9a-f]{8})?)/[^/]+\.\d+\.tmp"
    r"|query(/[0-9a-f]{8}(/[0-9a-f]{8})?(/((image|text|audio)\.(onnx|bin)|tokenizer\.json|card\.json|made-up\.npy))?)?"
    r"|segments/\d{6}-[0-9a-f]{4}(/(parts\.(parquet|arrow|arrow\.blocks)|(vectors|deleted|codes)-[^/]+))?"
    r"|next-[0-9a-f]{8}|ann/[^/]+\.faiss|ledger-\d{6,}\.parquet|manifest\.json\.\d+\.tmp"
)


def is_ours(folder: Path, path: Path) -> bool:
    return _OURS.fullmatch(path.relative_to(folder).as_posix()) is not None


def refuse_foreign(folder: Path) -> None:
    """Raises UsageError where making an index would mix it with somebody's files."""
    with writing_to(folder):
        if folder.is_symlink() and not folder.exists():
            raise errors.UsageError(f"{folder} is a link that leads nowhere.")
        if not folder.exists() or (folder / manifests.MANIFEST_NAME).exists():
            return
        if not folder.is_dir():
            raise errors.UsageError(f"{folder} is a file: name a folder for the index.")
        names = {p.name for p in folder.iterdir()}
    names -= {
        "segments",
        "ann",
        "query",
        LOCK_NAME,
        HOLDER_NAME,
    }  # a writer killed at its first breath
    foreign = [n for n in names if not n.startswith(manifests.MANIFEST_NAME)]
    if foreign:
        raise errors.UsageError(
            f"{folder} is not an index and holds other things ({foreign[0]}, …): "
            "choose an empty or a new folder for --index."
        )
