"""Filters that name what no part has: what is said of it, and which name may be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import command_line
from filter_parts import ALL, SPACE, TEXT, Q, fill, ids, part
from mmsearch import Index, UsageError
from mmsearch.filters import absent_keys, keys
from mmsearch.store import Writer


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(fill(tmp_path_factory.mktemp("filters") / "ix"))


@pytest.mark.parametrize(
    ("where", "name", "near"),
    [
        ("meta.Artist = 'x'", "meta.Artist", "meta.artist"),
        ("meta.ratng > 3", "meta.ratng", "meta.rating"),
        ("(meta->>'Rating') = '3' or true", "meta.Rating", "meta.rating"),
        ("meta.start_s > 3", "meta.start_s", "start_s"),
        ("meta.camera.Maker = 'x'", "meta.camera.Maker", "meta.camera.maker"),
        ("meta.camra.maker = 'x'", "meta.camra.maker", "meta.camera.maker"),
        ("meta.rating.stars = 3", "meta.rating.stars", "meta.rating"),
        ('meta."A/b~c" is null', 'meta."A/b~c"', 'meta."a/b~c"'),
        ("meta.quite_else = 1", "meta.quite_else", ""),
    ],
)
def test_a_key_that_no_part_has_is_named_with_the_nearest(
    index: Index, where: str, name: str, near: str
) -> None:
    index.search(vector=Q, where=where)  # and is no error: items to come may have it
    (told,) = absent_keys(index.snapshot, where)
    assert (told.name, told.near) == (name, near)
    assert near or "meta.rating" in told.others


def test_of_keys_that_any_part_has_nothing_is_said(index: Index) -> None:
    where = "meta.done or meta.camera.maker = 'x' or (meta->>'by') = 'y' or meta.artist = 'z'"
    assert absent_keys(index.snapshot, where) == []
    assert absent_keys(index.snapshot, "width > 3 and path is null") == []
    assert absent_keys(index.snapshot, "meta.x = 1 or meta.y = 1", [{"x": 1}])[0].name == "meta.y"


def test_a_key_of_a_removed_part_alone_is_absent(tmp_path: Path) -> None:
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.root("/x")
        for name in ("stays", "goes"):
            writer.extend([(part(name, TEXT, name, meta={name: None}), Q)])
        writer.commit()
        writer.drop("goes")
        writer.commit()
    snapshot = Index(tmp_path / "ix").snapshot
    assert absent_keys(snapshot, "meta.stays = 1") == []
    (told,) = absent_keys(snapshot, "meta.goes = 1")
    assert told == ("meta.goes", "", ["meta.stays"])


def test_an_empty_index_has_no_keys_to_miss(tmp_path: Path) -> None:
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.commit()
    assert absent_keys(Index(tmp_path / "ix").snapshot, "meta.x = 1") == []


def test_looking_for_a_name_has_limits(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    many = " or ".join(f"meta.k{n} = 1" for n in range(300))
    assert len(absent_keys(index.snapshot, many)) == keys.MAX_KEYS

    def too_much(*_: object) -> None:
        raise keys.LimitExceeded("too much")

    monkeypatch.setattr(keys, "_answers", too_much)
    assert absent_keys(index.snapshot, "meta.ratng = 1") == []
    with pytest.raises(UsageError, match="did you mean width"):
        index.search(vector=Q, where="widht > 1")


@pytest.mark.parametrize(
    ("where", "near"),
    [
        ("rating > 3", "meta.rating"),
        ("Ratng > 3", "meta.rating"),
        ("artits = 'x'", "artist"),
        ("camera.maker = 'x'", "meta.camera.maker"),
        ("camera.Maker = 'x'", "meta.camera.maker"),
        ("titel = 'x'", "title"),
    ],
)
def test_a_name_of_no_column_is_looked_for_among_columns_and_keys(
    index: Index, where: str, near: str
) -> None:
    with pytest.raises(UsageError, match=f"no such column; did you mean {near}\\?"):
        index.search(vector=Q, where=where)


def test_the_command_line_says_which_key_no_part_has(corpus: Path, tmp_path: Path) -> None:
    def ran(*args: str) -> command_line.Done:
        return command_line.mmsearch(*args, "--index", str(tmp_path / "ix"), home=tmp_path)

    assert ran("index", str(corpus)).returncode == 0
    done = ran("query", "dogs", "--where", "meta.Format = 'x'")
    assert done.returncode == 0
    assert done.stdout == "no part in the index meets the filter: meta.Format = 'x'\n"
    assert done.stderr == (
        "mmsearch: no part in the index has meta.Format; did you mean meta.format?\n"
    )
    done = ran("query", "dogs", "--where", "meta.qqq is null", "--json")
    assert len(json.loads(done.stdout)["hits"]) == 10
    assert done.stderr.startswith("mmsearch: no part in the index has meta.qqq. There are meta.")
    assert not ran("query", "dogs", "--where", "meta.format is null").stderr


def test_a_condition_with_an_absent_key_leaves_what_it_did(index: Index) -> None:
    assert ids(index, "meta.nothing is null") == ALL
    assert ids(index, "meta.nothing = 1") == set()
