"""A space of a few kilobytes, and pairs that it can learn: coloured squares and their names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from onnx import TensorProto
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from mmsearch.spaces.folder import digest_of
from mmsearch.train.mini.graph import Graph

PX, WIDTH, RATE_HZ = 16, 24, 8_000
COLOURS = "red green blue yellow purple orange white black pink brown grey cyan".split()
SHADES = "pale dark bright dull warm cold".split()
WORDS = ["[UNK]", *COLOURS, *SHADES, "a", "square"]


def write_space(folder: Path, seed: int = 0) -> Path:
    """Random towers for pictures, texts and sounds, two layers each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    graph = Graph()
    x = graph.op("Cast", "x", to=TensorProto.FLOAT)
    x = graph.op("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.op("Mul", graph.op("Sub", x, graph.scalar(127.0)), graph.scalar(1 / 64))
    bias = graph.constant(np.zeros(16, np.float32))
    x = graph.op("Conv", x, graph.half(random(16, 3, 4, 4)), bias, strides=[4, 4])
    x = graph.op("Relu", x)
    x = graph.op("Flatten", graph.op("GlobalAveragePool", x))
    x = graph.op("Gelu", graph.linear(x, random(WIDTH, 16), random(WIDTH), "half"))
    x = graph.unit(graph.linear(x, random(WIDTH, WIDTH), random(WIDTH), "eighth"))
    graph.write(folder / "image.onnx", TensorProto.UINT8, (1, PX, PX, 3), x)

    graph = Graph()
    rows = graph.op("Squeeze", "x", graph.ints(0))
    found = graph.op("Gather", graph.constant(random(len(WORDS), 16)), rows)
    x = graph.op("ReduceMean", found, graph.ints(0), keepdims=1)
    x = graph.op("Gelu", graph.linear(x, random(WIDTH, 16), random(WIDTH), "half"))
    x = graph.unit(graph.linear(x, random(WIDTH, WIDTH), random(WIDTH), "eighth"))
    graph.write(folder / "text.onnx", TensorProto.INT64, (1, "tokens"), x)

    graph = Graph()
    x = graph.op("Unsqueeze", "x", graph.ints(1))
    x = graph.op("Conv", x, graph.half(random(16, 1, 64)), strides=[16])
    x = graph.op("ReduceMean", graph.op("Relu", x), graph.ints(2), keepdims=0)
    x = graph.unit(graph.linear(x, random(WIDTH, 16), random(WIDTH), "half"))
    graph.write(folder / "audio.onnx", TensorProto.FLOAT, (1, "samples"), x)

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    card = {
        "name": "tiny",
        "version": "1",
        "dimension": WIDTH,
        "modalities": ["image", "text", "audio"],
        "preprocess": {"image_px": PX, "sample_rate_hz": RATE_HZ, "window_s": 1.0},
        "max_tokens": 16,
        "end": 0,
        "digest": digest_of(folder),
    }
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    return folder


def part(folder: Path, whole: Path, *modalities: str) -> Path:
    """A space folder with some of another's towers."""
    shutil.copytree(whole, folder)
    card = json.loads((folder / "card.json").read_text())
    for one in set(card["modalities"]) - set(modalities):
        (folder / f"{one}.onnx").unlink()
    card |= {"modalities": list(modalities), "name": folder.name, "digest": digest_of(folder)}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def write_pairs(folder: Path, sounds: bool = False) -> Path:
    """A square (and a tone) of every shade of every colour, and what it is called."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    base = rng.integers(30, 226, (len(COLOURS), 3))
    shift = rng.integers(-25, 26, (len(SHADES), 3))
    rows = []
    for i, colour in enumerate(COLOURS):
        for j, shade in enumerate(SHADES):
            stem = f"{shade}_{colour}"
            noise = rng.integers(-5, 6, (PX, PX, 3))
            pixels = np.clip(base[i] + shift[j] + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{stem}.png")
            row = {
                "image": f"{stem}.png",
                "en": [f"{shade} {colour}", f"a {shade} {colour} square"],
            }
            if sounds:
                t = np.arange(RATE_HZ // 2) / RATE_HZ
                tone = 0.3 * np.sin(2 * np.pi * (200 + 150 * i + 20 * j) * t)
                soundfile.write(folder / f"{stem}.wav", tone.astype(np.float32), RATE_HZ)
                row["audio"] = f"{stem}.wav"
            rows.append(json.dumps(row))
    (folder / "pairs.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return folder / "pairs.jsonl"


def write_recipe(folder: Path, more: str = "", **keys: object) -> Path:
    """A short recipe over ``write_pairs`` and ``write_space`` in the same folder."""
    train = {"steps": 30, "batch": 32, "rate": 0.01, "views": 1, "evaluate_every": 10, "threads": 1}
    train |= keys
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in train.items())
    text = f"""name = "coloured"
out = "out"
start = "space"
seed = 3

[[pairs]]
path = "pairs.jsonl"

[validation]
share = 0.3

[train]
{lines}
{more}"""
    (folder / "recipe.toml").write_text(text, "utf-8")
    return folder / "recipe.toml"
