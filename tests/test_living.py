"""An index that is added to and deleted from while others ask it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from mmsearch.ann import tune
from mmsearch.indexer import Options, run
from mmsearch.sample_queries import sample_queries
from mmsearch.store import manifest, verify

READER = Path(__file__).parent / "living_reader.py"


def empty_index(tmp_path: Path, name: str) -> mmsearch.Index:
    (tmp_path / "nothing").mkdir(exist_ok=True)
    run([tmp_path / "nothing"], tmp_path / name, None, Options(ann="ivfpq"))
    return mmsearch.open(tmp_path / name)


def recall(index: mmsearch.Index, xq: np.ndarray) -> float:
    segments = index.snapshot.segments
    _, truth = tune.exact_nearest(
        [s.lanes[0].vectors for s in segments], [s.live for s in segments], xq, 10
    )
    found = index.search_batch(vectors=xq, k=10).rows
    return float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(truth, found, strict=True)]))


def lives(tmp_path: Path, rounds: int, adds: int, deletes: int, readers: int) -> None:
    rng = random.Random(5)
    texts = [t for t in sample_queries(12000) if not t.isascii()][:700]  # all of one kind
    more = [t for t in sample_queries(6000, seed=2) if t.isascii()]  # and what they are not
    index = empty_index(tmp_path, "living")
    alive = dict(zip(index.add([{"text": t} for t in texts]), texts, strict=True))
    index.sync(tmp_path / "nothing")  # an add trains no lists
    dead: list[str] = []
    first = manifest.read(index.path).ann
    assert first is not None
    journal = tmp_path / "journal"

    def tell(**more: bool) -> None:
        written = journal.with_suffix(".new")
        written.write_text(json.dumps({"alive": alive, "dead": dead, **more}))
        written.replace(journal)

    tell()
    asking = [
        subprocess.Popen(
            [sys.executable, str(READER), str(index.path), str(journal)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(readers)
    ]
    trained = {first.name}
    for step in range(rounds):
        new = more[step * adds : (step + 1) * adds]
        alive |= dict(zip(index.add([{"text": t} for t in new]), new, strict=True))
        tell()
        gone = rng.sample(sorted(alive), deletes)
        left = {i: t for i, t in alive.items() if i not in gone}
        alive = left
        tell()  # from here on they may be missing …
        assert index.delete(gone) == deletes
        dead += gone
        tell()  # … and from here on they must be
        index.sync(tmp_path / "nothing")
        trained.add(str(index.snapshot.manifest.ann and index.snapshot.manifest.ann.name))
    tell(end=True)
    for reader in asking:
        out, errors = reader.communicate(timeout=120)
        assert reader.returncode == 0, errors
        assert json.loads(out)["asked"] > 0
    assert len(trained) > 1, "other texts came in, and the lists were not trained anew"
    assert len(index) == len(alive) and verify(index.path) == []
    xq = mmsearch.load_space("mini").encode_document(sample_queries(300, seed=9))
    fresh = empty_index(tmp_path, "fresh")
    fresh.add([{"text": t} for t in alive.values()])
    fresh.sync(tmp_path / "nothing")
    assert recall(index, xq) >= recall(fresh, xq) - 0.01


@pytest.mark.slow
def test_what_is_committed_is_found_and_what_is_deleted_is_not_while_others_ask(
    tmp_path: Path,
) -> None:
    lives(tmp_path, rounds=2, adds=450, deletes=90, readers=1)


@pytest.mark.campaign
def test_twenty_rounds_of_adding_and_deleting_beside_four_readers(tmp_path: Path) -> None:
    lives(tmp_path, rounds=20, adds=50, deletes=25, readers=4)
