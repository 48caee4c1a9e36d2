"""Spaces in folders: indexing with one, what an index keeps of it, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from mmsearch.errors import IndexDamaged, SpaceMismatch, SpaceUnavailable, UsageError
from mmsearch.spaces import Placement, check_placement
from mmsearch.spaces.folder import digest_of
from mmsearch.spaces.mini import ASSETS
from mmsearch.store import verify

NOTE = "a dog runs along the beach"


def other_space(folder: Path, name: str = "other", flip: bool = True) -> Path:
    """A space that is not `mini`: its tokenizer writes one letter as another."""
    folder.mkdir()
    for path in ASSETS.iterdir():
        if path.name not in ("card.json", "tokenizer.json"):
            shutil.copy(path, folder)
    text = (ASSETS / "tokenizer.json").read_text("utf-8")
    (folder / "tokenizer.json").write_text(text + ("\n" if flip else ""), "utf-8")
    card = json.loads((ASSETS / "card.json").read_text("utf-8"))
    card |= {"name": name, "digest": digest_of(folder)}
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "dog.txt").write_text(NOTE)
    (folder / "sums.txt").write_text("the sum of two odd numbers is even")
    return folder


def test_an_index_made_with_a_space_folder_answers_when_the_folder_is_gone(
    tmp_path: Path, notes: Path
) -> None:
    space = other_space(tmp_path / "space")
    index = mmsearch.index(notes, tmp_path / "ix", space=space)
    assert index.space.name == "other"
    shutil.rmtree(space)
    again = mmsearch.open(tmp_path / "ix")
    best = again.search("a dog at the sea", k=1)[0]
    assert best.path == str(notes / "dog.txt")
    again.add([{"text": "a lion in the grass"}], ids=["lion"])
    assert again.search("lion", k=1)[0].id == "lion"
    assert verify(tmp_path / "ix") == []


def test_an_index_of_an_older_mini_keeps_answering_and_growing(tmp_path: Path, notes: Path) -> None:
    old = other_space(tmp_path / "old", name="mini")
    mmsearch.index(notes, tmp_path / "ix", space=old)
    shutil.rmtree(old)
    index = mmsearch.open(tmp_path / "ix")
    assert index.space.fingerprint != mmsearch.load_space("mini").space.fingerprint
    assert index.search(NOTE, k=1)[0].path == str(notes / "dog.txt")
    (notes / "cat.txt").write_text("a cat sleeps on a chair")
    index = mmsearch.index(notes, tmp_path / "ix")
    assert len(index) == 3
    assert index.search("a sleeping cat", k=1)[0].path == str(notes / "cat.txt")
    with pytest.raises(SpaceMismatch, match="Leave out --space"):
        mmsearch.index(notes, tmp_path / "ix", space="mini")


def test_a_space_folder_gives_the_vectors_that_its_files_give(tmp_path: Path) -> None:
    space = other_space(tmp_path / "space")
    ours = mmsearch.load_space(space).encode_document([NOTE])
    assert np.array_equal(ours, mmsearch.load_space("mini").encode_document([NOTE]))


def test_what_an_index_keeps_is_removed_by_no_later_run(tmp_path: Path, notes: Path) -> None:
    mmsearch.index(notes, tmp_path / "ix")
    kept = sorted(p.name for p in (tmp_path / "ix" / "query").rglob("*.*"))
    assert kept == sorted(p.name for p in ASSETS.iterdir())
    (notes / "sums.txt").unlink()
    mmsearch.index(notes, tmp_path / "ix")
    assert sorted(p.name for p in (tmp_path / "ix" / "query").rglob("*.*")) == kept


def test_verify_names_a_kept_file_that_was_altered(tmp_path: Path, notes: Path) -> None:
    index = mmsearch.index(notes, tmp_path / "ix", space=other_space(tmp_path / "space"))
    kept = tmp_path / "ix" / "query" / index.space.fingerprint / "tokenizer.json"
    text = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(text[:-1])
    assert [(p.path, "bytes" in p.what) for p in verify(tmp_path / "ix")] == [(str(kept), True)]


def test_a_kept_file_that_was_altered_encodes_neither_queries_nor_files(
    tmp_path: Path, notes: Path
) -> None:
    space = other_space(tmp_path / "space")
    index = mmsearch.index(notes, tmp_path / "ix", space=space)
    vector = mmsearch.load_space(space).encode_document([NOTE])[0]
    kept = tmp_path / "ix" / "query" / index.space.fingerprint / "tokenizer.json"
    text = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(text[:-1] + b" ")  # as good a tokenizer, but not the one that was kept
    (notes / "new.txt").write_text("a new note")
    again = mmsearch.open(tmp_path / "ix")
    with pytest.raises(IndexDamaged, match=str(kept)):
        again.search(NOTE)
    with pytest.raises(IndexDamaged, match=str(kept)):
        mmsearch.index(notes, tmp_path / "ix")
    assert again.search(vector=vector, k=1)[0].path == str(notes / "dog.txt")
    kept.write_bytes(text)
    assert again.search(NOTE, k=1)[0].path == str(notes / "dog.txt")


def test_an_index_that_keeps_nothing_names_both_spaces(tmp_path: Path, notes: Path) -> None:
    mmsearch.index(notes, tmp_path / "ix", space=other_space(tmp_path / "space", name="mini"))
    manifest = tmp_path / "ix" / "manifest.json"
    from dataclasses import replace

    from mmsearch.store import manifest as manifests

    manifests.write(tmp_path / "ix", replace(manifests.read(tmp_path / "ix"), query={}))
    assert manifest.exists()
    with pytest.raises(SpaceMismatch, match="keeps no encoder of it"):
        mmsearch.open(tmp_path / "ix").search(NOTE)


def test_a_changed_space_folder_is_refused(tmp_path: Path) -> None:
    space = other_space(tmp_path / "space")
    with (space / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(SpaceUnavailable, match="changed since it was written"):
        mmsearch.load_space(space)


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"name": "x"}', "lacks digest, dimension"),
    ],
)
def test_a_folder_with_a_broken_card_is_no_space(tmp_path: Path, card: str, why: str) -> None:
    (tmp_path / "card.json").write_text(card)
    with pytest.raises(SpaceUnavailable, match=why):
        mmsearch.load_space(tmp_path)


def test_a_folder_without_a_card_is_no_space(tmp_path: Path) -> None:
    with pytest.raises(SpaceUnavailable, match="is no space"):
        mmsearch.load_space(tmp_path / "nothing")
    with pytest.raises(SpaceUnavailable, match="no space is called 'nothing'"):
        mmsearch.load_space("nothing")


@pytest.mark.parametrize("option", [("device", "cuda"), ("dtype", "fp16"), ("batch_size", 4)])
def test_a_space_without_a_choice_of_device_says_so(option: tuple[str, object]) -> None:
    with pytest.raises(UsageError, match="leave out --device, --dtype"):
        mmsearch.load_space("mini", **dict([option]))  # type: ignore[arg-type]
    assert mmsearch.load_space("mini", device="cpu").space.name == "mini"


def test_nothing_is_reported_to_the_maker_of_the_runtime(tmp_path: Path) -> None:
    code = (
        "import time, mmsearch\n"
        "mmsearch.load_space('mini').encode_document(['a dog'])\n"
        "time.sleep(1)\n"
    )
    away = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    left = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], check=True, env={**left, **away})
    # ONNX Runtime 1.32 makes a device id and a queue of events there before it sends them
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("device", "fits"),
    [("cpu", True), ("cpu:0", True), ("cuda:1, cpu", True), ("all", True), ("mps", True),
     ("foo", False), ("cuda:x", False), ("cuda:\uff10", False), ("", False), ("all,cpu", False)],
)  # fmt: skip
def test_a_device_that_no_model_of_ours_has_is_refused_before_anything_loads(
    device: str, fits: bool
) -> None:
    if fits:
        check_placement("openclip:ViT-B-32/x", Placement(device))
        return
    with pytest.raises(UsageError, match="--device is cpu, cuda"):
        check_placement("openclip:ViT-B-32/x", Placement(device))
