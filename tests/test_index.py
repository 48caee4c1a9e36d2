"""Indexing and searching through the public door, on the bundled samples."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmsearch
from corpora import FILES, settle, update
from mmsearch.indexer import Options, run
from mmsearch.store import Snapshot, verify


def names(results: mmsearch.Results) -> list[str]:
    return [Path(hit.path or "").name for hit in results]


def vectors(index: Path) -> dict[tuple[str, int], bytes]:
    """(name of the file, part) -> vector bytes."""
    snapshot = Snapshot.open(index)
    out = {}
    for segment in snapshot.segments:
        for r in np.flatnonzero(segment.live).tolist():
            row = segment.row(r)
            key = (row.path or row.id, row.part_no)
            assert key not in out, f"{key} is there twice"
            out[key] = segment.lanes[0].vectors[r].tobytes()
    return out


def test_words_pictures_and_sounds_find_each_other(corpus: Path, tmp_path: Path) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    assert names(index.search("a cup of coffee", to="image", k=1)) == ["coffee.jpg"]
    assert names(index.search("猫", to="image", k=1)) == ["tabby.jpg"]
    assert names(index.search("a dog barking", to="audio", k=1)) == ["bark.ogg"]
    assert names(index.search(image=corpus / FILES[0], to="text", k=1)) == ["coffee.txt"]
    found = index.search(image=corpus / FILES[1], k=1)
    assert names(found) == ["tabby.jpg"] and found[0].score > 0.999
    found = index.search(audio=corpus / "sounds/rain.ogg", k=1)
    assert names(found) == ["rain.ogg"]


def test_a_second_run_opens_nothing_and_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    first = update(corpus, tmp_path / "ix")
    assert (first.indexed, first.unchanged, first.skipped) == (9, 0, 0)
    before = Snapshot.open(tmp_path / "ix").manifest
    for path in corpus.rglob("*.*"):
        path.chmod(0o000)  # changes ctime alone: then the hash decides
    for path in corpus.rglob("*.*"):
        path.chmod(0o644)
    settle()
    touched = update(corpus, tmp_path / "ix")
    assert (touched.indexed, touched.unchanged, touched.parts) == (0, 9, 0)
    now = Snapshot.open(tmp_path / "ix").manifest
    again = update(corpus, tmp_path / "ix")
    assert (again.indexed, again.unchanged, again.parts) == (0, 9, 0)
    assert Snapshot.open(tmp_path / "ix").manifest == now
    assert now.space == before.space
    assert verify(tmp_path / "ix") == []


def test_changed_moved_new_and_removed_files(corpus: Path, tmp_path: Path) -> None:
    index = tmp_path / "ix"
    update(corpus, index)
    before = vectors(index)
    shutil.copyfile(corpus / "photos/tabby.jpg", corpus / "photos/coffee.jpg")  # changed
    (corpus / "photos/porch.jpg").rename(corpus / "porch-moved.jpg")
    (corpus / "sounds/bark.ogg").unlink()
    (corpus / "new.txt").write_text("A steam train crosses a bridge.")
    settle()
    report = update(corpus, index)
    # coffee.jpg now has content that is known: it takes over the vector
    assert (report.indexed, report.moved, report.removed, report.parts) == (2, 1, 1, 1)
    assert report.unchanged == 9 - 3 + 1
    after = vectors(index)
    assert after["photos/coffee.jpg", 0] == before["photos/tabby.jpg", 0]
    assert after["porch-moved.jpg", 0] == before["photos/porch.jpg", 0]
    assert ("photos/porch.jpg", 0) not in after and ("sounds/bark.ogg", 0) not in after
    opened = mmsearch.open(index)
    assert names(opened.search("a train on a bridge", to="text", k=1)) == ["new.txt"]
    assert "bark.ogg" not in names(opened.search("a dog barking", k=100))
    assert verify(index) == []


def test_a_file_that_became_unreadable_is_no_longer_found(corpus: Path, tmp_path: Path) -> None:
    index = tmp_path / "ix"
    update(corpus, index)
    broken = corpus / "photos/coffee.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    settle()
    report = update(corpus, index)
    assert (report.indexed, report.unchanged, report.skipped) == (0, 8, 1)
    assert "coffee.jpg" not in names(mmsearch.open(index).search("coffee", k=100))
    again = update(corpus, index)  # known to be broken: not opened again
    assert (again.unchanged, again.skipped, again.parts) == (8, 1, 0)


def test_only_the_named_roots_are_compared(corpus: Path, tmp_path: Path) -> None:
    index = tmp_path / "ix"
    run([corpus / "photos", corpus / "sounds"], index)
    (corpus / "photos/coffee.jpg").unlink()
    (corpus / "sounds/bark.ogg").unlink()
    report = update(corpus / "photos", index)
    assert (report.removed, report.unchanged) == (1, 3)
    assert ("bark.ogg", 0) in vectors(index)


def test_a_folder_above_or_below_a_root_meets_the_same_items(corpus: Path, tmp_path: Path) -> None:
    index = tmp_path / "ix"
    update(corpus / "photos", index)
    above = update(corpus, index)
    assert (above.indexed, above.unchanged, above.removed) == (5, 4, 0)
    below = update(corpus / "photos", index)
    assert (below.indexed, below.unchanged, below.removed) == (0, 4, 0)
    one = update(corpus / "photos/coffee.jpg", index)
    assert (one.indexed, one.unchanged, one.removed) == (0, 1, 0)


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_an_unplugged_drive_removes_nothing(corpus: Path, tmp_path: Path, how: str) -> None:
    index = tmp_path / "ix"
    update(corpus, index)
    corpus.rename(tmp_path / "elsewhere")
    if how == "empty":
        corpus.mkdir()
    report = update(corpus, index)
    assert report.removed == 0 and report.kept == (str(corpus),)
    assert len(vectors(index)) > 9
    report = update(corpus, index, prune=True)
    assert report.removed == 9 and vectors(index) == {}


def test_excluded_and_hidden_files_are_left_out(corpus: Path, tmp_path: Path) -> None:
    (corpus / ".hidden.txt").write_text("A hidden note.")
    (corpus / ".cache").mkdir()
    (corpus / ".cache" / "note.txt").write_text("A cached note.")
    (corpus / "data.json").write_text('{"title": "A note in JSON"}')
    report = update(corpus, tmp_path / "ix", exclude=("*.mp3", "photos/t*", "texts/zh/"))
    assert (report.indexed, report.ignored) == (6, 1)
    kept = {name for name, _ in vectors(tmp_path / "ix")}
    assert kept == {*FILES} - {"sounds/fiddle.mp3", "photos/tabby.jpg", "texts/zh/lute.txt"}
    report = update(corpus, tmp_path / "ix", include=("*.json",))
    assert (report.indexed, report.unchanged, report.ignored) == (1, 6, 0)


def test_the_index_itself_is_no_corpus(corpus: Path) -> None:
    update(corpus, corpus / "ix")
    report = update(corpus, corpus / "ix")
    assert (report.indexed, report.unchanged, report.ignored) == (0, 9, 0)


def test_names_of_any_bytes_are_found_and_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    raw = os.fsencode(folder) + b"/caf\xe9\n\xff.txt"
    try:
        with open(raw, "w") as f:  # noqa: PTH123 - the name is bytes
            f.write("A brass band plays in the park.")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    index = mmsearch.index(folder, tmp_path / "ix")
    (hit,) = index.search("music outdoors")
    assert os.fsencode(hit.path or "") == raw
    assert mmsearch.index(folder, tmp_path / "ix").get(hit.id) is not None


def test_long_sounds_and_texts_become_several_parts(corpus: Path, tmp_path: Path) -> None:
    (corpus / "long.txt").write_text(
        "\n\n".join(f"Chapter {n}. " + "The sea was calm that morning. " * 20 for n in range(9))
    )
    index = mmsearch.index(corpus, tmp_path / "ix")
    hits = [h for h in index.search("fiddle", k=100, to="audio") if "fiddle" in str(h.path)]
    spans = sorted((h.start_s, h.end_s) for h in hits)
    assert len(spans) >= 3 and spans[0][0] == 0
    assert all(0 < (b or 0) - (a or 0) <= 10.5 for a, b in spans)
    parts = [h for h in index.search("the sea", k=100, to="text") if "long" in str(h.path)]
    assert len(parts) >= 4 and len({h.text for h in parts}) == len(parts)
    assert index.get(parts[0].id) is not None


def test_search_batch_answers_as_search_does(corpus: Path, tmp_path: Path) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    texts = ["a cat", "coffee", "雨声", "two dogs"]
    together = index.search_batch(texts, to="image", k=3)
    for text, results in zip(texts, together, strict=True):
        alone = index.search(text, to="image", k=3)
        assert [(h.id, h.score) for h in results] == [(h.id, h.score) for h in alone]
        assert results.query.text == text
    assert index.search_batch([]) == []


def test_scores_are_the_cosines_of_the_stored_vectors(corpus: Path, tmp_path: Path) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    space = mmsearch.load_space("mini")
    q = space.encode_document(["a cup of coffee"])[0]
    stored = {k: np.frombuffer(v, np.float16) for k, v in vectors(tmp_path / "ix").items()}
    truth = sorted(((float(v.astype(np.float32) @ q), k) for k, v in stored.items()), reverse=True)
    hits = index.search("a cup of coffee", k=len(stored))
    np.testing.assert_allclose([h.score for h in hits], [s for s, _ in truth], atol=1e-5)
    again = index.search(vector=q * 7, k=len(stored))
    assert [h.id for h in again] == [h.id for h in hits]


@pytest.mark.slow
def test_ivfpq_when_asked_for_finds_what_exact_search_finds(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    words = "sea hill road train river dog bird song rain stone lamp boat field".split()
    for n in range(900):
        a, b, c = words[n % 13], words[n // 13 % 13], words[n // 169 % 13]
        (folder / f"{n}.txt").write_text(f"The {a} and the {b} by the {c}, number {n}.")
    run([folder], tmp_path / "ix", None, Options(ann="ivfpq"))
    index = mmsearch.open(tmp_path / "ix")
    assert index.snapshot.manifest.ann is not None
    queries = [f"a {a} near a {b}" for a in words for b in words[:3]]
    found = index.search_batch(queries)
    run([folder], tmp_path / "ix", None, Options(ann="flat"))
    assert index.refresh() and index.snapshot.manifest.ann is None
    exact = index.search_batch(queries)
    pairs = zip(found, exact, strict=True)
    recall = np.mean([len({h.id for h in a} & {h.id for h in b}) / 10 for a, b in pairs])
    assert recall >= 0.95
    assert verify(tmp_path / "ix") == []


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        ({}, mmsearch.UsageError, "exactly one"),
        ({"text": "a", "vector": [1.0]}, mmsearch.UsageError, "exactly one"),
        ({"text": "a", "k": 0}, mmsearch.UsageError, "not 0"),
        ({"text": "a", "k": 10**9}, mmsearch.UsageError, "1 to 10,000"),
        ({"text": "a" * 10**6}, mmsearch.LimitExceeded, "1,000,000 characters"),
        ({"text": "a", "to": "video"}, mmsearch.UsageError, "not 'video'"),
        ({"vector": np.ones(3)}, mmsearch.DimensionMismatch, "(3,)"),
        ({"vector": np.zeros(512)}, mmsearch.UsageError, "no direction"),
        ({"image": "nowhere.png"}, mmsearch.DecodeError, "nowhere.png"),
        ({"image": np.zeros((5, 5, 3), np.uint8)}, mmsearch.UsageError, "not ndarray"),
        ({"image": 7}, mmsearch.UsageError, "not int"),
        ({"audio": np.zeros(100)}, mmsearch.UsageError, "not ndarray"),
        ({"audio": (np.zeros(100), 0)}, mmsearch.UsageError, "got 0 for the rate"),
        ({"audio": (np.zeros(100), "x")}, mmsearch.UsageError, "got 'x' for the rate"),
        ({"audio": (np.zeros(100), 16000, 1)}, mmsearch.UsageError, "got 3 things"),
        ({"audio": (np.zeros(0), 16000)}, mmsearch.DecodeError, "no sound"),
    ],
)
def test_a_wrong_question_says_what_is_wrong(
    tmp_path: Path, ask: dict[str, object], error: type[Exception], words: str
) -> None:
    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        index.search(**ask)  # type: ignore[arg-type]


@pytest.mark.slow
def test_many_threads_read_while_the_index_changes(corpus: Path, tmp_path: Path) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    wrong: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                if names(index.search("a cup of coffee", to="image", k=1)) != ["coffee.jpg"]:
                    wrong.append("another answer")
                index.refresh()
            except Exception as e:
                wrong.append(e)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    writer = mmsearch.open(tmp_path / "ix")
    for n in range(6):
        writer.add([{"text": f"note {n}"}], ids=[f"n{n}"])
        writer.delete(f"n{n - 1}")
    stop.set()
    for t in threads:
        t.join()
    assert wrong == []
    assert index.get("n5") is not None and index.get("n4") is None


def test_a_script_without_a_main_guard_can_index(corpus: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import mmsearch\nprint(len(mmsearch.index({str(corpus)!r}, {str(tmp_path / 'ix')!r})))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100
    )
    assert int(done.stdout) >= 9, done.stderr


def test_nothing_is_made_for_a_source_that_is_not_there(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(mmsearch.UsageError, match="no file or folder"):
        mmsearch.index(tmp_path / "typo", tmp_path / "ix")
    assert not (tmp_path / "ix").exists()
    update(corpus, tmp_path / "ix")
    with pytest.raises(mmsearch.UsageError, match="no file or folder"):
        update(corpus / "typo", tmp_path / "ix")


def test_a_link_never_leads_out_of_the_folder_or_in_a_circle(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("This lies above the corpus.")
    (corpus / "up").symlink_to(tmp_path, target_is_directory=True)
    (corpus / "circle").symlink_to(corpus, target_is_directory=True)
    (corpus / "a-link").symlink_to(corpus / "photos", target_is_directory=True)
    report = update(corpus, tmp_path / "ix")
    assert report.indexed == 9
    assert {name for name, _ in vectors(tmp_path / "ix")} == set(FILES)


def test_a_file_from_before_all_calendars_is_indexed(corpus: Path, tmp_path: Path) -> None:
    old = -11_644_473_600  # a zero FILETIME: 1601-01-01
    try:
        os.utime(corpus / FILES[0], (old, old))
    except (OSError, OverflowError):
        pytest.skip("this file system has no such time")
    assert update(corpus, tmp_path / "ix").indexed == 9
    settle()
    assert update(corpus, tmp_path / "ix").unchanged == 9


def test_included_texts_stay_included(corpus: Path, tmp_path: Path) -> None:
    notes = corpus / "data" / "note.json"
    notes.parent.mkdir()
    notes.write_text('{"note": "the harbour at dawn"}')
    settle()
    assert update(corpus, tmp_path / "ix").ignored == 1
    assert update(corpus, tmp_path / "ix", include=("data/*.json",)).indexed == 1
    notes.write_text('{"note": "the harbour at dusk, later"}')
    settle()
    report = update(corpus, tmp_path / "ix")
    assert (report.indexed, report.ignored) == (1, 0)


def long_sound(folder: Path) -> None:
    """25 windows, 22 MB."""
    import soundfile

    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, 44_100 * 250).astype(np.float32)
    noise *= np.abs(np.sin(np.arange(len(noise)) / 300_000))
    soundfile.write(folder / "long.wav", noise, 44_100)


def long_text(folder: Path) -> None:
    """Some 90 passages."""
    words = " ".join(f"word {i} of a tale" for i in range(3000))
    (folder / "long.txt").write_text(words)


def test_only_of_files_as_long_as_a_known_one_the_content_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soundfile

    from mmsearch.indexer.running import Run

    asked: list[str] = []
    accept = Run._accept

    def asking(self: Run, task: Any, content: bytes) -> bool:
        asked.append(task.item.path)
        return accept(self, task, content)

    monkeypatch.setattr(Run, "_accept", asking)
    folder, where = tmp_path / "files", tmp_path / "ix"
    folder.mkdir()
    soundfile.write(folder / "large.wav", np.zeros((192_000 * 12, 2), np.float32), 192_000)  # 9 MB
    (folder / "a.txt").write_text("A tale.")
    settle()
    assert update(folder, where).indexed == 2 and not asked
    (folder / "b.txt").write_text("A song.")
    (folder / "large.wav").rename(folder / "moved.wav")
    settle()
    report = update(folder, where)
    assert (report.indexed, report.moved) == (1, 1)
    assert sorted(asked) == ["b.txt", "moved.wav"]


@pytest.mark.parametrize("write", [pytest.param(long_sound, marks=pytest.mark.slow), long_text])
def test_a_long_file_resumes_where_its_last_commit_ended(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    from mmsearch.indexer import running as module

    folder, where = tmp_path / "files", tmp_path / "ix"
    folder.mkdir()
    write(folder)
    settle()

    class Stop(Exception):
        pass

    stops = [0]  # parts that were committed when a run was stopped
    original = module.Run._commit

    def stopping(self, final=False):  # type: ignore[no-untyped-def]
        original(self, final)
        held = self.writer.manifest.unfinished
        if held and not final and held[0].parts > stops[-1]:
            stops.append(held[0].parts)
            raise Stop

    module.Run._commit = stopping  # type: ignore[method-assign]
    try:
        for _ in range(8):
            try:
                update(folder, where, commit_s=0.01)
                break
            except Stop:
                continue
    finally:
        module.Run._commit = original  # type: ignore[method-assign]
    assert len(stops) >= 2 and stops == sorted(stops)
    assert manifest_of(where).unfinished == ()
    update(folder, tmp_path / "whole")
    assert vectors(where) == vectors(tmp_path / "whole")
    assert verify(where) == []


def manifest_of(where: Path):  # type: ignore[no-untyped-def]
    return Snapshot.open(where).manifest


def test_files_of_one_content_that_move_together_are_moved(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "here").mkdir(parents=True)
    for name in ("a", "b", "c"):
        (folder / "here" / f"{name}.txt").write_text("the same words")
    (folder / "other.txt").write_text("other words")
    run([folder], tmp_path / "ix")
    (folder / "here").rename(folder / "there")
    (folder / "there" / "d.txt").write_text("the same words")
    report = run([folder], tmp_path / "ix")
    assert (report.moved, report.removed, report.indexed, report.unchanged) == (3, 0, 1, 4)
    assert len(mmsearch.open(tmp_path / "ix")) == 5
