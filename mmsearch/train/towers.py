"""The towers that are trained: the end of a start space's graph, and a head on top."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.spaces.folder import FolderSpace
from mmsearch.store.confined import plain
from mmsearch.train import recipe as asked
from mmsearch.train.onnx_torch import OUTPUT, Net, stacked
from mmsearch.types import Modality

Rows = list[NDArray[Any]]


class Head(nn.Module):
    """On top of a tower's unit rows (n, d): nothing, a linear map, or a net beside them.

    Both begin as doing nothing, so training starts from what the tower knows.
    """

    def __init__(self, kind: str, width: int, hidden: int, dropout: float, noise: float) -> None:
        super().__init__()
        self.kind, self.dropout, self.noise = kind, dropout, noise
        if kind == "linear":
            self.straight = nn.Linear(width, width)
            nn.init.eye_(self.straight.weight)
            nn.init.zeros_(self.straight.bias)
        elif kind == "mlp":
            self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.noise:
            x = F.normalize(x + self.noise * torch.randn_like(x) / x.shape[1] ** 0.5, dim=1)
        if self.kind == "linear":
            x = self.straight(x)
        elif self.kind == "mlp":
            hidden = F.dropout(F.gelu(self.inner(x)), self.dropout, self.training)
            x = x + self.outer(hidden)
        return F.normalize(x, dim=1)


class Tower(nn.Module):
    """One tower of a space folder, the last layers of it trainable, with a head."""

    def __init__(self, space: FolderSpace, modality: Modality, what: asked.Tower) -> None:
        super().__init__()
        self.modality, self.what = modality, what
        self._space, self._path = space, plain(space.files[f"{modality}.onnx"])
        self.net = Net(self._path, what.layers)
        width = space.space.dimension
        self.head = Head(what.head, width, what.hidden, what.dropout, what.noise)

    @property
    def still(self) -> bool:
        """Whether nothing of it is trained."""
        return not any(True for _ in self.parameters())

    @property
    def cut(self) -> str:
        """Where the untouched part ends: what it makes of an input depends on nothing else."""
        return f"{self.what.layers} layers"

    def prepare(self, inputs: Sequence[Any], threads: int) -> Rows:
        """Decoded inputs to what crosses into the trained part, each array (n, …)."""
        run = self.net.before()
        read = self._space.input_of(self.modality)
        with ThreadPoolExecutor(threads) as pool:
            return stacked(pool.map(lambda one: run(read(one)), inputs))

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        """What crosses, each (b, …), to unit rows (b, d)."""
        wide = [r.float() if r.dtype == torch.float16 else r for r in rows]
        return self.head(F.normalize(self.net(wide), dim=1))

    def groups(self, rate: float, decay: float) -> Iterator[dict[str, Any]]:
        """Parameters with their rates: the head's, then each layer's, the last one first."""
        if any(True for _ in self.head.parameters()):
            yield {"params": list(self.head.parameters()), "lr": rate, "weight_decay": decay}
        own = self.what.rate
        for layer in self.net.groups():
            yield {"params": layer, "lr": own, "weight_decay": decay}
            own *= self.what.layer_decay

    def export(self, path: Path) -> None:
        """The tower as ONNX, its trained weights in place and the head behind it."""
        model = self.net.updated()
        if self.head.kind != "none":
            _put_on(model, self.head)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def _put_on(model: Any, head: Head) -> None:
    """Appends a head to a graph: its output ``vector`` goes through it, under the same name.

    The graph may have such a head already, of an earlier training.
    """
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    numbers = (f"head{n}" for n in itertools.count(1))
    own = next(one for one in numbers if not any(name.startswith(f"{one}.") for name in taken))
    start, units = f"{own}.start", f"{own}.unit"
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == OUTPUT:
                    names[i] = start
    nodes: list[Any] = []

    def stored(name: str, value: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def linear(x: str, layer: nn.Linear, name: str) -> str:
        half = stored(f"{name}.half", layer.weight.detach().cpu().numpy().astype(np.float16))
        nodes.append(helper.make_node("Cast", [half], [f"{name}.weight"], to=TensorProto.FLOAT))
        bias = stored(f"{name}.bias", layer.bias.detach().cpu().numpy())
        nodes.append(helper.make_node("Gemm", [x, f"{name}.weight", bias], [name], transB=1))
        return name

    def unit(x: str, out: str, name: str) -> None:
        axis = stored(f"{name}.axis", np.array([1], np.int64))
        nodes.append(helper.make_node("ReduceL2", [x, axis], [f"{name}.norm"], keepdims=1))
        nodes.append(helper.make_node("Div", [x, f"{name}.norm"], [out]))

    unit(start, units, units)
    if head.kind == "linear":
        found = linear(units, head.straight, f"{own}.straight")
    else:
        inner = linear(units, head.inner, f"{own}.inner")
        nodes.append(helper.make_node("Gelu", [inner], [f"{own}.gelu"]))
        outer = linear(f"{own}.gelu", head.outer, f"{own}.outer")
        found = f"{own}.sum"
        nodes.append(helper.make_node("Add", [units, outer], [found]))
    unit(found, OUTPUT, f"{own}.vector")
    graph.node.extend(nodes)


Towers = dict[Modality, Tower]
