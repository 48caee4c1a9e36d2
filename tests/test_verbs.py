"""The verbs of an application's own data: get, delete, update, list and count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mmsearch

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
