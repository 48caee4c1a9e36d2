"""Many queries at once: what a batch answers, what it holds, and what it refuses."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filter_parts import ALL, SPACE, TEXT, D, Q, fill, part, unit
from mmsearch import (
    BatchResults,
    DimensionMismatch,
    Index,
    IndexDamaged,
    LimitExceeded,
    Results,
    SpaceUnavailable,
    UsageError,
)
from mmsearch.ann import Together
from mmsearch.query import BLOCK_VECTORS
from mmsearch.store import Snapshot, Writer
from mmsearch.types import Modality, Space, Vectors


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Eight parts in three segments, with a deleted one in each."""
    return Index(fill(tmp_path / "ix"))


@pytest.fixture
def xq() -> np.ndarray:
    """Twenty vectors of all lengths."""
    rng = np.random.default_rng(3)
    return (rng.standard_normal((20, D)) * rng.uniform(0.01, 900, (20, 1))).astype(np.float32)


class Letters:
    """An encoder in the filters' space: texts of one first letter have one vector."""

    space: Space = SPACE

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self.asked: list[int] = []
        self.as_questions: list[bool] = []

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        assert modality is Modality.TEXT
        self.asked.append(len(data))
        self.as_questions.append(asked)
        return np.stack([unit(ord(text[0])) for text in data])

    languages = "letters"

    def truncated(self, texts: Sequence[str]) -> list[int]:
        return [0] * len(texts)

    def unknown(self, texts: Sequence[str]) -> list[float]:
        return [float("?" in text) for text in texts]


def reading_letters(index: Index) -> Letters:
    index._encoder = encoder = Letters()
    return encoder


def found(results: Sequence[Any]) -> list[tuple[str, float, int]]:
    return [(hit.id, hit.score, hit.rank) for hit in results]


# -- what it answers --------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 8, 50])
@pytest.mark.parametrize("where", [None, "text is not null", "width > 5000"])
def test_a_batch_of_vectors_answers_as_asking_one_by_one(
    index: Index, xq: np.ndarray, k: int, where: str | None
) -> None:
    batch = index.search_batch(vectors=xq, k=k, where=where)
    assert len(batch) == len(xq)
    for vector, together in zip(xq, batch, strict=True):
        alone = index.search(vector=vector, k=k, where=where)
        assert found(together) == found(alone)
        assert together.hits == alone.hits
        assert together.query.vector is not None
        np.testing.assert_array_equal(together.query.vector, vector)
        assert (together.query.k, together.query.where) == (k, where)
        assert together.space == alone.space and together.folder == alone.folder
    if where is None:
        scores = np.array([[hit.score for hit in results] for results in batch])
        stored = {p: stored_vector(index, p) for p in ALL}
        units = xq / np.linalg.norm(xq, axis=1, keepdims=True)
        truth = [sorted((float(v @ q) for v in stored.values()), reverse=True)[:k] for q in units]
        np.testing.assert_allclose(scores, truth, atol=1e-6)


def test_no_score_is_beyond_a_cosine_however_vectors_are_rounded(index: Index) -> None:
    stored = np.stack([stored_vector(index, p) for p in ALL])
    lengths = np.linalg.norm(stored, axis=1)
    assert lengths.max() > 1 + 1e-5  # as float16 rounds them
    asked = np.concatenate([stored, -stored])
    for k in (len(ALL), 50):
        batch = index.search_batch(vectors=asked, k=k)
        there = batch.rows >= 0
        assert there.sum() == len(asked) * len(ALL)
        assert batch.scores[there].max() == 1 and batch.scores[there].min() == -1
        assert (batch.scores[~there] == -np.inf).all()
        longest = stored[lengths.argmax()]
        best = index.search(vector=longest, k=k)[0]
        # others may have the very same vector
        assert best.score == 1 and np.array_equal(stored_vector(index, best.id), longest)
        assert best.to_json()["score"] == 1


def stored_vector(index: Index, id: str) -> np.ndarray:
    held = index.snapshot.find(id)
    assert held is not None
    segment, row = held
    return segment.lanes[0].vectors[row].astype(np.float32)


def test_a_batch_of_texts_answers_in_their_order(index: Index) -> None:
    reading_letters(index)
    texts = ["c", "a", "b", "a again", "é"]
    batch = index.search_batch(texts, to="text", k=3)
    assert [results.query.text for results in batch] == texts
    for text, results in zip(texts, batch, strict=True):
        assert found(results) == found(index.search(text, to="text", k=3))
        assert {hit.modality for hit in results} == {TEXT}
        assert results.query.to is TEXT and results.query.vector is None
    assert found(batch[1]) == found(batch[3]) != found(batch[0])


def test_the_arrays_say_what_the_hits_say(index: Index, xq: np.ndarray) -> None:
    batch = index.search_batch(vectors=xq, k=20)
    assert batch.scores.dtype == np.float32 and batch.rows.dtype == np.int64
    assert batch.scores.shape == batch.rows.shape == (20, 20)
    assert (batch.rows[:, 8:] == -1).all() and np.isneginf(batch.scores[:, 8:]).all()
    assert (batch.rows[:, :8] >= 0).all() and np.isfinite(batch.scores[:, :8]).all()
    assert [len(results) for results in batch] == [8] * 20
    for scores, results in zip(batch.scores, batch, strict=True):
        assert [hit.score for hit in results] == scores[:8].tolist()
    ids = batch.ids()
    assert ids == [[hit.id for hit in results] for results in batch]
    assert all(set(some) == ALL for some in ids)
    numbers = {id: set() for id in ALL}  # id -> numbers of rows that it was found under
    for row, some in zip(batch.rows.tolist(), ids, strict=True):
        for number, id in zip(row, some, strict=False):
            numbers[id].add(number)
    assert all(len(one) == 1 for one in numbers.values())


@pytest.mark.parametrize(
    ("where", "left"), [("modality = 'image'", {"beach", "icon"}), ("size < 0", set())]
)
def test_what_a_filter_leaves_is_padded(
    index: Index, xq: np.ndarray, where: str, left: set[str]
) -> None:
    batch = index.search_batch(vectors=xq, k=4, where=where)
    assert batch.scores.shape == (20, 4)
    assert ((batch.rows >= 0).sum(axis=1) == len(left)).all()
    assert [set(some) for some in batch.ids()] == [left] * 20
    assert [{hit.id for hit in results} for results in batch] == [left] * 20
    assert all(results.filter_ms is not None for results in batch)


def test_an_index_without_parts_answers_with_nothing(tmp_path: Path, xq: np.ndarray) -> None:
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.commit()
    batch = Index(tmp_path / "ix").search_batch(vectors=xq, k=7)
    assert batch.scores.shape == (20, 7) and (batch.rows == -1).all()
    assert batch.ids() == [[]] * 20 and [list(results) for results in batch] == [[]] * 20


@pytest.mark.parametrize(
    "batch",
    [
        lambda ix: ix.search_batch([], k=4),
        lambda ix: ix.search_batch(iter(()), k=4),
        lambda ix: ix.search_batch(vectors=[], k=4),
        lambda ix: ix.search_batch(vectors=np.empty((0, D), np.float16), k=4, where="width > 0"),
        lambda ix: ix.search_batch(vectors=[Q] * 3, k=4)[2:2],
    ],
)
def test_an_empty_batch_is_one(index: Index, batch: Any) -> None:
    empty = batch(index)
    assert isinstance(empty, BatchResults) and empty == [] and not empty
    assert empty.scores.shape == (0, 4) and empty.ids() == [] and list(empty) == []
    assert empty.scores.dtype == np.float32 and empty.rows.dtype == np.int64
    with pytest.raises(IndexError):
        empty[0]


def test_a_batch_is_a_sequence(index: Index, xq: np.ndarray) -> None:
    batch = index.search_batch(vectors=xq, k=3)
    whole = [found(results) for results in batch]
    assert found(batch[-1]) == whole[19] and found(batch[np.int64(4)]) == whole[4]
    some = batch[15:2:-5]
    assert isinstance(some, BatchResults) and [found(r) for r in some] == whole[15:2:-5]
    assert some.ids() == batch.ids()[15:2:-5]
    np.testing.assert_array_equal(some[1].query.vector, xq[10])
    assert batch != [] and batch == batch and some != batch
    for outside in (20, -21):
        with pytest.raises(IndexError):
            batch[outside]
    assert "20 queries of 3" in repr(batch) and str(index.path) in repr(batch)
    assert batch[0].to_json()["hits"] == index.search(vector=xq[0], k=3).to_json()["hits"]


# -- what it holds ----------------------------------------------------------


def test_a_batch_outlives_a_refresh_and_shows_its_own_snapshot(
    index: Index, xq: np.ndarray
) -> None:
    batch = index.search_batch(vectors=xq, k=8)
    kept = batch[0]
    before = batch.ids()
    for id, text in (("note", "Another note"), ("new", "A new note")):
        with Writer(index.path, SPACE) as writer:
            writer.drop("song", id)
            writer.extend([(part(id, TEXT, None, root=1, text=text), unit(5))])
            writer.commit()
            writer.compact()
            writer.finish()
    assert not all(segment.folder.exists() for segment in index.snapshot.segments)
    assert index.refresh()
    now = {hit.id: hit.text for hit in index.search(vector=Q, k=20)}
    assert now["note"] == "Another note" and "new" in now and "song" not in now
    for results in (kept, batch[0], batch[7]):
        texts = {hit.id: hit.text for hit in results}
        assert set(texts) == ALL and texts["note"] == "A note of mine"
    assert batch.ids() == before


def test_hits_are_read_when_they_are_looked_at_and_by_search_itself(index: Index) -> None:
    batch = index.search_batch(vectors=[Q, -Q], k=8)
    for segment in index.snapshot.segments:  # same sizes, so what is open does not notice
        path = segment.folder / "parts.arrow"
        path.write_bytes(path.read_bytes().replace(b'{"', b'}"'))
    results = batch[0]
    assert len(results) == 8 and results.took_ms > 0 and results.query.k == 8
    with pytest.raises(IndexDamaged, match="mmsearch verify"):
        results[0]
    with pytest.raises(IndexDamaged, match="mmsearch verify"):
        list(batch[1])
    with pytest.raises(IndexDamaged, match=re.escape(str(index.path))):
        index.search(vector=Q, k=8)


def test_a_query_s_share_of_the_time_is_told(index: Index, xq: np.ndarray) -> None:
    started = time.perf_counter()
    batch = index.search_batch(vectors=xq, where="size >= 0 and true")
    elapsed_ms = (time.perf_counter() - started) * 1000
    assert batch.took_ms.shape == (20,) and (batch.took_ms > 0).all()
    assert batch.took_ms.sum() <= elapsed_ms
    results = batch[3]
    assert results.took_ms == batch.took_ms[3] and results.filter_ms is not None
    assert 0 < results.filter_ms < results.took_ms
    assert index.search_batch(vectors=xq)[3].filter_ms is None


# -- how it is asked --------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("as_list", [False, True])
def test_vectors_may_be_any_array_of_numbers(
    index: Index, xq: np.ndarray, dtype: type, as_list: bool
) -> None:
    given = np.round(xq * 100).astype(dtype) if dtype is np.int32 else xq.astype(dtype)
    same = given.astype(np.float32)
    batch = index.search_batch(vectors=given.tolist() if as_list else given, k=8)
    for results, vector in zip(batch, same, strict=True):
        assert found(results) == found(index.search(vector=vector, k=8))


def test_what_is_of_unit_length_is_taken_as_it_is(
    index: Index, xq: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    search = Together.search

    def seen(self: Together, xq: Vectors, k: int, masks: Any, recall=None) -> Any:
        asked.append(xq)
        return search(self, xq, k, masks)

    monkeypatch.setattr(Together, "search", seen)
    units = xq / np.linalg.norm(xq, axis=1, keepdims=True)
    units[3:5] *= np.float32(1 + 5e-7)
    index.search_batch(vectors=units)
    assert np.shares_memory(asked[-1], units)
    mixed = units.copy()
    mixed[7] *= 3
    mixed[9] *= np.float32(1 + 1e-5)
    index.search_batch(vectors=mixed[::-1])
    np.testing.assert_array_equal(asked[-1][[19 - i for i in range(20) if i not in (7, 9)]],
                                  units[[i for i in range(20) if i not in (7, 9)]])  # fmt: skip
    np.testing.assert_allclose(asked[-1][[12, 10]], units[[7, 9]], atol=2e-7)
    assert mixed[7] @ mixed[7] > 8  # what was given is not written to


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({(7, 2): np.nan}, UsageError, "vectors[7] has no direction: its length is nan"),
        ({(7, 2): np.inf, (9, 0): np.nan}, UsageError, "vectors[7] (and 1 more) has no direction"),
        ({7: 0}, UsageError, "vectors[7] has no direction: its length is 0"),
        ({(19, 0): 1e39}, UsageError, "vectors[19] has no direction"),
        ({7: 1e-30}, UsageError, "vectors[7] has no direction"),
    ],
)
def test_a_vector_without_direction_is_refused_by_its_row(
    index: Index, xq: np.ndarray, change: dict[Any, float], error: type[Exception], words: str
) -> None:
    given = xq.astype(np.float64)
    for at, value in change.items():
        given[at] = value
    with pytest.raises(error, match=re.escape(words)):
        index.search_batch(vectors=given)
    row = next(iter(change))
    with pytest.raises(error, match="the vector has no direction"):
        index.search(vector=given[row if isinstance(row, int) else row[0]])


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"vectors": np.ones((4, 5))}, DimensionMismatch, "shape (4, 5); test wants (n, 8)."),
        ({"vectors": Q}, DimensionMismatch, "Index.search(vector=…)"),
        ({"vectors": np.ones((2, 2, 8))}, DimensionMismatch, "(2, 2, 8)"),
        ({"vectors": 3.0}, DimensionMismatch, "shape ()"),
        ({"vectors": [[1.0] * 8, [1.0] * 7]}, UsageError, "vectors cannot be read as an array"),
        ({"vectors": [[None] * 8]}, UsageError, "vectors[0] has no direction: its length is nan"),
        ({"vectors": [["1"] * 8]}, UsageError, "vectors must be real numbers"),
        ({"vectors": np.ones((2, 8)) * 1j}, UsageError, "real numbers, not complex128"),
        ({}, UsageError, "texts, images, audio and vectors; got 0"),
        ({"texts": ["a"], "vectors": [Q]}, UsageError, "audio and vectors; got 2"),
        ({"vectors": [Q], "k": 0}, UsageError, "1 to 10,000, not 0"),
        ({"vectors": [], "k": True}, UsageError, "not True"),
        ({"vectors": [Q], "to": "video"}, UsageError, "not 'video'"),
        ({"vectors": [Q], "where": 3}, UsageError, "a filter is a str or a dict, not int"),
        ({"vectors": [], "where": "heigth > 3"}, UsageError, "did you mean height"),
        ({"texts": "a dog"}, UsageError, "not one alone"),
        ({"texts": 5}, UsageError, "a list of texts, not 5"),
        ({"texts": ["a", "b", None]}, UsageError, "texts[2]: a text query is a str, not NoneType"),
        ({"texts": iter(["a", " "])}, UsageError, "texts[1]: the query is empty"),
        ({"texts": ["a", "b" * 20_001]}, LimitExceeded, "texts[1]: the query has 20,001"),
    ],
)
def test_a_wrong_batch_says_what_is_wrong(
    index: Index, asked: dict[str, Any], error: type[Exception], words: str
) -> None:
    reading_letters(index)
    with pytest.raises(error, match=re.escape(words)):
        index.search_batch(**asked)


def test_a_list_with_a_wrong_text_is_refused_before_any_is_encoded(index: Index) -> None:
    encoder = reading_letters(index)
    with pytest.raises(UsageError, match=re.escape("texts[900]:")):
        index.search_batch(["a"] * 900 + [""])
    assert encoder.asked == []


def test_a_text_that_is_asked_is_encoded_as_a_question(index: Index) -> None:
    encoder = reading_letters(index)
    index.search("a")
    index.search_batch(["a", "b"])
    assert encoder.as_questions == [True, True]


def test_vectors_that_an_encoder_gives_and_are_not_finite_are_an_error(index: Index) -> None:
    encoder = reading_letters(index)
    encoder.encode = lambda _, data, asked=False: np.full((len(data), D), np.nan, np.float32)  # type: ignore[method-assign]
    for ask in (lambda: index.search("a"), lambda: index.search_batch(["a", "b"])):
        with pytest.raises(SpaceUnavailable, match="not finite"):
            ask()


# -- how much it holds ------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_thousand_texts_stream(index: Index) -> None:
    encoder = reading_letters(index)
    ahead = []

    def texts() -> Iterator[str]:
        for n in range(100_000):
            ahead.append(n - sum(encoder.asked))
            yield "abcdefg"[n % 7] + str(n)

    batch = index.search_batch(texts(), k=3)
    assert len(batch) == 100_000 and max(ahead) < 256
    assert set(encoder.asked) == {256, 100_000 % 256}
    assert batch[99_999].query.text == "abcdefg"[99_999 % 7] + "99999"
    alone = [[hit.id for hit in index.search(letter, k=3)] for letter in "abcdefg"]
    assert batch.ids() == [alone[n % 7] for n in range(100_000)]


def test_a_hundred_thousand_vectors_are_made_ready_in_blocks(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = []
    search = Together.search

    def seen(self: Together, xq: Vectors, k: int, masks: Any, recall=None) -> Any:
        blocks.append(len(xq))
        return search(self, xq, k, masks)

    rng = np.random.default_rng(0)
    np.save(tmp_path / "xq.npy", rng.standard_normal((100_000, D)).astype(np.float16))
    mapped = np.load(tmp_path / "xq.npy", mmap_mode="r")
    alone = [found(index.search(vector=mapped[n], k=2)) for n in (0, 4095, 4096, 99_999)]
    monkeypatch.setattr(Together, "search", seen)
    batch = index.search_batch(vectors=mapped, k=2)
    assert max(blocks) == BLOCK_VECTORS and sum(blocks) == 100_000
    assert [found(batch[n]) for n in (0, 4095, 4096, 99_999)] == alone


def test_a_batch_is_of_one_snapshot_whatever_is_refreshed_meanwhile(index: Index) -> None:
    reading_letters(index)
    held = Snapshot.open(index.path)

    def texts() -> Iterator[str]:
        for n in range(600):
            if n == 300:
                with Writer(index.path, SPACE) as writer:
                    writer.drop(*(id.split("#")[0] for id in ALL))
                    writer.commit()
                assert index.refresh() and len(index) == 0
            yield "a"

    batch = index.search_batch(texts(), k=20)
    assert [set(some) for some in batch.ids()] == [ALL] * 600 and len(held) == len(ALL)


def test_threads_that_look_at_one_result_at_once_see_the_same(index: Index) -> None:
    truth = index.search(vector=Q, k=8).hits
    seen: list[object] = []

    def look(results: Results, ready: threading.Barrier) -> None:
        ready.wait()
        try:
            seen.append(results.hits == truth)
        except BaseException as e:
            seen.append(e)

    for _ in range(40):
        results, ready = index.search_batch(vectors=[Q], k=8)[0], threading.Barrier(4)
        threads = [threading.Thread(target=look, args=(results, ready)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 160
