"""A segment's vectors in one space, mapped, and its lists under a quantiser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.store import npy
from mmsearch.store.blocks import REBUILD, open_checked
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.manifest import SegmentRef
from mmsearch.types import Checked

VECTOR = "<f2"


def vectors_name(fingerprint: str) -> str:
    """The file of a segment's vectors in the space of that fingerprint."""
    return f"vectors-{fingerprint}.npy"


def codes_name(ann_name: str) -> str:
    """The file of a segment's IVF-PQ lists under that quantiser."""
    return f"codes-{ann_name}.lists"


class LaneFiles:
    """The vectors of a segment in one space, mapped, and its lists under a quantiser.

    ``vectors`` is float16 (m, d); whoever reads rows of it calls ``check_rows`` before,
    or asks ``blocks`` for the bytes that ``row_ranges`` names. ``code_blocks`` is the file of
    the lists under the current quantiser, or None where it has none that could be used.
    """

    def __init__(
        self,
        folder: ConfinedPath,
        ref: SegmentRef,
        fingerprint: str,
        dimension: int,
        ann_name: str | None,
        earlier: LaneFiles | None,
    ) -> None:
        """See ``Segment``. dimension: of the lane. Raises ValueError for other vectors."""
        self.fingerprint = fingerprint
        self.name = vectors_name(fingerprint)
        self.blocks: Checked
        self.vectors: NDArray[np.float16]
        self._at: int  # byte of the file
        if earlier is not None:
            self.blocks, self.vectors, self._at = earlier.blocks, earlier.vectors, earlier._at
        else:
            self.blocks = open_checked(folder, self.name, ref.files, at_random=True)
            self.vectors, self._at = _vectors(self.blocks, dimension)
        self.code_blocks = _lists(folder, ref, ann_name, earlier)
        self.codes = None if ann_name is None else ref.files.get(codes_name(ann_name))

    def row_ranges(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the vectors of some rows lie in their file: starts and stops, int64 (m,)."""
        width = self.vectors.shape[1] * self.vectors.itemsize
        starts = rows * width + self._at
        return starts, starts + width

    def check_rows(self, rows: NDArray[np.int64]) -> None:
        """Checks the vectors of some rows before they are read. Raises IndexDamaged."""
        if not self.blocks.whole:
            self.blocks.check(*self.row_ranges(rows))


def _lists(
    folder: ConfinedPath, ref: SegmentRef, ann_name: str | None, earlier: LaneFiles | None
) -> Checked | None:
    """Lists that are missing or cut short, or whose checks are, are derived data: without
    them this segment is searched exactly, and the next run makes them anew."""
    if ann_name is None or (name := codes_name(ann_name)) not in ref.files:
        return None
    if earlier is not None and earlier.codes == ref.files[name]:
        return earlier.code_blocks
    try:
        return open_checked(folder, name, ref.files, REBUILD)
    except (FileNotFoundError, IndexDamaged):
        return None


def _vectors(blocks: Checked, dimension: int) -> tuple[NDArray[np.float16], int]:
    """A file's float16 (n, d) over its map, and where in the file it begins.

    Its head, within the first block, is checked. Raises ValueError for another kind of array.
    """
    shape = (npy.rows_in(len(blocks.data), VECTOR, dimension), dimension)
    at = len(npy.head(VECTOR, shape))
    if len(blocks.data) >= at:
        blocks.check(np.zeros(1, np.int64), np.full(1, at, np.int64))
    return npy.array(blocks.data, VECTOR, shape), at
