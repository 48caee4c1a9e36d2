"""Indexes of vectors that an application's own model makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mmsearch

D = 24


def unit(n: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, D)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def filled(tmp_path: Path, n: int = 50) -> mmsearch.Index:
    index = mmsearch.create(tmp_path / "ix", dimension=D)
    ids = [f"p{i}" for i in range(n)]
    index.add([{"modality": "image"}] * n, vectors=unit(n), ids=ids)
    return index


def test_what_is_nearest_is_found_by_its_vector_and_kept_after_opening(tmp_path: Path) -> None:
    filled(tmp_path)
    index = mmsearch.open(tmp_path / "ix")
    xq = unit(1, seed=1)
    truth = np.argsort(-(unit(50) @ xq[0]))[:5]
    assert [hit.id for hit in index.search(vector=xq[0], k=5)] == [f"p{i}" for i in truth]
    assert index.search_batch(vectors=xq, k=5).ids() == [[f"p{i}" for i in truth]]
    assert index.info()["dimension"] == D and index.verify() == []


def test_what_needs_a_model_says_that_there_is_none(tmp_path: Path) -> None:
    index = filled(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a dog")
    for call in (
        lambda: index.search("a dog"),
        lambda: index.search_batch(["a dog"]),
        lambda: index.add([{"text": "a dog"}]),
        lambda: index.sync(tmp_path / "notes"),
        lambda: mmsearch.load_space("vectors"),
    ):
        with pytest.raises(mmsearch.SpaceUnavailable, match="a model of your own"):
            call()
    with pytest.raises(mmsearch.DimensionMismatch):
        index.add([{"modality": "image"}], vectors=np.ones((1, D + 1)))
    assert len(index) == 50


def test_a_dimension_is_a_whole_number_and_no_space_besides(tmp_path: Path) -> None:
    for dimension in (0, -1, 1.5, True, "24", 1 << 40):
        with pytest.raises(mmsearch.UsageError, match="dimension is a whole number"):
            mmsearch.create(tmp_path / "ix", dimension=dimension)  # type: ignore[arg-type]
    with pytest.raises(mmsearch.UsageError, match="either a space or a dimension"):
        mmsearch.create(tmp_path / "ix", "mini", dimension=D)
    assert not (tmp_path / "ix").exists()


@pytest.mark.slow
def test_lists_are_trained_without_a_model(tmp_path: Path) -> None:
    index = filled(tmp_path, 3000)
    from mmsearch.store import Writer

    with Writer(index.path, index.space) as writer:
        writer.want("ivfpq")
        writer.commit()
    index.refresh()
    assert index.compact().trained
    xq = unit(40, seed=2)
    truth = np.argsort(-(xq @ unit(3000).T), axis=1)[:, :10]
    found = index.search_batch(vectors=xq, k=10).rows
    shared = [len({*a} & {*b}) for a, b in zip(truth, found, strict=True)]
    assert np.mean(shared) > 9
