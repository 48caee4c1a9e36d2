"""Storing an ONNX graph's weights in fewer bits; what is computed stays float32.

Half precision is widened, whole numbers of 8 bits are scaled by row or column, where the graph
is loaded. So a vector depends on nothing but its input, as with whole weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.spaces.on_torch import imported

_LEAST = 1024  # numbers in a weight that is worth it


def narrow(path: Path, form: str) -> None:
    """Rewrites a graph (weights inside) with its large float32 weights as ``form``, in place.

    form: one of ``spaces.FORMS``. int8: matrices only, symmetric, one scale for each column of a
    product's right side and for each row of anything else.
    """
    if form == "fp32":
        return
    onnx = imported("onnx")
    model = onnx.load(path)
    graph = model.graph
    right = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    before, kept = [], []  # nodes that widen, weights
    for weight in graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        large = values.dtype == np.float32 and values.size >= _LEAST
        if large and form == "fp16" and np.abs(values).max() < np.finfo(np.float16).max:
            stored, nodes = _halved(onnx, weight.name, values)
        elif large and form == "int8" and values.ndim == 2:
            axis = 1 if weight.name in right else 0
            stored, nodes = _eighth(onnx, weight.name, values, axis)
        else:
            kept.append(weight)
            continue
        kept += stored
        before += nodes
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))


def _halved(onnx: Any, name: str, values: NDArray[np.float32]) -> tuple[list[Any], list[Any]]:
    stored = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16")
    to = onnx.TensorProto.FLOAT
    return [stored], [onnx.helper.make_node("Cast", [stored.name], [name], to=to)]


def _eighth(
    onnx: Any, name: str, values: NDArray[np.float32], axis: int
) -> tuple[list[Any], list[Any]]:
    scale = np.abs(values).max(axis=1 - axis) / 127
    scale[scale == 0] = 1
    whole = np.rint(values / np.expand_dims(scale, 1 - axis)).astype(np.int8)
    stored = [
        onnx.numpy_helper.from_array(whole, f"{name}.int8"),
        onnx.numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"),
    ]
    names = [one.name for one in stored]
    return stored, [onnx.helper.make_node("DequantizeLinear", names, [name], axis=axis)]
