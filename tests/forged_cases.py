"""What a stranger may do to an index folder: one function a case, with valid checksums.

Add one by writing a function with ``@case`` above it. It gets a ``Forged`` copy of an honest index
and ``forged.outside``, a folder that nothing may be read, written or removed in.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from forged import SECRET, Forged
from mmsearch.store import PARTS_SCHEMA
from tiny_space import WIDTH, WORDS

Case = Callable[[Forged], None]
CASES: dict[str, Case] = {}  # name -> what is done to the index


def case(function: Case) -> Case:
    """Makes a function a case under its own name."""
    CASES[function.__name__] = function
    return function


# -- links ---------------------------------------------------------------------------


def _moved_out(forged: Forged, path: Path) -> None:
    """Moves a file or folder out of the index and leaves a link to it: what is read is right."""
    target = forged.outside / "moved" / path.name
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)
    path.symlink_to(target)


def _link(find: Callable[[Forged], Path], forged: Forged) -> None:
    _moved_out(forged, find(forged))


_LINKED: dict[str, Callable[[Forged], Path]] = {
    "segments": lambda f: f.folder / "segments",
    "segment": lambda f: f.path("parts.arrow").parent,
    "arrow": lambda f: f.path("parts.arrow"),
    "arrow_blocks": lambda f: f.path("parts.arrow").with_name("parts.arrow.blocks"),
    "parquet": lambda f: f.path("parts.parquet"),
    "vectors": lambda f: f.path("vectors-"),
    "lists": lambda f: f.path("codes-"),
    "deletions": lambda f: f.path("deleted-"),
    "ann": lambda f: f.folder / "ann",
    "quantiser": lambda f: f.quantiser,
    "query": lambda f: f.folder / "query",
    "kept": lambda f: f.kept,
    "tower": lambda f: f.kept / "text.onnx",
    "tokenizer": lambda f: f.kept / "tokenizer.json",
    "card": lambda f: f.kept / "card.json",
    "manifest": lambda f: f.folder / "manifest.json",
    "ledger": lambda f: f.ledger,
}
for _name, _find in _LINKED.items():
    CASES[f"link_{_name}"] = partial(_link, _find)


def _fifo(find: Callable[[Forged], Path], forged: Forged) -> None:
    path = find(forged)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


for _name in ("arrow", "vectors", "parquet", "quantiser", "tower", "card", "manifest", "ledger"):
    CASES[f"fifo_{_name}"] = partial(_fifo, _LINKED[_name])
for _name in ("writer.lock", "writer.json"):
    CASES[f"fifo_{_name}"] = partial(_fifo, lambda f, name=_name: f.folder / name)


@case
def link_lock_to_a_file(forged: Forged) -> None:
    (forged.folder / "writer.lock").unlink(missing_ok=True)
    (forged.folder / "writer.lock").symlink_to(forged.outside / "Documents/letter.txt")


@case
def link_lock_to_nowhere(forged: Forged) -> None:
    (forged.folder / "writer.lock").unlink(missing_ok=True)
    (forged.folder / "writer.lock").symlink_to(forged.outside / "Documents/new.txt")


@case
def lock_is_another_name_of_a_file(forged: Forged) -> None:
    (forged.folder / "writer.lock").unlink(missing_ok=True)
    os.link(forged.outside / "Documents/letter.txt", forged.folder / "writer.lock")


@case
def link_holder_to_a_file(forged: Forged) -> None:
    (forged.folder / "writer.json").symlink_to(forged.outside / "Documents/letter.txt")


@case
def link_holder_to_nowhere(forged: Forged) -> None:
    (forged.folder / "writer.json").symlink_to(forged.outside / "Documents/new.txt")


@case
def link_temporary_manifest(forged: Forged) -> None:
    for pid in range(1, 4000):  # names that a writer would take
        (forged.folder / f"manifest.json.{pid}.tmp").symlink_to(
            forged.outside / "Documents/new.txt"
        )


@case
def retired_leads_through_a_link(forged: Forged) -> None:
    (forged.folder / "x").symlink_to(forged.outside)
    forged.body["retired"] = ["x/Documents"]


@case
def retired_segment_is_a_link(forged: Forged) -> None:
    (forged.folder / "segments/000077-abcd").symlink_to(forged.outside / "Documents")
    forged.body["retired"] = ["segments/000077-abcd"]


@case
def retired_file_lies_in_a_linked_segment(forged: Forged) -> None:
    victim = forged.outside / "Documents/parts.arrow"
    victim.write_bytes(SECRET)
    (forged.folder / "segments/000077-abcd").symlink_to(victim.parent)
    forged.body["retired"] = ["segments/000077-abcd/parts.arrow"]


@case
def retired_climbs_out(forged: Forged) -> None:
    up = os.path.relpath(forged.outside, forged.folder)
    forged.body["retired"] = [f"{up}/Documents", f"segments/../{up}/Documents", "..", "."]


@case
def retired_is_a_user_file(forged: Forged) -> None:
    (forged.folder / "notes.txt").write_bytes(SECRET)
    forged.body["retired"] = ["notes.txt"]


@case
def stray_segment_is_a_link(forged: Forged) -> None:
    (forged.folder / "segments/000078-abcd").symlink_to(forged.outside / "Documents")


@case
def stray_segment_holds_links(forged: Forged) -> None:
    stray = forged.folder / "segments/000079-abcd"
    stray.mkdir()
    (stray / "up").symlink_to(forged.outside)
    (stray / "parts.arrow").symlink_to(forged.outside / "Documents/letter.txt")


@case
def stray_segment_is_deep(forged: Forged) -> None:
    where = forged.folder / "segments/000080-abcd"
    where.mkdir()
    above = os.open(where, os.O_RDONLY)
    for _ in range(1200):  # 2,400 bytes of path, as an archive may hold
        os.mkdir("a", dir_fd=above)
        below = os.open("a", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)


@case
def next_is_a_link_to_a_folder(forged: Forged) -> None:
    for name in ("next-00000000", f"next-{forged.kept.name}"):
        (forged.folder / name).symlink_to(forged.outside / "Documents")


@case
def next_is_a_link_to_an_index(forged: Forged) -> None:
    shutil.copytree(forged.folder, forged.outside / "other index")
    (forged.folder / "next-00000000").symlink_to(forged.outside / "other index")


@case
def every_next_is_a_link(forged: Forged) -> None:
    from mmsearch.spaces import load_encoder

    space = load_encoder(str(forged.folder.parent / "space2")).space
    (forged.folder / f"next-{space.fingerprint}").symlink_to(forged.outside / "Documents")


@case
def folder_in_place_of_a_file(forged: Forged) -> None:
    path = forged.path("parts.arrow")
    path.unlink()
    path.mkdir()


@case
def link_loop(forged: Forged) -> None:
    path = forged.folder / "ann"
    shutil.rmtree(path)
    path.symlink_to("ann")


# -- the manifest --------------------------------------------------------------------


@case
def manifest_is_deep(forged: Forged) -> None:
    body = '{"checksum": "", "schema": 5, "x": ' + "[" * 200_000 + "]" * 200_000 + "}"
    (forged.folder / "manifest.json").write_text(body)
    forged.body = {}
    forged.save = lambda: None  # type: ignore[method-assign]


@case
def manifest_is_large(forged: Forged) -> None:
    forged.body["include"] = ["a"] * 4_000_000


@case
def manifest_is_much_in_little(forged: Forged) -> None:
    forged.body["include"] = [{}] * 1_500_000


@case
def manifest_is_not_utf8(forged: Forged) -> None:
    (forged.folder / "manifest.json").write_bytes(b'{"checksum": "\xff\xfe", "schema": 5}')
    forged.save = lambda: None  # type: ignore[method-assign]


@case
def rows_without_end(forged: Forged) -> None:
    forged.segment["rows"] = 2**31 - 1


@case
def deleted_without_end(forged: Forged) -> None:
    forged.segment["rows"], forged.segment["deleted"] = 2**31 - 1, 2**31 - 2


@case
def every_part_twice(forged: Forged) -> None:
    forged.body["segments"].append(dict(forged.segment))


@case
def the_same_files_under_many_names(forged: Forged) -> None:
    here = forged.path("parts.arrow").parent
    for n in range(60):
        name = f"{n + 100:06d}-abcd"
        shutil.copytree(here, here.parent / name)
        forged.body["segments"].append({**forged.segment, "name": name})


@case
def facts_without_end(forged: Forged) -> None:
    facts = forged.ann["facts"]
    facts["curve"] = [
        {"recall": 0.99, "nprobe": 1 << 23, "candidates": 2**31 - 1, "queries_per_s": 1.0}
    ]


@case
def facts_that_divide_by_nothing(forged: Forged) -> None:
    facts = forged.ann["facts"]
    facts |= {"depths": {"10": 1e-3, "30": 1e9}, "error": 0.0, "errors": {}, "curve": []}


@case
def facts_of_other_types(forged: Forged) -> None:
    forged.ann["facts"] = {"nlist": "many", "curve": {"a": 1}}


@case
def facts_that_lack_all(forged: Forged) -> None:
    forged.ann["facts"] = {}


@case
def dimension_without_end(forged: Forged) -> None:
    forged.body["space"]["dimension"] = 2**40


@case
def pictures_without_end(forged: Forged) -> None:
    forged.body["space"]["preprocess"]["image_px"] = 2**20


@case
def roots_are_relative(forged: Forged) -> None:
    forged.body["roots"] = [{"id": 0, "path": "../../x"}, {"id": 1, "path": ""}]


@case
def roots_are_not_those_of_rows(forged: Forged) -> None:
    forged.body["roots"] = [{"id": 7, "path": "/nowhere"}, {"id": 8, "path": ""}]


@case
def terminal_sequences_in_names(forged: Forged) -> None:
    forged.body["written_by"] = "\x1b]0;pwned\x07\x1b[2J"
    forged.body["space"]["name"] = "\x1b[31mtiny\u202e"
    forged.body["include"] = ["\x1b[2J", "*" * 60_000]


@case
def include_is_slow(forged: Forged) -> None:
    forged.body["include"] = ["*a" * 5_000 + "b"]


@case
def unfinished_is_strange(forged: Forged) -> None:
    unfinished = {"item_id": "x", "content_hash": "0" * 32, "parts": 2**52}
    forged.body["unfinished"] = [unfinished] * 1000


@case
def space_of_another_name(forged: Forged) -> None:
    forged.body["space"]["name"] = "mini"


@case
def space_is_lanes_of_itself(forged: Forged) -> None:
    space = forged.body["space"]
    forged.body["space"] = {**space, "lanes": [{**space}, {**space, "lanes": [space]}]}


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


# -- .npy, lists, quantiser ----------------------------------------------------------


def _npy(head: str, body: bytes) -> bytes:
    text = head.encode() + b"\n"
    text = text.rjust(len(text)).ljust(118 if len(text) < 118 else len(text))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def _vectors(forged: Forged, head: str) -> None:
    path = forged.path("vectors-")
    forged.put(path, _npy(head, path.read_bytes()[128:]))


for _name, _head in {
    "huge": "{'descr': '<f2', 'fortran_order': False, 'shape': (1000000000000, 24), }",
    "negative": "{'descr': '<f2', 'fortran_order': False, 'shape': (-1, 24), }",
    "of_columns": "{'descr': '<f2', 'fortran_order': True, 'shape': (1303, 24), }",
    "of_objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1303, 24), }",
    "of_bytes": "{'descr': '|u1', 'fortran_order': False, 'shape': (1303, 48), }",
    "a_program": "__import__('os').system('touch /tmp/pwned') or {'descr': '<f2'}",
    "nested": "(" * 90 + ")" * 20,
}.items():
    CASES[f"vectors_head_is_{_name}"] = partial(_vectors, head=_head)


def _filled(forged: Forged, value: float) -> None:
    path = forged.path("vectors-")
    content = path.read_bytes()
    values = np.full((len(content) - 128) // 2, value, np.float16)
    forged.put(path, content[:128] + values.tobytes())


for _name, _value in {"nan": np.nan, "infinite": np.inf, "zero": 0.0, "large": 6e4}.items():
    CASES[f"vectors_are_{_name}"] = partial(_filled, value=_value)


def _deletions(forged: Forged, rows: list[int], dtype: str = "<u4") -> None:
    import io

    file = io.BytesIO()
    np.save(file, np.array(rows, dtype))
    forged.put(forged.path("deleted-"), file.getvalue())
    forged.segment["deleted"] = len(rows)


for _name, _rows, _kind in (
    ("out_of_range", [5, 2**31], "<u4"),
    ("unsorted", [9, 5], "<u4"),
    ("repeated", [5, 5], "<u4"),
    ("negative", [-5, 5], "<i8"),
    ("of_another_type", [5, 9], "<f8"),
):
    CASES[f"deletions_{_name}"] = partial(_deletions, rows=_rows, dtype=_kind)


def _lists(forged: Forged, change: Callable[[np.ndarray, int, int], None]) -> None:
    """change: gets the numbers of the file's head, sizes and rows, and how many lists and rows."""
    path = forged.path("codes-")
    content = bytearray(path.read_bytes())
    nlist, n = struct.unpack_from("<Iq", content, 12)
    numbers = np.frombuffer(content, "<i4", 10 + nlist + n).copy()
    change(numbers, nlist, n)
    content[: numbers.nbytes] = numbers.tobytes()
    forged.put(path, bytes(content))


def _set(numbers: np.ndarray, at: int | slice, value: object) -> None:
    numbers[at] = value


for _name, _change in {
    "rows_beyond": lambda x, nlist, n: _set(x, slice(10 + nlist, None), 2**31 - 1),
    "rows_negative": lambda x, nlist, n: _set(x, slice(10 + nlist, None), -(2**31)),
    "rows_the_same": lambda x, nlist, n: _set(x, slice(10 + nlist, None), 5),
    "one_row_twice": lambda x, nlist, n: _set(x, 10 + nlist, x[11 + nlist]),
    "sizes_negative": lambda x, nlist, n: _set(x, slice(10, 12), [-5, x[10] + x[11] + 5]),
    "sizes_large": lambda x, nlist, n: _set(x, 10, 2**31 - 1),
    "of_many_lists": lambda x, nlist, n: _set(x, 3, 2**31 - 1),
    "of_many_rows": lambda x, nlist, n: _set(x, slice(4, 6), -1),
    "block_of_nothing": lambda x, nlist, n: _set(x, slice(6, 8), 0),
    "block_without_end": lambda x, nlist, n: _set(x, slice(6, 8), 2**31 - 1),
}.items():
    CASES[f"lists_{_name}"] = partial(_lists, change=_change)


def _trained(forged: Forged, change: Callable[[bytearray], bytes | bytearray]) -> None:
    forged.put(forged.quantiser, bytes(change(bytearray(forged.quantiser.read_bytes()))))


def _with(content: bytearray, at: int, kind: str, value: object) -> bytearray:
    struct.pack_into(kind, content, at, value)
    return content


for _name, _alter in {
    "cut": lambda c: c[:50],
    "empty": lambda c: b"",
    "of_a_huge_dimension": lambda c: _with(c, 12, "<I", 2**31 - 1),
    "of_many_lists": lambda c: _with(c, 16, "<I", 2**31 - 1),
    "of_no_codes": lambda c: _with(c, 20, "<I", 0),
    "of_odd_codes": lambda c: _with(c, 20, "<I", 7),
    "of_coarse_codes": lambda c: _with(c, 24, "<I", 6),
    "nan": lambda c: _with(c, 40, "<f", float("nan")),
    "of_large_numbers": lambda c: _with(c, 40, "<f", 3e38),
    "infinite": lambda c: _with(c, len(c) - 2, "<H", 0x7C00),
    "of_faiss": lambda c: b"IwPf" + struct.pack("<iqqq", WIDTH, 2**60, 2**60, 2**60) + bytes(900),
}.items():
    CASES[f"quantiser_{_name}"] = partial(_trained, change=_alter)


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


# -- the kept space ------------------------------------------------------------------


def _json(name: str, change: Callable[[dict[str, Any]], object], forged: Forged) -> None:
    path = forged.kept / name
    found = json.loads(path.read_text())
    change(found)
    forged.put(path, json.dumps(found).encode())


def _chain(*content: str) -> dict[str, Any]:
    steps = [
        {"type": "Replace", "pattern": {"String": text[0]}, "content": text} for text in content
    ]
    return {"type": "Sequence", "normalizers": steps}


_PADDING = {
    "strategy": {"Fixed": 4_000_000_000}, "direction": "Right", "pad_to_multiple_of": None,
    "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]",
}  # fmt: skip
for _name, _tokens in {
    "pads_without_end": lambda t: t.update(padding=_PADDING),
    "pads_to_a_multiple": lambda t: t.update(
        padding={**_PADDING, "strategy": "BatchLongest", "pad_to_multiple_of": 1 << 40}
    ),
    "replaces_without_end": lambda t: t.update(normalizer=_chain(*["a" * 9, *["aa" * 9] * 30])),
    "has_a_slow_pattern": lambda t: t.update(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": "(a|a|aa)+$|(.*)*(.*)*(.*)*x"},
            "behavior": "Isolated",
            "invert": False,
        }
    ),
    "has_a_wrong_pattern": lambda t: t.update(
        normalizer={"type": "Replace", "pattern": {"Regex": "((((("}, "content": ""}
    ),
    "has_huge_numbers": lambda t: t["model"].update(
        vocab={word: 4_000_000_000 - i for i, word in enumerate(WORDS)}
    ),
    "has_no_model": lambda t: t.pop("model"),
    "is_of_another_kind": lambda t: t.update(model={"type": "Pickle"}),
}.items():
    CASES[f"tokenizer_{_name}"] = partial(_json, "tokenizer.json", _tokens)


@case
def tokenizer_is_deep(forged: Forged) -> None:
    forged.put(forged.kept / "tokenizer.json", b'{"a":' * 100_000)


for _name, _card in {
    "has_a_huge_dimension": lambda c: c.update(dimension=2**31),
    "has_huge_pictures": lambda c: c["preprocess"].update(image_px=2**20),
    "has_long_windows": lambda c: c["preprocess"].update(window_s=1e9),
    "has_many_tokens": lambda c: c.update(max_tokens=2**60),
    "has_no_tokens": lambda c: c.update(max_tokens=-1),
    "has_other_types": lambda c: c.update(name=[], modalities={"image": 1}, preprocess=5),
    "holds_nothing": lambda c: c.update(holds=[]),
    "is_cleaned_in_a_way_of_its_own": lambda c: c.update(cleaning="os.system"),
    "has_other_facts": lambda c: c.update(stored={}, least_cosine=[], towers="x", holds=["text"]),
}.items():
    CASES[f"card_{_name}"] = partial(_json, "card.json", _card)


@case
def card_is_deep(forged: Forged) -> None:
    forged.put(forged.kept / "card.json", b"[" * 900_000)


def _graph(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray] | None = None,
    kind: int = TensorProto.INT64,
    shape: tuple[int | str, ...] = (1, "tokens"),
) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(made, opset_imports=opset, ir_version=9)


def _tower(make: Callable[[], onnx.ModelProto], forged: Forged) -> None:
    forged.put(forged.kept / "text.onnx", make().SerializeToString())


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _unpacked_constant() -> onnx.ModelProto:
    """A constant of 4 GB that ONNX Runtime would make when it loads the graph."""
    return _graph(
        [
            helper.make_node("ConstantOfShape", ["s"], ["c"]),
            helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["f", "r"], ["vector"]),
        ],
        {"s": _ints(1_000_000_000)},
    )


def _unpacked_at_run() -> onnx.ModelProto:
    """4 GB made of the input."""
    return _graph(
        [
            helper.make_node("ReduceSum", ["x"], ["t"], keepdims=0),
            helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Expand", ["f", "s"], ["e"]),
            helper.make_node("ReduceSum", ["e"], ["r"], keepdims=0),
            helper.make_node("Reshape", ["r", "one"], ["vector"]),
        ],
        {"s": _ints(1_000_000_000), "one": _ints(1, 1)},
    )


def _endless_loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["state"], ["new"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("new", TensorProto.FLOAT, None),
        ],
    )
    return _graph(
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Loop", ["times", "yes", "f"], ["vector"], body=body),
        ],
        {"times": np.array(2**62, np.int64), "yes": np.array(True)},
    )


def _of(value: np.ndarray) -> onnx.ModelProto:
    """A graph that gives the same whatever it gets."""
    return _graph(
        [
            helper.make_node("Shape", ["x"], ["unused"]),
            helper.make_node("Identity", ["v"], ["vector"]),
        ],
        {"v": value},
    )


def _functions() -> onnx.ModelProto:
    model = _of(np.zeros((1, WIDTH), np.float32))
    function = helper.make_function(
        "own", "f", ["a"], ["b"], [helper.make_node("f", ["a"], ["b"], domain="own")],
        [helper.make_opsetid("own", 1), helper.make_opsetid("", 18)],
    )  # fmt: skip
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("f", ["vector"], ["z"], domain="own"))
    return model


def _out_of_table() -> onnx.ModelProto:
    return _graph(
        [helper.make_node("Gather", ["t", "far"], ["g"]),
         helper.make_node("ReduceMean", ["g"], ["vector"], keepdims=1)],
        {"t": np.zeros((2, WIDTH), np.float32), "far": _ints(10**12, -(10**12))},
    )  # fmt: skip


for _name, _make in {
    "unpacks_a_constant": _unpacked_constant,
    "unpacks_at_run": _unpacked_at_run,
    "loops_without_end": _endless_loop,
    "has_functions": _functions,
    "reads_beyond_a_table": _out_of_table,
    "gives_another_shape": lambda: _of(np.zeros((3, 7), np.float32)),
    "gives_another_type": lambda: _of(np.zeros((1, WIDTH), np.float64)),
    "gives_no_numbers": lambda: _of(np.full((1, WIDTH), np.nan, np.float32)),
    "gives_texts": lambda: _of(np.array([["x"] * WIDTH], object)),
    "gives_nothing": lambda: _of(np.zeros((1, WIDTH), np.float32)[:0]),
}.items():
    CASES[f"tower_{_name}"] = partial(_tower, _make)


@case
def tower_is_noise(forged: Forged) -> None:
    forged.put(forged.kept / "text.onnx", np.random.default_rng(3).bytes(20_000))


@case
def tower_is_deep(forged: Forged) -> None:
    forged.put(forged.kept / "text.onnx", b"\x3a\xff\xff\xff\x07" * 100_000)


def _outside_weights(place: Callable[[Forged], str], forged: Forged) -> None:
    """Weights that lie elsewhere: what is read would be known from the vector."""
    secret = forged.outside / "Documents/secret.bin"
    secret.write_bytes(np.ones(WIDTH, "<f4").tobytes())
    model = _of(np.zeros((1, WIDTH), np.float32))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    facts = {"location": place(forged), "offset": "0", "length": str(4 * WIDTH)}
    for key, value in facts.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    forged.put(forged.kept / "text.onnx", model.SerializeToString())


def _linked_weights(forged: Forged) -> str:
    (forged.kept / "text.bin").unlink(missing_ok=True)
    (forged.kept / "text.bin").symlink_to(forged.outside / "Documents/secret.bin")
    return "text.bin"


def _weights_of_a_linked_folder(forged: Forged) -> str:
    (forged.kept / "sub").symlink_to(forged.outside / "Documents")
    return "sub/secret.bin"


for _name, _place in {
    "above": lambda f: os.path.relpath(f.outside / "Documents/secret.bin", f.kept),
    "anywhere": lambda f: str(f.outside / "Documents/secret.bin"),
    "behind_a_link": _linked_weights,
    "behind_a_linked_folder": _weights_of_a_linked_folder,
    "that_are_not_there": lambda f: "text.bin",
}.items():
    CASES[f"tower_has_weights_{_name}"] = partial(_outside_weights, _place)


@case
def tower_has_weights_without_end(forged: Forged) -> None:
    (forged.kept / "text.bin").write_bytes(bytes(4 * WIDTH))
    model = _of(np.zeros((1, WIDTH), np.float32))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.dims[:] = [1 << 40, WIDTH]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "text.bin"), ("offset", "0"), ("length", str(1 << 46))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    forged.put(forged.kept / "text.onnx", model.SerializeToString())
    forged.body["query"]["text.bin"] = {"bytes": 0, "checksum": "xxh3:" + "0" * 32}
    forged.sign(forged.kept / "text.bin")


# Those of which reading what the index itself names is no fault, see SECURITY.md: `reencode` reads
# the files of the roots, and a space with a place in its name is a model there.


@case
def space_lies_elsewhere(forged: Forged) -> None:
    forged.body["space"]["name"] = f"bridge:{forged.outside / 'Documents'}"


READS_WHAT_IS_NAMED = {"space_lies_elsewhere"}
