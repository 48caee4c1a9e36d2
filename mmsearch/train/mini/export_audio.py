"""The sound tower as an ONNX graph: front end, aiSFX, and the trained head."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from onnx import TensorProto
from torch import nn

from mmsearch.train.mini import sound_towers as sound
from mmsearch.train.mini.export import placed
from mmsearch.train.mini.graph import Graph, array
from mmsearch.train.mini.sound_head import NAMED, POWER, SoundHead


def fourier_basis(graph: Graph, window: int) -> str:
    """Windowed cosines and sines, (window + 2, 1, window): made when the graph is loaded, from
    one table of a period, so that they cost no space on disk."""
    t = np.arange(window)
    angle = 2 * np.pi * t / window
    turns = graph.op(
        "Mod",
        graph.op(
            "Mul",
            graph.constant(np.arange(window // 2 + 1, dtype=np.int32)[:, None]),
            graph.constant(t.astype(np.int32)[None]),
        ),
        graph.constant(np.array(window, np.int32)),
    )
    hann = graph.constant((0.5 - 0.5 * np.cos(angle)).astype(np.float32)[None])
    parts = [
        graph.op("Mul", graph.op("Gather", graph.constant(wave.astype(np.float32)), turns), hann)
        for wave in (np.cos(angle), np.sin(angle))
    ]
    return graph.op("Unsqueeze", graph.op("Concat", *parts, axis=0), graph.ints(1))


def log_mel(graph: Graph, tower: sound.AiSfx) -> str:
    """The waveform ``x`` (1, samples) as log-mel (1, 1, frames, 96)."""
    peak = graph.op("ReduceMax", graph.op("Abs", "x"), graph.ints(1), keepdims=1)
    x = graph.op("Div", "x", graph.op("Max", peak, graph.scalar(sound.PEAK_FLOOR)))
    half = sound.AISFX_WINDOW // 2
    least = graph.ints(sound.AISFX_HOP * (sound.AISFX_BLOCK - 1))
    length = graph.op("Slice", graph.op("Shape", "x"), graph.ints(1), graph.ints(2))
    missing = graph.op("Max", graph.op("Sub", least, length), graph.ints(0))
    behind = graph.op("Add", missing, graph.ints(half))
    pads = graph.op("Concat", graph.ints(0, half, 0), behind, axis=0)
    x = graph.op("Unsqueeze", graph.op("Pad", x, pads), graph.ints(1))
    basis = fourier_basis(graph, sound.AISFX_WINDOW)
    x = graph.op("Conv", x, basis, strides=[sound.AISFX_HOP])
    real, imaginary = graph.split(x, 2, 1)
    power = graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
    power = graph.op("Transpose", power, perm=[0, 2, 1])
    mel = graph.op("MatMul", power, graph.constant(tower.mel))
    mel = graph.op("Add", graph.op("Mul", mel, graph.scalar(10_000.0)), graph.scalar(1.0))
    mel = graph.op(
        "Mul", graph.op("Log", mel), graph.scalar(1 / (math.log(10) * sound.AISFX_SPEC_MAX))
    )
    graph.show("log_mel", mel, (1, "frames", sound.AISFX_MELS))
    return graph.op("Unsqueeze", mel, graph.ints(1))


def spread(graph: Graph, x: str, axis: int) -> list[str]:
    """Mean and deviation over time, ``axis``, see ``sound_towers.spread``."""
    mean = graph.op("ReduceMean", x, graph.ints(axis), keepdims=0)
    square = graph.op("ReduceMean", graph.op("Mul", x, x), graph.ints(axis), keepdims=0)
    variance = graph.op("Sub", square, graph.op("Mul", mean, mean))
    return [mean, graph.op("Sqrt", graph.op("Max", variance, graph.scalar(0.0)))]


def heard(graph: Graph, tower: sound.AiSfx) -> str:
    """The features of the waveform ``x``, (1, f), as ``AiSfx`` gives them."""
    x = log_mel(graph, tower)
    found = spread(graph, graph.op("Squeeze", x, graph.ints(1)), 1)
    for number, block in enumerate(tower.blocks):
        for conv in block:
            x = graph.op(
                "Conv", x, graph.half(conv.weight), graph.constant(conv.bias), pads=[1, 1, 1, 1]
            )
            x = graph.op("Relu", x)
        if number < len(tower.blocks) - 1:
            found += spread(graph, graph.op("ReduceMean", x, graph.ints(3), keepdims=0), 2)
            x = graph.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = graph.op("ReduceMean", x, graph.ints(3), keepdims=0)
    steps = sound.AISFX_BLOCK_STEPS
    x = graph.op("MaxPool", x, kernel_shape=[steps], strides=[steps // 2])
    mean = graph.op("ReduceMean", x, graph.ints(2), keepdims=0)
    most = graph.op("ReduceMax", x, graph.ints(2), keepdims=0)
    rows = graph.op("Squeeze", graph.op("Transpose", x, perm=[0, 2, 1]), graph.ints(0))
    scores = []
    for net in tower.classifiers:
        y = rows
        for layer in net:
            y = (
                graph.linear(y, layer.weight, layer.bias, "half")
                if hasattr(layer, "weight")
                else graph.op("Relu", y)
            )
        scores.append(graph.op("ReduceMean", y, graph.ints(0), keepdims=1))
    return graph.op("Concat", mean, most, *scores, *found, axis=1)


def write_features(path: Path, tower: sound.AiSfx) -> None:
    """Sounds: float32 (1, samples) at 44.1 kHz to the features, for training."""
    graph = Graph()
    found = heard(graph, tower)
    graph.write(path, TensorProto.FLOAT, (1, "samples"), found, "features")


def net(graph: Graph, x: str, inner: nn.Linear, outer: nn.Linear) -> str:
    """A net with one hidden layer on (1, r)."""
    hidden = graph.op("Gelu", graph.linear(x, inner.weight, inner.bias, "eighth"))
    return graph.linear(hidden, outer.weight, outer.bias, "eighth")


def answer(graph: Graph, features: str, head: SoundHead) -> str:
    """The trained head on features (1, f): unit vector (1, 512)."""
    x = graph.op("Sub", features, graph.constant(head.mean[None]))
    x = graph.op("Mul", x, graph.constant(1.0 / array(head.deviation)[None]))
    x = graph.op("MatMul", x, graph.eighth(head.basis, axis=1))
    straight = graph.linear(x, head.straight.weight, head.straight.bias, "eighth")
    own = graph.unit(graph.op("Add", straight, net(graph, x, head.inner, head.outer)))
    odds = graph.op("Sigmoid", net(graph, x, head.ear, head.hearing))
    odds = graph.op("Pow", odds, graph.scalar(POWER))
    weighted = graph.op("Mul", odds, graph.constant(head.weights[None]))
    named = graph.unit(graph.op("MatMul", weighted, graph.eighth(head.words)))
    out = graph.op("Add", own, graph.op("Mul", named, graph.scalar(NAMED)))
    return placed(graph, graph.unit(out), head)


def write_audio(path: Path, tower: sound.AiSfx, head: SoundHead) -> None:
    """Sounds: float32 (1, samples) at 44.1 kHz to a unit vector."""
    graph = Graph()
    out = answer(graph, heard(graph, tower), head)
    graph.write(path, TensorProto.FLOAT, (1, "samples"), out)
