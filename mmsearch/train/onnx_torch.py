"""Part of an ONNX graph as a torch module: its end is trained, what is before stays as it is.

A space's own files are its architecture: any tower that mmsearch wrote can be trained
further and is written back as the same graph with other weights. The part that no trained
weight reaches runs once per input, in ONNX Runtime, on the very graph that ships.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.errors import UsageError
from mmsearch.train.onnx_files import read_graph

WEIGHTED = ("Conv", "Gemm", "MatMul")  # operators whose constant inputs are a layer's weights
OUTPUT = "vector"
TOO_DEEP = (
    "this tower cannot be trained so deep: what reaches the trained layers differs in size "
    "from input to input. Train fewer layers."
)


class Net(nn.Module):
    """The end of an ONNX graph, from the values that cross into it to ``vector``.

    layers: how many of the last layers with weights are trained; -1 is all.
    Raises UsageError for a graph with an operator that is not known here.
    """

    def __init__(self, path: Path, layers: int) -> None:
        super().__init__()
        self.model = read_graph(path)
        graph = self.model.graph
        self.inputs = [i.name for i in graph.input]
        self.constants = _constants(graph)
        nodes = [n for n in graph.node if not set(n.output) <= self.constants.keys()]
        weighted = [n for n in nodes if n.op_type in WEIGHTED and self._weights(n)]
        chosen = weighted if layers < 0 else weighted[len(weighted) - layers :]
        self.names = list(dict.fromkeys(w for n in chosen for w in self._weights(n)))
        self.trained = nn.ParameterDict(
            {_key(w): nn.Parameter(self.constants[w].clone().float()) for w in self.names}
        )
        reached, self.nodes = set(self.names), []
        for node in nodes:
            if reached & set(node.input):
                reached |= set(node.output)
                self.nodes.append(node)
        inner = {o for n in self.nodes for o in n.output}
        outer = {i for n in self.nodes for i in n.input if i} | ({OUTPUT} - inner)
        self.crossing = sorted(outer - inner - self.constants.keys())
        unknown = sorted({n.op_type for n in self.nodes} - OPERATORS.keys())
        if unknown:
            raise UsageError(
                f"{path.name} cannot be trained {layers} layers deep: operator {unknown[0]} "
                "is not known to the trainer. Train fewer layers."
            )
        self.attributes = [_attributes(n) for n in self.nodes]

    def _weights(self, node: Any) -> list[str]:
        found = [i for i in node.input[1:] if i in self.constants]
        return [i for i in found if self.constants[i].is_floating_point()]

    def groups(self) -> list[list[nn.Parameter]]:
        """The trained weights, layer by layer, the last layer first."""
        order = [n for n in self.nodes if n.op_type in WEIGHTED]
        found, seen = [], set[str]()
        for node in reversed(order):
            names = [i for i in node.input if _key(i) in self.trained and i not in seen]
            seen |= set(names)
            if names:
                found.append([self.trained[_key(i)] for i in names])
        return found

    def forward(self, crossing: Sequence[Tensor]) -> Tensor:
        """Values that cross, each (b, …), to the tower's vectors (b, d)."""
        values: dict[str, Tensor] = dict(zip(self.crossing, crossing, strict=True))
        if not self.nodes:
            return values[OUTPUT]

        def get(name: str) -> Tensor | None:
            if not name:
                return None
            if name in values:
                return values[name]
            key = _key(name)
            return self.trained[key] if key in self.trained else self.constants[name]

        for node, attributes in zip(self.nodes, self.attributes, strict=True):
            out = OPERATORS[node.op_type](attributes, *map(get, node.input))
            out = out if isinstance(out, tuple) else (out,)
            values.update(zip(node.output, out, strict=False))
        return values[OUTPUT]

    def before(self) -> Callable[[NDArray[Any]], list[NDArray[Any]]]:
        """What runs the untouched part in ONNX Runtime: one input to the values that cross."""
        from mmsearch.spaces.graphs import open_session

        if self.crossing == self.inputs:
            return lambda x: [x]
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        wanted = [c for c in self.crossing if c not in self.inputs]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "before.onnx"
            onnx.save(_pruned(model, wanted), path)
            session = open_session(path)

        def run(x: NDArray[Any]) -> list[NDArray[Any]]:
            made = dict(zip(wanted, session.run(wanted, {self.inputs[0]: x}), strict=True))
            return [made.get(name, x) for name in self.crossing]

        return run

    def updated(self) -> Any:
        """The ONNX model with the trained weights in place; matrices lie as float16."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        made = set(self.names)
        kept = [n for n in graph.node if not made & set(n.output)]
        stored = [i for i in graph.initializer if i.name not in made]
        casts = []
        for name in self.names:
            value = self.trained[_key(name)].detach().cpu().numpy()
            if value.ndim < 2:
                stored.append(numpy_helper.from_array(value.astype(np.float32), name))
            else:
                stored.append(numpy_helper.from_array(value.astype(np.float16), f"{name}.half"))
                casts.append(
                    helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)
                )
        del graph.node[:], graph.initializer[:]
        graph.node.extend([*casts, *kept])
        graph.initializer.extend(stored)
        return _pruned(model, [o.name for o in graph.output])


def _key(name: str) -> str:
    return name.replace(".", "/")


def _pruned(model: Any, wanted: Sequence[str]) -> Any:
    """The model without what its outputs do not need."""
    needed, kept = set(wanted), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    stored = [i for i in model.graph.initializer if i.name in needed]
    outputs = [o for o in model.graph.output if o.name in wanted]
    del model.graph.node[:], model.graph.initializer[:], model.graph.output[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.extend(stored)
    model.graph.output.extend(outputs)
    return model


def _constants(graph: Any) -> dict[str, Tensor]:
    """Everything that does not depend on the input, computed."""
    found = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    for node in graph.node:
        if node.op_type in OPERATORS and all(i in found for i in node.input if i):
            given = [found[i] if i else None for i in node.input]
            out = OPERATORS[node.op_type](_attributes(node), *given)
            out = out if isinstance(out, tuple) else (out,)
            found.update(zip(node.output, out, strict=False))
    return found


def _attributes(node: Any) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _ints(x: Tensor | None) -> list[int]:
    return [] if x is None else [int(v) for v in x.flatten().tolist()]


def _conv(a: dict[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    dims = w.ndim - 2
    pads = a.get("pads", [0] * 2 * dims)
    flat = [p for i in reversed(range(dims)) for p in (pads[i], pads[i + dims])]
    x = F.pad(x, flat) if any(flat) else x
    strides = tuple(a.get("strides", [1] * dims))
    dilations = tuple(a.get("dilations", [1] * dims))
    run: Any = {1: F.conv1d, 2: F.conv2d}[dims]
    found: Tensor = run(x, w, b, strides, 0, dilations, a.get("group", 1))
    return found


def _gemm(a: dict[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA") else x
    out = x @ (w.T if a.get("transB") else w) * a.get("alpha", 1.0)
    return out if b is None else out + b * a.get("beta", 1.0)


def _top(a: dict[str, Any], x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    values, places = x.topk(int(k), a.get("axis", -1), bool(a.get("largest", 1)))
    return values, places


def _split(a: dict[str, Any], x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    if sizes is not None:
        return x.split(_ints(sizes), axis)
    return x.tensor_split(a["num_outputs"], axis)


def _reduce(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(a: dict[str, Any], x: Tensor, axes: Tensor | None = None) -> Tensor:
        return run(x, _ints(axes) or list(range(x.ndim)), bool(a.get("keepdims", 1)))

    return reduce


def _layer_norm(a: dict[str, Any], x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, gain.shape, gain, shift, a.get("epsilon", 1e-5))


def _clip(
    a: dict[str, Any], x: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    return torch.clamp(
        x, None if low is None else float(low), None if high is None else float(high)
    )


def _concat(a: dict[str, Any], *x: Tensor) -> Tensor:
    if a["axis"] != 0:  # constants of one row stand beside any number of rows
        n = max(one.shape[0] for one in x)
        x = tuple(one if one.shape[0] == n else one.expand(n, *one.shape[1:]) for one in x)
    return torch.cat(x, a["axis"])


def _gather(a: dict[str, Any], x: Tensor, places: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    found = x.index_select(axis, places.flatten())
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _scatter(a: dict[str, Any], x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    return x.scatter(a.get("axis", 0), places, values)


def _cast(a: dict[str, Any], x: Tensor) -> Tensor:
    kinds = {
        TensorProto.FLOAT: torch.float32,
        TensorProto.INT64: torch.int64,
        TensorProto.FLOAT16: torch.float32,  # stays wide while it is trained
    }
    return x.to(kinds[a["to"]])


def _unsqueeze(a: dict[str, Any], x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(_ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _squeeze(a: dict[str, Any], x: Tensor, axes: Tensor) -> Tensor:
    return x.squeeze(tuple(_ints(axes)))


# operator -> what computes it; all work on any number of rows
OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, x, y: x + y,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": lambda a, x, y: x / y,
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "Gelu": lambda a, x: F.gelu(x),
    "Gemm": _gemm,
    "Gather": _gather,
    "GlobalAveragePool": lambda a, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "Identity": lambda a, x: x,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda a, x, y: x @ y,
    "Max": lambda a, x, y: torch.maximum(x, y),
    "Mul": lambda a, x, y: x * y,
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "Relu": lambda a, x: F.relu(x),
    "ScatterElements": _scatter,
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda a, x: x.sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda a, x, y: x - y,
    "Sum": lambda a, *x: sum(x[1:], x[0]),
    "Tanh": lambda a, x: x.tanh(),
    "TopK": _top,
    "Transpose": lambda a, x: x.permute(*a["perm"]),
    "Unsqueeze": _unsqueeze,
}


def stacked(rows: Iterable[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
    """What crosses for many inputs, each value (n, …). Numbers of one become (n, 1).

    Raises UsageError where their sizes differ: the cut lies where length still matters.
    """
    columns = list(zip(*rows, strict=True))
    found = []
    for column in columns:
        if any(one.shape != column[0].shape for one in column) or column[0].shape[:1] != (1,):
            raise UsageError(TOO_DEEP)
        joined = np.concatenate(column)
        if joined.ndim == 1:
            joined = joined[:, None]
        found.append(joined.astype(np.float16) if joined.dtype == np.float32 else joined)
    return found
