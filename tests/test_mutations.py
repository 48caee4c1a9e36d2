"""Damage to any file of an index is seen: a right answer or an error that names the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "mutations.py"
TOUCHED = (  # kinds of files of which a query reads something
    "manifest.json",
    "query/",
    "segments/N/codes-",
    "segments/N/deleted-N.npy",
    "segments/N/parts.arrow",
    "segments/N/parts.arrow.blocks",
    "segments/N/vectors-",
)


def campaign(folder: Path, n: int, seed: int, timeout_s: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(n), str(seed)],
        capture_output=True,
        text=True,
        timeout=timeout_s,  # a hang
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # FAISS's threads wait busily for each other
    )
    assert done.returncode == 0, f"it crashed: {done.returncode}\n{done.stderr[-3000:]}"
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert sum(report["done"].values()) == n
    for kind in TOUCHED:
        assert any(name.startswith(kind) for name in report["raised"]), f"{kind} was never missed"
    print(json.dumps(report["done"], indent=1), report["raised"])


@pytest.mark.slow
def test_a_damaged_file_gives_the_right_answer_or_an_error_that_names_it(tmp_path: Path) -> None:
    campaign(tmp_path, 200, seed=1, timeout_s=1200)


@pytest.mark.campaign
def test_two_thousand_damages_are_seen(tmp_path: Path) -> None:
    campaign(tmp_path, 2000, seed=2, timeout_s=7200)
