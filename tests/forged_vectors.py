"""Cases of a forged index: vectors, deletions, lists and quantisers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from forged import CASES, Forged
from tiny_space import WIDTH


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
