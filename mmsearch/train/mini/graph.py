"""A small writer of ONNX graphs: one line an operator, weights stored narrow, computed in float32.

Written by hand rather than traced, so that sounds and texts of any length go
through one plain graph and weights lie on disk as float16 or int8 per channel.
ONNX Runtime folds the widening away when it loads the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper, save

if TYPE_CHECKING:
    from torch import Tensor

MAPPED_BYTES = 1_000_000
OPSET = 20
IR_VERSION = 9  # what ONNX Runtime 1.19, the oldest supported, reads

Array = NDArray[Any]


def array(value: Tensor | Array) -> Array:
    """A tensor or array as an array."""
    return np.asarray(value) if isinstance(value, np.ndarray) else value.detach().cpu().numpy()


class Graph:
    """An ONNX graph under construction; every method returns the name of a value."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._stored: list[Any] = []
        self._shown: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One operator with one output."""
        name = self._name()
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def split(self, x: str, parts: int, axis: int) -> list[str]:
        """A value cut into equal parts."""
        names = [self._name() for _ in range(parts)]
        self._nodes.append(helper.make_node("Split", [x], names, axis=axis, num_outputs=parts))
        return names

    def top(self, x: str, count: int) -> tuple[str, str]:
        """The largest values of the last axis and where they are."""
        names = [self._name(), self._name()]
        self._nodes.append(helper.make_node("TopK", [x, self.ints(count)], names, axis=-1))
        return names[0], names[1]

    def constant(self, value: Array | Tensor) -> str:
        """A constant, stored as it is."""
        stored = np.ascontiguousarray(array(value))
        key = (stored.dtype.str, stored.shape, stored.tobytes())
        if key not in self._constants:
            self._constants[key] = self._name()
            self._stored.append(numpy_helper.from_array(stored, self._constants[key]))
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """A vector of int64."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A float32 number."""
        return self.constant(np.array(value, np.float32))

    def half(self, value: Array | Tensor) -> str:
        """Weights stored as float16, given as float32."""
        return self.op("Cast", self.constant(array(value).astype(np.float16)), to=TensorProto.FLOAT)

    def eighth(self, value: Array | Tensor, axis: int = 0) -> str:
        """Weights stored as int8 with a scale for each index of ``axis``, given as float32."""
        given = array(value)
        codes, scales = int8_codes(given, axis)
        wide = self.op("Cast", self.constant(codes), to=TensorProto.FLOAT)
        return self.op("Mul", wide, self.constant(scales))

    def linear(
        self, x: str, weight: Array | Tensor, bias: Array | Tensor | None, narrow: str
    ) -> str:
        """x @ weight.T + bias, weight as torch keeps it: (out, in). narrow: half or eighth."""
        stored = self.half(weight) if narrow == "half" else self.eighth(weight)
        if bias is None:
            return self.op("Gemm", x, stored, transB=1)
        return self.op("Gemm", x, stored, self.constant(bias), transB=1)

    def unit(self, x: str) -> str:
        """Rows divided by their L2 norm."""
        norm = self.op("ReduceL2", x, self.ints(1), keepdims=1)
        return self.op("Div", x, self.op("Max", norm, self.scalar(1e-12)))

    def show(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        """Makes a float32 value readable from outside under a name, for tests."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._shown.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def write(
        self,
        path: Path,
        kind: int,
        shape: Sequence[int | str],
        out: str,
        name: str = "vector",
        mapped: bool = False,
    ) -> None:
        """The graph as a file, from its input ``x`` to its main output, (1, width).

        mapped: large constants go to a ``.bin`` beside it, which is mapped into memory
        and not read when the graph is loaded.
        """
        self.show(name, out, (1, "width"))
        model = helper.make_model(
            helper.make_graph(
                self._nodes,
                "mini",
                [helper.make_tensor_value_info("x", kind, shape)],
                self._shown,
                self._stored,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="mmsearch",
        )
        checker.check_model(model)
        beside = path.with_suffix(".bin")
        beside.unlink(missing_ok=True)  # onnx would write behind what is there
        if mapped:
            save(
                model,
                path,
                save_as_external_data=True,
                location=beside.name,
                size_threshold=MAPPED_BYTES,
            )
            beside.chmod(path.stat().st_mode)  # onnx makes it readable to its owner alone
        else:
            save(model, path)


def int8_codes(value: Array, axis: int) -> tuple[Array, Array]:
    """int8 codes of an array and the float32 scales, one for each index of ``axis``."""
    others = tuple(i for i in range(value.ndim) if i != axis)
    scales = np.maximum(np.abs(value).max(axis=others, keepdims=True), 1e-12) / 127.0
    codes = np.clip(np.rint(value / scales), -127, 127).astype(np.int8)
    return codes, scales.astype(np.float32)
