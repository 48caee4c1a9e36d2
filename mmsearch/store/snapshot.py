"""What a reader sees: one whole snapshot, opened at once."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmsearch.errors import IndexDamaged
from mmsearch.once import once
from mmsearch.store import manifest as manifests
from mmsearch.store.blocks import KEPT, REBUILD, Whole, altered, read_whole
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import checksum, unreadable
from mmsearch.store.manifest import Manifest
from mmsearch.store.segment import Segment
from mmsearch.types import Checked

# A writer may replace files between our reading the manifest and opening them;
# then the next manifest names what is there. More losses in a row are damage.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Snapshot:
    """The segments that one manifest names, all open. Immutable, safe to share.

    ``place``: the index's folder, kept open.
    """

    place: ConfinedPath
    manifest: Manifest
    segments: tuple[Segment, ...]
    # the empty quantiser of each lane, by its fingerprint; not of one where that was cut
    ann_blocks: Mapping[str, Checked]

    @property
    def folder(self) -> Path:
        """The index's folder."""
        return self.place.path

    @property
    def kept_space(self) -> ConfinedPath | None:
        """Where the index keeps the files of its space, if it does."""
        name = self.manifest.kept_space
        return None if name is None else self.place / name

    def kept_file(self, name: str) -> bytes | None:
        """The bytes of one of them, checked; None where it is not kept. Raises IndexDamaged."""
        if name not in self.manifest.query:
            return None
        path = self.place / str(self.manifest.kept_space) / name
        try:
            return read_whole(path, self.manifest.query[name], KEPT)
        except PermissionError as e:
            raise unreadable(path, e) from e
        except OSError as e:
            raise IndexDamaged(f"{path} cannot be read: {e.strerror or e}. {KEPT}") from None

    def check_kept_space(self) -> None:
        """Reads the kept files of the space. Raises IndexDamaged naming one that was changed."""
        for name, file in self.manifest.query.items():
            path = self.place / str(self.manifest.kept_space) / name
            try:
                size = path.stat().st_size  # of another, it need not be read
                whole = size == file.bytes and checksum(path, file.checksum)[1] == file.checksum
            except PermissionError as e:
                raise unreadable(path, e) from e
            except OSError as e:
                raise IndexDamaged(f"{path} cannot be read: {e.strerror or e}. {KEPT}") from None
            if not whole:
                raise altered(path, KEPT)

    @classmethod
    def open(cls, folder: AnyPath, earlier: Snapshot | None = None) -> Snapshot:
        """Opens the folder's current snapshot.

        earlier: one whose open files are shared where they are the same; itself is given back
        if it is current still.
        Raises IndexNotFound, IndexTooNew, IndexDamaged, or StoreError if a file
        cannot be opened.
        """
        place = ConfinedPath(folder)
        for attempt in range(_ATTEMPTS):
            manifest = manifests.read(place)
            if earlier is not None and manifest == earlier.manifest:
                return earlier
            try:
                return cls._open(place, manifest, earlier)
            except FileNotFoundError as e:
                missing = e.filename or e
                if manifests.read(place).generation == manifest.generation and attempt > 2:
                    break
                time.sleep(0.005 * attempt)
            except OSError as e:
                raise unreadable(folder, e) from e
        raise IndexDamaged(
            f"{missing} is missing. Restore it from a copy; `mmsearch verify --index "
            f"{shlex.quote(str(folder))}` says what is affected."
        )

    @classmethod
    def _open(cls, folder: ConfinedPath, manifest: Manifest, earlier: Snapshot | None) -> Snapshot:
        blocks: dict[str, Checked] = {}
        for lane, ann in manifest.anns.items():
            before = None if earlier is None else earlier.manifest.anns.get(lane)
            # its facts change with every segment that is coded, and the file does not
            same = before is not None and (before.name, before.file) == (ann.name, ann.file)
            if earlier is not None and same and lane in earlier.ann_blocks:
                blocks[lane] = earlier.ann_blocks[lane]
                continue
            # derived data, too: without it the next run trains a new one
            with suppress(FileNotFoundError, IndexDamaged):
                blocks[lane] = Whole(ann_path(folder, ann.name), ann.file, REBUILD)
        opened = {s.ref.name: s for s in earlier.segments} if earlier is not None else {}
        names = {lane: ann.name for lane, ann in manifest.anns.items()}
        roots = frozenset(root.id for root in manifest.roots)
        segments = [
            Segment.opened(folder, ref, manifest.space, names, roots, opened.get(ref.name))
            for ref in manifest.segments
        ]
        return cls(folder, manifest, tuple(segments), blocks)

    def __len__(self) -> int:
        """Parts that a search can find."""
        return self.manifest.live

    def root_path(self, root: int) -> str:
        """The absolute folder of a root id; empty for what was added without a file."""
        return self._roots[root]

    @once
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

    def find_all(self, part_ids: Collection[str]) -> dict[str, tuple[Segment, int]]:
        """The segments and rows of some live parts, by id; what is not there is left out."""
        if len(part_ids) == 1:
            (one,) = part_ids
            place = self.find(one)
            return {} if place is None else {one: place}
        left = set(part_ids)
        found: dict[str, tuple[Segment, int]] = {}  # part id -> its place
        for segment in reversed(self.segments):
            if not left:
                break
            rows = segment.find_all(left)
            found |= {part: (segment, row) for part, row in rows.items()}
            left -= rows.keys()
        return found


def ann_path(folder: ConfinedPath, name: str) -> ConfinedPath:
    """The file of a trained, empty quantiser."""
    return folder / "ann" / f"{name}.quantiser"


def join(root: str, path: str) -> str:
    """A root and a ``/``-separated path below it, as this system writes it."""
    if not root:
        return path
    local = path if os.sep == "/" else path.replace("/", os.sep)
    return root + local if root.endswith(os.sep) else root + os.sep + local
