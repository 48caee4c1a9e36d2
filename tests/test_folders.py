"""Folders that vanish, patterns, and links: what a run takes away and what it follows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import mmsearch
from corpora import settle, update
from mmsearch.api.info import describe
from mmsearch.store import Writer, manifest
from notes import texts, unindexed, write_notes


def many_notes(folder: Path, n: int, about: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i}.txt").write_text(f"{about}, note {i}.")


@pytest.mark.parametrize("how", ["emptied", "gone", "moved behind a link", "a dead link"])
def test_a_large_folder_that_vanished_below_keeps_its_items(tmp_path: Path, how: str) -> None:
    folder, index = tmp_path / "all", tmp_path / "ix"
    many_notes(folder / "drive" / "deep", 30, "On the drive")
    many_notes(folder / "here", 20, "Here")
    settle()
    assert update(folder, index).indexed == 50
    (folder / "drive").rename(tmp_path / "elsewhere")
    if how == "emptied":
        (folder / "drive").mkdir()
    if "link" in how:
        target = "elsewhere" if how == "moved behind a link" else "nowhere"
        (folder / "drive").symlink_to(tmp_path / target)
    report = update(folder, index)
    assert (report.unchanged, report.removed, report.kept) == (20, 0, (str(folder / "drive"),))
    assert len(texts(index)) == 50
    report = update(folder, index, prune=True)
    assert (report.removed, report.kept) == (30, ())
    assert len(texts(index)) == 20


def test_a_small_folder_that_vanished_is_removed(tmp_path: Path) -> None:
    folder, index = tmp_path / "all", tmp_path / "ix"
    many_notes(folder / "trip", 10, "On the trip")
    many_notes(folder / "here", 60, "Here")
    settle()
    update(folder, index)
    shutil.rmtree(folder / "trip")
    report = update(folder, index)
    assert (report.removed, report.kept) == (10, ())


def test_a_large_folder_that_was_renamed_or_excluded_keeps_nothing(tmp_path: Path) -> None:
    folder, index = tmp_path / "all", tmp_path / "ix"
    many_notes(folder / "a", 30, "In a")
    many_notes(folder / "b", 30, "In b")
    settle()
    update(folder, index)
    (folder / "a").rename(folder / "c")
    settle()
    report = update(folder, index)
    assert (report.moved, report.removed, report.kept) == (30, 0, ())
    report = update(folder, index, exclude=("b/",))
    assert (report.removed, report.kept) == (30, ())
    assert all(text.startswith("In a") for text in texts(index)) and len(texts(index)) == 30


@pytest.mark.parametrize("left", [".DS_Store", ".directory"])
def test_a_folder_that_is_empty_but_for_hidden_files_keeps_its_items(
    tmp_path: Path, left: str
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 15, "the sea")
    update(folder, index)
    for path in folder.iterdir():
        path.unlink()
    (folder / left).write_text("")
    report = update(folder, index)
    assert report.removed == 0 and report.kept == (str(folder),)
    assert len(texts(index)) == 15


@pytest.mark.parametrize("pattern", ["a\0b", "x" * 70_000, 5])
def test_a_pattern_that_cannot_be_kept_is_refused(tmp_path: Path, pattern: str) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 1, "the sea")
    update(folder, index)
    for name in ("exclude", "include", "forget"):
        with pytest.raises(mmsearch.UsageError, match="pattern"):
            update(folder, index, **{name: (pattern,)})
    assert len(mmsearch.open(index)) == 1


def test_patterns_are_remembered_until_they_are_forgotten(tmp_path: Path) -> None:
    folder, index = tmp_path / "all", tmp_path / "ix"
    many_notes(folder / "drafts", 2, "A draft")
    many_notes(folder / "done", 3, "Done")
    (folder / "facts.json").write_text('{"a": "fact"}')
    settle()
    report = update(folder, index, exclude=("drafts/",), include=("*.json",))
    assert (report.indexed, report.ignored) == (4, 0)
    report = update(folder, index)
    assert (report.indexed, report.unchanged) == (0, 4)
    shown = describe(mmsearch.open(index))
    assert (shown["include"], shown["exclude"]) == (["*.json"], ["drafts/"])
    report = update(folder, index, forget=("drafts/", "*.json"))
    assert (report.indexed, report.unchanged, report.ignored) == (2, 3, 1)
    assert not any("fact" in text for text in texts(index)) and len(texts(index)) == 5
    shown = describe(mmsearch.open(index))
    assert (shown["include"], shown["exclude"]) == ([], [])
    with pytest.raises(mmsearch.UsageError, match=r"given the pattern '\*\.tmp'.*: none"):
        update(folder, index, forget=("*.tmp",))


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_that_leads_out_of_the_folder_is_followed_only_on_request(tmp_path: Path) -> None:
    folder, index, outside = tmp_path / "all", tmp_path / "ix", tmp_path / "outside"
    many_notes(folder, 1, "Inside")
    many_notes(outside / "deep", 1, "Secret")
    (folder / "file.txt").symlink_to(outside / "deep" / "0.txt")
    (folder / "folder").symlink_to(outside)
    (folder / "again.txt").symlink_to(folder / "0.txt")
    settle()
    report = update(folder, index)
    assert (report.indexed, report.ignored, report.failed) == (2, 2, 0)
    assert texts(index) == ["Inside, note 0."] * 2
    reason = "a link that leads out of the folder (--follow-links follows it)"
    assert unindexed(index) == {"file.txt": ("ignored", reason), "folder": ("ignored", reason)}
    report = update(folder, index, follow_links=True)
    assert (report.indexed, report.unchanged, report.ignored) == (2, 2, 0)
    report = update(folder, index)
    assert (report.unchanged, report.removed) == (4, 0)
    assert describe(mmsearch.open(index))["follow_links"]
    report = update(folder, index, follow_links=False)
    assert (report.unchanged, report.removed, report.kept) == (2, 2, ())
    assert texts(index) == ["Inside, note 0."] * 2


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_from_one_folder_of_a_root_to_another_leads_nowhere_else(tmp_path: Path) -> None:
    folder, index = tmp_path / "all", tmp_path / "ix"
    many_notes(folder / "2024", 1, "Last year")
    many_notes(folder / "2025", 1, "This year")
    (folder / "2025" / "best.txt").symlink_to(folder / "2024" / "0.txt")
    settle()
    assert update(folder, index).indexed == 3
    report = update(folder / "2025", index)
    assert (report.unchanged, report.removed) == (2, 0)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_that_leads_nowhere_is_ignored_and_what_it_led_to_stays(tmp_path: Path) -> None:
    folder, index, drive = tmp_path / "all", tmp_path / "ix", tmp_path / "all" / "drive"
    many_notes(folder, 2, "Here")
    many_notes(drive, 1, "On the drive")
    (folder / "lead.txt").symlink_to(drive / "0.txt")
    (folder / "dead.txt").symlink_to(folder / "nobody")
    (folder / "circle.txt").symlink_to(folder / "circle.txt")
    settle()
    report = update(folder, index)
    assert (report.indexed, report.ignored, report.failed) == (4, 2, 0)
    reason = unindexed(index)["dead.txt"]
    assert reason == ("ignored", "a link that leads nowhere (No such file or directory)")
    (drive / "0.txt").rename(tmp_path / "away.txt")
    report = update(folder, index)  # the file itself is gone; behind the link it may come back
    assert (report.removed, report.failed) == (1, 0)
    assert texts(index) == ["Here, note 0.", "Here, note 1.", "On the drive, note 0."]


@pytest.mark.parametrize("pattern", ["drafts", "./drafts", "drafts/", "./drafts/", "./drafts/*"])
def test_a_pattern_as_shells_complete_it_excludes_a_folder(tmp_path: Path, pattern: str) -> None:
    many_notes(tmp_path / "all", 1, "Here")
    many_notes(tmp_path / "all" / "drafts", 1, "A draft")
    settle()
    update(tmp_path / "all", tmp_path / "ix", exclude=(pattern,))
    assert texts(tmp_path / "ix") == ["Here, note 0."]


@pytest.mark.parametrize("name", ["exclude", "include"])
def test_an_empty_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(mmsearch.UsageError, match="an empty name stands for nothing"):
        update(tmp_path, tmp_path / "ix", **{name: ("",)})


def test_a_pattern_that_an_older_run_remembered_can_be_forgotten(tmp_path: Path) -> None:
    many_notes(tmp_path / "all" / "drafts", 1, "A draft")
    settle()
    update(tmp_path / "all", tmp_path / "ix")
    with Writer(tmp_path / "ix", manifest.read(tmp_path / "ix").space) as writer:
        writer.remember(exclude=["./drafts"])
        writer.commit()
    update(tmp_path / "all", tmp_path / "ix", forget=("./drafts",))
    assert manifest.read(tmp_path / "ix").exclude == ()
    assert texts(tmp_path / "ix") == ["A draft, note 0."]


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_links_that_are_followed_no_more_lose_their_items_also_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "all", tmp_path / "ix"
    many_notes(folder, 2, "Here")
    many_notes(tmp_path / "outside", 30, "There")
    (folder / "link").symlink_to(tmp_path / "outside")
    settle()
    assert update(folder, index, follow_links=True).indexed == 32
    many_notes(folder / "new", 2, "New")
    settle()
    with monkeypatch.context() as patch:

        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("mmsearch.indexer.running.Run._progress", stopped)
        with pytest.raises(KeyboardInterrupt):
            update(folder, index, follow_links=False)
    report = update(folder, index, follow_links=False)
    assert (report.removed, report.kept) == (30, ())
    assert not manifest.read(index).follow_links
