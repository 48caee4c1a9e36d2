"""Every altered manifest gives an MmsearchError of one line, or works."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmsearch
from altered_manifest import change, forget, places, put, signed, use
from forged import build
from mmsearch.errors import MmsearchError

EXAMPLES = 25  # in `make test`; the campaign tries many more
_SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["\ud800", "\0", "../x", "a/../../x", "/", "C:\\x", "x" * 5000, "mini", "1e9"]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31 - 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400]),
    st.floats(),  # also those that JSON does not have, and Python writes
    TEXTS,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An index with lists, deletions, a ledger and towers."""
    work = tmp_path_factory.mktemp("altered")
    yield build(work)


def alter(data: st.DataObject, body: dict[str, Any]) -> dict[str, Any]:
    """A manifest's JSON with a few things replaced, added, left out or moved."""
    body = copy.deepcopy(body)
    for _ in range(data.draw(st.integers(1, 3))):
        where = list(places(body))
        path = data.draw(st.sampled_from(where))
        how = data.draw(st.sampled_from(["other", "other", "gone", "new", "moved", "twice"]))
        if how == "gone":
            forget(body, path)
        elif how == "new":
            put(body, (*path[:-1], data.draw(TEXTS)), data.draw(VALUES))
        elif how in ("moved", "twice"):
            found: Any = body
            for name in data.draw(st.sampled_from(where)):
                found = found[name]
            put(body, path, copy.deepcopy(found))
            if how == "twice" and isinstance(found, list):
                found.extend(copy.deepcopy(found[:2]))
        else:
            put(body, path, data.draw(VALUES))
    return body


def check(base: Path, raw: bytes, do: Callable[[Path], object] = use) -> None:
    """Uses a copy of an index that has another manifest."""
    with TemporaryDirectory() as folder:
        ix = Path(folder) / "ix"
        shutil.copytree(base, ix)
        (ix / "manifest.json").write_bytes(raw)
        try:
            do(ix)
        except MmsearchError as e:
            assert len(str(e).splitlines()) == 1


def body_of(base: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((base / "manifest.json").read_bytes())
    del body["checksum"]
    return body


@settings(max_examples=EXAMPLES, **_SETTINGS)
@given(data=st.data())
def test_an_altered_manifest_is_refused_or_works(base: Path, data: st.DataObject) -> None:
    check(base, signed(alter(data, body_of(base))))


@pytest.mark.campaign
@pytest.mark.parametrize("do", [use, change])
@settings(max_examples=1500, **_SETTINGS)
@given(data=st.data())
def test_many_altered_manifests_are_refused_or_work(
    base: Path, data: st.DataObject, do: Callable[[Path], object]
) -> None:
    check(base, signed(alter(data, body_of(base))), do)


@settings(max_examples=EXAMPLES, **_SETTINGS)
@given(data=st.data())
def test_a_manifest_of_other_bytes_is_refused_or_works(base: Path, data: st.DataObject) -> None:
    raw = bytearray((base / "manifest.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    check(base, bytes(raw))


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"5", b'"x"', b"{}", b'{"checksum": 5, "schema": 5}', b"NaN", b"\xff\xfe",
     b'{"checksum": "", "schema": ' + b"9" * 5000 + b"}", b'{"checksum": "", "schema": 1e999}',
     b'{"checksum": "", "schema": [5]}', b'{"checksum": "", "schema": true}',
     b'{"checksum": "", "schema": -1}', b"[" * 100_000, b'{"a":' * 100_000],
)  # fmt: skip
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(raw)
    with pytest.raises(MmsearchError) as caught:
        mmsearch.open(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
