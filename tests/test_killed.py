"""kill -9 at any instant: a reader always sees a whole snapshot, and nothing is left behind."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from killed import STAGES
from mmsearch.indexer import Options, run
from mmsearch.store import Snapshot, manifest, verify
from mmsearch.store.strays import strays

WORDS = "sea hill road train river dog bird song rain stone lamp boat field snow".split()
SCRIPT = Path(__file__).parent / "killed.py"

Row = tuple[str, float | None, float | None, bytes, bytes]  # path, span, content, vector


def change(corpus: Path, rng: random.Random, step: int, samples: Path) -> None:
    """Adds, changes, moves and removes files."""
    there = sorted(p for p in corpus.rglob("*.txt"))
    for n in range(60):
        folder = corpus / str(rng.randint(0, 9))
        folder.mkdir(exist_ok=True)
        words = " ".join(rng.choices(WORDS, k=5))
        (folder / f"{step}-{n}.txt").write_text(f"{words}, note {step} {n}")
    for path in rng.sample(there, min(20, len(there))):
        path.write_text(f"changed in step {step}: {' '.join(rng.choices(WORDS, k=5))}")
    for path in rng.sample(there, min(15, len(there))):
        path.unlink()
    there = [p for p in there if p.exists()]
    for path in rng.sample(there, min(5, len(there))):
        path.rename(path.with_name(f"moved-{step}-{path.name}"))
    sounds = sorted((samples / "sounds").iterdir())
    source = sounds[step % len(sounds)]
    shutil.copyfile(source, corpus / f"{step}-{source.name}")
    photos = sorted((samples / "photos").glob("*.jpg"))
    shutil.copyfile(photos[step % len(photos)], corpus / f"photo-{step % 7}.jpg")


def rows(index: Path) -> set[Row]:
    """Everything an index holds, whatever the order and the segments."""
    snapshot = Snapshot.open(index)
    out = set()
    for segment in snapshot.segments:
        for r in np.flatnonzero(segment.live).tolist():
            row = segment.row(r)
            key = (str(row.path), row.start_s, row.end_s, row.content_hash)
            entry = (
                *key,
                row.text.encode() if row.text else b"",
                segment.lanes[0].vectors[r].tobytes(),
            )
            assert entry not in out, f"{key} is there twice"
            out.add(entry)
    return out  # type: ignore[return-value]


def run_and_kill(corpus: Path, index: Path, rng: random.Random) -> str:
    """Starts a run and kills it at a random moment of a random stage; says where."""
    stage = rng.choice(list(STAGES))
    nth = rng.randint(1, STAGES[stage])
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(corpus), str(index)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    reached = "ran to its end"
    for line in process.stdout:
        if line.strip() == stage:
            nth -= 1
            if nth <= 0:
                time.sleep(rng.random() * 0.01)
                process.kill()
                reached = f"killed in {stage}"
                break
    _, errors = process.communicate()
    assert "Traceback" not in errors, errors
    return reached


def campaign(tmp_path: Path, samples: Path, runs: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    corpus, index = tmp_path / "corpus", tmp_path / "ix"
    corpus.mkdir()
    for step in range(12):  # enough parts to train a quantiser from
        change(corpus, rng, 1000 + step, samples)
    reached: dict[str, int] = {}
    question = np.random.default_rng(seed).standard_normal(512)
    for step in range(runs):
        change(corpus, rng, step, samples)
        where = run_and_kill(corpus, index, rng)
        reached[where] = reached.get(where, 0) + 1
        if not (index / manifest.MANIFEST_NAME).exists():
            continue  # killed before there was an index
        opened = mmsearch.open(index)
        hits = opened.search(vector=question, k=5)
        assert len(hits) == min(5, len(opened))
        assert all(h.score >= g.score for h, g in itertools.pairwise(hits))
        rows(index)  # every row and vector of the snapshot can be read, none twice
    options = Options(commit_s=0.2, commit_parts=20, ann="ivfpq")
    run([corpus], index, None, options)
    run([corpus], tmp_path / "never-killed", None, options)
    assert rows(index) == rows(tmp_path / "never-killed")
    assert strays(index, manifest.read(index)) == []
    assert verify(index) == []
    assert manifest.read(index).unfinished == ()
    return reached


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_run_leaves_a_whole_snapshot_and_the_next_finishes(
    tmp_path: Path, samples: Path
) -> None:
    campaign(tmp_path, samples, runs=3, seed=1)


@pytest.mark.campaign
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_fifty_killed_runs_lose_nothing(tmp_path: Path, samples: Path) -> None:
    reached = campaign(tmp_path, samples, runs=50, seed=2)
    print(reached)
    assert sum(n for where, n in reached.items() if where.startswith("killed")) >= 40
