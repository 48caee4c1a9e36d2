"""Cases of a forged index: its rows and its ledger, as Arrow and as Parquet."""

from __future__ import annotations

import os
import struct
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from forged import CASES, Forged, case
from mmsearch.store import PARTS_SCHEMA

# -- Arrow ---------------------------------------------------------------------------


def _arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=4096)
    return bytes(sink.getvalue().to_pybytes())


for _column in ("id", "path", "text", "meta"):
    for _how, _at, _value in (
        ("beyond", 700, 0x7FFFFFF0),
        ("negative", 700, -0x7FFFFFF0),
        ("backwards", 701, 1),
        ("last", 1300, 0x7FFFFFF0),
    ):
        CASES[f"arrow_offset_{_how}_in_{_column}"] = partial(
            Forged.patch, column=_column, buffer=1, kind="<i4", at=_at, value=_value
        )  # type: ignore[assignment]
for _how, _value in (("beyond", 100), ("negative", -5)):
    CASES[f"arrow_kind_{_how}"] = partial(
        Forged.patch, column="modality", buffer=1, kind="i1", at=700, value=_value
    )  # type: ignore[assignment]
CASES["arrow_id_is_not_utf8"] = partial(
    Forged.patch, column="id", buffer=2, kind="u1", at=900, value=0xFF
)  # type: ignore[assignment]
CASES["arrow_text_is_not_utf8"] = partial(
    Forged.patch, column="text", buffer=2, kind="u1", at=900, value=0xFF
)  # type: ignore[assignment]


@case
def arrow_is_compressed(forged: Forged) -> None:
    path = forged.path("parts.arrow")
    with pa.ipc.open_file(pa.BufferReader(path.read_bytes())) as file:
        table = file.read_all()
    noise = np.random.default_rng(1)
    columns = {
        "text": pa.array(["x" * 1_000_000] * len(table)),  # 1.3 GB out of some kilobytes
        "id": pa.array([noise.bytes(200).hex() for _ in range(len(table))]),  # so that it is long
    }
    for name, new in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), new)
    forged.put(path, _arrow(table, "zstd"))


@case
def arrow_has_other_columns(forged: Forged) -> None:
    forged.arrow(lambda table: table.select(["id", "root"]))


@case
def arrow_has_columns_of_other_types(forged: Forged) -> None:
    forged.column("meta", lambda values: pa.array([5] * len(values), pa.int64()))


@case
def arrow_has_nested_columns(forged: Forged) -> None:
    forged.column("text", lambda values: pa.array([[["x"]]] * len(values)))


@case
def arrow_has_more_rows_than_said(forged: Forged) -> None:
    forged.arrow(lambda table: pa.concat_tables([table] * 3))


@case
def arrow_has_fewer_rows_than_said(forged: Forged) -> None:
    forged.arrow(lambda table: table.slice(0, 5))


@case
def arrow_has_kinds_of_its_own(forged: Forged) -> None:
    def others(values: list[Any]) -> pa.Array:
        codes = pa.array([i % 3 for i in range(len(values))], pa.int8())
        return pa.DictionaryArray.from_arrays(codes, pa.array(["a", "b", "c"]))

    forged.column("modality", others)


@case
def arrow_lists_a_batch_many_times(forged: Forged) -> None:
    path = forged.path("parts.arrow")
    content = path.read_bytes()
    (length,) = struct.unpack("<i", content[-10:-6])
    footer = bytearray(content[-10 - length : -10])
    with pa.ipc.open_file(pa.BufferReader(content)) as file:
        assert file.num_record_batches == 1
    at = footer.rindex(struct.pack("<I", 1), 0, len(footer))  # a vector of one block
    for start in range(len(footer) - 28):
        n, offset = struct.unpack_from("<Iq", footer, start)
        if n == 1 and 0 < offset < len(content) and start != at:
            struct.pack_into("<I", footer, start, 1 << 20)
    forged.put(path, content[: -10 - length] + bytes(footer) + content[-10:])


@case
def arrow_footer_is_noise(forged: Forged) -> None:
    path = forged.path("parts.arrow")
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<i", content[-10:-6])
    noise = np.random.default_rng(1).bytes(length)
    content[-10 - length : -10] = noise
    forged.put(path, bytes(content))


@case
def arrow_footer_has_no_end(forged: Forged) -> None:
    path = forged.path("parts.arrow")
    content = bytearray(path.read_bytes())
    content[-10:-6] = struct.pack("<i", -(2**31))
    forged.put(path, bytes(content))


@case
def arrow_metadata_is_noise(forged: Forged) -> None:
    path = forged.path("parts.arrow")
    content = bytearray(path.read_bytes())
    for n in range(400, 1200, 7):
        content[n] ^= 0x55
    forged.put(path, bytes(content))


for _name, _text in {
    "is_a_list": "[1, 2]",
    "is_no_json": "{'a': 1}",
    "is_deep": '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
    "is_rather_deep": '{"a": ' + "[" * 300 + "]" * 300 + "}",
    "has_no_number": '{"a": NaN, "b": -Infinity}',
    "has_too_large_a_number": '{"a": 1e999}',
    "has_a_long_number": '{"a": ' + "9" * 6000 + "}",
    "has_half_characters": r'{"a": "\ud800", "\udfff": 1}',
    "is_long": '{"a": "' + "x" * 3_000_000 + '"}',
}.items():
    CASES[f"meta_{_name}"] = partial(
        lambda forged, text: (
            forged.column("meta", lambda values: pa.array([text] * len(values), pa.string()))
            if len(text) < 100_000
            else forged.column("meta", lambda values: pa.array([text, *values[1:]], pa.string()))
        ),
        text=_text,
    )  # type: ignore[assignment]


@case
def times_are_no_numbers(forged: Forged) -> None:
    forged.column("start_s", lambda values: pa.array([float("nan")] * len(values)))


@case
def roots_of_rows_are_unknown(forged: Forged) -> None:
    forged.column("root", lambda values: pa.array([77] * len(values), pa.int32()))


@case
def paths_climb_out(forged: Forged) -> None:
    up = os.path.relpath(forged.outside / "Documents/letter.txt", "/nowhere")
    forged.arrow(
        lambda table: table.set_column(
            2, PARTS_SCHEMA.field("path"), pa.array([up] * len(table), pa.string())
        ).set_column(1, PARTS_SCHEMA.field("root"), pa.array([0] * len(table), pa.int32()))
    )


@case
def paths_hold_strange_bytes(forged: Forged) -> None:
    raw = b"\xff\x00\x1b[2J\n"
    forged.column("path_bytes", lambda values: pa.array([raw] * len(values), pa.binary()))


@case
def ids_are_all_the_same(forged: Forged) -> None:
    forged.column("id", lambda values: pa.array(["same"] * len(values), pa.string()))


@case
def part_numbers_are_strange(forged: Forged) -> None:
    forged.column("part_no", lambda values: pa.array([-(2**31)] * len(values), pa.int32()))


@case
def texts_are_long(forged: Forged) -> None:
    forged.column("text", lambda values: pa.array(["x" * 4_000_000, *values[1:]], pa.string()))


# -- Parquet -------------------------------------------------------------------------


def _parquet_bomb(rows: int) -> bytes:
    """Some kilobytes that unpack to gigabytes: a text of 8 MB, repeated by a dictionary."""
    out = pa.BufferOutputStream()
    columns = []
    for field in PARTS_SCHEMA:
        if field.name == "text":
            columns.append(pa.array(["x" * 8_000_000] * rows, pa.large_string()))
        elif pa.types.is_dictionary(field.type):
            codes = pa.array([0] * rows, pa.int8())
            columns.append(pa.DictionaryArray.from_arrays(codes, pa.array(["image"])))
        elif pa.types.is_string(field.type):
            columns.append(pa.array(["x"] * rows, field.type))
        elif pa.types.is_fixed_size_binary(field.type):
            columns.append(pa.array([bytes(16)] * rows, field.type))
        elif pa.types.is_binary(field.type):
            columns.append(pa.array([None] * rows, field.type))
        else:
            columns.append(pa.array([1] * rows, field.type))
    table = pa.table(columns, names=PARTS_SCHEMA.names)
    pq.write_table(table, out, compression="zstd", dictionary_pagesize_limit=1 << 30)
    return bytes(out.getvalue().to_pybytes())


@case
def parquet_is_a_bomb(forged: Forged) -> None:
    forged.put(forged.path("parts.parquet"), _parquet_bomb(100) * 1)


@case
def parquet_is_noise(forged: Forged) -> None:
    noise = np.random.default_rng(2).bytes(5000)
    forged.put(forged.path("parts.parquet"), b"PAR1" + noise + struct.pack("<I", 900) + b"PAR1")


@case
def parquet_has_other_columns(forged: Forged) -> None:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1] * 9}), out)
    forged.put(forged.path("parts.parquet"), out.getvalue().to_pybytes())


@case
def ledger_is_noise(forged: Forged) -> None:
    content = bytearray(forged.ledger.read_bytes())
    for n in range(8, len(content) - 10, 5):
        content[n] ^= 0x3C
    forged.put(forged.ledger, bytes(content))


@case
def ledger_has_other_columns(forged: Forged) -> None:
    forged.put(forged.ledger, _arrow(pa.table({"a": [1] * 9})))


def _ledger(forged: Forged, **columns: object) -> None:
    """Rewrites the ledger's rows with other values in some columns."""
    with pa.ipc.open_file(pa.BufferReader(forged.ledger.read_bytes())) as file:
        table = file.read_all()
    for name, value in columns.items():
        field = table.schema.field(name)
        new = pa.array([value] * len(table), field.type)
        table = table.set_column(table.schema.get_field_index(name), field, new)
    forged.put(forged.ledger, _arrow(table))


for _name, _columns in {
    "of_unknown_roots": {"root": 77},
    "of_unknown_outcomes": {"outcome": "\x1b[2Jindexed"},
    "of_no_outcome": {"outcome": None},
    "with_long_reasons": {"reason": "\x1b[2J" + "x" * 9_000_000},
    "with_strange_paths": {"path_bytes": b"\xff\x00\x1b[2J"},
    "above_its_root": {"path": "../../../etc/passwd"},
    "out_of_order": {"key": 2**64 - 1},
}.items():
    CASES[f"ledger_{_name}"] = partial(_ledger, **_columns)


@case
def ledger_is_compressed(forged: Forged) -> None:
    with pa.ipc.open_file(pa.BufferReader(forged.ledger.read_bytes())) as file:
        table = file.read_all()
    field = table.schema.field("reason")
    table = table.slice(0, 1)
    table = table.set_column(
        table.schema.get_field_index("reason"), field, pa.array(["x" * 400_000_000])
    )
    forged.put(forged.ledger, _arrow(table, "zstd"))
