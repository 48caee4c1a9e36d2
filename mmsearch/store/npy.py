"""``.npy`` files of an index, whose heads are compared with the one that a writer writes.

So nothing that stands in a head is believed: not a shape, a type or an order of axes.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def head(kind: str, shape: tuple[int, ...]) -> bytes:
    """What stands before the values; as long for any number of rows.

    kind: the type as ``<f2``. shape: rows first.
    """
    f = io.BytesIO()
    facts = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(f, facts)
    return f.getvalue()


def rows_in(size: int, kind: str, width: int) -> int:
    """How many rows of ``width`` values a file of so many bytes has room for."""
    return max(0, size - len(head(kind, (0, width)))) // (np.dtype(kind).itemsize * width)


def array(content: bytes | NDArray[np.uint8], kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The values of a file, uncopied. Raises ValueError where it is no array of that type and
    shape, down to the last byte."""
    wanted = head(kind, shape)
    values = int(np.prod(shape, dtype=object))
    size = len(wanted) + values * np.dtype(kind).itemsize
    if len(content) != size or bytes(content[: len(wanted)]) != wanted:
        raise ValueError(f"it is no .npy file of {shape} {np.dtype(kind).name}")
    found: NDArray[Any] = np.frombuffer(content, kind, values, len(wanted))
    return found.reshape(shape)
