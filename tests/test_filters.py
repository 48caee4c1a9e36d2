"""Filters: which parts a condition leaves, what is said of a wrong one, and their doors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from filter_parts import (
    ALL,
    IMAGE,
    README,
    SONG,
    SPACE,
    TEXT,
    TEXTS,
    Q,
    fill,
    ids,
    part,
)
from mmsearch import Index, UsageError, filters
from mmsearch.filters import columns
from mmsearch.media import META_KEYS
from mmsearch.store import Snapshot, Writer


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other work must not fail a test of something else."""
    monkeypatch.setattr(columns, "MAX_FILTER_S", 900.0)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(fill(tmp_path_factory.mktemp("filters") / "ix"))


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
        ("artist = 'The Rains' and album is not null and genre ilike 'AMBIENT'", SONG),
        ("channels = 2 and sample_rate_hz >= 44100", SONG),
        ("camera ilike 'Fuji%' and latitude between 47 and 48 and longitude < 9", {"beach"}),
        ("author = 'A. Harbour' and section like '%Dawn'", {"report"}),
        ("camera is not null", {"beach", "note"}),
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
        ("page = '3'", {"report"}),
        ("page > '2.7'", {"report"}),
        ("page = '2.7'", set()),  # which is not rounded
        ("width >= ' 4e3 '", {"beach"}),
        ("meta.rating = length('four')", {"note"}),
        ("year('2023-07-14') = year(taken)", {"beach"}),
        ("mtime - taken > '100 days'", set()),
        ("taken - mtime > '100 days'", {"beach"}),
        ("taken - mtime > meta.camera", set()),
        ("mtime::date + 7 = '2022-01-15'", {"beach"}),
        ("case when width > 100 then 1 else meta.rating end = 4", {"note"}),
    ],
)
def test_a_condition_leaves_exactly_what_meets_it(
    index: Index, where: str, expected: set[str]
) -> None:
    assert ids(index, where) == expected


def test_unknown_is_not_met_and_neither_is_its_opposite(index: Index) -> None:
    assert ids(index, "width > 100") | ids(index, "not (width > 100)") == {"beach", "icon"}


def test_large_whole_numbers_of_meta_are_told_apart(tmp_path: Path) -> None:
    numbers = [2**53, 2**53 + 1, 1234567890123456788, 1234567890123456789, -(2**53) - 1, 2.5]
    with Writer(tmp_path / "ix", SPACE) as writer:
        for number in numbers:
            writer.extend([(part(f"{number}", TEXT, None, meta={"n": number}), Q)])
        writer.extend([(part("text", TEXT, None, meta={"n": f"{2**53 + 1}"}), Q)])
        writer.commit()
    index = Index(tmp_path / "ix")
    assert ids(index, "meta.n = 9007199254740993") == {"9007199254740993", "text"}
    assert ids(index, "meta.n = 1234567890123456789") == {"1234567890123456789"}
    assert ids(index, "meta.n > 1234567890123456788") == {"1234567890123456789"}
    assert ids(index, "meta.n in (2.5, 3, 1234567890123456788)") == {"2.5", "1234567890123456788"}
    assert ids(index, "meta.n = -9007199254740993") == {"-9007199254740993"}
    assert ids(index, "meta.n < 9007199254740993 and meta.n > 0") == {"9007199254740992", "2.5"}


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
        ("widht > 1000", ["'widht'", "did you mean width?", "single quotes: 'widht'."]),
        ("holiday > 3", ["'holiday'", "id, path, root, modality", "mtime, and meta.KEY"]),
        ('path = "x"', ["'x'", "single quotes"]),
        ("parts.width > 1", ["'parts.width'", "did you mean width?"]),
        ("width > > 3", ["at character 9, before '> 3'"]),
        ("width >", ["at its end"]),
        ("path = 'x", ["at character 8", "where a quote is not closed. Write ''"]),
        ("width", ["a filter is a condition, and width holds numbers", "width > 1000"]),
        ("path", ["path holds texts"]),
        ("null", ["yes or no"]),
        ("", ["is empty"]),
        ("  \n", ["is empty"]),
        ("path like '%a%' or '%b%'", ["'%b%' is a text", "or path like '%2%'"]),
        ("width and height > 3", ["width holds numbers", "page = 1 or page = 2"]),
        ("not width", ["width holds numbers"]),
        ("meta = 'x'", ["name a key"]),
        ("meta like '%x%'", ["name a key"]),
        ("width > 'wide'", ["width holds numbers; 'wide' is none.", "quotes, as in width = 2."]),
        ("page = ''", ["page holds numbers; '' is none."]),
        ("start_s in (1, 'x')", ["start_s holds numbers; 'x' is none."]),
        ("1 < 'x'", ["1 is a number; 'x' is none."]),
        ("length(text) > 'x'", ["length(…) is a number; 'x' is none."]),
        ("meta.rating in (3, 'four')", ["meta.rating is read as a number; 'four' is none."]),
        ("page between 'a' and 3", ["page holds numbers; 'a' is none."]),
        ("page + 'x' > 2", ["+ takes a number; 'x' is none."]),
        ("abs('x') > 2", ["abs takes a number; 'x' is none."]),
        ("cast('x' as int) = 2", ["'x' cannot be read as INTEGER."]),
        ("mtime > 'yesterday'", ["mtime holds times; 'yesterday' is none.", "'2026-01-31'"]),
        ("taken between '2023-01-01' and '2023-13'", ["taken holds times; '2023-13' is none."]),
        ("year('x') = 2023", ["year takes a time; 'x' is none.", "'2026-01-31'"]),
        ("timestamp 'x' < mtime", ["'x' cannot be read as TIMESTAMP.", "'2026-01-31'"]),
        ("mtime - taken > 'x'", ["mtime - taken is a span of time; 'x' is none.", "'7 days'"]),
        ("mtime > 2023", ["mtime holds times, and 2023 is a number. Compare year(mtime)"]),
        ("mtime + 1 > taken", ["mtime + 1 cannot be calculated", "cast(mtime as DATE) + 7"]),
        ("(width > 3) = 'x'", ["a comparison is a truth value; 'x' is none.", "true or false"]),
        ("path > 3", ["path holds texts, and 3 is a number.", "single quotes: '3'."]),
        ("title = true", ["title holds texts, and true is a truth value.", "'true'."]),
        ("title = page", ["title holds texts, and page holds numbers.", "cast(title as DOUBLE)"]),
        ("lower(page) = '2'", ["lower takes a text, and page holds", "cast(page as VARCHAR)."]),
        ("page like '%2%'", ["like takes a text, and page holds", "cast(page as VARCHAR)."]),
        ("case when true then 'x' else 3 end = 3", ["3 is a number; 'x' is none."]),
        ("path like text", ["single quotes"]),
        ("path like '%a_' escape 'xy'", ["one character"]),
        ("path like 'a!' escape '!'", ["ends with its escape"]),
        ("lower(path, 'x') = 'x'", ["lower takes 1 argument, not 2."]),
        ("size * 9223372036854775807 > 1", ["a number that is too large", "cast(x as DOUBLE)"]),
        ("width = 12345678901234567890123", ["18 digits"]),
        ("width::blob = 'x'", ["BLOB is no type", "TIMESTAMP"]),
        ("width > 1000 path", ["'path' stands behind a value with no operator"]),
        ("size > 1MB", ["'MB' stands behind", "numbers without units"]),
        ("width > 1,000", ["a comma divides it. Write 1000 for 1,000"]),
        ("modality = image", ["no such column. If it is a text", "single quotes: 'image'."]),
        ("type = 'pdf'", ["did you mean modality, or path ilike '%.jpg'?"]),
        ("date > '2026-01-31'", ["did you mean taken or mtime?"]),
        ("FileName like '%x%'", ["did you mean path?"]),
        ("path like *holiday*", ["at character 19", "pattern in single quotes: like '%a%'."]),
        ("text contains 'x'", ["contains(text, 'word')"]),
        ("page in 1, 2", ["list in brackets: page in (1, 2)."]),
        ("width != 1 && height > 3", ["Write and for &&"]),
        ("path ~ 'x'", ["regular expressions, ~ and GLOB", "ilike '%holiday%'"]),
        ("mtime > now()", ["now cannot be used", "the same answer each time", "'2026-01-31'"]),
        ("count(*) > 3", ["count(*) cannot be used", "looks at one part at a time"]),
        ("substr(title, 1) = 'x'", ["substr cannot be used in a filter. There are lower, "]),
        ("path->>'x' = 'y'", ["(meta->>'KEY')"]),
        ("meta['by'] = 'me'", ["meta.KEY"]),
        ("WHERE width > 3", ["leave out SELECT, FROM and WHERE"]),
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
    for word in ("TRY", "json_extract", "INT64", "LITERAL", "onvert"):
        assert word not in message, "neither our own SQL nor DuckDB's words"


@pytest.mark.parametrize("where", [7, b"true", ["true"], True])
def test_a_filter_is_a_text_or_a_dict(index: Index, where: object) -> None:
    with pytest.raises(UsageError, match="a filter is a str or a dict, not"):
        index.search(vector=Q, where=where)  # type: ignore[arg-type]


def test_what_decoders_say_is_a_column() -> None:
    assert set(META_KEYS) - set(columns.COLUMNS) == {"offset"}  # a word of SQL's own


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
