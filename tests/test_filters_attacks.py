"""Filters: what a condition may not do, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from filter_parts import (
    SPACE,
    TEXT,
    Q,
    fill,
    ids,
    part,
)
from mmsearch import Index, LimitExceeded, UsageError
from mmsearch.filters import columns, database
from mmsearch.store import Writer


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other work must not fail a test of something else."""
    monkeypatch.setattr(columns, "MAX_FILTER_S", 900.0)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(fill(tmp_path_factory.mktemp("filters") / "ix"))


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
        database._DATABASE.cursor().execute(to_do)


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
        database._DATABASE.cursor().execute(sql).fetchall()


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


@pytest.mark.slow
def test_many_texts_made_at_once_do_not_fill_the_memory(hostile: Index) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert ids(hostile, " and ".join(["lower(text) like '%c%'"] * 300)) == set()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (400 << 10)  # KiB; whole batches of all of them would take 4 GB
