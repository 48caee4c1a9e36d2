"""What a reader sees: one whole snapshot, opened at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.store import manifest as manifests
from mmsearch.store.files import checksum
from mmsearch.store.manifest import Manifest
from mmsearch.store.segment import Segment

# A writer may replace files between our reading the manifest and opening them;
# then the next manifest names what is there. More losses in a row are damage.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Snapshot:
    """The segments that one manifest names, all open. Immutable, safe to share."""

    folder: Path
    manifest: Manifest
    segments: tuple[Segment, ...]
    ann_bytes: NDArray[np.uint8] | None  # the empty quantiser, memory-mapped

    @classmethod
    def open(cls, folder: Path) -> Snapshot:
        """Opens the folder's current snapshot.

        Raises IndexNotFound, IndexTooNew or IndexDamaged.
        """
        for attempt in range(_ATTEMPTS):
            manifest = manifests.read(folder)
            try:
                return cls._open(folder, manifest)
            except FileNotFoundError as e:
                missing = e.filename
                if manifests.read(folder).generation == manifest.generation and attempt > 2:
                    break
                time.sleep(0.005 * attempt)
        raise IndexDamaged(
            f"{missing} is missing. Restore it from a copy; `mmsearch verify --index "
            f"{folder}` says what is affected."
        )

    @classmethod
    def _open(cls, folder: Path, manifest: Manifest) -> Snapshot:
        ann, ann_bytes = manifest.ann, None
        if ann is not None:
            ann_bytes = np.memmap(ann_path(folder, ann.name), np.uint8, "r")
        segments = tuple(
            Segment(folder, ref, manifest.space.fingerprint, ann.name if ann else None)
            for ref in manifest.segments
        )
        return cls(folder, manifest, segments, ann_bytes)

    def __len__(self) -> int:
        """Parts that a search can find."""
        return self.manifest.live

    def root_path(self, root: int) -> str:
        """The absolute folder of a root id; empty for what was added without a file."""
        return self._roots[root]

    @property
    def _roots(self) -> dict[int, str]:
        return {r.id: r.path for r in self.manifest.roots}

    def absolute(self, root: int, path: str | None) -> str | None:
        """A part's absolute path, or None if it came without a file."""
        if path is None:
            return None
        base = self._roots[root]
        return join(base, path)

    def find(self, part_id: str) -> tuple[Segment, int] | None:
        """The live part with that id: its segment and row."""
        for segment in reversed(self.segments):
            row = segment.find(part_id)
            if row is not None:
                return segment, row
        return None

    def damaged_files(self) -> Iterator[tuple[Path, str]]:
        """Every file whose bytes are not what the manifest says, and how (reads all)."""
        for segment in self.segments:
            for name, ref in segment.ref.files.items():
                path = segment.folder / name
                if checksum(path) != (ref.bytes, ref.checksum):
                    yield path, "its checksum does not fit"


def ann_path(folder: Path, name: str) -> Path:
    """The file of a trained, empty quantiser."""
    return folder / "ann" / f"{name}.faiss"


def join(root: str, path: str) -> str:
    """A root and a ``/``-separated path below it, as this system writes it."""
    import os

    if not root:
        return path
    local = path if os.sep == "/" else path.replace("/", os.sep)
    return root + local if root.endswith(os.sep) else root + os.sep + local
