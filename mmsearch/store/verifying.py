"""Reads everything in an index and says what is broken and what to do."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mmsearch.errors import IndexDamaged
from mmsearch.store import manifest as manifests
from mmsearch.store.blocks import SUFFIX, Whole, summed
from mmsearch.store.comparing import difference
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import checksum, checksum_of
from mmsearch.store.lane_files import LaneFiles, codes_name
from mmsearch.store.layout import is_ours
from mmsearch.store.ledger import check_run
from mmsearch.store.lock import LOCK_NAME, is_held
from mmsearch.store.manifest import FileRef, LedgerRef, Manifest, SegmentRef
from mmsearch.store.rows import PARTS_SCHEMA, meta_of
from mmsearch.store.segment import ARROW_NAME, PARQUET_NAME, Segment
from mmsearch.store.snapshot import ann_path
from mmsearch.store.strays import strays
from mmsearch.types import Checked, Space

# A stored vector is float16: its norm may be this far from 1.
_NORM_TOLERANCE = 5e-3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong: which file, what it is, what to do about it."""

    path: str
    what: str
    remedy: str


# Of lists: the shape of their vectors, the lists, the quantiser and its facts -> what is wrong.
CheckLists = Callable[[tuple[int, ...], Checked, Checked, dict[str, Any]], str | None]


# Of the kept files of a space, and the space: what is wrong.
CheckTowers = Callable[[ConfinedPath, Space], str | None]


@dataclass(frozen=True)
class Deeper:
    """Checks of what nobody here understands; each says what is wrong, or None."""

    lists: CheckLists = lambda *_: None
    towers: CheckTowers = lambda *_: None


def verify(
    folder: AnyPath,
    progress: Callable[[str], None] = lambda _: None,
    deeper: Deeper = Deeper(),
) -> list[Problem]:
    """Checks every file against its checksum, and that rows and vectors belong together.

    Writes nothing. progress: told each file before it is read. deeper: what else is asked.
    Raises what reading the manifest raises; everything else is a Problem.
    """
    folder = ConfinedPath(folder)
    manifest = manifests.read(folder)
    problems = _problems(folder, manifest, progress, deeper)
    # a writer may have replaced files while they were read: what it replaced is no problem
    while problems and (newer := manifests.read(folder)).generation != manifest.generation:
        manifest = newer
        problems = _problems(folder, manifest, progress, deeper)
    return problems


def _problems(
    folder: ConfinedPath, manifest: Manifest, progress: Callable[[str], None], deeper: Deeper
) -> list[Problem]:
    problems: list[Problem] = []
    if not manifests.as_written(folder):
        altered = "says what it should in other bytes: they were altered"
        problems.append(Problem(str(folder / manifests.MANIFEST_NAME), altered, _RESTORE))
    seen: set[str] = set()  # ids of live parts
    for ref in manifest.segments:
        progress(f"segments/{ref.name}")
        broken = _check_files(folder, ref)
        problems += broken or _check_rows(folder, manifest, ref, seen, deeper.lists)
    for ann in manifest.anns.values():
        progress("ann")
        path = ann_path(folder, ann.name)
        if (what := _damage(path, ann.file)) is not None:
            problems.append(_damaged(path, what, _REBUILD))
    for name, file in manifest.query.items():
        path = folder / str(manifest.kept_space) / name
        progress(path.relative_to(folder))
        if (what := _damage(path, file)) is not None:
            problems.append(_damaged(path, what, _KEPT))
    if manifest.kept_space is not None and not any(p.remedy == _KEPT for p in problems):
        where = folder / manifest.kept_space
        if (what := deeper.towers(where, manifest.space)) is not None:
            problems.append(Problem(str(where), what, _KEPT))
    for run in manifest.ledger:
        path = folder / run.name
        if (what := _damage(path, run.file) or _check_run(folder, manifest, run)) is not None:
            problems.append(_damaged(path, what, _RESTORE))
    try:
        if is_held(folder):
            return problems  # what no manifest refers to may be the next commit
    except OSError as e:
        what = f"cannot be looked at: {e.strerror or e}"
        remedy = _PERMIT if isinstance(e, PermissionError) else _REMOVE
        problems.append(Problem(str(folder / LOCK_NAME), what, remedy))
    try:
        unnamed = strays(folder, manifest)
    except OSError as e:
        what = f"cannot be looked at: {e.strerror or e}"
        problems.append(Problem(str(e.filename or folder), what, _PERMIT))
        unnamed = []
    for path in unnamed:
        remedy = _LEAVINGS if is_ours(path.relative_to(folder)) else _FOREIGN
        problems.append(Problem(str(path), "no manifest refers to it", remedy))
    return problems


_LEAVINGS = (
    "leavings of a killed run go away with the next `mmsearch index`; what stays has files in it "
    "that are not the index's"
)
_FOREIGN = "no writer makes this, and none removes it: it belongs elsewhere"
_FORBIDDEN = "there is no permission to read it"
_PERMIT = "ask its owner, or change its permissions; nothing says that it is damaged"
_REMOVE = "remove it: a writer makes it anew"
_KEPT = "`mmsearch index` over one of its folders writes it anew, with the model at hand"
_RESTORE = "restore it from a copy, or remove the index folder and index again"
_REBUILD = "remove that file and run `mmsearch index` again: it is built anew"


def _damage(path: ConfinedPath, ref: FileRef, sums: FileRef | None = None) -> str | None:
    """What is wrong with a file; ``sums`` refers to the checks of its blocks, if it has any."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return "is a link" if stat.S_ISLNK(facts.st_mode) else "is no regular file"
        if facts.st_size != ref.bytes:  # so it need not be read
            return f"has {facts.st_size:,} bytes and should have {ref.bytes:,}"
        if sums is None:
            _, digest = checksum(path, ref.checksum)
        else:
            found, content = summed(path, ref.checksum)
            digest = found.checksum
    except FileNotFoundError:
        return "missing"
    except PermissionError:
        return _FORBIDDEN
    except OSError as e:
        return f"cannot be read: {e.strerror or e}"
    if digest != ref.checksum:
        return "its checksum does not fit: bytes were altered"
    if sums is not None and checksum_of(content, sums.checksum) != sums.checksum:
        return f"the checks of its blocks in {path.name}{SUFFIX} are not its own"
    return None


def _damaged(path: ConfinedPath, what: str, remedy: str) -> Problem:
    """The problem with a file. Its remedy does not help if the file may only not be read."""
    return Problem(str(path), what, _PERMIT if what == _FORBIDDEN else remedy)


def _check_files(folder: ConfinedPath, ref: SegmentRef) -> list[Problem]:
    problems = []
    for name, file in ref.files.items():
        path = folder / "segments" / ref.name / name
        if (what := _damage(path, file, ref.files.get(name + SUFFIX))) is not None:
            remedy = _REBUILD if name.startswith("codes-") else _RESTORE
            problems.append(_damaged(path, what, remedy))
    return problems


def _check_run(folder: ConfinedPath, manifest: Manifest, run: LedgerRef) -> str | None:
    """What is wrong with a run of the ledger whose bytes are whole."""
    try:
        rows = check_run(folder, run, manifest.roots)
    except IndexDamaged as e:
        return str(e)
    return None if rows == run.rows else f"{rows} rows; the manifest says {run.rows}"


def _check_rows(
    folder: ConfinedPath, manifest: Manifest, ref: SegmentRef, seen: set[str], lists: CheckLists
) -> list[Problem]:
    """Alignment inside a segment whose files are whole."""
    where = folder / "segments" / ref.name
    try:
        names = {lane: ann.name for lane, ann in manifest.anns.items()}
        roots = frozenset(root.id for root in manifest.roots)
        segment = Segment(folder, ref, manifest.space, names, roots)
        arrow = pa.Table.from_batches(segment.batches(), schema=PARTS_SCHEMA)
        packed = difference(where / PARQUET_NAME, where / ARROW_NAME, ref.rows)
    except (IndexDamaged, OSError, pa.ArrowInvalid) as e:
        return [Problem(str(where), str(e), _RESTORE)]
    problems = []
    if packed is not None:
        problems.append(Problem(str(where / PARQUET_NAME), packed, _RESTORE))
    for i, space in enumerate(manifest.space.each):
        if (found := _vectors(segment, i, space)) is not None:
            problems.append(Problem(str(where), found, _RESTORE))
        problems += _check_lists(folder, manifest, segment.lanes[i], where, lists)
    ids = arrow.column("id").to_pylist()
    for row in np.flatnonzero(segment.live).tolist():
        if ids[row] in seen:
            problems.append(Problem(str(where), f"part {ids[row]} is there twice", _RESTORE))
            break
        seen.add(ids[row])
    try:
        for text in arrow.column("meta").to_pylist():
            if text is not None:
                meta_of(text)
    except ValueError as e:
        problems.append(Problem(str(where / ARROW_NAME), f"holds {e}", _RESTORE))
    return problems


def _check_lists(
    folder: ConfinedPath,
    manifest: Manifest,
    lane: LaneFiles,
    where: ConfinedPath,
    lists: CheckLists,
) -> list[Problem]:
    """Whether a lane's lists, whose bytes are whole, are those of its vectors and quantiser."""
    ann = manifest.anns.get(lane.fingerprint)
    if ann is None or lane.code_blocks is None:
        return []
    try:
        trained = Whole(ann_path(folder, ann.name), ann.file)
        trained.check_all()
    except (IndexDamaged, OSError):
        return []  # that file is a problem of its own
    what = lists(lane.vectors.shape, lane.code_blocks, trained, ann.facts)
    return [] if what is None else [Problem(str(where / codes_name(ann.name)), what, _REBUILD)]


def _vectors(segment: Segment, lane: int, space: Space) -> str | None:
    """What is wrong with a segment's vectors in one lane."""
    vectors = segment.lanes[lane].vectors
    try:
        rows = segment.rows_of(lane)
    except IndexDamaged as e:
        return str(e)
    n = segment.ref.rows if rows is None else len(rows)
    if vectors.shape != (n, space.dimension):
        return f"{vectors.shape} vectors; the manifest says {n} × {space.dimension}"
    for start in range(0, len(vectors), 65536):
        norms = np.linalg.norm(vectors[start : start + 65536].astype(np.float32), axis=1)
        if not np.all(np.abs(norms - 1) < _NORM_TOLERANCE):
            at = start + int(np.argmax(~(np.abs(norms - 1) < _NORM_TOLERANCE)))
            return f"the vector of row {at if rows is None else rows[at]} is not of unit length"
    return None
