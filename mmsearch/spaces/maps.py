"""Maps from one space's vectors to another's, as a bridge keeps them; in NumPy alone."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import SpaceUnavailable
from mmsearch.types import Vectors

MAX_FILE_BYTES = 1 << 30
BLOCK_CELLS = 1 << 24  # weights of captions at a time: 64 MB
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Affine:
    """x to weight @ (x − mean) + bias, scaled to unit length.

    weight: float32 (d_to, d_from); bias: (d_to,); mean: (d_from,).
    """

    weight: Array
    bias: Array
    mean: Array

    def __call__(self, x: Vectors) -> Vectors:
        """float32 (n, d_from) to rows (n, d_to) of unit length."""
        return unit((x - self.mean) @ self.weight.T + self.bias)


@dataclass(frozen=True)
class Memory:
    """x to the mean of remembered captions' vectors, weighted by how near the captions are.

    The captions' vectors in both spaces: ``keys`` (m, d_from) and ``values`` (m, d_to), float32
    rows of unit length. Weights are softmax((x − mean) · key / temperature).
    Source: the semantic enhancement of C-MCR, Wang et al. 2023, arXiv:2305.14381, section 3.2,
    with a memory of captions.
    """

    keys: Array
    values: Array
    mean: Array  # (d_from,)
    temperature: Array  # (1,)

    def __call__(self, x: Vectors) -> Vectors:
        """float32 (n, d_from) to rows (n, d_to) of unit length."""
        out = np.empty((len(x), self.values.shape[1]), np.float32)
        block = max(1, BLOCK_CELLS // max(1, len(self.keys)))
        for at in range(0, len(x), block):
            near = unit(x[at : at + block] - self.mean) @ self.keys.T
            near /= self.temperature[0]
            near -= near.max(axis=1, keepdims=True)
            np.exp(near, out=near)
            out[at : at + block] = unit(near @ self.values)
        return out


@dataclass(frozen=True)
class Network:
    """x to second @ max(0, first @ x + first_bias) + second_bias, scaled to unit length.

    first: float32 (hidden, d_from); first_bias: (hidden,); second: (d_to, hidden);
    second_bias: (d_to,).
    """

    first: Array
    first_bias: Array
    second: Array
    second_bias: Array

    def __call__(self, x: Vectors) -> Vectors:
        """float32 (n, d_from) to rows (n, d_to) of unit length."""
        inside = np.maximum(x @ self.first.T + self.first_bias, 0)
        return unit(inside @ self.second.T + self.second_bias)


Map = Affine | Memory | Network
KINDS: dict[str, type[Affine] | type[Memory] | type[Network]] = {
    "affine": Affine,
    "memory": Memory,
    "network": Network,
}

FILES = frozenset(f"{name}.npy" for cls in KINDS.values() for name in cls.__dataclass_fields__)


def unit(x: NDArray[np.floating]) -> Vectors:
    """Rows scaled to unit length; one that has none stays as it is."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1), np.float32)


def arrays(made: Map) -> dict[str, Array]:
    """A map's arrays by name."""
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


def write(folder: Path, made: Map) -> tuple[str, str]:
    """Writes a map's arrays as ``NAME.npy``; returns its kind and digest (SHA-256, hex)."""
    for name, values in arrays(made).items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(values, np.float32))
    kind = next(kind for kind, cls in KINDS.items() if isinstance(made, cls))
    return kind, digest_of(folder, kind)


def digest_of(folder: Path, kind: str) -> str:
    """SHA-256 (hex) over the files of a map."""
    found = hashlib.sha256(kind.encode())
    for name in KINDS[kind].__dataclass_fields__:
        found.update(f"\0{name}\0".encode() + _content(folder / f"{name}.npy"))
    return found.hexdigest()


def read(folder: Path, kind: str, shapes: Mapping[str, int]) -> Map:
    """The map that ``write`` wrote. shapes: ``from`` and ``to``, the widths of both spaces.

    Raises SpaceUnavailable for files that are missing or no such arrays.
    """
    found = {}
    for name in KINDS[kind].__dataclass_fields__:
        path = folder / f"{name}.npy"
        try:
            values = np.load(io.BytesIO(_content(path)), allow_pickle=False)
        except (ValueError, EOFError) as e:
            raise SpaceUnavailable(f"{path} is damaged: {e}.") from None
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise SpaceUnavailable(f"{path} is damaged: it must hold finite float32 numbers.")
        found[name] = values
    d_from, d_to = shapes["from"], shapes["to"]
    m = len(found["keys"]) if kind == "memory" else 0
    hidden = len(found["first"]) if kind == "network" else 0
    wanted = {
        "first": (hidden, d_from), "first_bias": (hidden,),
        "second": (d_to, hidden), "second_bias": (d_to,),
        "weight": (d_to, d_from), "bias": (d_to,), "mean": (d_from,), "temperature": (1,),
        "keys": (m, d_from), "values": (m, d_to),
    }  # fmt: skip
    for name, values in found.items():
        if values.shape != wanted[name]:
            raise SpaceUnavailable(
                f"{folder / name}.npy is damaged: its shape is {values.shape}, not {wanted[name]}."
            )
    return KINDS[kind](**found)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SpaceUnavailable(f"{path} is larger than any map.")
        return path.read_bytes()
    except OSError as e:
        raise SpaceUnavailable(f"{path} cannot be read: {e.strerror or e}.") from None
