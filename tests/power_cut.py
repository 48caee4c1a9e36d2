"""What would be on the disk after a power cut: of each file and folder what was synced last."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmsearch.store import manifest
from mmsearch.store.confined import AnyPath
from mmsearch.store.manifest import Manifest, SegmentRef


class Disk:
    """Keeps what each fsync of this process makes durable. ``lost``: what a manifest named
    that a power cut would have taken, at the moment when it was written."""

    def __init__(self) -> None:
        self._names: dict[int, set[str]] = {}  # inode of a folder -> names in it
        self._files: dict[int, tuple[int, int]] = {}  # inode -> size, time of the last change
        self.lost: list[str] = []
        self.written = 0  # manifests

    def synced(self, descriptor: int) -> None:
        """Told of each fsync."""
        s = os.fstat(descriptor)
        if stat.S_ISDIR(s.st_mode):
            self._names[s.st_ino] = {*os.listdir(descriptor)}
        else:
            self._files[s.st_ino] = (s.st_size, s.st_mtime_ns)

    def has(self, path: Path, top: Path) -> bool:
        """Whether a file would be there, whole, with all folders between it and ``top``."""
        s = path.stat()
        steps = [path, *path.parents]
        steps = steps[: steps.index(top)]
        return self._files.get(s.st_ino) == (s.st_size, s.st_mtime_ns) and all(
            step.name in self._names.get(step.parent.stat().st_ino, set()) for step in steps
        )


def named(known: Manifest) -> Iterator[str]:
    """Every file that a manifest names, below the index."""
    for segment in known.segments:
        yield from (f"segments/{segment.name}/{name}" for name in segment.files)
    yield from (f"ann/{ann.name}.quantiser" for ann in known.anns.values())
    yield from (f"{known.kept_space}/{name}" for name in known.query)
    yield from (run.name for run in known.ledger)


@contextmanager
def recorded(top: Path) -> Iterator[Disk]:
    """A ``Disk``, while indexes are written below ``top``, which was there before."""
    disk, fsync, write = Disk(), os.fsync, manifest.write

    def sync(descriptor: int) -> None:
        fsync(descriptor)
        disk.synced(descriptor)

    def publish(folder: AnyPath, new: Manifest, known: Iterable[SegmentRef] = ()) -> None:
        place = Path(str(folder))
        disk.lost += [n for n in named(new) if not disk.has(place / n, top)]
        write(folder, new, known)
        disk.lost += [n for n in [manifest.MANIFEST_NAME] if not disk.has(place / n, top)]
        disk.written += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(manifest, "write", publish)
        yield disk
