"""One row a part: its schema, and rows as Python and as Arrow have them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from mmsearch.errors import LimitExceeded
from mmsearch.types import Modality

# Every Arrow batch but the last has this many rows, so row r is row r % BATCH
# of batch r // BATCH, found without reading the others.
BATCH_ROWS = 4096
MODALITIES = tuple(Modality)  # a row's code is its place in here
# Of a part's metadata. Captions and tags have some hundred characters; the depth is what every JSON
# reader and writer behind us can follow.
MAX_META_CHARS, MAX_META_DEPTH = 1 << 20, 64
# In metadata: the names of those keys that decoders use and an application gave. Hits leave it out.
OWN_KEY = "mmsearch.own"
_CODES = {m: i for i, m in enumerate(MODALITIES)}

PARTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("root", pa.int32(), nullable=False),
        pa.field("path", pa.string()),  # relative to the root; null: added without a file
        pa.field("path_bytes", pa.binary()),  # only where the name is not UTF-8
        pa.field("modality", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("part_no", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("meta", pa.string()),  # a JSON object
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("ctime_ns", pa.int64(), nullable=False),
        pa.field("inode", pa.int64(), nullable=False),
        pa.field("content_hash", pa.binary(16), nullable=False),  # BLAKE2b-128
    ]
)


@dataclass(frozen=True, slots=True)
class PartRow:
    """One row of ``parts.parquet``; ``path`` may carry surrogates."""

    id: str
    root: int
    path: str | None
    modality: Modality
    part_no: int
    start_s: float | None
    end_s: float | None
    text: str | None
    meta: dict[str, Any]
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    content_hash: bytes

    @property
    def item_id(self) -> str:
        """The id of the item that the part belongs to."""
        return item_of(self.id, self.part_no)


class HitRow(NamedTuple):
    """What a hit shows of a row: a ``PartRow`` that is quick to make, without the file's facts."""

    id: str
    root: int
    path: str | None
    modality: Modality
    part_no: int
    start_s: float | None
    end_s: float | None
    text: str | None
    meta: dict[str, Any]

    @property
    def item_id(self) -> str:
        """The id of the item that the part belongs to."""
        return item_of(self.id, self.part_no)


def meta_of(text: str) -> dict[str, Any]:
    """A part's metadata, as it is stored. Raises ValueError for what no writer writes."""
    if len(text) > MAX_META_CHARS:
        raise ValueError("metadata that is too long")
    try:
        found = _decode(text)
    except RecursionError:
        raise ValueError("metadata that is nested too deeply") from None
    if type(found) is not dict:
        raise ValueError("metadata that is no object")
    if text.count("[") + text.count("{") > MAX_META_DEPTH and depth_of(found) > MAX_META_DEPTH:
        raise ValueError("metadata that is nested too deeply")
    return found


def _meta_text(row: PartRow) -> str | None:
    """A part's metadata as it is stored; raises LimitExceeded for what ``meta_of`` would refuse."""
    if not row.meta:
        return None
    text = json.dumps(row.meta)
    try:
        meta_of(text)
    except ValueError as e:
        raise LimitExceeded(
            f"{row.item_id!r} has {e}: as JSON it may have {MAX_META_CHARS:,} characters, "
            f"{MAX_META_DEPTH} levels and finite numbers. Nothing was written."
        ) from None
    return text


def depth_of(value: Any) -> int:
    """How many lists and objects stand one in the other in a JSON value; 0 in a plain one."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [v for one in level for v in (one.values() if isinstance(one, dict) else one)]
    return depth


def _no_number(text: str) -> Any:
    raise ValueError(f"metadata with {text}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("metadata with a number that is too large")
    return number


# json.loads, but for its questions
_decode = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite).decode


def part_id(item_id: str, part_no: int) -> str:
    """The first part bears its item's id, the others ``#n`` behind it."""
    return item_id if part_no == 0 else f"{item_id}#{part_no}"


def item_of(part: str, part_no: int) -> str:
    """The id of the item that a part belongs to."""
    return part if part_no == 0 else part[: -len(f"#{part_no}")]


def split_path(path: str | None) -> tuple[str | None, bytes | None]:
    """(UTF-8 text, the bytes where the name is not UTF-8) of a decoded path."""
    if path is None:
        return None, None
    try:
        path.encode()
        return path, None
    except UnicodeEncodeError:
        raw = os.fsencode(path)
        return raw.decode("utf-8", "backslashreplace"), raw


def storable(text: str | None) -> str | None:
    """A text as UTF-8 can hold it: a half of a surrogate pair becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def rows_to_batch(rows: Sequence[PartRow]) -> pa.RecordBatch:
    """The rows as one Arrow batch of ``PARTS_SCHEMA``.

    Raises LimitExceeded for metadata that no reader would take.
    """
    paths = [split_path(r.path) for r in rows]
    codes = pa.array([_CODES[r.modality] for r in rows], pa.int8())
    columns = [
        pa.array([r.id for r in rows], pa.string()),
        pa.array([r.root for r in rows], pa.int32()),
        pa.array([p for p, _ in paths], pa.string()),
        pa.array([b for _, b in paths], pa.binary()),
        _modality_column(codes),
        pa.array([r.part_no for r in rows], pa.int32()),
        pa.array([r.start_s for r in rows], pa.float64()),
        pa.array([r.end_s for r in rows], pa.float64()),
        pa.array([storable(r.text) for r in rows], pa.string()),
        pa.array([_meta_text(r) for r in rows], pa.string()),
        pa.array([r.size for r in rows], pa.int64()),
        pa.array([r.mtime_ns for r in rows], pa.int64()),
        pa.array([r.ctime_ns for r in rows], pa.int64()),
        pa.array([r.inode for r in rows], pa.int64()),
        pa.array([r.content_hash for r in rows], pa.binary(16)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PARTS_SCHEMA)


def _modality_column(codes: pa.Array) -> pa.DictionaryArray:
    # always the whole dictionary: an Arrow file has one for all its batches
    return pa.DictionaryArray.from_arrays(codes, pa.array([str(m) for m in MODALITIES]))


def batch_to_rows(batch: pa.RecordBatch) -> list[PartRow]:
    """The parts of an Arrow batch, as plain rows. Raises ValueError for metadata that is none."""
    rows = []
    for r in batch.to_pylist():
        raw = r.pop("path_bytes")
        if raw is not None:
            r["path"] = os.fsdecode(raw)
        r["modality"] = Modality(r["modality"])
        r["meta"] = {} if r["meta"] is None else meta_of(r["meta"])
        rows.append(PartRow(**r))
    return rows
