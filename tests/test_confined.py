"""Paths inside a folder: links below it are never followed, whoever put them there."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmsearch.store import confined
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import link_or_copy, make_folder, remove, replace_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="makes symbolic links")


@pytest.fixture(params=["by descriptor", "by looking"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How folders are entered: the second is what Windows does."""
    if request.param == "by looking":
        monkeypatch.setattr(confined, "_BY_DESCRIPTOR", False)


@pytest.fixture
def top(tmp_path: Path) -> ConfinedPath:
    """A folder with a file in a folder, and outside of it what is not to be touched."""
    (tmp_path / "ix/a/b").mkdir(parents=True)
    (tmp_path / "ix/a/b/file").write_bytes(b"inside")
    (tmp_path / "outside/b").mkdir(parents=True)
    (tmp_path / "outside/b/file").write_bytes(b"outside")
    return ConfinedPath(tmp_path / "ix")


def seen(folder: Path) -> dict[str, object]:
    return {
        str(p): (p.read_bytes() if p.is_file() else None, p.lstat().st_mtime_ns, p.lstat().st_nlink)
        for p in [folder, *folder.rglob("*")]
    }


def test_files_below_are_read_written_and_removed(top: ConfinedPath) -> None:
    assert (top / "a/b/file").read_bytes(10) == b"inside"
    (top / "a/new").mkdir()
    replace_file(top / "a/new/one", b"1")
    replace_file(top / "a/new/one", [b"2", b"3"])
    assert [p.name for p in (top / "a").iterdir()] == ["b", "new"]
    assert (top / "a/new/one").read_bytes(9) == b"23"
    link_or_copy(top / "a/new/one", top / "two")
    assert (top / "two").stat().st_nlink == 2
    assert remove(top / "a") and not (top / "a").exists()
    assert (top / "two").read_bytes(9) == b"23"


def test_the_folder_itself_may_be_reached_through_a_link(top: ConfinedPath, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("ix")
    assert (ConfinedPath(tmp_path / "link") / "a/b/file").read_bytes(10) == b"inside"


@pytest.mark.parametrize("name", ["../x", "/etc", "a//b", "", ".", "a/..", "a/./b", "a\0b"])
def test_a_name_cannot_leave_the_folder(top: ConfinedPath, name: str) -> None:
    with pytest.raises(ValueError, match="no path below"):
        top / name


WAYS: dict[str, Callable[[ConfinedPath], object]] = {
    "open": lambda p: p.open().close(),
    "open to sync": lambda p: p.open("rb+").close(),
    "write": lambda p: p.open("wb").close(),
    "lock": lambda p: os.close(p.open_descriptor("ab")),
    "replace": lambda p: replace_file(p, b"new"),
    "link to": lambda p: p.with_name("second").link_from(p),
    "link in": lambda p: link_or_copy(p.with_name("file"), p),
    "unlink": lambda p: p.unlink(),
    "remove": lambda p: p.remove(),
    "mkdir": lambda p: (p / "deeper").mkdir(),
    "list": lambda p: p.parent.iterdir(),
    "sync": lambda p: p.parent.sync(),
    "opened": lambda p: p.parent.opened().__enter__(),
}


@pytest.mark.parametrize("how", WAYS)
def test_a_folder_on_the_way_that_is_a_link_is_refused(
    top: ConfinedPath, tmp_path: Path, how: str
) -> None:
    os.rename(tmp_path / "ix/a", tmp_path / "moved")
    (tmp_path / "ix/a").symlink_to(tmp_path / "outside")
    before = seen(tmp_path / "outside")
    with pytest.raises(OSError, match="it is a link") as e:
        WAYS[how](top / "a/b/file")
    assert e.value.errno == errno.ELOOP and e.value.filename == str(top / "a")
    assert seen(tmp_path / "outside") == before


READS = ("open", "open to sync", "lock", "link to")
REPLACES = ("write", "replace", "unlink", "remove", "link in")


@pytest.mark.parametrize("target", ["outside/b/file", "outside/new"])
@pytest.mark.parametrize("how", [*READS, *REPLACES])
def test_a_file_that_is_a_link_is_refused_or_replaced(
    top: ConfinedPath, tmp_path: Path, how: str, target: str
) -> None:
    (tmp_path / "ix/a/b/linked").symlink_to(tmp_path / target)
    before = seen(tmp_path / "outside")
    path = top / "a/b/linked"
    if how in READS:
        with pytest.raises(OSError, match="link") as e:
            WAYS[how](path)
        assert e.value.errno == errno.ELOOP
    else:
        WAYS[how](path)
        assert not (tmp_path / "ix/a/b/linked").is_symlink()
    assert seen(tmp_path / "outside") == before


def test_removing_a_folder_removes_links_in_it_and_not_what_they_lead_to(
    top: ConfinedPath, tmp_path: Path
) -> None:
    (tmp_path / "ix/a/up").symlink_to(tmp_path / "outside")
    (tmp_path / "ix/a/b/out").symlink_to(tmp_path / "outside/b/file")
    before = seen(tmp_path / "outside")
    assert remove(top / "a")
    assert seen(tmp_path / "outside") == before


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_and_does_not_block(
    top: ConfinedPath, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "ix/odd")
    for how in READS:
        with pytest.raises(OSError, match="no regular file"):
            WAYS[how](top / "odd")


def test_an_error_names_the_whole_path(top: ConfinedPath) -> None:
    for how in ("open", "unlink", "remove"):
        with pytest.raises(FileNotFoundError) as e:
            WAYS[how](top / "a/b/nothing")
        assert e.value.filename == str(top / "a/b/nothing")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files in /proc")
def test_nothing_stays_open_but_the_folder(top: ConfinedPath) -> None:
    (top / "a/b/file").read_bytes(10)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        (top / "a/b/file").read_bytes(10)
        (top / "a").iterdir()
        with (top / "a/b").opened() as folder:
            kept = folder / "file"
            kept.read_bytes(10)
        for how in ("mkdir", "lock"):
            with_link = WAYS[how]
            try:
                with_link(top / "a/b/nothing/x")
            except OSError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before
    if confined._BY_DESCRIPTOR:
        with pytest.raises(OSError, match="descriptor"):
            kept.read_bytes(10)  # its folder is closed: it is not found by its path instead


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The inodes of what was synced."""
    inodes: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        inodes.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    yield inodes


def test_a_new_folder_is_on_the_disk_with_those_above_it(tmp_path: Path, synced: list[int]) -> None:
    if not confined._BY_DESCRIPTOR:
        pytest.skip("folders are not synced there")
    make_folder(tmp_path / "new/deep/ix")
    inodes = {path: path.stat().st_ino for path in (tmp_path, tmp_path / "new")}
    assert inodes[tmp_path] in synced and inodes[tmp_path / "new"] in synced
    synced.clear()
    (ConfinedPath(tmp_path / "new/deep/ix") / "query/1").mkdir()
    assert (tmp_path / "new/deep/ix").stat().st_ino in synced
    assert (tmp_path / "new/deep/ix/query").stat().st_ino in synced
