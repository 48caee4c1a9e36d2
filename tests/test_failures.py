"""Our own failures cost no item: what was findable stays, and the next run tries again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import mmsearch
from corpora import settle, update
from failing import after, break_encoder, on_text
from mmsearch import ProcessingFailed
from mmsearch.indexer.running import Run
from mmsearch.spaces.folder import FolderSpace
from mmsearch.store import Snapshot, verify
from notes import texts, unindexed, write_notes


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


@pytest.mark.parametrize("again", ["the hills", pytest.param("the woods", marks=pytest.mark.slow)])
def test_a_long_file_whose_encoding_breaks_half_way_keeps_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    folder, index = tmp_path / "books", tmp_path / "ix"
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


@pytest.mark.slow
def test_a_part_that_is_refused_late_does_not_end_a_long_file_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "books", tmp_path / "ix"
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


@pytest.mark.slow
def test_lists_are_trained_without_an_encoder_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "notes", tmp_path / "ix"
    write_notes(folder, 700, "the sea")
    update(folder, index)
    break_encoder(monkeypatch, after(0, RuntimeError("CUDA error")))
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
