"""Files of a space that several indexes keep: once on the disk, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mmsearch
from mmsearch.errors import IndexDamaged
from mmsearch.indexer import merge
from mmsearch.spaces import cache
from mmsearch.spaces.mini import ASSETS
from mmsearch.store import Snapshot, Writer, manifest, sharing, verify
from mmsearch.types import Modality, Preprocess, Space
from tiny_space import write_space

POSIX = pytest.mark.skipif(os.name == "nt", reason="names and modes of POSIX")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache, empty."""
    monkeypatch.setattr(cache, "_home", lambda: tmp_path / "cache")
    cache._can_be_used.cache_clear()
    yield tmp_path / "cache"
    cache._can_be_used.cache_clear()


def space_of(work: Path) -> Path:
    return write_space(work / "space")


def note(work: Path) -> Path:
    (work / "docs").mkdir(exist_ok=True)
    (work / "docs" / "note.txt").write_text("a red square")
    return work / "docs"


def kept(index: Path) -> dict[str, Path]:
    where = index / str(manifest.read(index).kept_space)
    return {path.name: path for path in where.iterdir()}


def inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


@POSIX
def test_no_file_of_an_index_is_a_file_of_the_package(tmp_path: Path, home: Path) -> None:
    before = {path: path.stat() for path in ASSETS.iterdir()}
    mmsearch.index(note(tmp_path), tmp_path / "ix")
    mmsearch.index(note(tmp_path), tmp_path / "other")
    assert not inodes(tmp_path / "ix") & inodes(ASSETS)
    for path in (tmp_path / "ix").rglob("*"):
        path.chmod(0o700)
    for path, was in before.items():
        now = path.stat()
        assert (now.st_mode, now.st_nlink, now.st_ctime_ns) == (
            was.st_mode,
            was.st_nlink,
            was.st_ctime_ns,
        )
    # two indexes and the cache have one copy
    for name, path in kept(tmp_path / "ix").items():
        assert path.samefile(kept(tmp_path / "other")[name])
        assert path.stat().st_nlink == 3
        assert path.read_bytes() == (ASSETS / name).read_bytes()


@POSIX
def test_a_space_folder_of_the_user_is_copied_and_stays_as_it_is(
    tmp_path: Path, home: Path
) -> None:
    space = space_of(tmp_path)
    mmsearch.index(note(tmp_path), tmp_path / "ix", str(space))
    assert not inodes(tmp_path / "ix") & inodes(space)
    (space / "text.onnx").write_bytes(b"trained again")
    assert mmsearch.open(tmp_path / "ix").search("a red square")[0].path is not None


@POSIX
def test_the_copy_in_the_cache_can_only_be_read(tmp_path: Path, home: Path) -> None:
    mmsearch.index(note(tmp_path), tmp_path / "ix", str(space_of(tmp_path)))
    copies = [path for path in home.rglob("*") if path.is_file()]
    assert {path.name for path in copies} == {*kept(tmp_path / "ix")}
    assert {path.stat().st_mode & 0o777 for path in copies} == {0o444}


@POSIX
def test_a_damaged_copy_is_never_used(tmp_path: Path, home: Path) -> None:
    space = space_of(tmp_path)
    mmsearch.index(note(tmp_path), tmp_path / "ix", str(space))
    good = (space / "text.onnx").read_bytes()
    copy = next(home.rglob("text.onnx"))
    copy.chmod(0o600)
    copy.write_bytes(b"x" + good[1:])
    os.utime(copy, ns=(1, 1))
    mmsearch.index(note(tmp_path), tmp_path / "other", str(space))
    assert kept(tmp_path / "other")["text.onnx"].read_bytes() == good
    assert next(home.rglob("text.onnx")).read_bytes() == good


def two_indexes(folder: Path) -> Path:
    """Makes ``ix`` and ``other`` of one space, and returns its folder."""
    space = space_of(folder)
    for name in ("ix", "other"):
        mmsearch.index(note(folder), folder / name, str(space))
    return space


@POSIX
def test_a_copy_that_may_be_written_to_gets_no_more_names(tmp_path: Path, home: Path) -> None:
    space = space_of(tmp_path)
    mmsearch.index(note(tmp_path), tmp_path / "ix", str(space))
    for path in (tmp_path / "ix").rglob("*"):
        path.chmod(0o777)  # as `chmod -R` does, of the copies in the cache, too
    mmsearch.index(note(tmp_path), tmp_path / "other", str(space))
    assert not inodes(tmp_path / "ix") & inodes(tmp_path / "other")
    assert not inodes(tmp_path / "ix") & inodes(home)
    assert {path.stat().st_mode & 0o777 for path in kept(tmp_path / "other").values()} == {0o444}


@POSIX
def test_a_file_that_is_replaced_in_one_index_stays_as_it_is_in_others(
    tmp_path: Path, home: Path
) -> None:
    space = two_indexes(tmp_path)
    good = (space / "text.onnx").read_bytes()
    damaged = kept(tmp_path / "ix")["text.onnx"]
    (tmp_path / "new").write_bytes(b"x" + good[1:])
    (tmp_path / "new").replace(damaged)
    assert [problem.path for problem in verify(tmp_path / "ix")] == [str(damaged)]
    assert verify(tmp_path / "other") == []
    assert next(home.rglob("text.onnx")).read_bytes() == good


@POSIX
def test_damage_of_a_shared_copy_is_seen_by_each_index_and_mended(
    tmp_path: Path, home: Path
) -> None:
    space = two_indexes(tmp_path)
    good = (space / "text.onnx").read_bytes()
    with kept(tmp_path / "ix")["text.onnx"].open("r+b") as file:  # as root may, or a bad disk
        file.write(b"x")
    mmsearch.index(note(tmp_path), tmp_path / "new", str(space))
    assert verify(tmp_path / "new") == []
    for name in ("ix", "other"):
        damaged = kept(tmp_path / name)["text.onnx"]
        assert [problem.path for problem in verify(tmp_path / name)] == [str(damaged)]
        with pytest.raises(IndexDamaged, match=r"text\.onnx"):
            mmsearch.open(tmp_path / name).search("a red square")
        mmsearch.index(note(tmp_path), tmp_path / name, str(space))
        assert verify(tmp_path / name) == []
        assert kept(tmp_path / name)["text.onnx"].read_bytes() == good


@POSIX
def test_without_a_cache_an_index_has_copies_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder can be made here")
    monkeypatch.setattr(cache, "_home", lambda: tmp_path / "file" / "cache")
    cache._can_be_used.cache_clear()
    space = space_of(tmp_path)
    mmsearch.index(note(tmp_path), tmp_path / "ix", str(space))
    cache._can_be_used.cache_clear()
    for name, path in kept(tmp_path / "ix").items():
        assert path.stat().st_nlink == 1
        assert path.read_bytes() == (space / name).read_bytes()


@POSIX
def test_a_cache_on_another_disk_gets_no_copy(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "same_disk", lambda one, other: False)
    mmsearch.index(note(tmp_path), tmp_path / "ix", str(space_of(tmp_path)))
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert {path.stat().st_nlink for path in kept(tmp_path / "ix").values()} == {1}


@POSIX
def test_a_link_in_the_cache_is_replaced_and_not_followed(tmp_path: Path, home: Path) -> None:
    space = space_of(tmp_path)
    mmsearch.index(note(tmp_path), tmp_path / "ix", str(space))
    copy = next(home.rglob("text.onnx"))
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    copy.unlink()
    copy.symlink_to(victim)
    sharing._known.clear()
    mmsearch.index(note(tmp_path), tmp_path / "other", str(space))
    assert victim.read_bytes() == b"precious" and not copy.is_symlink()
    found = kept(tmp_path / "other")["text.onnx"]
    assert not found.is_symlink() and found.read_bytes() == (space / "text.onnx").read_bytes()


def test_readers_use_the_old_towers_until_the_new_ones_are_committed(tmp_path: Path) -> None:
    folder, tower = tmp_path / "ix", tmp_path / "text.bin"
    space = Space("test", "0" * 64, 8, tuple(Modality), Preprocess(224, 16000, 10.0))

    def written(content: bytes) -> dict[str, Path]:
        tower.write_bytes(content)
        return {"text.bin": tower}

    with Writer(folder, space) as writer:
        writer.keep_space(written(b"first"))
        writer.commit()
        before = Snapshot.open(folder)
    with Writer(folder, space) as killed:
        killed.keep_space(written(b"second"))
        assert Snapshot.open(folder).kept_file("text.bin") == b"first"
    assert Snapshot.open(folder).kept_file("text.bin") == b"first"
    with Writer(folder, space) as writer:
        writer.keep_space(written(b"second"))
        writer.commit()
        assert before.kept_file("text.bin") == b"first", "it outlives one generation"
        assert Snapshot.open(folder).kept_file("text.bin") == b"second"
        writer.finish()
    assert [path.read_bytes() for path in (folder / "query").rglob("*.bin")] == [b"second"]
    assert verify(folder) == []


def test_towers_that_are_there_already_are_not_written_again(tmp_path: Path) -> None:
    docs, space = note(tmp_path), space_of(tmp_path)
    mmsearch.index(docs, tmp_path / "ix", str(space))
    before = {path: path.stat().st_ino for path in kept(tmp_path / "ix").values()}
    with Writer(tmp_path / "ix", manifest.read(tmp_path / "ix").space) as writer:
        writer.keep_space({path.name: path for path in before})
        writer.commit()
        assert writer.manifest == Snapshot.open(tmp_path / "ix").manifest
    assert {path: path.stat().st_ino for path in kept(tmp_path / "ix").values()} == before


@POSIX
def test_a_merged_index_shares_no_file_with_those_that_it_was_made_of(
    tmp_path: Path, home: Path
) -> None:
    mmsearch.index(note(tmp_path), tmp_path / "theirs")
    merge(tmp_path / "ix", [tmp_path / "theirs"])
    assert kept(tmp_path / "ix").keys() == kept(tmp_path / "theirs").keys()
    assert not inodes(tmp_path / "ix") & inodes(tmp_path / "theirs")
    assert verify(tmp_path / "ix") == []
