"""An index that was made with version 3 of ``mini`` keeps its towers and goes on with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from corpora import copy_samples, update
from mini_3 import DIGEST, write_mini_3
from mmsearch.errors import SpaceMismatch
from mmsearch.indexer import reencode, run
from mmsearch.spaces.folder import digest_of
from mmsearch.spaces.mini import Mini
from mmsearch.store import verify
from mmsearch.types import Modality


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mini_3(tmp_path_factory.mktemp("space") / "mini-3")


@pytest.fixture(scope="module")
def made(third: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of version 3, and the folder ``corpus`` beside it."""
    folder = tmp_path_factory.mktemp("made")
    copy_samples(samples, folder / "corpus")
    run([folder / "corpus"], folder / "ix", str(third))
    return folder


def test_the_towers_are_byte_for_byte_those_of_version_3(third: Path) -> None:
    assert digest_of(third) == DIGEST
    now, then = Mini().space, Mini(third).space
    assert (then.name, then.digest) == (now.name, DIGEST)
    assert now.digest != DIGEST and now.fingerprint != then.fingerprint


def test_only_texts_have_other_vectors_since_and_version_3_tells_case_apart(third: Path) -> None:
    now, then = Mini(), Mini(third)
    rng = np.random.default_rng(0)
    px = now.space.preprocess.image_px
    pictures = [rng.integers(0, 256, (px, px, 3)).astype(np.uint8) for _ in range(2)]
    sounds = [(rng.standard_normal(9_000) * 0.1).astype(np.float32)]
    for modality, data in ((Modality.IMAGE, pictures), (Modality.AUDIO, sounds)):
        assert now.encode(modality, data).tobytes() == then.encode(modality, data).tobytes()
    small, large = "a dog on a beach", "A DOG ON A BEACH"
    assert now.encode(Modality.TEXT, [small]).tobytes() == (
        then.encode(Modality.TEXT, [small]).tobytes()
    )
    apart = then.encode(Modality.TEXT, [small, large])
    assert float(apart[0] @ apart[1]) < 0.9


def test_it_answers_with_its_own_towers(made: Path, third: Path) -> None:
    index = mmsearch.open(made / "ix")
    assert index.space == Mini(third).space
    for text in ("a cup of coffee", "A CUP OF COFFEE"):
        (asked,) = Mini(third).encode(Modality.TEXT, [text], asked=True)
        by_vector = [(h.id, h.score) for h in index.search(vector=asked)]
        assert [(h.id, h.score) for h in index.search(text)] == by_vector
    assert str(index.search("a cup of coffee", to="image")[0].path).endswith("coffee.jpg")
    with pytest.raises(SpaceMismatch, match=r"mini@"):
        index.search(vector=mmsearch.load_space("mini").encode_document(["coffee"]))


def test_it_is_added_to_and_brought_up_to_date_with_its_own_towers(
    made: Path, third: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "copy")
    corpus, ix = made / "corpus", tmp_path / "copy" / "ix"
    added = mmsearch.open(ix).add([{"text": "A CUP OF TEA"}])
    (asked,) = Mini(third).encode(Modality.TEXT, ["A CUP OF TEA"])
    hit = mmsearch.open(ix).search("A CUP OF TEA", to="text")[0]
    assert (hit.id, round(hit.score, 2)) == (added[0], 1.0)
    assert mmsearch.open(ix).search(vector=asked, to="text")[0].id == added[0]
    again = update(corpus, ix)
    assert (again.parts, again.unchanged) == (0, 9)
    (corpus / "new.txt").write_text("A KITE IN THE WIND", "utf-8")
    try:
        assert update(corpus, ix).parts == 1
    finally:
        (corpus / "new.txt").unlink()
    index = mmsearch.open(ix)
    assert index.space == Mini(third).space and verify(ix) == []
    found = index.search("A KITE IN THE WIND", to="text")[0]
    assert found.text == "A KITE IN THE WIND" and found.score > 0.99


def test_it_is_refused_where_version_4_is_asked_for_and_changes_to_it_on_request(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "copy")
    ix = tmp_path / "copy" / "ix"
    with pytest.raises(SpaceMismatch, match=r"mini@\w+ .*mini@"):
        run([made / "corpus"], ix, "mini")
    reencode(ix, "mini")
    index = mmsearch.open(ix)
    assert index.space == Mini().space
    hits = [[(h.id, h.score) for h in index.search(t)] for t in ("COFFEE", "coffee")]
    assert hits[0] == hits[1]
