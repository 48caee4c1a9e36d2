"""Cases of a forged index: the space that it keeps, its card, tokenizer and graphs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from forged import CASES, Forged, case
from tiny_space import WIDTH, WORDS


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
