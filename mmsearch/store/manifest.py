"""The manifest: one JSON file that names a whole snapshot, swapped atomically."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mmsearch.errors import IndexDamaged, IndexNotFound, IndexTooNew, StoreError, UsageError
from mmsearch.store.files import CHECKSUM_BYTES, replace_file
from mmsearch.types import Modality, Preprocess, Space

SCHEMA = 5
_MOST_NAMED = 5  # indexes, in a message
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 256 << 20  # some million segments; more is not ours

# A manifest may come from a stranger, and names in it are opened and removed:
# each must stay inside the index folder.
_SAFE_NAME = re.compile(r"(?!\.)[\w.-]{1,120}")


@dataclass(frozen=True)
class FileRef:
    """A file's size and checksum, as it was written (see ``files.Hasher``)."""

    bytes: int
    checksum: str


@dataclass(frozen=True)
class Root:
    """A folder that was named to ``index``; ``id`` is what rows carry.

    The root with an empty path holds what ``Index.add`` put in without a file or
    under an id of the caller's: no walk is compared with it.
    """

    id: int
    path: str


@dataclass(frozen=True)
class SegmentRef:
    """An immutable batch of parts, and which of its rows are deleted by now.

    ``files`` maps a name inside the segment's folder to its reference.
    ``deletions`` names one of them (uint32 row numbers, sorted) or is None.
    """

    name: str
    rows: int
    files: dict[str, FileRef]
    deletions: str | None = None
    deleted: int = 0


@dataclass(frozen=True)
class AnnRef:
    """The trained, empty quantiser that the segments' codes share."""

    name: str  # e.g. "1f2e3d4c-q003": the file is ann/NAME.faiss
    kind: str
    trained_on: int  # vectors it was trained from
    facts: dict[str, Any]
    file: FileRef


@dataclass(frozen=True)
class LedgerRef:
    """One run of the ledger, a file of the index folder; see ``ledger``."""

    name: str
    rows: int
    file: FileRef


@dataclass(frozen=True)
class Unfinished:
    """A long item of which only the first ``parts`` parts were committed so far."""

    item_id: str
    content_hash: str
    parts: int


@dataclass(frozen=True)
class Manifest:
    """Everything a reader needs to open one snapshot."""

    space: Space
    generation: int = 0
    roots: tuple[Root, ...] = ()
    segments: tuple[SegmentRef, ...] = ()
    anns: dict[str, AnnRef] = field(default_factory=dict)  # of each lane, by its fingerprint
    ann_wanted: str = "auto"
    recall: float | None = None  # that approximate search should reach; None: 0.95
    memory_bytes: int | None = None  # that its lists may take; None: no limit
    unfinished: tuple[Unfinished, ...] = ()
    ledger: tuple[LedgerRef, ...] = ()  # files that gave no parts, oldest run first
    retired: tuple[str, ...] = ()  # replaced by this generation, removed by the next
    next_segment: int = 1
    written_by: str = ""
    query: dict[str, FileRef] = field(default_factory=dict)  # the space's files that are kept
    include: tuple[str, ...] = ()  # patterns of texts that earlier runs were asked to read, too
    exclude: tuple[str, ...] = ()  # patterns of names and paths that earlier runs left out
    follow_links: bool = False  # whether links that lead out of a root are followed
    committed_ns: int = 0  # when this generation was written, by the writer's clock

    @property
    def ann(self) -> AnnRef | None:
        """The quantiser; of several lanes the first that has one."""
        return next(iter(self.anns.values()), None)

    @property
    def kept_space(self) -> str | None:
        """Folder inside the index that holds the files of its space, if it keeps them."""
        return f"query/{self.space.fingerprint}" if self.query else None

    @property
    def live(self) -> int:
        """Parts that a search can find."""
        return sum(s.rows - s.deleted for s in self.segments)


def _checksum(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=CHECKSUM_BYTES).hexdigest()


def write(folder: Path, manifest: Manifest) -> None:
    """Makes ``manifest`` the folder's snapshot, atomically and durably."""
    body = {"schema": SCHEMA, **asdict(manifest)}
    # asdict keeps tuples and enums that JSON turns into lists and strings: the
    # checksum must see what a reader will see
    body = json.loads(json.dumps(body))
    replace_file(folder / MANIFEST_NAME, _text({"checksum": _checksum(body), **body}))


def _text(body: dict[str, Any]) -> bytes:
    return json.dumps(body, indent=1).encode()


def as_written(folder: Path) -> bool:
    """Whether the manifest has the very bytes that ``write`` gave it.

    ``read`` takes one that says the same in other bytes: a blank more, an escape spelled
    otherwise. Raises OSError, or ValueError for what is no JSON.
    """
    raw = (folder / MANIFEST_NAME).read_bytes()
    return raw == _text(json.loads(raw))


def _neighbours(folder: Path) -> str:
    """Which indexes lie beside a folder that is none, for a message."""
    try:
        found = sorted(path.parent.name for path in folder.parent.glob(f"*/{MANIFEST_NAME}"))
    except OSError:
        return ""
    more = ", …" if len(found) > _MOST_NAMED else ""
    return f"; beside it are: {', '.join(found[:_MOST_NAMED])}{more}" if found else ""


def read(folder: Path) -> Manifest:
    """The folder's current snapshot.

    Raises IndexNotFound, IndexDamaged or IndexTooNew.
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise IndexDamaged(f"{path} is larger than any manifest: restore it from a copy.")
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFound(
            f"there is no index at {folder}. Make one with `mmsearch index FOLDER`, "
            f"with the same --index, or name another{_neighbours(folder)}."
        ) from None
    except OSError as e:
        raise StoreError(f"{path} cannot be read: {e.strerror or e}.") from e
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
    if schema != SCHEMA or claimed != _checksum(body):
        raise damaged
    try:
        return _parse(body)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError):
        raise damaged from None


def _check_names(body: dict[str, Any]) -> None:
    names = [s["name"] for s in body["segments"]]
    names += [n for s in body["segments"] for n in s["files"]]
    names += [s["deletions"] for s in body["segments"] if s["deletions"] is not None]
    names += [ann["name"] for ann in body["anns"].values()]
    names += body["anns"]
    names += [run["name"] for run in body["ledger"]]
    names += [n for path in body["query"] for n in path.split("/")]
    names += [n for path in body["retired"] for n in path.split("/")]
    if not all(_SAFE_NAME.fullmatch(n) for n in names):
        raise ValueError("a name leaves the index folder")


def _space(facts: dict[str, Any]) -> Space:
    facts = {
        **facts,
        "modalities": tuple(Modality(m) for m in facts["modalities"]),
        "preprocess": Preprocess(**facts["preprocess"]),
    }
    lanes = [_space(lane) for lane in facts.pop("lanes")]
    space = Space(**facts, lanes=tuple(lanes))
    if lanes and replace(Space.joined(lanes), name=space.name) != space:
        raise ValueError("the lanes are not those of the space")
    return space


def _parse(body: dict[str, Any]) -> Manifest:
    body = dict(body)
    _check_names(body)
    del body["schema"]
    space = _space(body.pop("space"))
    anns = body.pop("anns")
    if not anns.keys() <= {lane.fingerprint for lane in space.each}:
        raise ValueError("a quantiser of no lane")
    return Manifest(
        space=space,
        roots=tuple(Root(**r) for r in body.pop("roots")),
        segments=tuple(
            SegmentRef(**{**s, "files": {n: FileRef(**f) for n, f in s["files"].items()}})
            for s in body.pop("segments")
        ),
        anns={n: AnnRef(**{**ann, "file": FileRef(**ann["file"])}) for n, ann in anns.items()},
        unfinished=tuple(Unfinished(**u) for u in body.pop("unfinished")),
        ledger=tuple(
            LedgerRef(**{**run, "file": FileRef(**run["file"])}) for run in body.pop("ledger")
        ),
        retired=tuple(body.pop("retired")),
        query={n: FileRef(**f) for n, f in body.pop("query").items()},
        include=tuple(body.pop("include")),
        exclude=tuple(body.pop("exclude")),
        **body,
    )
