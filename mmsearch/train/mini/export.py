"""The trained space as files: three ONNX graphs, the tokenizer, and the card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from mmsearch.train.mini.data import PICTURE_PX
from mmsearch.train.mini.graph import Graph, array, int8_codes
from mmsearch.train.mini.heads import BEST, NAMED, TEMPERATURE, Centred, Head, PictureHead
from mmsearch.train.mini.towers import EfficientNetLite, SameConv
from mmsearch.train.mini.use import ORDERS, SentenceEncoder

PICTURE_SHAPE = (1, PICTURE_PX, PICTURE_PX, 3)


def convolution(
    graph: Graph, x: str, conv: SameConv, size: tuple[int, int]
) -> tuple[str, tuple[int, int]]:
    """A "same" convolution and its activation; size is (height, width), of x and then of it."""
    kernel = conv.weight.shape[-1]
    total = [max((-(-s // conv.stride) - 1) * conv.stride + kernel - s, 0) for s in size]
    before = [t // 2 for t in total]
    after = [t - b for t, b in zip(total, before, strict=True)]
    out = graph.op(
        "Conv",
        x,
        graph.half(conv.weight),
        graph.constant(conv.bias),
        strides=[conv.stride] * 2,
        pads=before + after,
        group=conv.groups,
    )
    if conv.relu is not None and math.isinf(conv.relu):
        out = graph.op("Relu", out)
    elif conv.relu is not None:
        out = graph.op("Clip", out, graph.scalar(0.0), graph.scalar(conv.relu))
    return out, (-(-size[0] // conv.stride), -(-size[1] // conv.stride))


def lite(graph: Graph, x: str, tower: EfficientNetLite, blocks: int | None = None) -> list[str]:
    """An EfficientNet-Lite: its final features (1, 1280), then the mean of each of its seven
    stages, which know more of colours and textures.

    blocks: only so many blocks; then the means of their stages, and last the map itself.
    """
    out, size = convolution(graph, x, tower.stem, (PICTURE_PX, PICTURE_PX))
    stages = []
    chosen = zip(tower.blocks[:blocks], tower.skips[:blocks], strict=True)
    for number, (block, skip) in enumerate(chosen):
        before = out
        for conv in block:
            out, size = convolution(graph, out, conv, size)
        out = graph.op("Add", out, before) if skip else out
        if number + 1 == len(tower.blocks) or not tower.skips[number + 1]:
            stages.append(graph.op("Flatten", graph.op("GlobalAveragePool", out)))
    if blocks is not None:
        return [*stages, out]
    out, _ = convolution(graph, out, tower.head, size)
    return [graph.op("Flatten", graph.op("GlobalAveragePool", out)), *stages]


def pixels(graph: Graph) -> str:
    """The picture ``x``, uint8 (1, px, px, 3), as the towers take it."""
    x = graph.op("Cast", "x", to=TensorProto.FLOAT)
    x = graph.op("Transpose", x, perm=[0, 3, 1, 2])
    return graph.op("Mul", graph.op("Sub", x, graph.scalar(127.0)), graph.scalar(1 / 128))


def write_middle(path: Path, tower: EfficientNetLite) -> None:
    """Pictures to what crosses into a tower's end (``EfficientNetLite.end``), for training."""
    graph = Graph()
    *means, out = lite(graph, pixels(graph), tower, tower.cut)
    places = graph.op("Flatten", graph.op("Transpose", out, perm=[0, 2, 3, 1]))
    found = graph.op("Concat", places, *means, axis=1)
    graph.write(path, TensorProto.UINT8, PICTURE_SHAPE, found, "features")


def class_shares(graph: Graph, scores: str) -> str:
    """The shares of the best classes, zero elsewhere: (1, 1000)."""
    values, places = graph.top(graph.op("Div", scores, graph.scalar(TEMPERATURE)), BEST)
    nothing = graph.op("Mul", scores, graph.scalar(0.0))
    return graph.op("ScatterElements", nothing, places, graph.op("Softmax", values, axis=1), axis=1)


def head_of(graph: Graph, x: str, head: Head) -> str:
    """The trained head on standardised features (1, f): unit vector (1, 512)."""
    straight = graph.linear(x, head.straight.weight, head.straight.bias, "eighth")
    hidden = graph.linear(x, head.inner.weight, head.inner.bias, "eighth")
    hidden = graph.op("Gelu", hidden)
    bent = graph.linear(hidden, head.outer.weight, head.outer.bias, "eighth")
    return graph.op("Add", straight, bent)


def standardised(graph: Graph, x: str, head: Head) -> str:
    """Features less their mean, by their deviation."""
    centred = graph.op("Sub", x, graph.constant(head.mean[None]))
    return graph.op("Mul", centred, graph.constant(1.0 / array(head.deviation)[None]))


def write_image(path: Path, tower: EfficientNetLite, head: PictureHead) -> None:
    """Pictures: uint8 (1, px, px, 3) to a unit vector."""
    graph = Graph()
    found = lite(graph, pixels(graph), tower)
    scores = graph.linear(found[0], tower.fc.weight, tower.fc.bias, "eighth")
    shares = class_shares(graph, scores)
    named = graph.op("MatMul", shares, graph.eighth(head.classes))
    features = graph.op("Concat", *found, named, axis=1)
    out = graph.unit(head_of(graph, standardised(graph, features, head), head))
    words = graph.op("MatMul", shares, graph.eighth(array(head.words) * NAMED))
    out = graph.unit(graph.op("Add", out, words))
    graph.write(path, TensorProto.UINT8, PICTURE_SHAPE, placed(graph, out, head))


def placed(graph: Graph, out: str, tower: Centred) -> str:
    """Unit rows moved by the tower's mean, and of unit length again."""
    return graph.unit(graph.op("Sub", out, graph.constant(tower.centre[None])))


def layer_norm(graph: Graph, x: str, gain: Any, shift: Any, eps: float) -> str:
    """Normalisation over the last axis."""
    return graph.op(
        "LayerNormalization", x, graph.constant(gain), graph.constant(shift), epsilon=eps, axis=-1
    )


def write_text(path: Path, tower: SentenceEncoder) -> None:
    """Texts: int64 (1, tokens) to a unit vector. The table stays int8 and is widened by rows."""
    graph = Graph()
    table, scales = int8_codes(array(tower.embedding.weight), axis=0)
    rows = graph.op("Squeeze", "x", graph.ints(0))
    wide = graph.op("Cast", graph.op("Gather", graph.constant(table), rows), to=TensorProto.FLOAT)
    embedded = graph.op("Mul", wide, graph.op("Gather", graph.constant(scales), rows))

    x = graph.op("MatMul", embedded, graph.half(tower.project))
    x = graph.op("Add", x, graph.constant(tower.project_bias))
    x = layer_norm(graph, x, tower.project_gain, tower.project_shift, tower.eps)
    x = graph.op("Unsqueeze", graph.op("Transpose", x, perm=[1, 0]), graph.ints(0))
    branches = []
    for branch, part, (n, left) in zip(
        tower.ngrams, graph.split(x, len(ORDERS), 1), ORDERS, strict=True
    ):
        for weight, bias in (
            (branch.first, branch.first_bias),
            (branch.second, branch.second_bias),
        ):
            kernel = array(weight).reshape(n, -1, weight.shape[1]).transpose(2, 1, 0)
            found = graph.op(
                "Conv", part, graph.half(kernel), graph.constant(bias), pads=[left, n - 1 - left]
            )
            part = graph.op("Add", part, graph.op("Relu", found))
        branches.append(part)
    x = graph.op("Squeeze", graph.op("Concat", *branches, axis=1), graph.ints(0))
    x = graph.op("Concat", embedded, graph.op("Transpose", x, perm=[1, 0]), axis=1)
    x = layer_norm(graph, x, tower.gain, tower.shift, tower.eps)
    count = graph.op("Cast", graph.op("Shape", rows), to=TensorProto.FLOAT)
    mean = graph.op("ReduceMean", x, graph.ints(0), keepdims=1)
    beside = graph.op("Gelu", graph.linear(mean, tower.inner.weight, tower.inner.bias, "eighth"))
    beside = graph.linear(beside, tower.outer.weight, tower.outer.bias, "eighth")
    x = graph.op("MatMul", mean, graph.half(tower.sum))
    x = graph.op("Add", x, graph.constant(tower.sum_bias))
    x = graph.op("Mul", x, graph.op("Sqrt", count))  # the sum by the root of the length

    def mixed(a: str, first: Any, b: str, second: Any) -> str:
        return graph.op(
            "Add",
            graph.op("MatMul", a, graph.half(first)),
            graph.op("MatMul", b, graph.half(second)),
        )

    inner = graph.op("Relu", graph.op("MatMul", x, graph.half(tower.d0)))
    x = graph.op("Relu", mixed(x, tower.p1, inner, tower.d1))
    inner = graph.op("Relu", graph.op("MatMul", x, graph.half(tower.d2)))
    x = graph.op("Add", graph.op("Tanh", mixed(x, tower.p3, inner, tower.d3)), beside)
    x = graph.op("Add", graph.unit(x), bag_of(graph, rows, tower))
    out = placed(graph, graph.unit(x), tower)
    graph.write(path, TensorProto.INT64, (1, "tokens"), out, mapped=True)


def bag_of(graph: Graph, rows: str, tower: SentenceEncoder) -> str:
    """What the bag says of the pieces ``rows`` (tokens,): (1, 512). Its table holds the pieces
    that training knew, int8, and nothing in row 0 for all others."""
    weight = array(tower.bag.weight)
    known = np.flatnonzero(np.abs(weight).max(axis=1))
    place = np.zeros(len(weight), np.int32)
    place[known] = np.arange(1, len(known) + 1)
    table, scales = int8_codes(np.concatenate([np.zeros_like(weight[:1]), weight[known]]), axis=0)
    found = graph.op("Gather", graph.constant(place), rows)
    wide = graph.op("Cast", graph.op("Gather", graph.constant(table), found), to=TensorProto.FLOAT)
    pieces = graph.op("Mul", wide, graph.op("Gather", graph.constant(scales), found))
    mean = graph.op("ReduceMean", pieces, graph.ints(0), keepdims=1)
    norm = tower.bag_norm
    mean = layer_norm(graph, mean, norm.weight, norm.bias, norm.eps)
    return graph.linear(mean, tower.bag_out.weight, tower.bag_out.bias, "eighth")
