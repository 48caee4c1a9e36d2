"""Where the messages of an Arrow file lie, read before Arrow reads them.

The file may come from a stranger. So its messages must lie inside the file, one behind the other:
none is listed twice. And none may be compressed: a writer of ours leaves them as they are, and a
few kilobytes of a stranger's could become gigabytes.
Source: Apache Arrow, format/File.fbs and Message.fbs; FlatBuffers' internals.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

# Fields of tables, by their place in the schema.
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_MESSAGE_TYPE, _MESSAGE_HEADER = 1, 2
_DICTIONARY_DATA, _BATCH_COMPRESSION = 1, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # types of a message's header
_BLOCK = np.dtype([("start", "<i8"), ("metadata", "<i4"), ("", "<i4"), ("body", "<i8")])
_CONTINUES = b"\xff\xff\xff\xff"  # what a message begins with, before its length
_PREFIX_BYTES = 8
TAIL_BYTES = 10  # of a file: the footer's length and "ARROW1"


def batches(data: NDArray[np.uint8], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The record batches of a file without dictionaries, each checked in full.

    data: the whole file. Raises ValueError (Arrow's errors are some, too).
    """
    start, footer = footer_of(data)
    dictionaries, extents = listed(footer, start)
    if len(dictionaries):
        raise ValueError("it has dictionaries")
    for extent in extents.tolist():
        check_plain(data, *extent)
    # on the caller's thread alone: one of Arrow's that lets go of bytes of Python's while the
    # program ends would abort it
    alone = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data)), options=alone) as file:
        if not file.schema.equals(schema) or file.num_record_batches != len(extents):
            raise ValueError("its columns are not those that it should have")
        for i in range(len(extents)):
            batch = file.get_batch(i)
            batch.validate(full=True)
            for field, column in zip(schema, batch.columns, strict=True):
                if column.null_count and not field.nullable:
                    raise ValueError(f"a row without {field.name}")
            yield batch


def footer_of(data: NDArray[np.uint8]) -> tuple[int, bytes]:
    """Where an Arrow file's footer begins, and the footer. Raises ValueError."""
    size = len(data)
    if size < TAIL_BYTES:
        raise ValueError("it is too short")
    (length,) = struct.unpack_from("<i", data[size - TAIL_BYTES :].tobytes())
    start = size - TAIL_BYTES - length
    if not 0 < length <= start:
        raise ValueError("its footer lies outside")
    return start, data[start : start + length].tobytes()


def listed(footer: bytes, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The dictionaries and the record batches that a footer lists.

    end: where the footer begins. Each is int64 (n, 3): start, end of the metadata, stop; in bytes
    of the file. Raises ValueError where they do not lie one behind the other inside the file.
    """
    dictionaries = _listed(footer, _FOOTER_DICTIONARIES)
    batches = _listed(footer, _FOOTER_BATCHES)
    at = 0
    for start, middle, stop in sorted([*dictionaries.tolist(), *batches.tolist()]):
        if not at <= start <= middle - _PREFIX_BYTES <= stop - _PREFIX_BYTES <= end:
            raise ValueError("its batches lie outside, or over each other")
        at = stop
    if at > end or (batches[1:, 0] <= batches[:-1, 0]).any():
        raise ValueError("its batches are out of order")
    return dictionaries, batches


def _listed(footer: bytes, field: int) -> NDArray[np.int64]:
    at = _field(footer, _reference(footer, 0), field)
    if not at:
        return np.empty((0, 3), np.int64)
    vector = _reference(footer, at)
    n = _number(footer, "<I", vector)
    if n * _BLOCK.itemsize > len(footer):
        raise ValueError("its footer is cut short")
    read = np.frombuffer(footer, _BLOCK, n, vector + 4)
    found = np.empty((n, 3), np.int64)
    found[:, 0] = read["start"]
    found[:, 1] = read["start"] + read["metadata"]
    found[:, 2] = found[:, 1] + read["body"]  # what is too large wraps round, and is out of order
    return found


def check_plain(data: NDArray[np.uint8], start: int, middle: int, stop: int) -> None:
    """Raises ValueError for a message that is no batch or dictionary, or a compressed one."""
    message = data[start:middle].tobytes()
    if message[:4] != _CONTINUES:
        raise ValueError("it has a batch of an older form")
    message = message[_PREFIX_BYTES:]
    table = _reference(message, 0)
    kind_at, header_at = (
        _field(message, table, _MESSAGE_TYPE),
        _field(message, table, _MESSAGE_HEADER),
    )
    if not kind_at or not header_at:
        raise ValueError("it has a batch without a header")
    kind, batch = _number(message, "<B", kind_at), _reference(message, header_at)
    if kind == _DICTIONARY_BATCH:
        at = _field(message, batch, _DICTIONARY_DATA)
        if not at:
            raise ValueError("it has a dictionary without values")
        batch = _reference(message, at)
    elif kind != _RECORD_BATCH:
        raise ValueError("it has a message that is no batch")
    if _field(message, batch, _BATCH_COMPRESSION):
        raise ValueError("it has a compressed batch")


def _field(buffer: bytes, table: int, field: int) -> int:
    """Where a table's field lies; 0 where it has none."""
    vtable = table - _number(buffer, "<i", table)
    place = 4 + 2 * field
    if place + 2 > _number(buffer, "<H", vtable):
        return 0
    offset = _number(buffer, "<H", vtable + place)
    return table + offset if offset else 0


def _reference(buffer: bytes, at: int) -> int:
    return at + _number(buffer, "<I", at)


def _number(buffer: bytes, kind: str, at: int) -> int:
    if at < 0:
        raise ValueError("it points outside")
    found: int = struct.unpack_from(kind, buffer, at)[0]
    return found
