"""Filters: which parts a condition leaves, what it may not do, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmsearch import Index, LimitExceeded, UsageError, filters
from mmsearch.ann import ivfpq
from mmsearch.filters import columns, engine
from mmsearch.filters.cache import MaskCache
from mmsearch.indexer.quantise import update_ann
from mmsearch.store import PartRow, Snapshot, Writer
from mmsearch.types import Modality, Preprocess, Space

D = 8
SPACE = Space("test", "0" * 64, D, tuple(Modality), Preprocess(224, 16000, 10.0))
README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
DAY_NS = 86_400 * 10**9
Q = np.eye(D, dtype=np.float32)[0]
IMAGE, TEXT, AUDIO = Modality.IMAGE, Modality.TEXT, Modality.AUDIO


def part(id: str, modality: Modality, path: str | None, **more: object) -> PartRow:
    values: dict[str, object] = {"root": 0, "part_no": 0, "start_s": None, "end_s": None}
    values |= {"text": None, "meta": {}, "size": 0, "mtime_ns": 0, "ctime_ns": 1, "inode": 1}
    return PartRow(id=id, path=path, modality=modality, content_hash=bytes(16), **values | more)  # type: ignore[arg-type]


PARTS = [
    part("beach", IMAGE, "2023/Holiday/beach.jpg", size=5000, mtime_ns=19_000 * DAY_NS,
         meta={"width": 4000, "height": 3000, "format": "JPEG",
               "taken": "2023-07-14T18:30:00+02:00"}),
    part("icon", IMAGE, "icons/my_photo.png", size=90, mtime_ns=19_700 * DAY_NS,
         meta={"width": 64, "height": 64, "format": "PNG"}),
    part("song", AUDIO, "sounds/song.wav", start_s=0.0, end_s=10.0, size=9 * 10**9,
         meta={"duration_s": 95.5, "format": "WAV", "title": "It's raining"}),
    part("song#6", AUDIO, "sounds/song.wav", part_no=6, start_s=60.0, end_s=70.0,
         size=9 * 10**9, meta={"duration_s": 95.5, "format": "WAV", "title": "It's raining"}),
    part("report", TEXT, "papers/report 100%.pdf", text="The harbour at dawn.\nSecond line",
         mtime_ns=-1, meta={"page": 3, "offset": 0, "title": "Harbours"}),
    part("note", TEXT, None, root=1, text="A note of mine",
         meta={"by": "me", "rating": 4, "done": True, "camera": {"maker": "Ö"}, "a/b~c": "odd",
               "tags": ["x", "y"]}),
    part("other", TEXT, None, root=1, text="Another", meta={"by": "you", "rating": "four"}),
    part("odd", TEXT, os.fsdecode(b"caf\xe9.txt"), text="odd name", meta={"by": "\udcff"}),
]  # fmt: skip
ALL = {p.id for p in PARTS}


def unit(seed: int) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal(D).astype(np.float32)
    return v / np.linalg.norm(v)


def fill(folder: Path) -> Path:
    """The parts in three segments, with one more in each that is deleted again."""
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        writer.root("")
        for group in (PARTS[:3], PARTS[3:6], PARTS[6:]):
            gone = part(f"gone-{group[0].path}", IMAGE, "gone.jpg", meta=dict(group[0].meta))
            for row in (gone, *group):
                writer.extend([(row, unit(len(row.id)))])
            writer.commit()
        writer.drop(*(f"gone-{PARTS[i].path}" for i in (0, 3, 6)))
        writer.commit()
    return folder


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other work must not fail a test of something else."""
    monkeypatch.setattr(columns, "MAX_FILTER_S", 900.0)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(fill(tmp_path_factory.mktemp("filters") / "ix"))


def ids(index: Index, where: str, to: str | None = None) -> set[str]:
    hits = index.search(vector=Q, where=where, to=to, k=100)
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    return {h.id for h in hits}


SONG = {"song", "song#6"}
TEXTS = {"report", "note", "other", "odd"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("width > 1000 and path like '%Holiday%'", {"beach"}),
        ("start_s < 60", {"song"}),
        ("width > 1000 and path like '%Holiday%' or start_s >= 60", {"beach", "song#6"}),
        ("true", ALL),
        ("1 = 2", set()),
        ("id in ('note', 'song#6', 'gone-None')", {"note", "song#6"}),
        ("id <> 'note'", ALL - {"note"}),
        ("path = '/pictures/icons/my_photo.png'", {"icon"}),
        ("path is null", {"note", "other"}),
        ("root = '/pictures'", ALL - {"note", "other"}),
        ("root is null", {"note", "other"}),
        ("modality = 'audio'", SONG),
        ("modality in ('text', 'audio') and text is not null", TEXTS),
        ("not modality = 'text'", ALL - TEXTS),
        ("text ilike '%HARBOUR%'", {"report"}),
        ("text like '%dawn._Second%'", {"report"}),
        ("text like '%dawn%line'", {"report"}),
        ("text not like '%note%'", TEXTS - {"note"}),
        ("path like '%/my\\_photo%' escape '\\'", {"icon"}),
        ("path like '%100!%.pdf' escape '!'", {"report"}),
        ("path like '%100_.pdf'", {"report"}),
        ("path ilike '%HOLIDAY/_each%'", {"beach"}),
        ("path like '%holiday%'", set()),
        ("lower(path) like '%holiday%'", {"beach"}),
        ("starts_with(path, '/pictures/2023') or ends_with(path, '.png')", {"beach", "icon"}),
        ("contains(text, 'of mine')", {"note"}),
        ("width = height", {"icon"}),
        ("width / height > 1.3", {"beach"}),
        ("width * height <= 4096 and width % 2 = 0 and -width < 0", {"icon"}),
        ("width between 100 and 4e3", {"beach"}),
        ("width not between 100 and 4000", {"icon"}),
        ("taken >= '2023-07-14 18:30' and taken < timestamp '2023-07-14 18:31'", {"beach"}),
        ("year(taken) = 2023 and extract(month from taken) = 7", {"beach"}),
        ("mtime > '2023-01-01'", {"icon"}),
        ("mtime = timestamp '2022-01-08'", {"beach"}),
        ("mtime::date = '2022-01-08'", {"beach"}),
        ("mtime is null", {"report", "note", "other"}),
        ("size > 1_000_000_000", SONG),
        ("size is null", {"note", "other"}),
        ("duration_s > 95.4 and end_s = 70", {"song#6"}),
        ("format in ('JPEG', 'WAV')", {"beach", *SONG}),
        ("title = 'It''s raining'", SONG),
        ("page = 3", {"report"}),
        ("meta.by = 'me'", {"note"}),
        ("(meta->>'by') = 'me'", {"note"}),
        ("meta->>'by' <> 'me'", {"other"}),
        ("meta.rating >= 4", {"note"}),
        ("meta.rating in (3, 4)", {"note"}),
        ("meta.rating * 2 = 8", {"note"}),
        ("meta.rating between 1 and 5", {"note"}),
        ("meta.rating = 'four'", {"other"}),
        ("meta.rating::int = 4", {"note"}),
        ("meta.width > 100", {"beach"}),
        ("meta.done = true", {"note"}),
        ("meta.done and true", {"note"}),
        ("meta.camera.maker = 'Ö'", {"note"}),
        ("meta.\"a/b~c\" = 'odd'", {"note"}),
        ("meta.tags like '%\"y\"%'", {"note"}),
        ("meta.nothing = 1", set()),
        ("width is distinct from 64", ALL - {"icon"}),
        ("coalesce(width, 0) < 100", ALL - {"beach"}),
        ("case when modality = 'image' then width > 100 else start_s > 1 end", {"beach", "song#6"}),
        ("WIDTH > 1000 AND Path LIKE '%'", {"beach"}),
        ("width > 1000 -- a comment", {"beach"}),
        ("path like '%caf\\xe9.txt'", {"odd"}),
        ("page > 1 or page <= 1", {"report"}),
        ("abs(width - 4001) = 1 and round(width / 3) = 1333", {"beach"}),
        ("id = '' or id = 'it''s'", set()),
        ("width / (height - 64) > 0", {"beach"}),  # what is divided by 0 is not infinite
        ("1 / 0 > 1", set()),
        ("meta.done", {"note"}),
    ],
)
def test_a_condition_leaves_exactly_what_meets_it(
    index: Index, where: str, expected: set[str]
) -> None:
    assert ids(index, where) == expected


def test_unknown_is_not_met_and_neither_is_its_opposite(index: Index) -> None:
    assert ids(index, "width > 100") | ids(index, "not (width > 100)") == {"beach", "icon"}


def test_a_filter_and_a_modality_must_both_be_met(index: Index) -> None:
    assert ids(index, "meta.format is not null", to="audio") == SONG
    assert ids(index, "meta.format is not null", to="image") == {"beach", "icon"}
    assert ids(index, "width > 0", to="text") == set()
    assert ids(index, "true", to="text") == TEXTS


def test_a_deleted_part_never_comes_back(tmp_path: Path) -> None:
    index = Index(fill(tmp_path / "ix"))
    assert ids(index, "path like '%gone%'") == set()
    assert ids(index, "width = 64 or true") == ALL
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.drop("icon")
        writer.commit()
    assert "icon" in ids(index, "true")  # the snapshot that was opened
    assert index.refresh()
    assert ids(index, "true") == ALL - {"icon"} and ids(index, "width = 64") == set()


def test_a_snapshot_whose_files_were_replaced_is_filtered_like_any_other(tmp_path: Path) -> None:
    index = Index(fill(tmp_path / "ix"))
    before = {s.folder for s in index.snapshot.segments}
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.compact()
        writer.finish()
        writer.drop("beach")
        writer.commit()
        writer.finish()
    assert not any(folder.exists() for folder in before)
    assert ids(index, "width > 1000") == {"beach"}


def test_an_empty_index_still_says_what_is_wrong_with_a_filter(tmp_path: Path) -> None:
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.commit()
    index = Index(tmp_path / "ix")
    assert ids(index, "width > 1000") == set()
    with pytest.raises(UsageError, match="did you mean width"):
        index.search(vector=Q, where="widht > 1000")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("widht > 1000", ["'widht'", "did you mean width?", "mtime, and meta.KEY"]),
        ("holiday > 3", ["'holiday'", "id, path, root, modality", "single quotes"]),
        ('path = "x"', ["'x'", "single quotes"]),
        ("parts.width > 1", ["'parts.width'", "did you mean width?"]),
        ("width > > 3", ["at character 9, before '> 3'"]),
        ("width >", ["at its end"]),
        ("path = 'x", ["unterminated", "at character 8"]),
        ("width", ["gives BIGINT", "yes or no"]),
        ("path", ["gives VARCHAR"]),
        ("null", ["yes or no"]),
        ("", ["is empty"]),
        ("  \n", ["is empty"]),
        ("path like '%a%' or '%b%'", ["the text '%b%'", "whole comparison"]),
        ("width and height > 3", ["a BIGINT"]),
        ("not width", ["a BIGINT"]),
        ("meta = 'x'", ["name a key"]),
        ("meta like '%x%'", ["name a key"]),
        ("mtime > 'yesterday'", ['"yesterday"', "expected format"]),
        ("width > 'wide'", ["'wide'"]),
        ("path > 3", ["cannot be used"]),
        ("path like text", ["single quotes"]),
        ("path like '%a_' escape 'xy'", ["one character"]),
        ("path like 'a!' escape '!'", ["ends with its escape"]),
        ("lower(path, 'x') = 'x'", ["takes 1", "not 2"]),
        ("size * 9223372036854775807 > 1", ["Overflow"]),
        ("width = 12345678901234567890123", ["18 digits"]),
        ("width::blob = 'x'", ["BLOB is no type", "TIMESTAMP"]),
        ("width > 1000 path", ["'path' follows another word"]),
        ("path->>'x' = 'y'", ["(meta->>'KEY')"]),
        ("meta['by'] = 'me'", ["meta.KEY"]),
        ("WHERE width > 3", ["leave out the word WHERE"]),
        ("width > 3; drop table parts", ["one condition, such as width > 1000"]),
    ],
)
def test_a_wrong_filter_says_what_is_wrong_and_what_to_do(
    index: Index, where: str, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        index.search(vector=Q, where=where)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "TRY" not in message and "json_extract" not in message  # nothing of our own SQL


@pytest.mark.parametrize("where", [7, b"true", ["true"], True])
def test_a_filter_is_a_text(index: Index, where: object) -> None:
    with pytest.raises(UsageError, match="a filter is a str, not"):
        index.search(vector=Q, where=where)  # type: ignore[arg-type]


ATTACKS = [
    "read_csv('/etc/passwd') is not null",
    "exists (select * from read_csv('/etc/passwd'))",
    "(select content from read_text('/etc/passwd')) like '%root%'",
    "id in (select id from rows)",
    "id in (from rows select id)",
    "id = any (select 'beach')",
    "1 = all (select 1)",
    "getenv('HOME') is not null",
    "current_setting('memory_limit') is null",
    "getvariable('x') is null",
    "query('select 1') is null",
    "query_table('rows') is null",
    "glob('/etc/*') is null",
    "duckdb_settings() is null",
    "version() = 'x'",
    "now() > mtime",
    "current_date > mtime",
    "random() > 0.5",
    "nextval('s') = 1",
    "pg_sleep(10) is null",
    "write_log('x') is null",
    "COPY rows TO '/tmp/x'",
    "ATTACH '/tmp/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA version",
    "SET threads = 1",
    "CALL duckdb_settings()",
    "DROP TABLE rows",
    "EXPORT DATABASE '/tmp/x'",
    "true; INSTALL httpfs",
    "true; select 1",
    "true; DROP TABLE rows",
    "true) or (true",
    "true) from read_csv('/etc/passwd') --",
    "true from read_csv('/etc/passwd')",
    "true from 'https://example.com/x.parquet'",
    "true union select true",
    "true where true",
    "true, true",
    "true limit 1",
    "true group by all",
    "distinct true",
    "true using sample 1",
    "* is null",
    "columns('.*') is null",
    "count(*) > 1",
    "sum(width) over () > 1",
    "row_number() over () = 1",
    "unnest([1, 2]) = 1",
    "[x for x in range(10)] is null",
    "list_transform([1], x -> x) is null",
    "{'a': 1} is null",
    "(width, height) = (1, 2)",
    "path[1:2] = 'x'",
    "path || path = 'x'",
    "repeat('a', 1000000000) = 'x'",
    "lpad(path, 1000000000, 'x') = 'x'",
    "replace(path, 'a', path) = 'x'",
    "string_agg(path) = 'x'",
    "range(1000000000) is null",
    "generate_series(1, 1000000000) is null",
    "regexp_matches(path, '(a+)+$')",
    "path ~ '((a{1000}){1000}){1000}'",
    "path similar to '(x*)*y'",
    "path glob '**********x'",
    "path collate nocase = 'x'",
    "cast(path as json) is null",
    "path::enum('x') = 'x'",
    "x'00' = $1",
    "? = 1",
    "#1 = 1",
    "width = interval 1 day",
    "try(1) = 1",
    "json_execute_serialized_sql('x') is null",
    "pg_catalog.version() = 'x'",
    "mtime at time zone 'UTC' is null",
    "true\0 and false",
    "path = '\udcff'",
]


@pytest.mark.parametrize("where", ATTACKS)
def test_nothing_but_a_condition_gets_through(index: Index, where: str) -> None:
    with pytest.raises(UsageError):
        index.search(vector=Q, where=where)


@pytest.mark.parametrize(
    "where",
    [
        "not " * 400 + "true",
        "(" * 400 + "true" + " or false) and true" * 400,
        "1" + " + 1" * 2000 + " > 1",
        "- " * 3000 + "width > 0",
        "lower(" * 500 + "path" + ")" * 500 + " = 'x'",
        "case when " * 300 + "true" + " then true end" * 300,
        "width" + "::int" * 2000 + " > 1",
        "[" * 3000 + "]" * 3000 + " is null",
        "(select " * 900 + "1" + ")" * 900 + " = 1",
    ],
    ids=lambda w: w[:12],
)
def test_deep_nesting_is_refused_and_crashes_nothing(index: Index, where: str) -> None:
    with pytest.raises(UsageError):
        index.search(vector=Q, where=where)


def test_brackets_alone_are_no_nesting(index: Index) -> None:
    assert ids(index, "(" * 3000 + "width > 1000" + ")" * 3000) == {"beach"}


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("id = '" + "x" * 30_000 + "'", "30,007 characters; at most 20,000"),
        ("not " * 150 + "true", "at most 100 levels"),
        ("path like '%" + "a" * 300 + "_'", "at most 256"),
        ("path like '%a" + "_" * 9 + "b'", "9 times _ behind its first %"),
    ],
)
def test_every_limit_is_stated(index: Index, where: str, words: str) -> None:
    with pytest.raises(LimitExceeded, match=words):
        index.search(vector=Q, where=where)


def test_what_fits_the_limits_is_answered(index: Index) -> None:
    several = ", ".join(f"'{i:032x}'" for i in range(500))
    assert ids(index, f"id in ({several}, 'note')") == {"note"}
    assert ids(index, " and ".join(f"width > {n}" for n in range(100))) == {"beach"}
    assert ids(index, "path like '" + "_" * 32 + "%'") == {"beach", "report"}


@pytest.mark.parametrize("to_do", ["SET threads = 9", "RESET lock_configuration", "LOAD httpfs"])
def test_the_database_itself_is_locked(to_do: str) -> None:
    import duckdb

    with pytest.raises(duckdb.Error):
        engine._database().cursor().execute(to_do)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM PARTS",  # a variable of this module
        "ATTACH '/tmp/x.db'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "INSTALL httpfs",
    ],
)
def test_even_sql_that_got_through_could_read_and_write_nothing(sql: str) -> None:
    import duckdb

    with pytest.raises(duckdb.Error):
        engine._database().cursor().execute(sql).fetchall()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """3,000 pages of 3,000 letters, of one letter or of two."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("hostile") / "ix"
    with Writer(folder, SPACE) as writer:
        writer.root("/x")
        for n in range(3000):
            text = "a" * 3000 if n % 2 else "".join(rng.choice(["a", "b"], 3000))
            writer.extend([(part(f"{n}", TEXT, "f", text=text), Q)])
        writer.commit()
    yield Index(folder)


@pytest.mark.parametrize(
    "pattern",
    ["%a" * 200 + "%b%c", "%a_" * 8 + "%c", "%a" + "_" * 8 + "c", "%" + "a%_b%" * 8 + "c"],
    ids=lambda p: p[:8],
)
@pytest.mark.parametrize("like", ["like", "ilike"])
def test_a_pattern_made_to_be_slow_is_not(hostile: Index, like: str, pattern: str) -> None:
    started = time.process_time()
    assert ids(hostile, f"text {like} '{pattern}'") == set()
    assert time.process_time() - started < 20  # as DuckDB matches them: hours


def test_what_is_too_slow_is_stopped_and_the_next_filter_answers(
    hostile: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "MAX_FILTER_S", 0.2)
    slow = " or ".join(f"lower(text) like '%a%b%a%{n}c%'" for n in range(400))
    started = time.process_time()
    with pytest.raises(LimitExceeded, match=r"was stopped after .* at most 0\.2 s"):
        hostile.search(vector=Q, where=slow)
    assert time.process_time() - started < 10
    monkeypatch.undo()
    assert ids(hostile, "id in ('7', '8') and text like '%b%'") == {"8"}


def test_many_texts_made_at_once_do_not_fill_the_memory(hostile: Index) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert ids(hostile, " and ".join(["lower(text) like '%c%'"] * 300)) == set()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (400 << 10)  # KiB; whole batches of all of them would take 4 GB


def test_the_same_filter_again_is_not_evaluated(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ids(index, "width > 63 and true") == {"beach", "icon"}
    monkeypatch.setattr(engine, "matching", lambda *_: pytest.fail("evaluated again"))
    monkeypatch.setattr(filters, "matching", engine.matching, raising=False)
    again = index.search(vector=Q, where="width > 63 and true")
    assert {h.id for h in again} == {"beach", "icon"}
    assert again.filter_ms is not None and again.filter_ms < again.took_ms
    assert {h.id for h in index.search(vector=Q, where="width > 63 and true", to="image")} == {
        "beach",
        "icon",
    }


def test_the_least_recently_used_masks_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmsearch.filters import cache

    monkeypatch.setattr(cache, "MAX_FILTERS", 3)
    held = MaskCache()
    made = []

    def get(key: str, n: int = 10) -> None:
        held.get(key, lambda: made.append(key) or [np.ones(n, bool), None])  # type: ignore[func-returns-value]

    for key in "abcabdac":
        get(key)
    assert made == ["a", "b", "c", "d", "c"]
    monkeypatch.setattr(cache, "MAX_BYTES", 25)
    for key in "efef":
        get(key)
    assert made[5:] == ["e", "f"]
    get("large", 100)
    get("large", 100)
    assert made[7:] == ["large", "large"]  # too large to be held


def test_what_fails_is_not_held(index: Index) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match="did you mean"):
            index.search(vector=Q, where="heigth > 3")
    assert index._view.filtered._making == {}


def test_many_threads_ask_one_index(tmp_path: Path) -> None:
    index = Index(fill(tmp_path / "ix"))
    asked = {
        "width > 1000": {"beach"},
        "start_s >= 60": {"song#6"},
        "meta.by = 'me'": {"note"},
        "text ilike '%harbour%'": {"report"},
    }
    wrong: list[object] = []

    def ask(n: int) -> None:
        for i in range(30):
            where, expected = list(asked.items())[(n + i) % len(asked)]
            try:
                if (found := ids(index, f"{where} and {i // 4} = {i // 4}")) != expected:
                    wrong.append((where, found))
                if i % 7 == 0:
                    with pytest.raises(UsageError):
                        index.search(vector=Q, where=f"nothing{i} = 1")
            except BaseException as e:
                wrong.append(e)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_what_two_threads_ask_at_once_is_evaluated_once() -> None:
    held, made = MaskCache(), []

    def make() -> list[None]:
        made.append(1)
        time.sleep(0.2)
        return [None]

    threads = [threading.Thread(target=held.get, args=("same", make)) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert made == [1]


N, WIDE = 40_000, 32


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, np.ndarray]:
    """An IVF-PQ index of clusters, and its vectors; meta.n is the row, meta.c the cluster."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((100, WIDE))
    cluster = rng.integers(100, size=N)
    xb = centres[cluster] + 0.6 * rng.standard_normal((N, WIDE))
    xb = (xb / np.linalg.norm(xb, axis=1, keepdims=True)).astype(np.float16)
    folder = tmp_path_factory.mktemp("large") / "ix"
    space = Space("test", "0" * 64, WIDE, tuple(Modality), Preprocess(224, 16000, 10.0))
    order = centres @ centres[0]
    far = np.argsort(np.argsort(order))  # 99: the cluster of the queries
    with Writer(folder, space) as writer:
        writer.root("/x")
        for n in range(N):
            meta = {"n": n, "far": int(far[cluster[n]])}
            writer.extend([(part(f"{n}", TEXT, "f", meta=meta), xb[n].astype(np.float32))])
        writer.commit(ann_wanted="ivfpq")
        writer.compact()
        update_ann(writer)
        writer.finish()
    index = Index(folder)
    assert index.snapshot.manifest.ann is not None
    return index, xb


@pytest.mark.parametrize("lists", [False, True], ids=["as it is", "by lists alone"])
@pytest.mark.parametrize(
    ("where", "keeps"),
    [
        ("meta.n % 2 = 0", 20_000),
        ("meta.n % 10 = 3", 4_000),
        ("meta.n % 100 = 7", 400),
        ("meta.n % 1000 = 7", 40),
        ("meta.n % 4000 = 7", 10),
        ("meta.far < 50", None),
        ("meta.far < 10", None),
    ],
)
def test_recall_holds_however_few_or_far_a_filter_leaves(
    large: tuple[Index, np.ndarray],
    where: str,
    keeps: int | None,
    lists: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, xb = large
    if lists:
        monkeypatch.setattr(ivfpq, "_EXACT_ROWS", 0)
    (mask,) = filters.matching(index.snapshot, where)
    assert keeps is None or mask.sum() == keeps
    rng = np.random.default_rng(2)
    right = asked = 0
    for _ in range(20):
        q = xb[rng.integers(N)].astype(np.float32)
        if keeps is None:  # asked from the cluster that is farthest from all that is left
            q = np.mean(xb[filters.matching(index.snapshot, "meta.far = 99")[0]], axis=0)
            q = q.astype(np.float32) + 0.02 * rng.standard_normal(WIDE).astype(np.float32)
        q /= np.linalg.norm(q)
        scores = xb.astype(np.float32) @ q
        truth = np.argsort(-np.where(mask, scores, -np.inf), kind="stable")[:10]
        found = [int(h.id) for h in index.search(vector=q, where=where)]
        assert len(found) == 10 and mask[found].all()
        right += len(set(found) & set(truth.tolist()))
        asked += 10
    assert right / asked >= (0.85 if lists else 0.9)


def test_where_too_much_is_left_for_exact_search_more_lists_are_looked_into(
    large: tuple[Index, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, xb = large
    monkeypatch.setattr(ivfpq, "_EXACT_ROWS", 0)
    monkeypatch.setattr(ivfpq, "_EXACT_FAR_ROWS", 0)
    there = filters.matching(index.snapshot, "meta.far = 99")[0]
    q = np.mean(xb[there], axis=0, dtype=np.float32)
    where = "meta.far < 50"
    found = [int(h.id) for h in index.search(vector=q, where=where, k=100)]
    (mask,) = filters.matching(index.snapshot, where)
    truth = np.argsort(-np.where(mask, xb.astype(np.float32) @ q, -np.inf))[:100]
    assert len(found) == 100 and mask[found].all()  # of the usual lists none holds any
    assert len(set(found) & set(truth.tolist())) >= 70


def test_the_readme_lists_the_columns() -> None:
    for name, column in columns.COLUMNS.items():
        assert f"| `{name}` | {column.type} | {column.about} |" in README
    assert f"| `meta.KEY` | VARCHAR | {columns.META_ABOUT} |" in README


def test_the_help_names_the_columns_and_shows_an_example() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmsearch", "query", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    words = done.stdout.replace(",", " ").replace(".", " ").split()
    assert set(columns.COLUMNS) <= set(words)
    assert """--where "width > 1000 and path like '%holiday%'\"""" in done.stdout


def test_a_query_without_a_filter_does_not_load_duckdb(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix")
    program = (
        f"import sys, mmsearch; ix = mmsearch.open({str(folder)!r}); "
        f"ix.search(vector=[1] + [0] * 7); print('duckdb' in sys.modules); "
        f"ix.search(vector=[1] + [0] * 7, where='true'); print('duckdb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_without_duckdb_a_filter_says_how_to_get_it(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix")
    program = (
        "import sys; sys.modules['duckdb'] = None\n"
        f"import mmsearch; ix = mmsearch.open({str(folder)!r})\n"
        "print(len(ix.search(vector=[1] + [0] * 7)))\n"
        "try: ix.search(vector=[1] + [0] * 7, where='true')\n"
        "except mmsearch.UsageError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    first, message = done.stdout.splitlines()
    assert first == str(len(ALL)) and "pip install" in message and "duckdb" in message


def test_the_filter_is_in_the_json(index: Index) -> None:
    body = index.search(vector=Q, where="width > 1000", k=3).to_json()
    assert body["query"] == {"vector": "<vector>", "to": "any", "k": 3, "where": "width > 1000"}
    assert 0 <= body["filter_ms"] <= body["took_ms"]
    body = index.search(vector=Q, k=3).to_json()
    assert "where" not in body["query"] and body["filter_ms"] is None


def test_a_batch_and_the_command_line_filter_as_search_does(corpus: Path, tmp_path: Path) -> None:
    import json

    import mmsearch

    index = mmsearch.index(corpus, tmp_path / "ix")
    where = "path like '%/photos/%' and height < width"
    alone = index.search("a cup of coffee", where=where)
    assert alone and {h.modality for h in alone} == {IMAGE}
    assert all(h.meta["height"] < h.meta["width"] for h in alone)
    assert {h.path for h in alone} == {
        h.path for h in index.search("x", to="image", k=99) if h.meta["height"] < h.meta["width"]
    }
    batch = index.search_batch(["a cup of coffee", "dogs"], where=where)
    assert [h.id for h in batch[0]] == [h.id for h in alone]
    assert batch[1].filter_ms is not None and batch[1].filter_ms < 5

    def query(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mmsearch", "query", "--index", str(tmp_path / "ix")]
        return subprocess.run([*command, *args], capture_output=True, text=True)

    done = query("a cup of coffee", "--where", where, "--json")
    body = json.loads(done.stdout)
    assert [h["id"] for h in body["hits"]] == [h.id for h in alone]
    assert body["query"]["where"] == where and body["filter_ms"] > 0
    done = query("dogs", "--where", "width > 99999", "--to", "image")
    assert done.returncode == 0
    assert done.stdout == "no image in the index meets the filter: width > 99999\n"
    done = query("dogs", "--where", "wdth > 99999")
    assert done.returncode == 2 and "did you mean width?" in done.stderr and not done.stdout


def test_a_snapshot_and_its_masks_belong_together(tmp_path: Path) -> None:
    snapshot = Snapshot.open(fill(tmp_path / "ix"))
    masks = filters.matching(snapshot, "modality = 'text'")
    assert [len(m) for m in masks] == [s.ref.rows for s in snapshot.segments]
    found = {
        segment.row(int(row)).id
        for segment, mask in zip(snapshot.segments, masks, strict=True)
        for row in np.flatnonzero(mask)
    }
    assert found == TEXTS
