"""All that a manifest names is on the disk before the manifest is: a power cut takes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mmsearch
from forged import build, write_documents
from mmsearch.indexer import compact, reencode
from mmsearch.store import manifest, verify
from power_cut import Disk, named, recorded
from tiny_space import write_space

pytestmark = pytest.mark.skipif(os.name == "nt", reason="folders are not synced there")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that shared copies are made, and synced, while it is recorded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_all_that_an_index_names_is_on_the_disk_before_it_is_named(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with recorded(work) as disk:
        ix = build(work)  # with segments, deletions, lists, a ledger, towers
        compact(ix)
        mmsearch.open(ix).add([{"text": "a red square"}])
    assert disk.lost == [] and disk.written > 5
    files = [*named(manifest.read(ix)), manifest.MANIFEST_NAME]
    assert {name.split("/")[0] for name in files if "/" in name} == {"segments", "ann", "query"}
    assert [name for name in files if not disk.has(ix / name, work)] == []
    assert verify(ix) == []


def test_a_reencoded_index_and_what_is_kept_of_it_are_on_the_disk(tmp_path: Path) -> None:
    docs, kept = write_documents(tmp_path / "docs"), tmp_path / "far" / "away" / "old"
    ix = tmp_path / "new" / "deep" / "ix"
    with recorded(tmp_path) as disk:
        mmsearch.index(docs, ix, str(write_space(tmp_path / "space")))
        space = str(write_space(tmp_path / "other", seed=7))
        reencode(ix, space, keep=kept)
    assert disk.lost == []
    for index in (ix, kept):
        files = [*named(manifest.read(index)), manifest.MANIFEST_NAME]
        assert [name for name in files if not disk.has(index / name, tmp_path)] == []


def test_a_file_or_a_name_that_was_not_synced_counts_as_lost(tmp_path: Path) -> None:
    disk, file = Disk(), tmp_path / "a" / "file"
    file.parent.mkdir()
    file.write_bytes(b"content")

    def sync(path: Path) -> bool:
        descriptor = os.open(path, os.O_RDONLY)
        disk.synced(descriptor)
        os.close(descriptor)
        return disk.has(file, tmp_path)

    assert [sync(path) for path in (file, file.parent, tmp_path)] == [False, False, True]
    file.write_bytes(b"other content")
    assert not disk.has(file, tmp_path)
