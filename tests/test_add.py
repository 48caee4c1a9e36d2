"""What an application puts into an index and takes out of it: `add`, `delete`, `get`."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from corpora import settle, update
from mmsearch.indexer import delete_named
from mmsearch.store import Writer, verify
from mmsearch.store.files import writing_to


def test_things_can_be_added_replaced_and_deleted_by_id(tmp_path: Path, samples: Path) -> None:
    from PIL import Image

    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    assert len(index) == 0 and list(index.search("anything")) == []
    reader = mmsearch.open(tmp_path / "ix")
    tone = np.sin(np.arange(16000) * 0.2).astype(np.float32)
    ids = index.add(
        [{"text": "a note about tea"}, {"image": Image.new("RGB", (40, 30), "red")},
         {"audio": (tone, 16000)}, samples / "photos/coffee.jpg"],
        ids=["tea", "red", "tone", "cup"],
        meta=[{"author": 1}, {}, {"k": [2]}, {}],
    )  # fmt: skip
    assert ids == ["tea", "red", "tone", "cup"] and len(index) == 4
    assert len(reader) == 0 and reader.refresh() and len(reader) == 4
    hit = index.get("tea")
    assert hit is not None and hit.text == "a note about tea"
    assert hit.meta["author"] == 1 and hit.path is None
    assert index.get("cup").path == str(samples / "photos/coffee.jpg")  # type: ignore[union-attr]
    index.add([{"text": "a note about bread"}], ids=["tea"])
    assert len(index) == 4 and index.get("tea").text == "a note about bread"  # type: ignore[union-attr]
    assert index.delete("red") == 1 and index.get("red") is None
    assert index.delete(["tone", "nobody"]) == 1 and len(index) == 2
    assert index.delete(paths=samples / "photos/coffee.jpg") == 1
    assert verify(tmp_path / "ix") == []


def test_a_bad_item_in_add_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(mmsearch.DecodeError, match=r"bad\.jpg"):
        index.add([{"text": "fine"}, bad])
    with pytest.raises(mmsearch.UsageError, match="same id"):
        index.add([{"text": "a"}, {"text": "b"}], ids=["x", "x"])
    with pytest.raises(mmsearch.UsageError, match="one of the keys"):
        index.add([{"smell": "roses"}])
    assert len(index) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda ix: ix.get(5), "give a list of ids, not 5"),
        (lambda ix: ix.get(["a", 5]), "an id is a str, not 5"),
        (lambda ix: ix.get("a", vectors=1), "vectors is True or False, not 1"),
        (lambda ix: ix.delete(5), "give a list of ids, not 5"),
        (lambda ix: ix.delete([5]), "an id is a str, not 5"),
        (lambda ix: ix.delete(paths=[5]), "what is deleted is a path, not 5"),
        (lambda ix: ix.delete(where=5), "a filter is a str or a dict, not int"),
        (lambda ix: ix.delete(), "exactly one of ids, paths and where; got 0"),
        (lambda ix: ix.delete("a", where="true"), "exactly one of ids, paths and where; got 2"),
        (lambda ix: ix.delete("a", wait_s=-1), "a number of seconds, 0 or more; not -1"),
        (lambda ix: ix.add("a.jpg"), "not one alone"),
        (lambda ix: ix.add([{"text": "a"}], ids=["b", "c"]), "got 2"),
        (lambda ix: ix.search_batch("dog"), "not one alone"),
        (lambda ix: ix.search_batch(["dog", None]), "not NoneType"),
        (lambda ix: mmsearch.open(None), "a name or a path, not None"),
        (lambda ix: mmsearch.index(None, ix.path), "folders and files, not None"),
        (lambda ix: mmsearch.index([3], ix.path), "a source is a path, not 3"),
    ],
)
def test_an_argument_of_the_wrong_type_is_a_usage_error(
    tmp_path: Path, call: Callable[[mmsearch.Index], object], words: str
) -> None:
    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    with pytest.raises(mmsearch.UsageError, match=re.escape(words)):
        call(index)


def test_items_may_come_from_a_generator(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    index = mmsearch.index((p for p in [tmp_path / "none"]), tmp_path / "ix")
    index.add(({"text": f"note {n}"} for n in range(3)), ids=["a", "b", "c"])
    assert len(index) == 3 and index.get("c").text == "note 2"  # type: ignore[union-attr]


def test_what_an_application_added_is_not_touched_by_runs(corpus: Path, tmp_path: Path) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    cup = corpus / "photos/coffee.jpg"
    index.add([cup], ids=["cup"], meta=[{"mine": True}])
    os.utime(cup)
    settle()
    report = update(corpus, tmp_path / "ix")
    assert (report.indexed, report.unchanged, report.removed) == (0, 9, 0)
    index.refresh()
    hit = index.get("cup")
    assert hit is not None and hit.meta["mine"] is True and hit.path == str(cup)
    assert verify(tmp_path / "ix") == []
    shutil.rmtree(corpus / "photos")
    assert update(corpus, tmp_path / "ix").removed == 4
    assert mmsearch.open(tmp_path / "ix").get("cup") is not None


def test_a_word_that_is_an_id_is_deleted_as_that_alone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    index.add([{"text": "a note"}], ids=["photos"])
    monkeypatch.chdir(corpus)
    with pytest.raises(mmsearch.UsageError, match="empty name"):
        delete_named(index.path, [""])
    assert delete_named(index.path, ["photos"]) == (1, [])
    assert index.refresh() and index.get("photos") is None
    assert len([h for h in index.search("x", to="image", k=50)]) == 4
    assert delete_named(index.path, ["photos"]) == (4, [])
    assert index.refresh() and list(index.search("x", to="image", k=50)) == []
    part = next(h for h in index.search("fiddle", to="audio", k=50) if "#" in h.id)
    with pytest.raises(mmsearch.UsageError, match="Give the id of the item"):
        delete_named(index.path, ["texts", part.id])
    assert not index.refresh()  # nothing was deleted
    assert delete_named(index.path, [part.item_id, "nowhere"]) == (1, ["nowhere"])


@pytest.mark.parametrize(
    "more",
    [
        {"ids": ["a#1"]},
        {"ids": ["\udcff"]},
        {"ids": [""]},
        {"ids": [7]},
        {"meta": [{"x": float("nan")}]},
        {"meta": [{"x": object()}]},
        {"meta": [None]},
        {"meta": {"x": 1}},
    ],
)
def test_add_refuses_what_it_could_not_give_back(tmp_path: Path, more: dict[str, object]) -> None:
    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    with pytest.raises(mmsearch.UsageError):
        index.add([{"text": "a note"}], **more)  # type: ignore[arg-type]
    assert len(index) == 0


def test_an_id_in_the_form_of_a_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/note.txt").write_text("a note about tea")
    index = mmsearch.index(tmp_path / "docs", tmp_path / "ix")
    (hit,) = index.search("tea")
    with pytest.raises(mmsearch.UsageError, match="the form of a file's"):
        index.add([{"text": "a better note"}], ids=[hit.id])
    assert [h.text for h in index.search("tea")] == ["a note about tea"]
    again = mmsearch.index(tmp_path / "docs", tmp_path / "ix")
    assert len(again) == 1 and verify(tmp_path / "ix") == []


@pytest.mark.parametrize("meta", [{1: "a", "1": "b"}, {"a": [{None: 1}]}, {"a": {True: 1}}])
def test_a_key_of_meta_that_is_no_text_is_refused(
    tmp_path: Path, meta: dict[object, object]
) -> None:
    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    with pytest.raises(mmsearch.UsageError, match="a key is a str, not"):
        index.add([{"text": "a note"}], meta=[meta])  # type: ignore[list-item]
    assert len(index) == 0


def test_what_was_committed_is_no_failure_where_the_disk_has_no_room_to_tidy_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    index.add([{"text": "a note about tea"}], ids=["tea"])
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        # the segment of the second add is written; then the two are merged
        patch.setattr(Writer, "_merge", lambda self, names: _with_room_for(self, full))
        assert index.add([{"text": "a note about bread"}], ids=["bread"]) == ["bread"]
        assert index.delete("tea") == 1
    assert [hit.id for hit in index.search("a note")] == ["bread"]
    assert verify(tmp_path / "ix") == []
    index.add([{"text": "a note about salt"}], ids=["salt"])
    assert sorted(hit.id for hit in index.search("a note")) == ["bread", "salt"]
    assert len(index.snapshot.segments) == 1


def _with_room_for(writer: Writer, full: Callable[[], None]) -> None:
    with writing_to(writer.folder):
        full()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_picture_has_the_same_metadata_however_it_is_given(tmp_path: Path, kind: str) -> None:
    from PIL import Image

    picture = Image.effect_noise((60, 40), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0110] = "Camera 7"
    exif[0x0132] = "2019:05:01 10:11:12"
    exif[0x0112] = 6  # turned
    path = tmp_path / f"picture.{kind.lower()}"
    picture.save(path, kind, exif=exif)
    index = mmsearch.create(tmp_path / "ix")
    with Image.open(path) as opened:
        given = [path, {"image": path.read_bytes()}, opened, {"image": opened}, {"image": path}]
        index.add([*given, picture], ids=["path", "bytes", "pil", "dict", "file", "made"])
    meta = index.get("path").meta  # type: ignore[union-attr]
    assert meta == {
        "width": 40, "height": 60, "format": kind, "taken": "2019-05-01T10:11:12",
        "camera": "Camera 7",
    }  # fmt: skip
    for name in ("bytes", "pil", "dict", "file"):
        assert index.get(name).meta == meta, name  # type: ignore[union-attr]
    assert index.get("made").meta == {"width": 60, "height": 40}  # type: ignore[union-attr]
    with pytest.raises(mmsearch.UsageError, match="'taken' was read out of the item itself"):
        index.add([{"image": path.read_bytes()}], ids=["x"], meta=[{"taken": "2001-01-01"}])
