"""Spaces that other packages bring, and one model on several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from mmsearch.errors import UsageError
from mmsearch.spaces.spread import Spread, devices_of
from mmsearch.types import Modality, Preprocess, Space

PLUGIN = '''
import numpy as np
from mmsearch.types import Modality, Preprocess, Space

class Bright:
    """Pictures by their mean colour, texts by the colour that they name."""

    side_by_side = 1
    files = {}

    def __init__(self, name, placement):
        preprocess = Preprocess(image_px=8, sample_rate_hz=8000, window_s=1.0)
        self.space = Space(name, "0" * 64, 3, (Modality.IMAGE, Modality.TEXT), preprocess)
        self.batch_sizes = {Modality.IMAGE: 4, Modality.TEXT: 4}

    def encode(self, modality, data, asked=False):
        if modality == Modality.IMAGE:
            rows = np.stack([one.reshape(-1, 3).mean(0) for one in data]).astype(np.float32)
        else:
            rows = np.array([[c in t for c in ("red", "green", "blue")] for t in data], np.float32)
        rows += 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    languages = "English"

    def truncated(self, texts):
        return [0] * len(texts)

    def unknown(self, texts):
        return [0.0] * len(texts)

class Boom:
    def __init__(self, name, placement):
        raise ValueError("no fuse")
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where a package with a space is installed."""
    site = tmp_path / "site"
    facts = site / "bright-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "bright.py").write_text(PLUGIN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: bright\nVersion: 1.0\n")
    points = "[mmsearch.spaces]\nbright = bright:Bright\nbroken = not_there:Nothing\n"
    points += "boom = bright:Boom\nclap = bright:Bright\n"
    (facts / "entry_points.txt").write_text(points)
    return {**os.environ, "PYTHONPATH": str(site)}


def run(environment: dict[str, str], *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmsearch", *map(str, args)],
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_space_of_another_package_is_used_like_any(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for colour in ("red", "lime", "blue"):
        Image.new("RGB", (20, 10), colour).save(tmp_path / "pictures" / f"{colour}.png")
    ix = ("--index", tmp_path / "ix")
    made = run(environment, "index", tmp_path / "pictures", "--space", "bright:any", *ix)
    assert made.returncode == 0, made.stderr
    found = json.loads(run(environment, "query", "something green", *ix, "--json").stdout)
    assert Path(found["hits"][0]["path"]).name == "lime.png"
    listed = run(environment, "spaces").stdout
    assert "bright:MODEL" in listed
    broken = run(environment, "index", tmp_path / "pictures", "--space", "broken:x", "--index", "y")
    assert broken.returncode == 6
    assert "not_there" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert run(environment, "spaces", "--all").returncode in (0, 6)  # without PyTorch: 6
    rows = json.loads(run(environment, "spaces", "--json").stdout)["spaces"]
    assert [r["available"] for r in rows if r["name"] in ("bright:MODEL", "broken:MODEL")] == [
        True,
        False,
    ]
    assert not [row for row in rows if row["name"] == "clap:MODEL"]
    for args in (("spaces", "pull", "broken:x"), ("index", tmp_path, "--space", "boom:x")):
        said = (
            run(environment, *args, "--index", "y")
            if args[0] == "index"
            else run(environment, *args)
        )
        assert said.returncode == 6
        assert "Traceback" not in said.stderr
        assert said.stderr.count("\n") == 1
    gone = run(dict(os.environ), "query", "something green", *ix)
    assert gone.returncode == 6
    assert "bright:any" in gone.stderr
    assert "nothing to fetch" in run(environment, "spaces", "pull", "bright:x").stderr


class Slow:
    """An encoder on a device that takes its time, and remembers what it was asked."""

    side_by_side = 2
    files: ClassVar[dict[str, Path]] = {}

    def __init__(self, size: int) -> None:
        self.space = Space("slow", "0", 2, (Modality.TEXT,), Preprocess(1, 8000, 1.0))
        self.batch_sizes = {Modality.TEXT: size}
        self.inside = self.most = self.calls = 0
        self._lock = threading.Lock()

    def encode(self, modality: Modality, data: list[str], asked: bool = False) -> np.ndarray:
        with self._lock:
            self.calls += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.01)
        with self._lock:
            self.inside -= 1
        return np.array([[len(t), asked] for t in data], np.float32)

    def truncated(self, texts: list[str]) -> list[int]:
        return [0] * len(texts)

    def unknown(self, texts: list[str]) -> list[float]:
        return [0.0] * len(texts)


def test_each_device_takes_a_batch_when_it_is_free() -> None:
    from concurrent.futures import ThreadPoolExecutor

    devices = [Slow(8), Slow(4), Slow(8)]
    together = Spread(devices)
    assert together.side_by_side == 6
    assert together.batch_sizes == {Modality.TEXT: 4}
    with ThreadPoolExecutor(together.side_by_side) as pool:
        found = list(pool.map(lambda i: together.encode(Modality.TEXT, ["x" * i]), range(60)))
    assert [row[0, 0] for row in found] == list(range(60))
    assert all(one.calls >= 10 for one in devices)
    assert all(one.most <= one.side_by_side for one in devices)


def test_devices_are_named_one_by_one() -> None:
    assert devices_of(None) == devices_of("cuda:1") == []
    assert devices_of("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]
    with pytest.raises(UsageError, match="cuda:0,cuda:1"):
        devices_of("cuda:0,")
