"""Values that are given to a filter: they are compared, and never read as a part of it."""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import command_line
from filter_parts import ALL, IMAGE, SONG, SPACE, TEXT, TEXTS, Q, fill, part
from mmsearch import Index, LimitExceeded, UsageError
from mmsearch.cli.param import param_of
from mmsearch.filters import absent_keys, columns, engine, filter_of, matching, values
from mmsearch.store import PartRow, Writer


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other work must not fail a test of something else."""
    monkeypatch.setattr(columns, "MAX_FILTER_S", 900.0)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(fill(tmp_path_factory.mktemp("params") / "ix"))


def made(folder: Path, rows: list[PartRow]) -> Index:
    """An index of some parts, all of one vector."""
    with Writer(folder, SPACE) as writer:
        writer.root("/x")
        writer.extend([(row, Q) for row in rows])
        writer.commit()
    return Index(folder)


def found(index: Index, where: Any, *params: Any, to: str | None = None) -> set[str]:
    given = list(params) if params else None
    return {hit.id for hit in index.search(vector=Q, where=where, params=given, to=to, k=1000)}


class Brand(str, Enum):  # noqa: UP042 - as many still write it
    ME = "me"


class Stars(IntEnum):
    FOUR = 4


@pytest.mark.parametrize(
    ("where", "params", "expected"),
    [
        ("id = ?", ["note"], {"note"}),
        ("id <> ?", ["note"], ALL - {"note"}),
        ("id in ?", [["note", "icon", "gone"]], {"note", "icon"}),
        ("id in ?", [("note",)], {"note"}),
        ("id in ?", [{"note", "icon"}], {"note", "icon"}),
        ("id in ?", [frozenset(["note"])], {"note"}),
        ("id in ?", [np.array(["note", "icon"])], {"note", "icon"}),
        ("id in (?)", [["note", "icon"]], {"note", "icon"}),
        ("id in (?, ?)", ["note", "icon"], {"note", "icon"}),
        ("id in ('note', ?)", ["icon"], {"note", "icon"}),
        ("id not in ?", [["note", "icon"]], ALL - {"note", "icon"}),
        ("not id in ? and id not in (?)", [["note"], ["icon"]], ALL - {"note", "icon"}),
        ("meta.by = ? and id in ?", ["me", ["note", "other"]], {"note"}),
        ("id in ? or id in ?", [["note"], ["icon"]], {"note", "icon"}),
        ("id = $2 or id = $1 or id = $2", ["note", "icon"], {"note", "icon"}),
        ("? = id", ["note"], {"note"}),
        ("? in ?", ["x", ["x", "y"]], ALL),
        ("lower(id) in ?", [["note"]], {"note"}),
        ("case when id in ? then true else false end", [["note"]], {"note"}),
        ("(id in ?) = ?", [["note"], True], {"note"}),
        ("meta.by = ?", [Brand.ME], {"note"}),
        ("meta.by = ?", [np.str_("me")], {"note"}),
        ("meta.by in ?", [[Brand.ME, "x"]], {"note"}),
        ("meta.by not in ?", [["me"]], {"other"}),
        ("meta.rating = ?", [4], {"note"}),
        ("meta.rating = ?", [Stars.FOUR], {"note"}),
        ("meta.rating = ?", [4.0], {"note"}),
        ("meta.rating = ?", [np.int64(4)], {"note"}),
        ("meta.rating = ?", [np.float32(4)], {"note"}),
        ("meta.rating > ?", [-(2**63)], {"note"}),
        ("meta.rating = ?", ["four"], {"other"}),
        ("meta.rating in ?", [[3, 4]], {"note"}),
        ("meta.rating in ?", [[3.5, 4]], {"note"}),
        ("meta.rating in ?", [np.arange(5)], {"note"}),
        ("meta.rating in ?", [["four", "4"]], {"note", "other"}),
        ("meta.rating between ? and ?", [1, 5], {"note"}),
        ("meta.rating * ? = ?", [2, 8], {"note"}),
        ("meta.done = ?", [True], {"note"}),
        ("meta.done in ?", [[True]], {"note"}),
        ("width in ?", [[64, 4000]], {"beach", "icon"}),
        ("width in ?", [[64.0]], {"icon"}),
        ("page = ?", ["3"], {"report"}),
        ("width - ? < ? and -? < ?", [-5, 100, 5, -4], {"icon"}),
        ("start_s >= ?", [59.5], {"song#6"}),
        ("latitude in ?", [[47.38]], {"beach"}),
        ("year(mtime) in ?", [[2022, 1999]], {"beach"}),
        ("mtime = ?", [datetime(2022, 1, 8)], {"beach"}),
        ("mtime = ?", [datetime(2022, 1, 8, 2, tzinfo=timezone(timedelta(hours=2)))], {"beach"}),
        ("mtime = ?", [date(2022, 1, 8)], {"beach"}),
        ("mtime = ?", ["2022-01-08"], {"beach"}),
        ("mtime in ?", [[date(2022, 1, 8)]], {"beach"}),
        ("mtime in ?", [[datetime(2022, 1, 8, tzinfo=UTC)]], {"beach"}),
        ("mtime in ?", [["2022-01-08", "2022-01-09"]], {"beach"}),
        ("mtime::date + ? = ?", [7, date(2022, 1, 15)], {"beach"}),
        ("mtime > ?", [datetime.min], {"beach", "icon", *SONG, "odd"}),
        ("taken >= ? and taken < ?", [date(2023, 7, 14), datetime(2023, 7, 14, 19)], {"beach"}),
        ("taken in ?", [[datetime(2023, 7, 14, 18, 30)]], {"beach"}),
        ("path like ?", ["%Holiday%"], {"beach"}),
        ("path ilike ? and path not like ?", ["%MY_photo%", "%.jpg"], {"icon"}),
        ("path like ? escape ?", ["%100!%.pdf", "!"], {"report"}),
        ("path in ?", [["/pictures/icons/my_photo.png"]], {"icon"}),
        ("contains(text, ?)", ["of mine"], {"note"}),
        ("? in text", ["of mine"], {"note"}),
        ("id = '?' or \"id\" = ? -- ?", ["note"], {"note"}),
        ("meta.\"a/b~c\" = ? /* ? */ and id <> '''?'", ["odd"], {"note"}),
    ],
)
def test_a_value_is_compared_as_what_it_is(
    index: Index, where: str, params: list[Any], expected: set[str]
) -> None:
    assert found(index, where, *params) == expected


@pytest.mark.parametrize(
    ("where", "params", "words"),
    [
        ("id = ? and id = ?", ["x"], ["has 2 parameters (?)", "params gives 1 value.", "each ?"]),
        ("id = ?", ["x", "y"], ["has 1 parameter (?)", "params gives 2 values", "params=[ids]"]),
        ("id = ?", [], ["has 1 parameter (?)", "params gives no value"]),
        ("id = ?", None, ["has 1 parameter (?)", "params gives no value"]),
        ("id = $2", ["x", "y"], ["params[0] stands nowhere"]),
        ("id = '?'", ["x"], ["params gives 1 value, and the filter has no ?", "without quotes"]),
        ("id = $name", ["x"], ["$name cannot be used", "Write ? for each value"]),
        ("id = :name", ["x"], ["at character 6", "Write ? for a value"]),
        ("id in %s", ["x"], ["Write ? for a value"]),
        ("id = ?", "x", ["params is a list", "not 'x'", "params=['x']"]),
        ("id = ?", {"x": 1}, ["params is a dict", "in a list"]),
        ("id = ?", {"x"}, ["params is a list"]),
        (None, ["x"], ["params are given, and no filter"]),
        ("id in ?", ["note"], ["params[0] is one value", "['note']", "meta.KEY = ?"]),
        ("id = ?", [["note"]], ["params[0] is a list", "behind in: meta.KEY in ?"]),
        ("id in (?, ?)", [["note"], "x"], ["params[0] is a list", "behind in"]),
        ("id = any(?)", [["note"]], ["params[0] is a list"]),
        ("contains(distinct ?, id)", [["x"]], ["distinct cannot be used"]),
        ("id in ? path", [["x"]], ["'path' stands behind a value"]),
        ("meta->>? = 'me'", ["by"], ["? stands for a value, and here stands a name"]),
        ("date_part(?, mtime) = 2022", ["year"], ["here stands a name"]),
        ("id = ?", [None], ["params[0] gives None", "meta.KEY is null"]),
        ("id in ?", [["x", None]], ["params[0] gives None", "meta.KEY is null"]),
        ("meta.n = ?", [float("nan")], ["params[0] gives nan", "finite numbers"]),
        ("meta.n in ?", [[1.5, float("-inf")]], ["params[0] gives -inf", "finite numbers"]),
        ("id = ?", ["a\0b"], ["params[0] is no valid text: it holds a NUL"]),
        ("id in ?", [["a", "b\0"]], ["params[0] is no valid text: it holds a NUL"]),
        ("id = ?", ["\udcff"], ["params[0] is no valid text: it holds half a character"]),
        ("id in ?", [["a", "\ud83d"]], ["it holds half a character"]),
        ("id in ?", [[]], ["params[0] is an empty list", "at least one value"]),
        ("id in ?", [set()], ["params[0] is an empty list"]),
        ("id in ?", [["a", 1]], ["params[0] holds texts and whole numbers", "of one kind"]),
        ("meta.n in ?", [[True, 1]], ["truth values and whole numbers"]),
        ("mtime in ?", [[date.min, datetime.min]], ["dates and times"]),
        ("id in ?", [[["a"]]], ["params[0] holds a list in a list"]),
        ("id in ?", [np.zeros((2, 2))], ["params[0] holds a list in a list"]),
        ("id = ?", [{"$in": [1]}], ["params[0] is no value of a filter", "where='year > ?'"]),
        ("id = ?", [b"x"], ["params[0] is no value of a filter: b'x'"]),
        ("id in ?", [iter("x")], ["params[0] is no value of a filter"]),
        ("mtime = ?", [np.datetime64("2022-01-08")], ["params[0] is no value of a filter"]),
        ("mtime in ?", [np.array(["2022-01-08"], "M8[ns]")], ["params[0] is no value"]),
        ("meta.n = ?", [2**63], ["9223372036854775808 is too large", "64 bits"]),
        ("meta.n in ?", [[1, -(2**63) - 1]], ["-9223372036854775809 is too large"]),
        ("meta.n in ?", [[2**53 + 1, 0.5]], ["beyond 2^53", "a list of each"]),
        ("page = ?", ["two"], ["page holds numbers; 'two' is none.", "Give a number"]),
        ("title = ?", [5], ["title holds texts, and 5 is a number.", "Give a text: '5'"]),
        ("title = ?", [date(2022, 1, 8)], ["'2022-01-08' is a time. Give a text: '2022-01-08'"]),
        ("title in ?", [[5]], ["title holds texts, and params[0] holds numbers", "list of texts"]),
        ("page in ?", [["3"]], ["page holds numbers, and params[0] holds texts", "of numbers"]),
        ("mtime in ?", [["2022-01-08", "x"]], ["mtime holds times; params[0] holds a text"]),
        ("mtime > ?", ["yesterday"], ["mtime holds times; 'yesterday' is none."]),
        ("?", ["id = 'note'"], ["a filter is a condition, and 'id = \\'note\\'' is a text"]),
    ],
)
def test_what_cannot_be_compared_is_refused_in_plain_words(
    index: Index, where: str | None, params: Any, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        index.search(vector=Q, where=where, params=params)
    message = str(caught.value).replace("'id = 'note''", "'id = \\'note\\''")
    assert all(word in message for word in words), message
    assert "listed" not in message and "PARAMETER" not in message


def test_limits_of_values_are_stated(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(where: str, *params: Any) -> str:
        with pytest.raises(LimitExceeded) as caught:
            found(index, where, *params)
        return str(caught.value)

    assert "20,001 characters; at most 20,000" in refused("id = ?", "x" * 20_001)
    assert "20,001 characters; at most 20,000" in refused("id in ?", ["a", "x" * 20_001])
    assert "1,000,001 values; at most 1,000,000" in refused("id in ?", ["a"] * 1_000_001)
    assert "params=[ids]" in refused("id in ?", *(["a"] * 20_001))
    single = ["x" * 20_000] * 60
    told = refused(f"id in ({', '.join('?' * 60)})", *single)
    assert "single values take 1,200,000 bytes; at most 1,048,576" in told
    monkeypatch.setattr(values, "MAX_PARAM_BYTES", 1000)
    assert "params[0] take 1,001 bytes; at most 1,000" in refused("id in ?", ["x" * 1001])
    assert "take 1,002 bytes; at most 1,000" in refused("id in ?", ["ü" * 501])
    assert "take 1,002 bytes" in refused("id in ? or id in ?", ["x" * 501], ["y" * 501])
    monkeypatch.setattr(values, "MAX_PARAM_VALUES", 10)
    assert "hold 12 values; at most 10" in refused("id in ? or id in ?", ["x"] * 6, ["y"] * 6)


def test_names_are_found_in_either_form_of_unicode(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9.txt", "cafe\u0301.txt"
    rows = [part(name, TEXT, name) for name in (composed, apart, "cafe.txt")]
    index = made(tmp_path / "ix", rows)
    assert found(index, "path = ?", f"/x/{composed}") == {composed, apart}
    assert found(index, "path in ?", [f"/x/{apart}"]) == {composed, apart}
    assert found(index, "path not in ?", [f"/x/{apart}"]) == {"cafe.txt"}
    assert found(index, "id in ?", [composed]) == {composed}, "ids are as they are"


def test_large_whole_numbers_are_told_apart(tmp_path: Path) -> None:
    users = [2**53 + n for n in range(-1, 4)]
    index = made(tmp_path / "ix", [part(f"{n}", TEXT, None, meta={"user": n}) for n in users])
    for user in users:
        assert found(index, "meta.user = ?", user) == {f"{user}"}
        assert found(index, "meta.user in ?", [5, user]) == {f"{user}"}


def test_a_filter_with_values_narrows_batches_and_kinds_alike(index: Index) -> None:
    params = ["me", [*ALL]]
    where = "meta.by = ? and id in ?"
    batch = index.search_batch(vectors=np.eye(8)[:3], where=where, params=params, k=9)
    assert [{hit.id for hit in results} for results in batch] == [{"note"}] * 3
    assert found(index, "id in ?", [*ALL], to="text") == TEXTS
    with pytest.raises(UsageError, match="has 2 parameters"):
        index.search_batch(vectors=np.eye(8)[:3], where=where)
    with pytest.raises(UsageError, match="no filter"):
        index.search_batch(vectors=np.eye(8)[:3], params=params)
    (mask, *_) = matching(index.snapshot, filter_of("id in ?", [["beach"]]))  # type: ignore[arg-type]
    assert mask.sum() == 1


def test_the_json_has_the_values_beside_the_condition(index: Index) -> None:
    params = ["note", date(2022, 1, 8), [datetime(2022, 1, 8, 1)], 4, True]
    where = "id = ? or mtime > ? or taken in ? or page = ? or meta.x = ?"
    body = index.search(vector=Q, where=where, params=params).to_json()["query"]
    assert body["where"] == where
    assert body["params"] == ["note", "2022-01-08", ["2022-01-08 01:00:00"], 4, True]
    query = index.search(vector=Q, where="id in ?", params=[["x"] * 5000]).query
    assert query.to_json()["params"] == [{"values": 5000}]
    assert str(query.filter) == "id in ? (params: ['x', 'x', 'x', … 5,000 values])"


def test_an_absent_key_is_told_of_a_filter_with_values(index: Index) -> None:
    asked = filter_of("meta.ratng in ? and meta.by = ?", [[4], "me"])
    assert asked is not None
    assert [(key.name, key.near) for key in absent_keys(index.snapshot, asked)] == [
        ("meta.ratng", "meta.rating")
    ]
    with pytest.raises(UsageError, match="did you mean width"):
        found(index, "widht in ?", [4])


# -- a dict -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"id": "note"}, {"note"}),
        ({"id": ["note", "icon"], "modality": "image"}, {"icon"}),
        ({"meta.by": "me"}, {"note"}),
        ({"meta.by": {"me", "you"}}, {"note", "other"}),
        ({"meta.rating": 4, "meta.done": True}, {"note"}),
        ({"META.rating": [3, 4], "ID": "note"}, {"note"}),
        ({"meta.camera.maker": "Ö"}, {"note"}),
        ({'meta."camera"."maker"': "Ö"}, {"note"}),
        ({"meta.a/b~c": "odd"}, {"note"}),
        ({"mtime": date(2022, 1, 8)}, {"beach"}),
        ({"mtime": [datetime(2022, 1, 8)], "width": 4000}, {"beach"}),
        ({"path": ["/pictures/icons/my_photo.png"]}, {"icon"}),
        ({"meta.order": 1}, set()),
        ({"meta.by' or 1=1 --": "x"}, set()),
        ({"meta.x) or (true": "x"}, set()),
    ],
)
def test_a_dict_is_met_by_parts_that_equal_all_of_it(
    index: Index, where: dict[str, Any], expected: set[str]
) -> None:
    assert found(index, where) == expected
    query = index.search(vector=Q, where=where).query
    assert query.filter is not None and query.where is not None
    params = [next(iter(v)) if isinstance(v, set) else v for v in where.values()]
    if len(where) == 1 and not isinstance(next(iter(where.values())), set):
        assert found(index, query.where, *params) == expected, "what is shown means the same"


def test_keys_with_dots_and_quotes_are_named_in_quotes(tmp_path: Path) -> None:
    keys = ["a.b", 'a"b', "a b", "'", "", "é", "order"]
    index = made(
        tmp_path / "ix", [part(f"p{n}", TEXT, None, meta={k: "x"}) for n, k in enumerate(keys)]
    )
    for n, key in enumerate(keys):
        quoted = key.replace('"', '""')
        assert found(index, {f'meta."{quoted}"': "x"}) == {f"p{n}"}
    assert found(index, {"meta.a b": "x"}) == {"p2"}
    assert found(index, {"meta.'": "x"}) == {"p3"}
    assert found(index, {"meta.a.b": "x"}) == set()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({}, ["the filter is an empty dict", "{'meta.brand': 'nike'}"]),
        ({"rating": 4}, ["'rating'", "no such column; did you mean meta.rating?"]),
        ({"widht": 4}, ["did you mean width?"]),
        ({"qqqq": 4}, ["'qqqq'", "There are id, path", "meta.KEY"]),
        ({"id' or 1=1 --": "x"}, ["no such column"]),
        ({"id.x": "x"}, ["no such column"]),
        ({"meta": "x"}, ["meta is an object: name a key of it"]),
        ({"meta.": "x"}, ["names of columns and of keys", "not 'meta.'", 'meta."a.b"']),
        ({'meta."x': "x"}, ["names of columns and of keys"]),
        ({"meta..x": "x"}, ["names of columns and of keys"]),
        ({1: "x"}, ["names of columns and of keys", "not 1"]),
        ({"meta.a\0b": "x"}, ["holds a NUL"]),
        ({"meta.\udcff": "x"}, ["half a character"]),
        ({"meta.k": None}, ["where['meta.k'] gives None", "meta.KEY is null"]),
        ({"meta.k": []}, ["where['meta.k'] is an empty list"]),
        ({"meta.k": {"$gt": 3}}, ["where['meta.k'] is no value", "where='year > ?'"]),
        ({"page": "two"}, ["page holds numbers; 'two' is none.", "Give a number"]),
        ({"title": [5]}, ["title holds texts, and where['title'] holds numbers"]),
        ({f"meta.k{n}": 1 for n in range(2000)}, ["characters; at most 20,000"]),
    ],
)
def test_a_dict_that_is_no_filter_says_what_is_wrong(
    index: Index, where: dict[Any, Any], words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        found(index, where)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "single quotes" not in str(caught.value)


def test_a_dict_has_its_values_and_takes_no_params(index: Index) -> None:
    with pytest.raises(UsageError, match="leave out params"):
        index.search(vector=Q, where={"id": "note"}, params=["note"])
    batch = index.search_batch(vectors=np.eye(8)[:2], where={"meta.by": "me"})
    assert [[hit.id for hit in results] for results in batch] == [["note"]] * 2
    body = index.search(vector=Q, where={"meta.by": "me", "id": ["note"]}).to_json()["query"]
    assert (body["where"], body["params"]) == ("meta.by = ? and id in ?", ["me", ["note"]])


# -- what is kept -----------------------------------------------------------


def test_masks_are_kept_by_value_and_type(tmp_path: Path) -> None:
    rows = {"whole": 1, "text": "1", "fraction": "1.0", "truth": True, "yes": "yes"}
    index = made(tmp_path / "ix", [part(id, TEXT, None, meta={"n": n}) for id, n in rows.items()])
    expected: list[tuple[Any, set[str]]] = [
        (1, {"whole", "text", "fraction"}),
        ("1", {"whole", "text"}),
        ("1.0", {"fraction"}),
        (True, {"whole", "text", "truth", "yes"}),
    ]
    for _ in range(2):
        for value, ids in expected:
            assert found(index, "meta.n = ?", value) == ids, value
            assert found(index, "meta.n in ?", [value]) == ids, value
    several = [1, 1.0, True, "1", "True", date(1, 1, 1), datetime(1, 1, 1), "0001-01-01"]
    keys = {filter_of("meta.n = ?", [v]).key for v in several}  # type: ignore[union-attr]
    keys |= {filter_of("meta.n = ?", [[v]]).key for v in several}  # type: ignore[union-attr]
    assert len(keys) == 2 * len(several)
    alike = [["ab", "c"], ["a", "bc"], ["abc"], [["ab", "c"]], [["abc"]], [["ab"], "c"]]
    assert len({filter_of("x", params).key for params in alike}) == 6  # type: ignore[union-attr]


def test_the_same_values_again_are_not_evaluated(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "id in ? and meta.by = ?"
    assert found(index, where, ["note", "icon"], "me") == {"note"}
    monkeypatch.setattr(engine, "parsed", lambda *_: pytest.fail("evaluated again"))
    assert found(index, where, ("note", "icon"), "me") == {"note"}
    with pytest.raises(pytest.fail.Exception):
        found(index, where, ["note", "icon"], "you")


def test_values_stay_no_longer_than_their_results(tmp_path: Path) -> None:
    index = made(tmp_path / "ix", [part(f"{n}", TEXT, None) for n in range(10)])
    ids = [f"{n:,}" for n in range(50_000)]
    before = sys.getrefcount(ids[-1])
    assert found(index, "id in ?", ids) == {f"{n}" for n in range(10)}
    gc.collect()
    after = sys.getrefcount(ids[-1])
    assert after == before, "of the masks that are kept none holds a value"


def test_what_was_added_is_found_by_values_that_were_asked_before(tmp_path: Path) -> None:
    index = made(tmp_path / "ix", [part("a", TEXT, None, meta={"k": "v"})])
    assert found(index, "id in ? and meta.k = ?", ["a", "b"], "v") == {"a"}
    with Writer(index.path, SPACE) as writer:
        writer.extend([(part("b", TEXT, None, meta={"k": "v"}), Q)])
        writer.commit()
    index.refresh()
    assert found(index, "id in ? and meta.k = ?", ["a", "b"], "v") == {"a", "b"}


def test_very_many_ids_are_taken_and_take_no_long_sql(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [f"{n:032x}" for n in range(200_000)]
    started = time.process_time()
    assert found(index, "id in ?", [*many, "note"]) == {"note"}
    assert found(index, "id not in ? and modality = ?", [*many, "beach"], "image") == {"icon"}
    assert found(index, "meta.rating in ?", list(range(200_000))) == {"note"}
    assert time.process_time() - started < 20
    assert len(engine.parsed(filter_of("id in ?", [many])).sql) < 200  # type: ignore[arg-type]


# -- the command line -------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("nike", "nike"),
        ("5", 5),
        ("-2.5", -2.5),
        ("1e3", 1000.0),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ('"5"', "5"),
        ('["a", "b"]', ["a", "b"]),
        ("[1, 2]", [1, 2]),
        ("[]", []),
        ("null", "null"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ('{"$in": [1]}', '{"$in": [1]}'),
        ("02134", "02134"),
        ("2026-01-31", "2026-01-31"),
        ("it's", "it's"),
        ('"a', '"a'),
        ("[a, b]", "[a, b]"),
        ("", ""),
        ("9" * 5000, "9" * 5000),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_typed_is_a_text_unless_it_is_json(typed: str, value: object) -> None:
    found = param_of(typed)
    assert found == value and type(found) is type(value)


def test_the_command_line_gives_values_to_a_filter(corpus: Path, tmp_path: Path) -> None:
    def ran(*args: str) -> command_line.Done:
        return command_line.mmsearch(*args, "--index", str(tmp_path / "ix"), home=tmp_path)

    def asked(where: str, *params: str, more: tuple[str, ...] = ("--json", "-k", "100")) -> Any:
        values = [word for param in params for word in ("--param", param)]
        return ran("query", "dogs", "--where", where, *values, *more)

    def hits(where: str, *params: str) -> list[dict[str, Any]]:
        done = asked(where, *params)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["hits"])

    assert ran("index", str(corpus)).returncode == 0
    wide = hits("modality = ? and width > ?", "image", "100")
    assert wide and all(hit["meta"]["width"] > 100 for hit in wide)
    some = [hit["id"] for hit in wide[:2]]
    assert [hit["id"] for hit in hits("id in ?", json.dumps(some))] == some
    assert hits("mtime > ?", "2001-01-31") and not hits("mtime < ?", "2001-01-31")
    assert hits("id = ? or 1 = ?", "x' or 1=1 --", "2") == []
    assert hits("width > ?", "-5")
    done = asked("id = ?", "5")
    assert done.returncode == 2
    assert "id holds texts, and 5 is a number" in done.stderr and "--param '\"5\"'" in done.stderr
    assert hits("id = ?", '"5"') == []
    done = asked("id = ?", "nobody's", more=())
    assert done.stdout == ('no part in the index meets the filter: id = ? (params: "nobody\'s")\n')
    done = asked("meta.Format = ?", "x", more=())
    assert "no part in the index has meta.Format; did you mean meta.format?" in done.stderr
    assert "has 1 parameter (?), and params gives no value" in asked("id = ?").stderr
    done = ran("query", "dogs", "--param", "x")
    assert done.returncode == 2 and "--param gives the value of a ?" in done.stderr


# -- what comes from outside ------------------------------------------------

PIECES = [
    *("'", "''", '"', ";", "--", "/*", "*/", "?", "$1", "%", "_", "\\", "\\'", "\n", "\r", "\t"),
    *(" or ", "1=1", "true", "id", "meta.k", ")", "(", "E'", "$$", "x'00'", "\u2028", "\u0301"),
    *("é", "e\u0301", "雷声", "😀", "\ufeff", "\u200b", "\uffff", "a", "A", "null", "1", "1.0"),
]
OUTSIDE = st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
ATTACKS = [
    "acme' or 1=1 --",
    "acme' or '1'='1",
    "' or true or '' = '",
    "acme') or (1=1",
    "acme'; drop table rows --",
    "acme\\' or 1=1 --",
    "acme'' or 1=1 --",
    "acme\n' or 1=1 --",
    "acme' /* */ or /* */ 1=1 --",
    "acme' union select * from rows --",
    "acme\u2019 or 1=1 --",
    "acme' or meta.tenant like '%",
    "? or 1=1",
    "$1 or true",
    "%",
    "_eta",
    "*",
    "",
    "ACME",
    "acme ",
    " acme",
]


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(OUTSIDE, min_size=1, max_size=6, unique=True))
def test_a_text_finds_exactly_the_parts_that_have_it(texts: list[str]) -> None:
    rows = [part(f"p{n}", TEXT, None, meta={"k": text}) for n, text in enumerate(texts)]
    odd = [part(f"odd{n}", TEXT, None, meta=meta) for n, meta in enumerate(ODD)]
    with tempfile.TemporaryDirectory() as folder:
        index = made(Path(folder) / "ix", rows + odd)
        known = {f"p{n}": text for n, text in enumerate(texts) if "\0" not in text}
        for id, text in known.items():
            assert found(index, "meta.k = ? and ? = meta.k", text, text) == {id}
            assert found(index, {"meta.k": text}) == {id}
        if known:
            assert found(index, "meta.k in ?", [*known.values()]) == set(known)
            assert found(index, "meta.k in (?, ?)", text, f"{text}\1 never") == {id}
            inside = {f"p{n}" for n, other in enumerate(texts) if text in other}
            assert found(index, "contains(meta.k, ?) and id like 'p%'", text) == inside


ODD: list[dict[str, Any]] = [{"k": "\udcff"}, {"k": "\0"}, {"other": "x"}, {"k": None}]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Parts of three tenants, each with ten titles."""
    rows = [
        part(f"{tenant}-{n}", TEXT if n % 2 else IMAGE, f"{tenant}/{n}", text=f"of {tenant}",
             meta={"tenant": tenant, "title": f"title {n}", "n": n})
        for tenant in ("acme", "beta", "gamma")
        for n in range(10)
    ]  # fmt: skip
    yield made(tmp_path_factory.mktemp("shop") / "ix", rows)


def of(tenant: str) -> set[str]:
    return {f"{tenant}-{n}" for n in range(10)}


@pytest.mark.parametrize("text", ATTACKS)
def test_no_name_shows_the_rows_of_another_tenant(shop: Index, text: str) -> None:
    assert found(shop, "meta.tenant = ?", text) == set()
    assert found(shop, "meta.tenant in ?", [text]) == set()
    assert found(shop, "meta.tenant in ?", [text, "beta"]) == of("beta")
    assert found(shop, "meta.tenant = ? and meta.title = ?", "beta", text) == set()
    assert found(shop, {"meta.tenant": text}) == set()
    assert found(shop, {"meta.tenant": "beta", "meta.title": [text, "title 3"]}) == {"beta-3"}
    with pytest.raises(UsageError):
        found(shop, {"meta.tenant": "beta", text: "x"})
    if (key := text.replace('"', "").replace(".", "")) != "":
        assert found(shop, {"meta.tenant": "beta", f"meta.{key}": "x"}) == set()
    for where in (
        "meta.tenant = ? and meta.title like ?",
        "meta.title ilike ? and ? = meta.tenant",
    ):
        params = ["beta", text] if where.startswith("meta.tenant") else [text, "beta"]
        try:
            assert found(shop, where, *params) <= of("beta")
        except UsageError:  # a pattern that is none
            continue


@settings(max_examples=100, deadline=None)
@given(text=OUTSIDE.filter(lambda text: "\0" not in text), data=st.data())
def test_whatever_is_asked_within_a_tenant_stays_there(
    shop: Index, text: str, data: st.DataObject
) -> None:
    condition = data.draw(
        st.sampled_from(
            [
                "meta.title = ?",
                "meta.title <> ?",
                "id in (?, ?)",
                "contains(text, ?) or meta.title = ?",
                "not starts_with(path, ?)",
                "meta.title not in (?)",
                "path = ? or path < ?",
            ]
        )
    )
    outside = [text] * condition.count("?")
    assert found(shop, f"meta.tenant = ? and ({condition})", "beta", *outside) <= of("beta")
