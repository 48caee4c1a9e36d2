"""What is remembered of files without parts, and of times that cannot be trusted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import mmsearch
from corpora import settle, update
from mmsearch.api.info import describe, skipped_files
from mmsearch.media import versions
from mmsearch.store import Snapshot, verify
from notes import unindexed


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
    assert len(skipped_files(mmsearch.open(index))["skipped_files"]) == 2
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
