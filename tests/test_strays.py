"""Files that are not the index's, names that lead elsewhere, and files that may not be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mmsearch import errors
from mmsearch.store import Snapshot, Writer, manifest, resolve, verify
from mmsearch.store.strays import strays
from stored import SPACE, contents, fill


def test_what_somebody_put_into_a_folder_of_ours_stays_when_it_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(3), range(3, 6))
    segments = [path.name for path in sorted((folder / "segments").iterdir())]
    left = folder / "segments/000099-abcd"  # as a writer leaves it that was killed
    (left / "sub").mkdir(parents=True)
    (left / "parts.arrow").write_bytes(b"half of it")
    (folder / "query/deadbeef").mkdir(parents=True)
    (folder / "next-deadbeef/segments/000001-abcd").mkdir(parents=True)
    mine = [
        folder / "segments" / segments[0] / "mine.txt",
        *(left / name for name in ("mine.txt", "sub/mine.txt")),
        folder / "query/deadbeef/mine.txt",
        folder / "ann/mine.txt",
    ]
    (folder / "ann").mkdir(exist_ok=True)
    for path in mine:
        path.write_text("precious")
    with Writer(folder, SPACE) as writer:
        writer.compact(whole=True)
        writer.finish()
        strange = {str(path.relative_to(folder)) for path in strays_of(folder)}
    assert all(path.read_text() == "precious" for path in mine)
    assert not (left / "parts.arrow").exists(), "what was ours is gone"
    assert [path.name for path in (folder / "segments" / segments[0]).iterdir()] == ["mine.txt"]
    assert f"segments/{segments[0]}" in strange and len(contents(folder)) == 6


def strays_of(folder: Path) -> list[Path]:
    return [path.path for path in strays(folder, manifest.read(folder))]


def test_an_unfinished_index_beside_it_is_removed_whole(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(2))
    switched = folder / f"next-{SPACE.fingerprint}"
    fill(switched, range(2))
    (switched / "query").mkdir()
    Writer(folder, SPACE).close()
    assert not switched.exists() and len(contents(folder)) == 2


def test_a_name_with_two_dots_stands_for_one_folder_whatever_is_missing(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/mine.txt").write_text("precious")
    for name in (f"{tmp_path}/new/../docs", f"{tmp_path}/docs/new/.."):
        assert resolve(name) == tmp_path / "docs"
        with pytest.raises(errors.UsageError, match="holds other things"):
            Writer(resolve(name), SPACE)
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["mine.txt"]


def test_an_empty_name_is_no_folder() -> None:
    with pytest.raises(errors.UsageError, match="an empty name stands for nothing"):
        resolve("")


def test_verify_says_that_a_file_is_a_link(tmp_path: Path) -> None:
    fill(tmp_path / "ix", range(3))
    (file,) = (tmp_path / "ix").glob("segments/*/vectors*.npy")
    file.rename(tmp_path / "moved.npy")
    file.symlink_to(tmp_path / "moved.npy")
    (problem,) = verify(tmp_path / "ix")
    assert (problem.path, problem.what) == (str(file), "is a link")


def test_what_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "ix", range(3))
    opened = os.open

    def refusing(name: object, *args: object, **more: object) -> int:
        if "vectors" in os.fsdecode(name):  # type: ignore[arg-type]
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return opened(name, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(errors.IndexNotReadable, match="Nothing is damaged"):
        Snapshot.open(tmp_path / "ix")
    problems = verify(tmp_path / "ix")  # the vectors, and the checks of their blocks
    assert {p.what for p in problems} == {"there is no permission to read it"}
    assert all("change its permissions" in p.remedy for p in problems)


def test_a_message_with_a_strange_name_can_be_written_to_any_log() -> None:
    message = str(errors.UsageError("there is nothing called \udcff.jpg"))
    assert message.encode() == b"there is nothing called \\udcff.jpg"


def test_an_unfinished_index_in_an_unfinished_index_is_nobodys_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(2))
    inner = folder / f"next-{SPACE.fingerprint}" / "next-0badcafe"
    inner.mkdir(parents=True)
    (inner / "mine.txt").write_text("precious")
    Writer(folder, SPACE).close()
    assert (inner / "mine.txt").read_text() == "precious"


def test_a_refusal_before_anything_was_committed_does_not_say_that_it_is_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(errors.IndexNotWritable) as refused:
        Writer(tmp_path / "file" / "ix", SPACE)
    assert "it is in the way, so move it" in str(refused.value)
    assert "committed" not in str(refused.value)
