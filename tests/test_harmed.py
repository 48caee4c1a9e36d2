"""Decoders killed and stopped at random: no item is lost, and the next run finishes the job."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmsearch.indexer import run
from mmsearch.store import Snapshot, verify

SCRIPT = Path(__file__).parent / "harmed.py"
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals")


def change(corpus: Path, n: int, step: int, kinds: tuple[str, ...]) -> None:
    """Gives every file new content."""
    rng = np.random.default_rng(step)
    for i in range(n):
        path = corpus / f"{i}.{kinds[i % len(kinds)]}"
        if path.suffix == ".txt":
            path.write_text(f"In step {step} the {i}th note is about number {step * n + i}.")
        else:
            image, file = Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)), io.BytesIO()
            image.save(file, "PNG")
            path.write_bytes(file.getvalue())


def contents(index: Path) -> dict[str, bytes]:
    """Name of each file -> hash of the content that is in the index."""
    found: dict[str, bytes] = {}
    snapshot = Snapshot.open(index)
    for segment in snapshot.segments:
        for r in np.flatnonzero(segment.live).tolist():
            row = segment.row(r)
            assert row.path is not None and row.path not in found, f"{row.path} is there twice"
            found[row.path] = row.content_hash
    return found


def harmed_rounds(
    folder: Path, space: str, rounds: int, files: int, kinds: tuple[str, ...], seed: int
) -> dict[str, int]:
    """Indexes, changes and indexes again while decoders are harmed; what became of the files."""
    corpus, index, rng = folder / "corpus", folder / "ix", random.Random(seed)
    corpus.mkdir()
    counts = {"rounds": 0, "harmed": 0, "indexed": 0, "failed": 0}
    for step in range(rounds):
        change(corpus, files, step, kinds)
        how = rng.choice(("SIGKILL", "SIGKILL", "SIGSTOP"))
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *map(str, (corpus, index, space, how, step))],
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        report = json.loads(done.stdout)
        assert report["skipped"] == 0, "no file is to blame"
        assert report["indexed"] + report["unchanged"] + report["failed"] == files
        before = contents(index)
        if step:
            assert len(before) == files, "what was not decoded is still there, as it was"
        healed = run([corpus], index)
        assert (healed.failed, healed.skipped) == (0, 0)
        assert healed.indexed == report["failed"]
        after = contents(index)
        assert len(after) == files and verify(index) == []
        assert sum(before.get(name) == after[name] for name in after) == files - report["failed"]
        counts["rounds"] += 1
        counts["harmed"] += report["harmed"]
        counts["indexed"] += report["indexed"]
        counts["failed"] += report["failed"]
    assert counts["harmed"] >= rounds
    return counts


@pytest.mark.slow
@POSIX
def test_files_whose_decoders_were_killed_are_there_after_the_next_run(tmp_path: Path) -> None:
    counts = harmed_rounds(tmp_path, "mini", rounds=2, files=80, kinds=("txt", "png"), seed=1)
    assert counts["rounds"] == 2


@POSIX
@pytest.mark.campaign
def test_fifty_runs_of_2000_files_lose_nothing(tmp_path: Path) -> None:
    kinds = ("txt",) * 9 + ("png",)
    print(harmed_rounds(tmp_path, "mini", rounds=50, files=2000, kinds=kinds, seed=2))


@POSIX
@pytest.mark.campaign
def test_so_do_fifty_runs_with_a_space_on_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    from tiny_clip import tiny_clip

    space = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    kinds = ("txt",) * 9 + ("png",)
    print(harmed_rounds(tmp_path, space, rounds=50, files=2000, kinds=kinds, seed=3))
