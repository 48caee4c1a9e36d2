"""The verbs of an application's own data: get, delete, update, list and count."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmsearch
from mmsearch.cli.app import app
from mmsearch.indexer.committing import committer_of
from mmsearch.store import PartRow, Snapshot, Writer
from mmsearch.store.firsts import first_rows, ids_at
from stored import SPACE, fill, row, unit

BOOK = "\n\n".join(f"Chapter {n}. " + "Owls hunt at night over the fields. " * 30 for n in range(3))


@pytest.fixture
def index(tmp_path: Path) -> mmsearch.Index:
    """An index of a book of several passages, a note and a picture."""
    from PIL import Image

    index = mmsearch.create(tmp_path / "ix")
    index.add(
        [
            {"text": BOOK},
            {"text": "a note about tea"},
            {"image": Image.new("RGB", (40, 30), "red")},
        ],
        ids=["book", "tea", "red"],
        meta=[{"shelf": 1}, {"shelf": 2, "by": "me"}, {"shelf": 2}],
    )
    assert len(index) > 4
    return index


# -- get ----------------------------------------------------------------------


def test_several_ids_are_got_in_the_order_given_with_none_for_what_is_not_there(
    index: mmsearch.Index,
) -> None:
    got = index.get(["tea", "nobody", "book#2", "tea", "\ud800", "book"])
    assert [None if hit is None else hit.id for hit in got] == [
        "tea", None, "book#2", "tea", None, "book",
    ]  # fmt: skip
    assert index.get([]) == []
    assert index.get(iter(["red"])) == [index.get("red")]


def test_what_was_replaced_is_got_as_it_is_now(index: mmsearch.Index) -> None:
    index.add([{"text": "a note about bread"}], ids=["tea"])
    note, red = index.get(["tea", "red"])
    assert note is not None and note.text == "a note about bread" and note.meta == {}
    assert red is not None and red.meta["shelf"] == 2


def test_a_hit_names_the_item_that_its_part_belongs_to(index: mmsearch.Index) -> None:
    hits = index.search("owls at night", k=50)
    assert {hit.item_id for hit in hits if hit.id.startswith("book")} == {"book"}
    part = index.get("book#1")
    assert part is not None and (part.id, part.item_id) == ("book#1", "book")
    assert part.to_json()["item_id"] == "book" and "vector" not in part.to_json()


def test_a_hit_carries_its_stored_vector_if_that_is_asked_for(index: mmsearch.Index) -> None:
    note, nobody = index.get(["tea", "nobody"], vectors=True)
    assert nobody is None and note is not None and note.vector is not None
    assert note.vector.dtype == np.float32 and note.vector.shape == (512,)
    encoded = mmsearch.load_space("mini").encode_document("a note about tea")
    assert np.array_equal(note.vector, encoded.astype(np.float16).astype(np.float32))
    assert index.search(vector=note.vector, k=1)[0].id == "tea"
    assert index.get("tea") == note and index.get("tea").vector is None  # type: ignore[union-attr]
    assert all(hit.vector is None for hit in index.search("tea"))


def test_a_stored_vector_knows_its_space(index: mmsearch.Index, tmp_path: Path) -> None:
    import tiny_space

    other = mmsearch.create(tmp_path / "other", tiny_space.write_space(tmp_path / "tiny"))
    note = index.get("tea", vectors=True)
    with pytest.raises(mmsearch.SpaceMismatch, match="the vectors are of mini"):
        other.search(vector=note.vector)  # type: ignore[union-attr]


# -- delete -------------------------------------------------------------------


def live_ids(index: mmsearch.Index) -> set[str]:
    """The items that a fresh reader sees."""
    return {hit.item_id for hit in mmsearch.open(index.path).search("a", k=100)}


def test_the_id_of_a_part_is_refused_and_nothing_is_deleted(index: mmsearch.Index) -> None:
    with pytest.raises(mmsearch.UsageError, match=r"'book#2' is part 2 of the item 'book'.*") as e:
        index.delete(["tea", "book#2"])
    assert "delete('book') or delete(hit.item_id)" in str(e.value)
    assert live_ids(index) == {"book", "tea", "red"}
    hit = next(h for h in index.search("owls", k=50) if h.id == "book#2")
    assert index.delete(hit.item_id) == 1
    assert live_ids(index) == {"tea", "red"}
    assert {h.item_id for h in index.search("owls at night")} == {"tea", "red"}
    assert index.verify() == []


def test_what_is_not_there_is_no_error_and_is_not_counted(index: mmsearch.Index) -> None:
    assert index.delete(["tea", "nobody", "tea", "\ud800", "#2"]) == 1
    assert index.delete([]) == 0 and index.delete("tea") == 0
    assert live_ids(index) == {"book", "red"}


def test_a_word_that_is_no_id_is_no_path_either(
    index: mmsearch.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "bread.txt").write_text("a note about bread")
    (tmp_path / "docs" / "salt.txt").write_text("a note about salt")
    index.sync(tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    assert index.delete("docs") == 0
    assert index.delete(paths="docs/salt.txt") == 1 and index.delete(paths=[]) == 0
    assert index.delete(paths=["nowhere", Path("docs")]) == 1
    assert live_ids(index) == {"book", "tea", "red"}


def test_a_condition_deletes_the_items_of_which_any_part_meets_it(index: mmsearch.Index) -> None:
    assert index.delete(where="text like 'Chapter 2%' or text like '%Chapter 2%'") == 1
    assert live_ids(index) == {"tea", "red"}
    assert index.delete(where="meta.shelf = 2 and modality = 'image'") == 1
    assert index.delete(where="meta.shelf = 7") == 0
    assert live_ids(index) == {"tea"}
    with pytest.raises(mmsearch.UsageError, match="filter"):
        index.delete(where="shelf = ")
    assert index.delete(where="true") == 1 and len(index) == 0
    assert index.verify() == []


def test_a_condition_sees_what_was_added_before_in_the_same_turn(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    index.add([{"text": "a note"}], ids=["old"], meta=[{"n": 1}])
    committer, first, go = committer_of(index.path), threading.Event(), threading.Event()

    def slow(writer: Writer) -> tuple[None, set[str]]:
        first.set()
        go.wait(30)
        return None, set()

    with ThreadPoolExecutor(3) as threads:
        one = threads.submit(committer.put, slow, index.space)
        first.wait(30)
        add = threads.submit(
            index.add, [{"text": "a"}, {"text": "b"}], ["old", "new"], [{"n": 2}, {"n": 2}]
        )
        while len(committer._waiting) < 1:
            pass
        delete = threads.submit(index.delete, where="meta.n = 2")
        while len(committer._waiting) < 2:
            pass
        go.set()
        one.result(), add.result()
        assert delete.result() == 2
    assert len(mmsearch.open(index.path)) == 0


def test_of_an_item_in_pieces_every_piece_is_found_and_counted_once(tmp_path: Path) -> None:
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.root("/pictures")
        for parts in ([(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 2), (1, 2), (2, 0)]):
            writer.extend((row(n, part), unit(10 * n + part)) for n, part in parts)
            writer.commit()
        writer.compact(whole=True)
    (segment,) = Snapshot.open(tmp_path / "ix").segments
    ids = [segment.row(n).id for n in range(7)]
    assert ids == ["item0", "item0#1", "item1", "item1#1", "item0#2", "item1#2", "item2"]
    for met, items in (
        ([], []),
        ([1], ["item0"]),
        ([4], ["item0"]),  # would be the third of item1, were it not of item0
        ([0, 4, 5], ["item0", "item1"]),
        ([0, 1, 2, 3, 4, 5, 6], ["item0", "item1", "item2"]),
    ):
        rows, apart = first_rows(segment, np.isin(np.arange(7), met))
        assert sorted({*ids_at(segment, rows)} | apart) == items
    assert list(ids_at(segment, first_rows(segment)[0])) == ["item0", "item1", "item2"]


def test_the_command_deletes_by_condition_or_by_name_and_not_by_both(
    index: mmsearch.Index,
) -> None:
    def delete(*args: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["delete", *args, "--index", str(index.path)])
        return done.exit_code, done.stdout, done.stderr

    assert delete("--where", "meta.by = 'me'") == (0, "deleted 1\n", "")
    assert delete("--where", "meta.by = 'me'", "--json") == (0, '{"schema": 1, "deleted": 0}\n', "")
    code, _, said = delete("book#1", "red")
    assert code == 2 and "'book#1' is part 1 of the item 'book'. Give the id of the item" in said
    for both in ((), ("red", "--where", "true")):
        code, _, said = delete(*both)
        assert code == 2 and "but not both" in said
    assert delete("red") == (0, "deleted 1\n", "")
    assert live_ids(index) == {"book"}


# -- update -------------------------------------------------------------------


def rows_of(index: mmsearch.Index, item: str) -> list[tuple[PartRow, bytes]]:
    """All that is stored of an item, and its vectors."""
    found = []
    for segment in Snapshot.open(index.path).segments:
        for number in np.flatnonzero(segment.live).tolist():
            if (one := segment.row(number)).item_id == item:
                found.append((one, segment.stored([number]).tobytes()))
    return found


def test_update_merges_metadata_into_every_part_and_leaves_the_rest(index: mmsearch.Index) -> None:
    before = {item: rows_of(index, item) for item in ("book", "tea", "red")}
    assert len(before["book"]) > 2
    index.update("book", {"by": {"name": "me"}, "shelf": 3})
    index.update(["tea", "red"], [{"by": None, "nothing": None, "tags": ["x"]}, {}])
    hits = index.get(["book", "book#2", "tea", "red"])
    assert [hit and hit.meta for hit in hits] == [
        {"shelf": 3, "by": {"name": "me"}},
        {"shelf": 3, "by": {"name": "me"}},
        {"shelf": 2, "tags": ["x"]},
        before["red"][0][0].meta,
    ]
    for item, rows in before.items():
        after = rows_of(index, item)
        assert [vector for _, vector in after] == [vector for _, vector in rows]
        assert [replace(one, meta={}) for one, _ in after] == [
            replace(one, meta={}) for one, _ in rows
        ]
    assert {h.item_id for h in index.search("a", where="meta.shelf = 3")} == {"book"}
    assert index.verify() == []


def test_update_loads_no_model(index: mmsearch.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = mmsearch.open(index.path)
    monkeypatch.setattr("mmsearch.searcher.searcher.encoder_of", None)
    fresh.update("tea", {"by": "you"})
    fresh.delete("red")
    assert fresh.get("tea").meta["by"] == "you"  # type: ignore[union-attr]


def test_an_id_that_nothing_has_is_named_and_nothing_is_changed(index: mmsearch.Index) -> None:
    with pytest.raises(mmsearch.UsageError, match="no item has the id 'nobody', 'no one'"):
        index.update(["tea", "nobody", "no one"], [{"by": "x"}] * 3)
    with pytest.raises(mmsearch.UsageError, match=r"update\('book'\) or update\(hit.item_id\)"):
        index.update("book#1", {"by": "x"})
    with pytest.raises(mmsearch.UsageError, match="given twice"):
        index.update(["tea", "tea"], [{"by": "x"}, {"by": "y"}])
    with pytest.raises(mmsearch.UsageError, match="one for each item, 1 in all; got 2"):
        index.update(["tea"], [{"by": "x"}, {"by": "y"}])
    assert index.get("tea").meta == {"shelf": 2, "by": "me"}  # type: ignore[union-attr]


def test_what_a_decoder_said_of_an_item_cannot_be_shadowed(
    index: mmsearch.Index, samples: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text("<title>Owls</title><p>Owls hunt at night.</p>")
    photo = samples / "photos/coffee.jpg"
    for thing, key in ((photo, "width"), (photo, "format"), (page, "title")):
        with pytest.raises(mmsearch.UsageError, match=f"meta of 'x': '{key}' was read out of"):
            index.add([thing], ids=["x"], meta=[{key: 1}])
        with pytest.raises(mmsearch.UsageError, match=f"{thing.name}': '{key}' was read out of"):
            index.add([thing], meta=[{key: 1}])
    assert live_ids(index) == {"book", "tea", "red"}
    index.add([photo, page], ids=["cup", "page"], meta=[{"title": "A cup"}, {"author": "me"}])
    for item, key in (("cup", "width"), ("page", "title")):
        for value in (1, None):
            with pytest.raises(mmsearch.UsageError, match=f"meta of '{item}': '{key}' was read"):
                index.update(item, {key: value, "fine": 1})
    cup = index.get("cup")
    assert cup is not None and cup.meta["width"] > 1 and "fine" not in cup.meta


def test_what_no_decoder_said_of_an_item_is_the_applications(
    index: mmsearch.Index, samples: Path
) -> None:
    index.add([samples / "photos/coffee.jpg"], ids=["cup"], meta=[{"title": "A cup", "by": 1}])
    index.update("cup", {"taken": "1960-05-01T12:00:00"})
    index.update("cup", {"taken": "1961-05-01T12:00:00", "title": "Another cup"})
    cup = index.get("cup")
    assert cup is not None and set(cup.meta) == {
        "width", "height", "format", "title", "by", "taken",
    }  # fmt: skip
    assert (cup.meta["taken"], cup.meta["title"]) == ("1961-05-01T12:00:00", "Another cup")
    assert [h.id for h in index.search("tea", where="taken < '1962-01-01'")] == ["cup"]
    index.update("cup", {"taken": None, "title": None})
    assert set(index.get("cup").meta) == {"width", "height", "format", "by"}  # type: ignore[union-attr]
    index.update("tea", {"title": "Tea", "width": 3})  # a text has none of its own
    index.update("tea", {"title": "More tea"})
    assert index.get("tea").meta["title"] == "More tea"  # type: ignore[union-attr]
    with pytest.raises(mmsearch.UsageError, match="for itself"):
        index.update("tea", {"mmsearch.own": []})


def test_updates_of_many_threads_all_come_in(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    index.add([{"text": f"note {n}"} for n in range(4)], ids=list("abcd"))
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda n: index.update(list("abcd")[n % 4], {f"k{n}": n}),
                range(32),
            )
        )
    got = index.get(list("abcd"))
    assert [hit and hit.meta for hit in got] == [
        {f"k{n}": n for n in range(32) if n % 4 == i} for i in range(4)
    ]
    assert index.verify() == []


# -- add ----------------------------------------------------------------------


def test_an_id_that_is_there_is_replaced_refused_or_left(
    index: mmsearch.Index, samples: Path
) -> None:
    cup = samples / "photos/coffee.jpg"
    (file_id,) = index.add([cup])
    new = [{"text": "bread"}, {"text": "salt"}, cup]
    before = mmsearch.open(index.path).snapshot.manifest
    with pytest.raises(mmsearch.UsageError, match="there already: 'tea', 'red'"):
        index.add([{"text": "a"}] * 3, ids=["tea", "salt", "red"], on_conflict="error")
    with pytest.raises(mmsearch.UsageError, match=r"there already: '/.*coffee.jpg'"):
        index.add(["README.md", cup], on_conflict="error")
    assert mmsearch.open(index.path).snapshot.manifest == before
    added = index.add(new[:2], ids=["tea", "salt"], on_conflict="skip")
    assert added == ["tea", "salt"]
    assert [hit and hit.text for hit in index.get(added)] == ["a note about tea", "salt"]
    assert index.add([cup], meta=[{"by": "me"}], on_conflict="skip") == [file_id]
    assert "by" not in index.get(file_id).meta  # type: ignore[union-attr]
    index.add(new[:1], ids=["tea"], on_conflict="replace")
    assert index.get("tea").text == "bread"  # type: ignore[union-attr]
    with pytest.raises(mmsearch.UsageError, match="replace, error, skip; not 'ignore'"):
        index.add(new, on_conflict="ignore")


def test_what_is_there_is_not_encoded_to_be_left(
    index: mmsearch.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsearch.indexer.add._from_object", None)
    assert index.add([{"text": "bread"}], ids=["tea"], on_conflict="skip") == ["tea"]


@pytest.mark.parametrize("on_conflict", ["error", "skip"])
def test_of_two_that_add_one_id_at_once_one_wins(tmp_path: Path, on_conflict: str) -> None:
    index = mmsearch.create(tmp_path / "ix")
    committer, first, go = committer_of(index.path), threading.Event(), threading.Event()

    def slow(writer: Writer) -> tuple[None, set[str]]:
        first.set()
        go.wait(30)
        return None, set()

    def add(n: int) -> str:
        try:
            index.add([{"text": f"note {n}"}], ids=["a"], on_conflict=on_conflict)
        except mmsearch.UsageError as e:
            return str(e)
        return f"note {n}"

    with ThreadPoolExecutor(3) as threads:
        one = threads.submit(committer.put, slow, None)
        first.wait(30)
        both = [threads.submit(add, n) for n in range(2)]  # neither knows of the other
        while len(committer._waiting) < 2:
            pass
        go.set()
        one.result()
        told = [each.result() for each in both]
    text = index.get("a").text  # type: ignore[union-attr]
    assert text in told and len(index) == 1
    lost = next(one for one in told if one != text)
    assert (lost == "there already: 'a'. Nothing was added.") == (on_conflict == "error")


def test_vectors_of_ones_own_are_stored_scaled_and_no_model_is_loaded(
    index: mmsearch.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsearch.searcher.searcher.encoder_of", None)
    fresh = mmsearch.open(index.path)
    xb = np.random.default_rng(1).standard_normal((3, 512)) * [[1], [50], [0.02]]
    kept = xb.copy()
    text = "kept as it is, " * 500
    ids = fresh.add(
        [{"text": text}, {"modality": "image"}, {"modality": "audio"}],
        ids=["t", "i", "a"],
        meta=[{"n": 1}, {"width": 3}, {}],
        vectors=xb,
    )
    assert ids == ["t", "i", "a"] and np.array_equal(xb, kept)
    hits = fresh.get(ids, vectors=True)
    assert [hit and (hit.modality, hit.text, hit.path) for hit in hits] == [
        ("text", text, None), ("image", None, None), ("audio", None, None),
    ]  # fmt: skip
    unit = xb / np.linalg.norm(xb, axis=1, keepdims=True)
    assert np.allclose([hit.vector for hit in hits if hit], unit, atol=1e-3)
    for i, one in enumerate(ids):
        (hit,) = fresh.search(vector=xb[i], k=1)
        assert hit.id == one and hit.score == pytest.approx(1, abs=1e-3)
    fresh.update("i", {"width": 4})  # no decoder said so
    assert [h.id for h in fresh.search(vector=xb[1], where="width = 4")] == ["i"]
    fresh.add([{"modality": "image"}], ids=["i"], vectors=xb[:1], on_conflict="skip")
    assert fresh.search(vector=xb[1], k=1)[0].id == "i"
    same = fresh.add([{"text": "x"}, {"modality": "text"}], vectors=xb[:2])
    assert fresh.add([{"text": "x"}, {"modality": "text"}], vectors=xb[:2]) == same
    assert fresh.verify() == []


def test_vectors_that_do_not_fit_are_refused(index: mmsearch.Index, tmp_path: Path) -> None:
    import tiny_space

    one = [{"modality": "image"}]
    with pytest.raises(mmsearch.DimensionMismatch, match=r"\(1, 5\); mini wants \(n, 512\)"):
        index.add(one, vectors=np.ones((1, 5)))
    with pytest.raises(mmsearch.UsageError, match="one for each item, 1 in all; got 2"):
        index.add(one, vectors=np.ones((2, 512)))
    with pytest.raises(mmsearch.UsageError, match=r"vectors\[0\] has no direction"):
        index.add(one, vectors=np.zeros((1, 512)))
    for odd in ("a.jpg", {}, {"image": "a.jpg"}, {"modality": "smell"}, {"text": 1}):
        with pytest.raises(mmsearch.UsageError, match="cannot be added with a vector"):
            index.add([odd], vectors=np.ones((1, 512)))
    with pytest.raises(mmsearch.LimitExceeded, match="at most 1,048,576"):
        index.add([{"text": "x" * (1 << 20 | 1)}], vectors=np.ones((1, 512)))
    space = mmsearch.load_space(tiny_space.write_space(tmp_path / "tiny"))
    with pytest.raises(mmsearch.SpaceMismatch, match="the vectors are of"):
        index.add([{"text": "red"}], vectors=space.encode_document(["red"]))
    assert live_ids(index) == {"book", "tea", "red"}


# -- list and count -----------------------------------------------------------


def pages(index: mmsearch.Index, limit: int, where: str | None = None) -> list[list[str]]:
    """The ids on each page, to the last."""
    found, after = [], None
    while True:
        page = index.list(where, limit=limit, after=after)
        found.append([hit.id for hit in page])
        if (after := page.cursor) is None:
            return found


def test_items_are_listed_by_id_page_by_page(index: mmsearch.Index) -> None:
    assert pages(index, 10) == [["book", "red", "tea"]]
    assert pages(index, 3) == [["book", "red", "tea"]]
    assert pages(index, 2) == [["book", "red"], ["tea"]]
    assert pages(index, 1) == [["book"], ["red"], ["tea"]]
    assert index.list()[0] == index.get("book")
    assert list(index.list(after="tea")) == [] and index.list(after="tea").cursor is None
    assert [hit.id for hit in index.list(after="c")] == ["red", "tea"]
    assert list(mmsearch.create(index.path.parent / "empty").list()) == []


def test_an_item_is_listed_and_counted_once_if_any_part_meets_the_condition(
    index: mmsearch.Index,
) -> None:
    for where, items in (
        (None, ["book", "red", "tea"]),
        ("true", ["book", "red", "tea"]),
        ("text like '%Owls%'", ["book"]),
        ("id = 'book#2'", ["book"]),
        ("meta.shelf = 2", ["red", "tea"]),
        ("id = 'book#1' or modality = 'image'", ["book", "red"]),
        ("meta.shelf = 9", []),
    ):
        assert [hit.id for hit in index.list(where)] == items
        assert index.count(where) == len(items)
    assert index.count() == 3 < len(index)
    index.delete("book")
    assert index.count() == 2 and index.count("text like '%Owls%'") == 0


def test_a_cursor_holds_while_items_come_go_and_move(index: mmsearch.Index) -> None:
    page = index.list(limit=2)
    assert page.cursor == "red"
    index.add([{"text": "a"}, {"text": "b"}], ids=["aaa", "zzz"])
    index.delete("red")
    index.update("book", {"shelf": 5})  # is written anew, behind all others
    index.compact()
    assert [hit.id for hit in index.list(after=page.cursor)] == ["tea", "zzz"]


def test_pages_of_many_items_in_many_segments_are_those_of_one_sorted_list(tmp_path: Path) -> None:
    numbers = np.random.default_rng(4).permutation(9000)
    fill(tmp_path / "ix", range(0), *[numbers[a : a + 1500].tolist() for a in range(0, 9000, 1500)])
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.drop(*(f"item{n}" for n in range(0, 9000, 7)))
        writer.commit()
    index = mmsearch.open(tmp_path / "ix")
    assert len(index.snapshot.segments) > 3
    expected = sorted(f"item{n}" for n in range(9000) if n % 7)
    got = pages(index, 1000)
    assert [len(page) for page in got] == [1000] * 7 + [len(expected) - 7000]
    assert [one for page in got for one in page] == expected
    some = sorted(f"item{n}" for n in range(4000, 9000) if n % 7)
    assert [one for page in pages(index, 700, "meta.n >= 4000") for one in page] == some
    assert (index.count(), index.count("meta.n >= 4000")) == (len(expected), len(some))


def test_an_item_in_pieces_is_listed_and_counted_once(tmp_path: Path) -> None:
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.root("/pictures")
        for parts in ([(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 2), (1, 2), (2, 0)]):
            writer.extend((row(n, part), unit(10 * n + part)) for n, part in parts)
            writer.commit()
    index = mmsearch.open(tmp_path / "ix")
    for segments in (2, 1):
        assert len(index.snapshot.segments) == segments
        for where, items in (
            ("id = 'item0#2'", ["item0"]),
            ("id = 'item0#2' or id = 'item0#1'", ["item0"]),
            ("id = 'item0' or id = 'item1#2'", ["item0", "item1"]),
            ("true", ["item0", "item1", "item2"]),
        ):
            assert pages(index, 1, where) == [[one] for one in items]
            assert index.count(where) == len(items)
        with Writer(tmp_path / "ix", SPACE) as writer:
            writer.compact(whole=True)
        index.refresh()


# -- batches of pictures and sounds -------------------------------------------


def test_a_batch_of_pictures_or_sounds_finds_what_each_finds_alone(
    corpus: Path, tmp_path: Path
) -> None:
    from PIL import Image

    index = mmsearch.index(corpus, tmp_path / "ix")
    paths = sorted((corpus / "photos").iterdir())
    given = [paths[0], paths[1].read_bytes(), Image.open(paths[2]), str(paths[3])]
    found = index.search_batch(images=iter(given), to="text", k=2)
    alone = [index.search(image=one, to="text", k=2) for one in given]
    assert found.ids() == [[hit.id for hit in one] for one in alone]
    assert np.allclose(found.scores, [[hit.score for hit in one] for one in alone], atol=1e-5)
    asked = [one.query.to_json()["image"] for one in found]
    assert asked[:2] == [str(paths[0]), "<bytes>"] and asked[3] == str(paths[3])
    assert found[1:3].ids() == found.ids()[1:3] and found[1].query.k == 2
    tone = np.sin(np.arange(16_000 * 25) * 0.2).astype(np.float32)  # of several windows
    sounds = [next((corpus / "sounds").iterdir()), (tone, 16_000)]
    heard = index.search_batch(audio=sounds, k=4, where="modality = 'audio'")
    assert heard.ids() == [
        [hit.id for hit in index.search(audio=one, k=4, where="modality = 'audio'")]
        for one in sounds
    ]
    assert [one.query.to_json()["audio"] for one in heard] == [str(sounds[0]), "<tuple>"]


def test_of_a_batch_of_pictures_the_one_that_cannot_be_read_is_named(
    index: mmsearch.Index, samples: Path
) -> None:
    cup = samples / "photos/coffee.jpg"
    with pytest.raises(mmsearch.DecodeError, match=r"images\[1\]: .*bark.ogg: is a sound"):
        index.search_batch(images=[cup, samples / "sounds/bark.ogg"])
    with pytest.raises(mmsearch.UsageError, match=r"images\[0\]: there is none"):
        index.search_batch(images=[None])
    with pytest.raises(mmsearch.UsageError, match=r"exactly one of texts, images.*; got 2"):
        index.search_batch(["a"], images=[cup])
    assert index.search_batch(images=[]).ids() == []
    empty = mmsearch.create(index.path.parent / "empty")
    assert empty.search_batch(images=[cup]).ids() == [[]]
