"""Our own failures cost no item: what was findable stays, and the next run tries again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import mmsearch
from corpora import settle, update
from failing import after, break_encoder, on_text
from mmsearch import ProcessingFailed
from mmsearch.indexer import plan
from mmsearch.indexer.running import Run
from mmsearch.info import describe, skipped_files
from mmsearch.media import versions
from mmsearch.spaces.folder import FolderSpace
from mmsearch.store import Snapshot, verify
from mmsearch.store.ledger import read_ledger
from mmsearch.types import Modality


def write_notes(folder: Path, n: int, about: str) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(n):
        (folder / f"{i}.txt").write_text(f"The {i}th note is about {about}.")
    settle()


def texts(index: Path) -> list[str]:
    """Every passage that an index holds, sorted."""
    snapshot = Snapshot.open(index)
    rows = [s.row(r) for s in snapshot.segments for r in s.live.nonzero()[0].tolist()]
    return sorted(str(row.text) for row in rows)


def unindexed(index: Path) -> dict[str, tuple[str, str | None]]:
    """Name of each file without parts -> (outcome, reason)."""
    manifest = Snapshot.open(index).manifest
    return {
        Path(row.path).name: (str(row.outcome), row.reason) for row in read_ledger(index, manifest)
    }


# -- the encoder ------------------------------------------------------------------


def test_an_encoder_that_breaks_half_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 300, "the sea")
    update(folder, index)
    write_notes(folder, 300, "the hills")
    with monkeypatch.context() as patch:
        break_encoder(patch, after(64, RuntimeError("CUDA error: unspecified launch failure\n…")))
        with pytest.raises(ProcessingFailed, match="mini does not encode text any more: CUDA err"):
            update(folder, index)
    kept = texts(index)
    assert len(kept) == 300 and sum("hills" in text for text in kept) == 64
    assert verify(index) == [] and unindexed(index) == {}
    report = update(folder, index)
    assert (report.indexed, report.unchanged) == (236, 64)
    assert all("hills" in text for text in texts(index)) and len(texts(index)) == 300


def write_book(path: Path, about: str) -> None:
    """A text of some hundred passages, each with the words it is about."""
    path.parent.mkdir(exist_ok=True)
    lines = [f"Chapter {i} is about {about} and nothing else, {i} times over." for i in range(1800)]
    path.write_text("\n\n".join(lines))
    settle()


def part_numbers(index: Path) -> list[int]:
    snapshot = Snapshot.open(index)
    rows = [s.row(r) for s in snapshot.segments for r in s.live.nonzero()[0].tolist()]
    return sorted(row.part_no for row in rows)


@pytest.mark.parametrize("again", ["the hills", "the woods"])
def test_a_long_file_whose_encoding_breaks_half_way_keeps_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    folder, index = tmp_path / "books", tmp_path / "ix"
    monkeypatch.setattr(plan, "LARGE_BYTES", 0)  # what is committed in pieces
    write_book(folder / "book.txt", "the sea")
    update(folder, index)
    whole = part_numbers(index)
    assert whole == list(range(len(whole))) and len(whole) > 120
    write_book(folder / "book.txt", "the hills")
    with monkeypatch.context() as patch:
        break_encoder(patch, after(100, RuntimeError("CUDA error")))
        with pytest.raises(ProcessingFailed):
            update(folder, index, commit_s=0.0)
    assert part_numbers(index) == whole and verify(index) == []
    new = sum("hills" in text for text in texts(index))
    assert 0 < new < len(whole), "some parts are new, the others as they were"
    write_book(folder / "book.txt", again)  # as it was left, or changed once more
    update(folder, index)
    assert part_numbers(index) == whole and verify(index) == []
    assert all(again in text for text in texts(index))
    assert update(folder, index).unchanged == 1
    assert Snapshot.open(index).manifest.unfinished == ()


def test_a_part_that_is_refused_late_does_not_end_a_long_file_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "books", tmp_path / "ix"
    monkeypatch.setattr(plan, "LARGE_BYTES", 0)
    write_book(folder / "book.txt", "the sea")
    with (folder / "book.txt").open("a") as book:
        book.write("\n\n" + "\n\n".join(f"an unusual line {i}" for i in range(900)))
    settle()
    original = Run._commit

    def stopping(run: Run, final: bool = False) -> None:
        original(run, final)
        if any(item.refused for item in run.open.values()):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        break_encoder(patch, on_text("unusual", ValueError("no such token")))
        patch.setattr(Run, "_commit", stopping)
        with pytest.raises(KeyboardInterrupt):
            update(folder, index, commit_s=0.0)
    (half,) = Snapshot.open(index).manifest.unfinished
    assert 0 < half.parts == len(texts(index))
    report = update(folder, index)
    assert (report.indexed, report.unchanged) == (1, 0) and verify(index) == []
    assert sum("unusual" in text for text in texts(index)) > 15
    assert part_numbers(index) == list(range(len(texts(index))))


def test_a_text_that_the_tokenizer_refuses_is_skipped_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 5, "the sea")
    (folder / "odd.txt").write_text("an odd note")
    settle()

    def odd(texts: Sequence[str]) -> None:
        if any("odd" in text for text in texts):
            raise ValueError("it cannot be tokenized")

    for name in ("truncated", "unknown"):
        known = getattr(FolderSpace, name)
        monkeypatch.setattr(
            FolderSpace, name, lambda self, texts, known=known: (odd(texts), known(self, texts))[1]
        )
    with monkeypatch.context() as patch:
        break_encoder(patch, on_text("odd", ValueError("it cannot be tokenized")))
        report = update(folder, index)
    assert (report.indexed, report.skipped) == (5, 1)
    with pytest.raises(ProcessingFailed, match="mini does not encode text any more"):
        update(folder, index, retry_skipped=True)
    assert len(texts(index)) == 5


def test_lists_are_trained_without_an_encoder_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 700, "the sea")
    update(folder, index)

    def fault(modality: Modality, data: Sequence[Any]) -> None:
        raise RuntimeError("CUDA error")

    break_encoder(monkeypatch, fault)
    assert update(folder, index, ann="ivfpq").unchanged == 700
    facts = Snapshot.open(index).manifest.ann
    assert facts is not None and facts.facts["queries_of"] == "stored vectors"


def test_a_broken_encoder_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    write_notes(tmp_path / "notes", 3, "the sea")
    script = (
        "from mmsearch.spaces.folder import FolderSpace\n"
        "def broken(*args, **more): raise RuntimeError('CUDA error: device lost\\nand more')\n"
        "FolderSpace.encode = broken\n"
        "from mmsearch.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            "index",
            str(tmp_path / "notes"),
            "-i",
            str(tmp_path / "ix"),
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mmsearch: mini does not encode text any more: CUDA error: device lost.")


def test_an_input_that_the_encoder_refuses_alone_is_skipped_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 5, "the sea")
    update(folder, index)
    write_notes(folder, 5, "the hills")
    break_encoder(monkeypatch, on_text("3th", ValueError("no such token")))
    report = update(folder, index)
    assert (report.indexed, report.skipped, report.failed) == (4, 1, 0)
    assert unindexed(index) == {"3.txt": ("skipped", "the encoder refused it: no such token")}
    assert not any("3th" in text for text in texts(index)) and len(texts(index)) == 4
    again = update(folder, index)
    assert (again.unchanged, again.skipped, again.parts) == (4, 1, 0)


def test_memory_that_one_input_lacks_is_not_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 5, "the sea")
    update(folder, index)
    write_notes(folder, 5, "the hills")
    with monkeypatch.context() as patch:
        break_encoder(patch, on_text("3th", MemoryError()))
        report = update(folder, index)
    assert (report.indexed, report.skipped, report.failed) == (4, 0, 1)
    assert unindexed(index) == {"3.txt": ("failed", "the encoder refused it: MemoryError")}
    assert "The 3th note is about the sea." in texts(index)
    report = update(folder, index)
    assert (report.indexed, report.unchanged, report.failed) == (1, 4, 0)
    assert "The 3th note is about the hills." in texts(index) and unindexed(index) == {}


def test_vectors_that_are_no_numbers_mean_a_broken_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notes(tmp_path / "notes", 3, "the sea")
    from mmsearch.spaces.folder import FolderSpace

    encode = FolderSpace.encode
    monkeypatch.setattr(FolderSpace, "encode", lambda *args: encode(*args) * float("nan"))
    with pytest.raises(ProcessingFailed, match="the encoder gave no usable vector"):
        update(tmp_path / "notes", tmp_path / "ix")
    assert len(mmsearch.open(tmp_path / "ix")) == 0


def test_add_tells_a_bad_input_from_a_broken_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notes(tmp_path / "notes", 1, "the sea")
    index = mmsearch.index(tmp_path / "notes", tmp_path / "ix")
    with monkeypatch.context() as patch:
        break_encoder(patch, on_text("hills", ValueError("no such token")))
        with pytest.raises(mmsearch.DecodeError, match="the encoder refused it: no such token"):
            index.add([{"text": "Of the hills."}])
    with monkeypatch.context() as patch:
        break_encoder(patch, after(0, RuntimeError("CUDA error")))
        with pytest.raises(ProcessingFailed, match="does not encode text any more: CUDA error"):
            index.add([{"text": "Of the hills."}])
    assert len(index) == 1


# -- what is remembered of files without parts --------------------------------------


def broken_photos(folder: Path, samples: Path, n: int) -> None:
    folder.mkdir(exist_ok=True)
    whole = (samples / "photos/coffee.jpg").read_bytes()
    for i in range(n):
        (folder / f"{i}.jpg").write_bytes(whole[: 2000 + i])
    settle()


def test_skipped_files_are_tried_again_on_request(tmp_path: Path, samples: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "ix"
    broken_photos(folder, samples, 2)
    report = update(folder, index)
    assert (report.skipped, report.done) == (2, 2)
    before = Snapshot.open(index).manifest.generation
    report = update(folder, index)
    assert (report.skipped, report.done) == (2, 0)
    report = update(folder, index, retry_skipped=True)
    assert (report.skipped, report.done) == (2, 2)
    assert Snapshot.open(index).manifest.generation == before, "the same verdict is not written"


def test_a_newer_decoder_tries_skipped_and_ignored_files_again(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "photos", tmp_path / "ix"
    broken_photos(folder, samples, 1)
    (folder / "code.py").write_text("x = 1")
    settle()
    report = update(folder, index)
    assert (report.skipped, report.ignored) == (1, 1)
    row = skipped_files(mmsearch.open(index))["skipped_files"][0]
    assert row["decoders"] == versions.decoders() and "pillow " in row["decoders"]

    assert update(folder, index).done == 0
    for room in ("mmsearch.indexer.plan", "mmsearch.indexer.running"):
        monkeypatch.setattr(f"{room}.decoders", lambda: "pillow 99.0")
    report = update(folder, index)
    assert (report.skipped, report.ignored, report.done) == (1, 1, 2)
    assert update(folder, index).done == 0
    assert skipped_files(mmsearch.open(index))["skipped_files"][0]["decoders"] == "pillow 99.0"


def test_a_stopped_run_keeps_what_it_learned_of_files_without_parts(tmp_path: Path) -> None:
    folder, index = tmp_path / "empty", tmp_path / "ix"
    folder.mkdir()
    for i in range(400):
        (folder / f"{i}.txt").touch()
    settle()
    from mmsearch.indexer import Options, run

    def stop(report: mmsearch.indexer.Report, path: str) -> None:  # type: ignore[name-defined]
        if report.skipped_so_far == 250:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([folder], index, None, Options(), stop)
    known = unindexed(index)
    assert len(known) == 250
    assert set(known.values()) == {("skipped", "empty file (0 bytes)")}
    opened = []
    run([folder], index, None, Options(), lambda report, path: opened.append(path))
    assert len([path for path in opened if path]) == 150
    assert len(unindexed(index)) == 400 and verify(index) == []


def test_a_file_that_gets_parts_is_no_longer_listed(tmp_path: Path, samples: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "ix"
    broken_photos(folder, samples, 3)
    update(folder, index)
    assert sorted(unindexed(index)) == ["0.jpg", "1.jpg", "2.jpg"]
    shutil.copyfile(samples / "photos/coffee.jpg", folder / "0.jpg")
    (folder / "1.jpg").unlink()
    settle()
    report = update(folder, index)
    assert (report.indexed, report.skipped, report.removed) == (1, 1, 0)
    assert sorted(unindexed(index)) == ["2.jpg"]
    assert describe(mmsearch.open(index))["skipped"] == 1


def test_a_file_keeps_its_row_when_a_folder_above_is_indexed_later(
    tmp_path: Path, samples: Path
) -> None:
    above, index = tmp_path / "above", tmp_path / "ix"
    above.mkdir()
    broken_photos(above / "inside", samples, 2)
    assert update(above / "inside", index).skipped == 2
    assert update(above, index, retry_skipped=True).skipped == 2
    generation = Snapshot.open(index).manifest.generation
    assert update(above, index).skipped == 2
    assert Snapshot.open(index).manifest.generation == generation, "nothing had changed"
    assert len(skipped_files(mmsearch.open(index))) == 2
    shutil.copyfile(samples / "photos/coffee.jpg", above / "inside" / "0.jpg")
    settle()
    assert update(above, index).indexed == 1
    assert sorted(unindexed(index)) == ["1.jpg"]


def test_only_the_ledger_of_the_named_folders_changes(tmp_path: Path, samples: Path) -> None:
    a, b, index = tmp_path / "a", tmp_path / "b", tmp_path / "ix"
    broken_photos(a, samples, 2)
    broken_photos(b, samples, 1)
    (b / "0.jpg").rename(b / "only.jpg")
    settle()
    assert update(a, index).skipped == 2
    assert update(b, index).skipped == 1
    shutil.rmtree(a)
    a.mkdir()
    assert update(b, index).skipped == 1
    assert sorted(unindexed(index)) == ["0.jpg", "1.jpg", "only.jpg"]
    update(a, index, prune=True)
    assert sorted(unindexed(index)) == ["only.jpg"]


# -- times ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["note.txt", "broken.jpg", "code.py"])
def test_a_file_from_the_future_is_trusted_after_its_second_run(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    folder.mkdir()
    (folder / name).write_text("Of the sea." if name == "note.txt" else "x = 1")
    os.utime(folder / name, ns=(4_000_000_000_123_456_789,) * 2)  # the year 2096
    settle()
    opened, generations = [], []
    for _ in range(4):
        opened.append(update(folder, index).stages.workers > 0)
        generations.append(Snapshot.open(index).manifest.generation)
        settle()
    assert opened == [True, True, False, False]
    assert generations[1] == generations[2] == generations[3]


def test_two_runs_in_the_same_instant_write_one_snapshot(tmp_path: Path) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    folder.mkdir()
    (folder / "note.txt").write_text("Of the sea.")
    os.utime(folder / "note.txt", (4e9, 4e9))
    update(folder, index)
    before = Snapshot.open(index).manifest
    update(folder, index)
    assert Snapshot.open(index).manifest == before, "nothing new was learned"


# -- folders and links ------------------------------------------------------------------


def many_notes(folder: Path, n: int, about: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i}.txt").write_text(f"{about}, note {i}.")


@pytest.mark.parametrize("how", ["emptied", "gone"])
def test_a_large_folder_that_vanished_below_keeps_its_items(tmp_path: Path, how: str) -> None:
    folder, index = tmp_path / "all", tmp_path / "ix"
    many_notes(folder / "drive" / "deep", 30, "On the drive")
    many_notes(folder / "here", 20, "Here")
    settle()
    assert update(folder, index).indexed == 50
    shutil.rmtree(folder / "drive")
    if how == "emptied":
        (folder / "drive").mkdir()
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
