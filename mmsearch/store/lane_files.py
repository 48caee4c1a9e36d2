"""A segment's vectors in one space, mapped, and its lists under a quantiser."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.store.blocks import REBUILD, open_checked
from mmsearch.store.manifest import SegmentRef
from mmsearch.types import Checked

_NPY_HEAD_BYTES = 4096  # more than any head of a plain array


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
        folder: Path,
        ref: SegmentRef,
        fingerprint: str,
        ann_name: str | None,
        earlier: LaneFiles | None,
    ) -> None:
        """See ``Segment``. Raises ValueError for vectors of another kind."""
        self.fingerprint = fingerprint
        self.name = vectors_name(fingerprint)
        self.blocks: Checked
        self.vectors: NDArray[np.float16]
        self._at: int  # byte of the file
        if earlier is not None:
            self.blocks, self.vectors, self._at = earlier.blocks, earlier.vectors, earlier._at
        else:
            self.blocks = open_checked(folder, self.name, ref.files, at_random=True)
            self.vectors, self._at = _npy(self.blocks)
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
    folder: Path, ref: SegmentRef, ann_name: str | None, earlier: LaneFiles | None
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


def _npy(blocks: Checked) -> tuple[NDArray[np.float16], int]:
    """A ``.npy`` file's float16 (n, d) over its map, and where in the file it begins.

    Its head, within the first block, is checked. Raises ValueError for another kind of array.
    """
    data = blocks.data
    head = data[:_NPY_HEAD_BYTES]
    if len(head):
        blocks.check(np.zeros(1, np.int64), np.full(1, len(head), np.int64))
    f = io.BytesIO(head.tobytes())
    if np.lib.format.read_magic(f) != (1, 0):
        raise ValueError("the vectors are in another version of .npy")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(f)
    if by_columns or dtype != np.dtype("<f2") or len(shape) != 2:
        raise ValueError(f"the vectors are {dtype} {shape}")
    at = f.tell()
    return np.frombuffer(data, dtype, shape[0] * shape[1], at).reshape(shape), at
