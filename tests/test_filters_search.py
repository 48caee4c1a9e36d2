"""Filters in the search: masks that are kept, threads, and recall however little is left."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from filter_parts import (
    TEXT,
    Q,
    fill,
    ids,
    part,
)
from mmsearch import Index, UsageError, filters
from mmsearch.ann import ivfpq
from mmsearch.filters import columns, engine
from mmsearch.filters.cache import MaskCache
from mmsearch.indexer.quantise import update_ann
from mmsearch.store import Writer
from mmsearch.types import Modality, Preprocess, Space


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other work must not fail a test of something else."""
    monkeypatch.setattr(columns, "MAX_FILTER_S", 900.0)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(fill(tmp_path_factory.mktemp("filters") / "ix"))


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
        held.get(key, lambda _: made.append(key) or [np.ones(n, bool), None])  # type: ignore[func-returns-value]

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


def test_a_hundred_tenants_in_turn_are_each_worked_out_once() -> None:
    held, made = MaskCache(), []

    for tenant in [*range(100), *range(100)]:
        held.get(tenant, lambda _, n=tenant: made.append(n) or [None])  # type: ignore[misc]
    assert made == list(range(100))


def test_what_fails_is_not_held(index: Index) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match="did you mean"):
            index.search(vector=Q, where="heigth > 3")
    assert index._view.masks._filtered._making == {}


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

    def make(_: object) -> list[None]:
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
        writer.want("ivfpq")
        writer.commit()
        writer.compact()
        update_ann(writer)
        writer.finish()
    index = Index(folder)
    assert index.snapshot.manifest.ann is not None
    return index, xb


@pytest.mark.slow
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
