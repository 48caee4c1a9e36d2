"""Names of files: both forms of Unicode, names that are not UTF-8, and links."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import mmsearch
from mmsearch.errors import UsageError

COMPOSED, APART = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
NOT_UTF8 = b"na\xefve.txt"


def write(folder: Path, *names: str) -> Path:
    """A note in each of some files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"a note in {len(name)} {unicodedata.normalize('NFC', name)}")
    return folder


def keeps_both_forms(folder: Path) -> bool:
    write(folder, f"{COMPOSED}.probe", f"{APART}.probe")
    found = list(folder.glob("*.probe"))
    for path in found:
        path.unlink()
    return len(found) == 2


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    if not keeps_both_forms(folder):
        pytest.skip("this file system keeps names in one form")
    return folder


def paths(index: mmsearch.Index, **asked: object) -> set[str]:
    hits = index.search("a note", k=50, **asked)  # type: ignore[arg-type]
    return {os.path.relpath(str(h.path), index.path.parent / "notes") for h in hits}


def test_a_filter_finds_a_name_in_whichever_form_it_is_typed(notes: Path) -> None:
    index = mmsearch.index(write(notes, f"{APART}/menu.txt", "b.txt"), notes.parent / "ix")
    for form in (COMPOSED, APART):
        for where in (
            f"path like '%{form}%'",
            f"path ilike '%{form.upper()}%'",
            f"contains(path, '{form}')",
            f"contains(lower(path), '{form}')",
            f"path = '{notes}/{form}/menu.txt'",
            f"path in ('x', '{notes}/{form}/menu.txt')",
            f"path not in ('x') and not (path not like '%{form}%')",
            f"path is not distinct from '{notes}/{form}/menu.txt'",
            f"case when path like '%{form}%' then true else false end",
        ):
            assert paths(index, where=where) == {f"{APART}/menu.txt"}, where
        for where in (
            f"path not like '%{form}%'",
            f"path <> '{notes}/{form}/menu.txt'",
            f"path not in ('{notes}/{form}/menu.txt', 'x')",
        ):
            assert paths(index, where=where) == {"b.txt"}, where


def test_only_a_text_that_is_compared_with_a_name_stands_for_its_other_form(notes: Path) -> None:
    index = mmsearch.index(write(notes, "b.txt"), notes.parent / "ix")
    index.add([{"text": "a title"}], ids=["titled"], meta=[{"title": COMPOSED}])
    same = f"(coalesce(path, '') = '{COMPOSED}') = (title = '{COMPOSED}')"
    assert [hit.id for hit in index.search("a", where=same)] == []
    other = f"(coalesce(path, '') = '{COMPOSED}') <> (title = '{COMPOSED}')"
    assert [hit.id for hit in index.search("a", where=other)] == ["titled"]
    for column in ("path", "text"):
        pattern = f"{column} like '%a{COMPOSED[-1]}%%' escape '{COMPOSED[-1]}'"
        assert len(index.search("a", where=pattern)) == 0


def test_a_filter_on_a_root_knows_both_forms_and_one_on_what_is_written_changes_nothing(
    notes: Path,
) -> None:
    index = mmsearch.index(write(notes / APART, "a.txt"), notes.parent / "ix")
    index.add([{"text": APART}], ids=["apart"])
    assert len(index.search("a", where=f"root like '%{COMPOSED}'")) == 1
    for form, found in ((APART, 1), (COMPOSED, 0)):
        assert len(index.search("a", where=f"text = '{form}'")) == found
        assert len(index.search("a", where=f"not (text <> '{form}' or path is not null)")) == found


def test_a_name_in_the_other_form_is_deleted_if_none_is_called_so(notes: Path) -> None:
    write(notes, f"{APART}.txt", f"{APART}/in.txt", "b.txt")
    index = mmsearch.index(notes, notes.parent / "ix")
    assert index.delete(paths=notes / f"{COMPOSED}.txt") == 1
    assert paths(index) == {f"{APART}/in.txt", "b.txt"}
    assert index.delete(paths=str(notes / COMPOSED)) == 1
    assert paths(index) == {"b.txt"}
    assert index.delete(paths=notes / COMPOSED) == 0


def test_of_two_names_that_differ_by_form_alone_the_one_that_is_named_goes(notes: Path) -> None:
    both = [f"{COMPOSED}.txt", f"{APART}.txt"]
    for gone, kept in (both, both[::-1]):
        index = mmsearch.index(write(notes, *both), notes.parent / f"ix-{len(gone)}")
        assert len(paths(index)) == 2 == len(paths(index, where=f"path like '%{COMPOSED}%'"))
        twins = {str(h.path): h.id for h in index.search("a note")}
        where = f"id = '{twins[str(notes / gone)]}'"
        assert paths(index, where=where) == {gone}
        assert index.delete(paths=notes / gone) == 1
        assert paths(index) == {kept}


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are UTF-8 or UTF-16 there")
def test_a_name_that_is_not_utf8_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    write(folder, "b.txt")
    raw = os.path.join(os.fsencode(folder), NOT_UTF8)
    for way in ("text", "path", "command"):
        Path(os.fsdecode(raw)).write_text("a note in another encoding")
        index = mmsearch.index(folder, tmp_path / "ix")
        assert len(index) == 2
        if way == "command":
            command = [sys.executable, "-m", "mmsearch", "delete", raw, "--index", index.path]
            done = subprocess.run(command, capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (0, "deleted 1\n"), done.stderr
            index.refresh()
        else:
            name = os.fsdecode(raw)
            assert index.delete(paths=name if way == "text" else Path(name)) == 1
        assert paths(index) == {"b.txt"}
    assert index.delete(paths=os.fsdecode(raw)) == 0
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "is called" in done.stderr and "Traceback" not in done.stderr


def test_deleting_a_link_that_was_indexed_leaves_what_it_leads_to(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("a dog")
    (folder / "link.txt").symlink_to("a.txt")
    (tmp_path / "linked").symlink_to(folder, target_is_directory=True)
    index = mmsearch.index(folder, tmp_path / "ix")
    names = {Path(str(hit.path)).name for hit in index.search("dog")}
    assert names == {"a.txt", "link.txt"}
    assert index.delete(paths=[folder / "link.txt"]) == 1
    assert [Path(str(hit.path)).name for hit in index.search("dog")] == ["a.txt"]
    assert index.delete(paths=[tmp_path / "linked" / "a.txt"]) == 1 and len(index) == 0


def test_a_file_that_is_added_through_a_link_is_the_item_that_it_leads_to(tmp_path: Path) -> None:
    folder = write(tmp_path / "notes", "a.txt")
    index = mmsearch.index(folder, tmp_path / "ix")
    (tmp_path / "link.txt").symlink_to(folder / "a.txt")
    (tmp_path / "linked").symlink_to(folder, target_is_directory=True)
    (own,) = (h.id for h in index.search("a note"))
    for path in (folder / "a.txt", tmp_path / "link.txt", tmp_path / "linked" / "a.txt"):
        assert index.add([path]) == [own]
        assert paths(index) == {"a.txt"} and len(index) == 1
    again = mmsearch.index(tmp_path / "linked", tmp_path / "ix")
    assert len(again) == 1 and again.get(own) is not None
    for wrong in ("a\0b", "~nobody-of-that-name/x"):
        with pytest.raises((UsageError, mmsearch.DecodeError)):
            index.add([wrong])
