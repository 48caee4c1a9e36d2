"""A segment: an immutable batch of parts, one row each, and their vectors.

The row number is the join between ``parts.parquet`` (the truth), ``parts.arrow``
(the same rows, memory-mapped for looking up hits) and ``vectors-<fp>.npy``, of which there is
one for each lane of the space: its rows are those parts, in order, whose kind the lane holds.
Beside the latter two lie the checks of their blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from mmsearch.errors import IndexDamaged
from mmsearch.once import once
from mmsearch.store import npy
from mmsearch.store.blocks import (
    RESTORE,
    SUFFIX,
    altered,
    open_checked,
    read_whole,
    wrong_size,
)
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import checksum_of
from mmsearch.store.lane_files import LaneFiles
from mmsearch.store.manifest import SegmentRef
from mmsearch.store.parts import Parts
from mmsearch.store.rows import BATCH_ROWS, HitRow, PartRow
from mmsearch.types import Checked, Space

PARQUET_NAME, ARROW_NAME = "parts.parquet", "parts.arrow"
ROW = "<u4"  # a row's number in a file of deletions


def _is_rows(name: str) -> bool:
    """Whether a file holds parts or vectors: what a segment never changes."""
    return name in (PARQUET_NAME, ARROW_NAME) or name.startswith("vectors-")


class Segment:
    """One segment, opened: every file mapped at once, read and checked when touched.

    ``lanes``: its vectors in each lane of the space. ``arrow_blocks`` is asked by the methods
    here.

    Raises FileNotFoundError if a file is gone (the snapshot was replaced) and
    IndexDamaged if one has another size than the manifest says, or is no longer what
    was written and is read whole: deletions, checks of blocks, heads of files.
    """

    def __init__(
        self,
        folder: ConfinedPath,
        ref: SegmentRef,
        space: Space,
        ann_names: Mapping[str, str],
        roots: frozenset[int],
        earlier: Segment | None = None,
    ) -> None:
        """Opens the segment.

        ann_names: of each lane, by its fingerprint, the current quantiser. roots: the ids that its
        rows may have. earlier: the same segment as another snapshot opened it; its maps and what
        was checked of them are shared, for a mapped file costs an open file.
        """
        self.ref = ref
        self.place = folder / "segments" / ref.name
        self._space, self._ann_names, self._roots = space, dict(ann_names), roots
        self._compared: set[str] = set()  # files without checks of blocks that are whole
        self.arrow_blocks: Checked
        self._parts: Parts
        self.lanes: tuple[LaneFiles, ...]
        self.dead: NDArray[np.uint32]
        try:
            with self.place.opened() as files:
                self._open(files, ann_names, earlier)
        except (pa.ArrowInvalid, ValueError, KeyError, EOFError) as e:
            raise IndexDamaged(f"{self.folder} cannot be read: {e}. Run `mmsearch verify`.") from e
        whole = bool(space.lanes) or len(self.lanes[0].vectors) == ref.rows
        if not whole or len(self.dead) != ref.deleted:
            raise IndexDamaged(
                f"{self.folder}: rows, vectors and deletions do not fit together. "
                "Run `mmsearch verify`."
            )

    def _open(
        self, files: ConfinedPath, ann_names: Mapping[str, str], earlier: Segment | None
    ) -> None:
        ref = self.ref
        opened = earlier.ref.files if earlier is not None else {}
        for name, file in ref.files.items():
            if name.startswith("codes-") or name in opened:
                continue
            size = (files / name).stat().st_size
            if size != file.bytes:
                raise wrong_size(files / name, size, file.bytes)
        known = {lane.fingerprint: lane for lane in earlier.lanes} if earlier is not None else {}
        self.lanes = tuple(
            LaneFiles(files, ref, name, lane.dimension, ann_names.get(name), known.get(name))
            for name, lane in ((lane.fingerprint, lane) for lane in self._space.each)
        )
        if earlier is not None:
            self.arrow_blocks, self._parts = earlier.arrow_blocks, earlier._parts
        else:
            self.arrow_blocks = open_checked(files, ARROW_NAME, ref.files)
            self._parts = Parts(files / ARROW_NAME, self.arrow_blocks, ref.rows, self._roots)
        if earlier is not None and earlier.ref.deletions == ref.deletions:
            self.dead = earlier.dead
        else:
            self.dead = self._deletions(files)

    @classmethod
    def opened(
        cls,
        folder: ConfinedPath,
        ref: SegmentRef,
        space: Space,
        ann_names: Mapping[str, str],
        roots: frozenset[int],
        earlier: Segment | None = None,
    ) -> Segment:
        """Opens the segment as another snapshot shows it; gives ``earlier`` back if nothing of it
        changed. See ``__init__``."""
        if (
            earlier is None
            or space.fingerprint != earlier._space.fingerprint
            or not earlier._roots <= roots  # of its rows
        ):
            return cls(folder, ref, space, ann_names, roots)
        if ref == earlier.ref and dict(ann_names) == earlier._ann_names:
            return earlier
        same = all(earlier.ref.files.get(n) == f for n, f in ref.files.items() if _is_rows(n))
        return cls(folder, ref, space, ann_names, roots, earlier if same else None)

    def has_rows_of(self, other: Segment) -> bool:
        """Whether it is the same segment, maybe with more or fewer deletions."""
        return self._parts is other._parts

    def _deletions(self, files: ConfinedPath) -> NDArray[np.uint32]:
        name = self.ref.deletions
        if name is None:
            return np.empty(0, np.uint32)
        shape = (self.ref.deleted,)
        if self.ref.files[name].bytes != len(npy.head(ROW, shape)) + 4 * self.ref.deleted:
            raise ValueError(f"{name} is not of {self.ref.deleted:,} rows")
        content = read_whole(files / name, self.ref.files[name])
        dead: NDArray[np.uint32] = npy.array(content, ROW, shape)
        if len(dead) and (dead[-1] >= self.ref.rows or (dead[1:] <= dead[:-1]).any()):
            raise ValueError(f"{name} does not hold ascending numbers of rows")
        return dead

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.place.path

    # -- vectors --------------------------------------------------------------

    def rows_of(self, lane: int) -> NDArray[np.int64] | None:
        """int64 (m,): the rows of this segment that a lane's vectors are of; None for all.

        Raises IndexDamaged where there are more or fewer than vectors.
        """
        return None if not self._space.lanes else self._rows_of[lane]

    @once
    def _rows_of(self) -> list[NDArray[np.int64]]:
        found = []
        for lane, held in zip(self.lanes, self._space.held, strict=True):
            rows = self._parts.rows_of(held)
            if len(rows) != len(lane.vectors):
                raise IndexDamaged(
                    f"{self.folder}: {len(rows)} parts and {len(lane.vectors)} vectors in "
                    f"{lane.name} do not fit together. Run `mmsearch verify`."
                )
            found.append(rows)
        return found

    def stored(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors of some rows, in all lanes: float16 (m, d), 0 where a part is not in one.

        They are not checked here, see ``check_stored``.
        """
        at = np.asarray(rows, np.int64)
        if not self._space.lanes:
            found: NDArray[np.float16] = self.lanes[0].vectors[at]
            return found
        out = np.zeros((len(at), self._space.dimension), np.float16)
        for i, (lane, columns) in enumerate(zip(self.lanes, self._space.columns, strict=True)):
            there, own = self._places(i, at)
            out[there, columns] = lane.vectors[own]
        return out

    def check_stored(self, rows: NDArray[np.int64]) -> None:
        """Checks the vectors of some rows in all lanes. Raises IndexDamaged."""
        for i, lane in enumerate(self.lanes):
            lane.check_rows(self._places(i, rows)[1])

    def _places(
        self, lane: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of some rows are in a lane, and the numbers that they have there."""
        of = self.rows_of(lane)
        if of is None:
            return np.arange(len(rows)), rows
        place = np.searchsorted(of, rows)
        there = np.flatnonzero(of[np.minimum(place, len(of) - 1)] == rows) if len(of) else place[:0]
        return there, place[there]

    def check_copied(self, rows: NDArray[np.int64]) -> None:
        """Checks vectors that are about to be copied into another segment, with their parts.

        Raises IndexDamaged, also where there are no checks of blocks: see ``check_whole``.
        """
        if all(lane.name + SUFFIX in self.ref.files for lane in self.lanes):
            self.check_stored(rows)  # ``row`` checks the parts
        else:
            self.check_whole()

    def check_whole(self) -> None:
        """Checks all vectors and parts, for what is copied must not be damaged.

        Those that have no checks of blocks are read whole, once, and compared with the
        manifest. Raises IndexDamaged naming the file.
        """
        files = [(lane.name, lane.blocks) for lane in self.lanes]
        for name, blocks in (*files, (ARROW_NAME, self.arrow_blocks)):
            if name + SUFFIX in self.ref.files:
                blocks.check_all()
            elif name not in self._compared:
                wanted = self.ref.files[name].checksum
                if checksum_of(blocks.data, wanted) != wanted:
                    raise altered(self.place / name, RESTORE)
                self._compared.add(name)

    # -- parts ----------------------------------------------------------------

    @once
    def live(self) -> NDArray[np.bool_]:
        """bool (rows,): True where the part was not deleted."""
        mask = np.ones(self.ref.rows, np.bool_)
        mask[self.dead] = False
        return mask

    @property
    def modality_codes(self) -> NDArray[np.int8]:
        """int8 (rows,): the place of each row's modality in ``MODALITIES``."""
        return self._parts.modality_codes

    @property
    def ids(self) -> list[pa.Array]:
        """The parts' ids, in row order, ``BATCH_ROWS`` in an array."""
        return self._parts.ids

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The parts in row order, ``BATCH_ROWS`` at a time, memory-mapped.

        columns: which ones, where not all are needed: only these are checked, all of them
        before this returns.
        """
        return self._parts.batches(columns)

    def row(self, row: int) -> PartRow:
        """One part by its row number."""
        return self._parts.row(row)

    def rows(self, numbers: Sequence[int]) -> list[HitRow]:
        """What hits show of some parts, by their row numbers, in that order."""
        return self._parts.rows(numbers)

    def find(self, part: str) -> int | None:
        """The live row with that part id, or None."""
        from pyarrow import compute as pc

        for i, batch in enumerate(self.batches(["id"])):
            at: int = pc.index(batch.column("id"), part).as_py()
            while at >= 0:
                row = i * BATCH_ROWS + at
                if self.live[row]:
                    return row
                rest = batch.column("id").slice(at + 1)
                step = pc.index(rest, part).as_py()
                at = at + 1 + step if step >= 0 else -1
        return None

    def find_all(self, parts: set[str]) -> dict[str, int]:
        """The live rows with some part ids, by those; what is not there is left out."""
        from pyarrow import compute as pc

        wanted, found = pa.array(sorted(parts), pa.string()), {}
        for i, batch in enumerate(self.batches(["id"])):
            ids = batch.column("id")
            mine = pc.is_in(ids, wanted).to_numpy(zero_copy_only=False)
            for at in np.flatnonzero(mine).tolist():
                if self.live[i * BATCH_ROWS + at]:
                    found[ids[at].as_py()] = i * BATCH_ROWS + at
        return found

    def item_rows(self, item_ids: set[str]) -> dict[int, str]:
        """The live rows of some items' parts: row -> item id."""
        from pyarrow import compute as pc

        wanted = pa.array(sorted(item_ids), pa.string())
        rows = {}  # row -> item id
        for i, batch in enumerate(self.batches(["id"])):
            items = pc.replace_substring_regex(batch.column("id"), r"#\d+$", "")
            mine = pc.is_in(items, wanted).to_numpy(zero_copy_only=False)
            for at in np.flatnonzero(mine).tolist():
                if self.live[i * BATCH_ROWS + at]:
                    rows[i * BATCH_ROWS + at] = items[at].as_py()
        return rows
