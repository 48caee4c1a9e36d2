"""Whatever a program gives to a public call, it gets an answer or an MmsearchError."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmsearch
from mmsearch import MmsearchError, UsageError

HALF, NUL = "\ud800", "a\0b"
LONGEST_ERROR = 1000  # characters: what was given is named, and not repeated


def deep(levels: int) -> Any:
    """Dicts in each other."""
    found: Any = 1
    for _ in range(levels):
        found = {"a": found}
    return found


class Mute:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


ZEROS = np.zeros(100)
# Made anew for each call: an iterator is used up by the first.
ODD: tuple[Callable[[], Any], ...] = (
    *(lambda one=one: one for one in (None, True, 0, -1, 10**30, 10**5000, 1.5, math.nan)),
    *(lambda one=one: one for one in ("", " ", "a", HALF, NUL, "a" * 300, "x" * 30_000, "any")),
    *(lambda one=one: one for one in ("bridge:~nosuchuser/x", "bridge:" + "a" * 300, "~" * 300)),
    *(lambda one=one: one for one in (b"", b"\xff\xd8\xff", bytearray(b"ab"), "~nosuchuser", "\n")),
    *(lambda one=one: one for one in ([], [1], [None], [[]], ["a", 1], ("a",), {1}, {"a": 1})),
    *(lambda one=one: one for one in ([{"text": 1}], [{"text": HALF}], [{"image": NUL}])),
    *(lambda one=one: one for one in ([{"audio": (1, 2)}], [{"text": "a", "image": "b"}])),
    *(lambda one=one: one for one in ([{1: 2}], [{(1, 2): 1}], [{"d": date(2020, 1, 1)}])),
    *(lambda one=one: one for one in ([{"d": math.nan}], [{"d": HALF}], [{"d": 10**5000}])),
    *(lambda one=one: one for one in ([deep(30)], [deep(50)], [deep(2_000)], [deep(100_000)])),
    *(lambda one=one: one for one in (Path("/nowhere/at/all"), Path(NUL), Path("b" * 5000))),
    *(lambda one=one: one for one in (np.zeros(512), np.full(512, math.nan), np.zeros((2, 3)))),
    *(lambda one=one: one for one in (np.array("a"), np.array(None), np.array(3.0), np.zeros(0))),
    *(lambda one=one: one for one in (np.zeros((0, 512)), np.ones(512, complex), [[1.0], [1, 2]])),
    *(lambda one=one: one for one in (np.full(512, 1e300), np.ones((3, 512), object), range(3))),
    *(lambda one=one: one for one in ((ZEROS, math.nan), (ZEROS, "x"), (ZEROS, -5), (ZEROS, 1e12))),
    *(lambda one=one: one for one in ((np.array(1.0), 16_000), (np.zeros((2, 2, 2)), 16_000))),
    *(lambda one=one: one for one in ((ZEROS.astype(complex), 16_000), (np.array([None]), 16_000))),
    *(lambda one=one: one for one in (np.str_("dog"), np.int64(3), int, math.sqrt)),
    Mute,
    lambda: iter(["a"]),
    lambda: [Mute()],
)  # fmt: skip
assert len(ODD) > 60


class Home(NamedTuple):
    """An index to ask and change, a space, and a folder for others."""

    index: mmsearch.Index
    space: mmsearch.Embedder
    folder: Path
    texts: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("public")
    (folder / "texts").mkdir()
    (folder / "texts" / "note.txt").write_text("a dog on a beach")
    index = mmsearch.index(folder / "texts", folder / "ix")
    index.add([{"text": "a note"}], ids=["n1"])
    yield Home(index, mmsearch.load_space("mini"), folder, folder / "texts")


Call = Callable[[Home, Any], Any]


def calls() -> dict[str, Call]:
    """Each argument of each public call, as a function of its value."""
    found: dict[str, Call] = {
        "open": lambda home, x: mmsearch.open(x),
        "open(space)": lambda home, x: mmsearch.open(home.folder / "ix", x),
        "open(isolate)": lambda home, x: mmsearch.open(home.folder / "ix", isolate=x).close(),
        "load_space": lambda home, x: mmsearch.load_space(x),
        "index(sources)": lambda home, x: mmsearch.index(x, home.folder / "other"),
        "index(path)": lambda home, x: mmsearch.index([], x),
        "index(space)": lambda home, x: mmsearch.index([home.texts], home.folder / "other", x),
        "create(space)": lambda home, x: mmsearch.create(home.folder / "made", x),
        "merge": lambda home, x: mmsearch.merge(x, home.folder / "merged"),
        "verify": lambda home, x: mmsearch.verify(x),
        "Index.merge": lambda home, x: home.index.merge(x),
        "sync": lambda home, x: home.index.sync(x),
        "sync(exclude)": lambda home, x: home.index.sync([home.texts], exclude=x),
        "sync(ann)": lambda home, x: home.index.sync([home.texts], ann=x),
        "sync(recall)": lambda home, x: home.index.sync([home.texts], recall=x),
        "sync(memory)": lambda home, x: home.index.sync([home.texts], memory=x),
        "sync(workers)": lambda home, x: home.index.sync([home.texts], workers=x),
        "sync(prune)": lambda home, x: home.index.sync([home.texts], prune=x),
        "tune": lambda home, x: home.index.tune(x),
        "tune(queries)": lambda home, x: home.index.tune(queries=x),
        "info(skipped)": lambda home, x: home.index.info(skipped=x),
        "caption": lambda home, x: home.index.caption(x),
        "add(wait_s)": lambda home, x: home.index.add([{"text": "q"}], wait_s=x),
        "search": lambda home, x: list(home.index.search(x)),
        "search_batch": lambda home, x: list(home.index.search_batch(x)),
        "search_batch(vectors)": lambda home, x: list(home.index.search_batch(vectors=x)),
        "search_batch(images)": lambda home, x: list(home.index.search_batch(images=x)),
        "search_batch(images=[x])": lambda home, x: list(home.index.search_batch(images=[x])),
        "search_batch(audio)": lambda home, x: list(home.index.search_batch(audio=x)),
        "search_batch(audio=[x])": lambda home, x: list(home.index.search_batch(audio=[x])),
        "get": lambda home, x: home.index.get(x),
        "get([x])": lambda home, x: home.index.get([x, "n1"]),
        "get(vectors)": lambda home, x: home.index.get("n1", vectors=x),
        "delete": lambda home, x: home.index.delete(x),
        "delete([x])": lambda home, x: home.index.delete([x]),
        "delete(paths)": lambda home, x: home.index.delete(paths=x),
        "delete(paths=[x])": lambda home, x: home.index.delete(paths=[x]),
        "delete(where)": lambda home, x: home.index.delete(where=x),
        "delete(wait_s)": lambda home, x: home.index.delete("nobody", wait_s=x),
        "count": lambda home, x: home.index.count(x),
        "list": lambda home, x: list(home.index.list(x)),
        "list(limit)": lambda home, x: home.index.list(limit=x),
        "list(after)": lambda home, x: home.index.list(after=x),
        "update": lambda home, x: home.index.update(x, {"a": 1}),
        "update([x])": lambda home, x: home.index.update([x], [{"a": 1}]),
        "update(meta)": lambda home, x: home.index.update("n1", x),
        "update([n1], meta)": lambda home, x: home.index.update(["n1"], x),
        "update(meta=[x])": lambda home, x: home.index.update(["n1"], [x]),
        "update(wait_s)": lambda home, x: home.index.update("n1", {"a": 1}, wait_s=x),
        "add(on_conflict)": lambda home, x: home.index.add([{"text": "q"}], on_conflict=x),
        "add(vectors)": lambda home, x: home.index.add([{"modality": "image"}], vectors=x),
        "add(x, vectors)": lambda home, x: home.index.add(x, vectors=np.ones((1, 512))),
        "add([x], vectors)": lambda home, x: home.index.add([x], vectors=np.ones((1, 512))),
        "add([{modality: x}])": lambda home, x: home.index.add(
            [{"modality": x}], vectors=np.ones((1, 512))
        ),
        "add([{text: x}], vectors)": lambda home, x: home.index.add(
            [{"text": x}], vectors=np.ones((1, 512))
        ),
        "add": lambda home, x: home.index.add(x),
        "add([x])": lambda home, x: home.index.add([x]),
        "add(ids)": lambda home, x: home.index.add([{"text": "q"}], ids=x),
        "add(ids=[x])": lambda home, x: home.index.add([{"text": "q"}], ids=[x]),
        "add(meta)": lambda home, x: home.index.add([{"text": "q"}], meta=x),
        "add(meta=[x])": lambda home, x: home.index.add([{"text": "q"}], meta=[x]),
        "reencode": lambda home, x: home.index.reencode(x),
        "reencode(keep)": lambda home, x: home.index.reencode("mini", keep=x),
        "reencode(drop_missing)": lambda home, x: home.index.reencode("mini", drop_missing=x),
        "Query.make": lambda home, x: mmsearch.Query.make(x).to_json(),
    }
    for name in ("device", "dtype", "batch_size"):
        found[f"load_space({name})"] = lambda home, x, name=name: mmsearch.load_space(
            "mini", **{name: x}
        )
    for name in ("image", "audio", "vector"):
        found[f"search({name})"] = lambda home, x, name=name: list(home.index.search(**{name: x}))
    for name in ("to", "k", "where", "recall"):
        found[f"search({name})"] = lambda home, x, name=name: list(
            home.index.search("a dog", **{name: x})
        )
        found[f"search_batch({name})"] = lambda home, x, name=name: list(
            home.index.search_batch(["a dog"], **{name: x})
        )
    for asked in ("meta.k = ?", "meta.k in ?"):
        found[f"search({asked}, params)"] = lambda home, x, asked=asked: list(
            home.index.search("a dog", where=asked, params=x)
        )
        found[f"search({asked}, params=[x])"] = lambda home, x, asked=asked: list(
            home.index.search("a dog", where=asked, params=[x])
        )
    found["search(where={'meta.k': x})"] = lambda home, x: list(
        home.index.search("a dog", where={"meta.k": x})
    )
    for name in ("text", "image", "audio"):
        found[f"add([{{{name}: x}}])"] = lambda home, x, name=name: home.index.add([{name: x}])
    for name in ("encode_query", "encode_document", "encode_images", "encode_audio"):
        found[name] = lambda home, x, name=name: getattr(home.space, name)(x)
        found[f"{name}([x])"] = lambda home, x, name=name: getattr(home.space, name)([x])
    return found


CALLS = calls()


def answered(call: Call, home: Home, value: Any) -> None:
    """Calls, and checks that an error is one of ours, can be printed and is short."""
    try:
        call(home, value)
    except MmsearchError as e:
        assert 0 < len(str(e)) < LONGEST_ERROR
        str(e).encode()


@pytest.mark.parametrize("name", CALLS)
def test_an_odd_value_gives_an_answer_or_an_error_of_ours(
    home: Home, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what is a path after all lands here
    monkeypatch.setenv("MMSEARCH_HOME", str(tmp_path / "home"))
    for make in ODD:
        answered(CALLS[name], home, make())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=5), inside),
    max_leaves=8,
)


@settings(
    max_examples=200, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(name=st.sampled_from([name for name in CALLS if "index" not in name]), value=ANYTHING)
def test_anything_gives_an_answer_or_an_error_of_ours(
    home: Home, name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as inside:
        inside.chdir(tmp_path)
        inside.setenv("MMSEARCH_HOME", str(tmp_path / "home"))
        answered(CALLS[name], home, value)


def test_metadata_is_stored_at_any_depth_that_is_taken(home: Home) -> None:
    taken = deep(64)
    home.index.add([{"text": "a note"}], ids=["deep"], meta=[taken])
    hit = home.index.get("deep")
    assert hit is not None and hit.meta == taken
    with pytest.raises(UsageError, match="at most 64 levels"):
        home.index.add([{"text": "a note"}], ids=["deeper"], meta=[deep(65)])
    assert home.index.get("deeper") is None


def test_what_fails_in_a_callers_generator_is_the_callers(home: Home) -> None:
    def texts() -> Iterator[str]:
        yield "a dog"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        home.index.search_batch(texts())
