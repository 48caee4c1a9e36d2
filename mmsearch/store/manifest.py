"""The manifest: one JSON file that names a whole snapshot, swapped atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Required, TypedDict

from mmsearch.checking import Holds, Like, Matches, Within, made
from mmsearch.errors import (
    IndexDamaged,
    IndexNotFound,
    IndexTooNew,
    LimitExceeded,
    StoreError,
    UsageError,
)
from mmsearch.store import layout
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import CHECKSUM_BYTES, replace_file, unreadable
from mmsearch.types import MAX_DIMENSION, Space

SCHEMA = 5
_MOST_NAMED = 5  # indexes, in a message
MANIFEST_NAME = "manifest.json"
# Some six thousand segments. What a stranger wrote takes up to forty times that in memory.
MAX_MANIFEST_BYTES = 8 << 20
MAX_SEGMENT_ROWS = (1 << 31) - 1  # rows are numbered by int32 in lists
MAX_LISTS = 1 << 24  # some 4·√n: more than a billion billion vectors have
_MAX_FILE_BYTES = 1 << 50
_CHECKSUM = r"(xxh3:)?[0-9a-f]{32}"

Count = Annotated[int, Within(0, 1 << 53)]
Size = Annotated[int, Within(0, _MAX_FILE_BYTES)]
SegmentName = Annotated[str, Matches(layout.SEGMENT)]


@dataclass(frozen=True)
class FileRef:
    """A file's size and checksum, as it was written (see ``files.Hasher``)."""

    bytes: Size
    checksum: Annotated[str, Matches(_CHECKSUM)]


@dataclass(frozen=True)
class Root:
    """A folder that was named to ``index``; ``id`` is what rows carry.

    The root with an empty path holds what ``Index.add`` put in without a file or
    under an id of the caller's: no walk is compared with it.
    """

    id: Annotated[int, Within(0, MAX_SEGMENT_ROWS)]
    path: str

    def __post_init__(self) -> None:
        """Raises ValueError for a folder that depends on where the program runs."""
        if self.path and not any(
            kind(self.path).is_absolute() for kind in (PurePosixPath, PureWindowsPath)
        ):
            raise ValueError(f"path is {self.path!r}, which is not absolute")


@dataclass(frozen=True)
class SegmentRef:
    """An immutable batch of parts, and which of its rows are deleted by now.

    ``files`` maps a name inside the segment's folder to its reference.
    ``deletions`` names one of them (uint32 row numbers, sorted) or is None.
    """

    name: SegmentName
    rows: Annotated[int, Within(1, MAX_SEGMENT_ROWS)]
    files: dict[Annotated[str, Matches(layout.SEGMENT_FILE)], FileRef]
    deletions: Annotated[str, Matches(layout.DELETIONS)] | None = None
    deleted: Annotated[int, Within(0, MAX_SEGMENT_ROWS)] = 0

    def __post_init__(self) -> None:
        """Raises ValueError where the numbers of rows do not fit together."""
        if self.deleted > self.rows or (self.deleted > 0) != (self.deletions is not None):
            raise ValueError(f"has {self.rows} rows and {self.deleted} deleted ones")
        if self.deletions is not None and self.deletions not in self.files:
            raise ValueError(f"has no file {self.deletions}")


class Point(TypedDict):
    """A point of the tuner's curve, see ``ann.tune``."""

    recall: Annotated[float, Within(0, 1)]
    nprobe: Annotated[int, Within(1, MAX_LISTS)]
    candidates: Annotated[int, Within(1, MAX_SEGMENT_ROWS)]
    queries_per_s: Annotated[float, Within(0)]


class Facts(TypedDict, total=False):
    """What is known of a trained quantiser, see ``ann.quantiser.train`` and ``ann.tune.tuned``."""

    nlist: Required[Annotated[int, Within(1, MAX_LISTS)]]
    code_bytes: Annotated[int, Within(1, MAX_DIMENSION)]
    error: Annotated[float, Within(0)]
    errors: dict[SegmentName, tuple[Count, Annotated[float, Within(0)]]]
    target: Annotated[float, Within(0, 1)]
    queries: Count
    queries_of: str
    curve: Annotated[tuple[Point, ...], Holds(1000)]
    depths: dict[Annotated[str, Matches("[1-9][0-9]{0,9}")], Annotated[float, Within(1e-3, 1e9)]]


_OF_A_CURVE = {"target", "queries", "queries_of"}  # facts that come with one


@dataclass(frozen=True)
class AnnRef:
    """The trained, empty quantiser that the segments' codes share."""

    name: Annotated[str, Matches(layout.QUANTISER)]  # "1f2e3d4c-q003": ann/NAME.quantiser
    kind: Annotated[str, Matches("ivfpq")]
    trained_on: Count  # vectors it was trained from
    facts: Annotated[dict[str, Any], Like(Facts)]
    file: FileRef

    def __post_init__(self) -> None:
        """Raises ValueError for a curve without what it was measured with."""
        if "curve" in self.facts and (missing := _OF_A_CURVE - self.facts.keys()):
            raise ValueError(f"facts hold a curve and lack {', '.join(sorted(missing))}")


@dataclass(frozen=True)
class LedgerRef:
    """One run of the ledger, a file of the index folder; see ``ledger``."""

    name: Annotated[str, Matches(layout.LEDGER)]
    rows: Count
    file: FileRef


@dataclass(frozen=True)
class Unfinished:
    """A long item of which only the first ``parts`` parts were committed so far."""

    item_id: str
    content_hash: Annotated[str, Matches("[0-9a-f]{32}")]
    parts: Count


@dataclass(frozen=True)
class Manifest:
    """Everything a reader needs to open one snapshot.

    What may stand in each field is checked when it is read, see ``checking``.
    """

    space: Space
    generation: Count = 0
    roots: tuple[Root, ...] = ()
    segments: tuple[SegmentRef, ...] = ()
    # of each lane, by its fingerprint
    anns: dict[str, AnnRef] = field(default_factory=dict)
    ann_wanted: Annotated[str, Matches("auto|flat|ivfpq")] = "auto"
    recall: Annotated[float, Within(0.5, 1)] | None = None  # to be reached; None: 0.95
    memory_bytes: Annotated[int, Within(1)] | None = None  # that its lists may take; None: no limit
    unfinished: tuple[Unfinished, ...] = ()
    ledger: tuple[LedgerRef, ...] = ()  # files that gave no parts, oldest run first
    # replaced by this generation, removed by the next
    retired: tuple[Annotated[str, Matches(layout.RETIRED)], ...] = ()
    next_segment: Annotated[int, Within(1, 1 << 40)] = 1
    written_by: str = ""
    # the space's files that are kept
    query: dict[Annotated[str, Matches(layout.KEPT_FILE)], FileRef] = field(default_factory=dict)
    # how often they were replaced: each time they get a folder of another name
    query_no: Annotated[int, Within(0, 999_999_999)] = 0
    include: tuple[str, ...] = ()  # patterns of texts that earlier runs were asked to read, too
    exclude: tuple[str, ...] = ()  # patterns of names and paths that earlier runs left out
    follow_links: bool = False  # whether links that lead out of a root are followed
    committed_ns: Annotated[int, Within(0)] = (
        0  # when this generation was written, by the writer's clock
    )

    def __post_init__(self) -> None:
        """Raises ValueError where something is there twice, or belongs to nothing."""
        for what, several in (
            ("root", [root.id for root in self.roots]),
            ("root", [root.path for root in self.roots]),
            ("segment", [segment.name for segment in self.segments]),
            ("ledger", [run.name for run in self.ledger]),
        ):
            if len({*several}) != len(several):
                raise ValueError(f"a {what} is there twice")
        if not self.anns.keys() <= {lane.fingerprint for lane in self.space.each}:
            raise ValueError("a quantiser belongs to no lane")

    @property
    def ann(self) -> AnnRef | None:
        """The quantiser; of several lanes the first that has one."""
        return next(iter(self.anns.values()), None)

    @property
    def query_folder(self) -> str:
        """Folder inside the index for the files of its space."""
        number = f"-{self.query_no}" if self.query_no else ""
        return f"query/{self.space.fingerprint}{number}"

    @property
    def kept_space(self) -> str | None:
        """That folder, if the index keeps such files."""
        return self.query_folder if self.query else None

    @property
    def live(self) -> int:
        """Parts that a search can find."""
        return sum(s.rows - s.deleted for s in self.segments)


def _checksum(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=CHECKSUM_BYTES).hexdigest()


def write(folder: AnyPath, manifest: Manifest, known: Iterable[SegmentRef] = ()) -> None:
    """Makes ``manifest`` the folder's snapshot, atomically and durably.

    known: segments that were read or written before; they are not checked again, which would
    take 30 ms for 300 of them.
    Raises UsageError, or LimitExceeded, for one that ``read`` would refuse; nothing is written
    then.
    """
    body = {"schema": SCHEMA, **asdict(manifest)}
    # asdict keeps tuples and enums that JSON turns into lists and strings: the
    # checksum must see what a reader will see
    body = json.loads(json.dumps(body))
    content = _text({"checksum": _checksum(body), **body})
    if len(content) > MAX_MANIFEST_BYTES:
        sizes = {name: len(json.dumps(value)) for name, value in body.items()}
        name = max(sizes, key=sizes.__getitem__)
        raise LimitExceeded(
            f"{folder} would have a {MANIFEST_NAME} of {len(content):,} bytes, and at most "
            f"{MAX_MANIFEST_BYTES:,} are read: {len(body[name]):,} {name} are too many for one "
            "index. The index is as it was."
        )
    checked = {id(segment) for segment in known}
    pairs = zip(manifest.segments, body["segments"], strict=True)
    fresh = [written for segment, written in pairs if id(segment) not in checked]
    try:
        _parse({**body, "segments": fresh})
    except ValueError as e:
        raise UsageError(f"{folder} cannot hold this: {e}. The index is as it was.") from None
    replace_file(ConfinedPath(folder) / MANIFEST_NAME, content)


def _text(body: dict[str, Any]) -> bytes:
    return json.dumps(body, indent=1).encode()


def as_written(folder: ConfinedPath) -> bool:
    """Whether the manifest has the very bytes that ``write`` gave it.

    ``read`` takes one that says the same in other bytes: a blank more, an escape spelled
    otherwise. Raises OSError, or ValueError for what is no JSON.
    """
    raw = (folder / MANIFEST_NAME).read_bytes(MAX_MANIFEST_BYTES)
    return raw == _text(json.loads(raw))


def _neighbours(folder: Path) -> str:
    """Which indexes lie beside a folder that is none, for a message."""
    try:
        found = sorted(path.parent.name for path in folder.parent.glob(f"*/{MANIFEST_NAME}"))
    except OSError:
        return ""
    more = ", …" if len(found) > _MOST_NAMED else ""
    here = Path(folder.name)
    if (here / MANIFEST_NAME).is_file() and here.absolute() != folder:
        return f"; {here.absolute()} here is an index: say './{here}'"
    return f"; beside it are: {', '.join(found[:_MOST_NAMED])}{more}" if found else ""


def read(folder: AnyPath) -> Manifest:
    """The folder's current snapshot.

    Raises IndexNotFound, IndexDamaged or IndexTooNew.
    """
    path = ConfinedPath(folder) / MANIFEST_NAME
    try:
        raw = path.read_bytes(MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFound(
            f"there is no index at {folder}. Make one with `mmsearch index FOLDER`, "
            f"with the same --index, or name another{_neighbours(path.parent.path)}."
        ) from None
    except OSError as e:
        raise unreadable(path, e) from e
    damaged = IndexDamaged(
        f"{path} is damaged: its checksum does not fit. Restore it from a copy, "
        "or remove the folder and index again."
    )
    try:
        body = json.loads(raw)
        claimed = body.pop("checksum")
        schema = body["schema"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise damaged from None
    if isinstance(schema, int) and schema > SCHEMA:
        raise IndexTooNew(
            f"{folder} was written with schema {schema}; this mmsearch reads {SCHEMA}. "
            "Upgrade mmsearch."
        )
    if isinstance(schema, int) and 0 < schema < SCHEMA:
        raise StoreError(
            f"{folder} was written by a version before 0.1.0, with schema {schema}; this mmsearch "
            f"reads {SCHEMA}. Remove the folder and index again."
        )
    try:
        if schema != SCHEMA or claimed != _checksum(body):
            raise damaged
        return _parse(body)
    except (ValueError, UsageError, RecursionError) as e:
        raise IndexDamaged(
            f"{path} is not what a writer writes: {e}. Restore it from a copy, or remove the "
            "folder and index again."
        ) from None


def _parse(body: dict[str, Any]) -> Manifest:
    """The manifest of a file's JSON. Raises ValueError, or UsageError for lanes that are none."""
    found = made(Manifest, {name: value for name, value in body.items() if name != "schema"})
    lanes = found.space.lanes
    if lanes and replace(Space.joined(lanes), name=found.space.name) != found.space:
        raise ValueError("space.lanes are not those of the space")
    return found
