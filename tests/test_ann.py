"""One contract for every kind of ANN index, answered by NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mmsearch import ann
from mmsearch.ann import ivfpq
from mmsearch.errors import IndexDamaged

N, D = 6000, 64


def corpus(n: int = N) -> np.ndarray:
    """Unit vectors in clusters, as embeddings are."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((60, D))
    xb = centres[rng.integers(60, size=n)] + 0.6 * rng.standard_normal((n, D))
    return (xb / np.linalg.norm(xb, axis=1, keepdims=True)).astype(np.float16)


def questions(n: int = 40) -> np.ndarray:
    """Queries that lie away from the corpus, as those of another modality do."""
    rng = np.random.default_rng(2)
    xq = corpus()[rng.integers(N, size=n)].astype(np.float32)
    xq = xq + 0.15 * rng.standard_normal(xq.shape).astype(np.float32) + 0.1
    return xq / np.linalg.norm(xq, axis=1, keepdims=True)


def exact(xb: np.ndarray, xq: np.ndarray, k: int, allowed: np.ndarray | None) -> np.ndarray:
    scores = xq.astype(np.float64) @ xb.astype(np.float64).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def build(kind: str, xb: np.ndarray) -> ann.SegmentIndex:
    if kind == "flat":
        return ann.Flat(xb)
    quantiser, facts = ivfpq.train(len(xb), D, xb.astype(np.float32))
    return ann.IvfPq(xb, ivfpq.encode(quantiser, [xb[:1000], xb[1000:]]), facts)


@pytest.fixture(scope="module", params=sorted(ann.KINDS))
def index(request: pytest.FixtureRequest) -> ann.SegmentIndex:
    return build(request.param, corpus())


MASKS = {
    "all": None,
    "half": np.arange(N) % 2 == 0,
    "few": np.arange(N) % 500 == 3,
    "one": np.arange(N) == 77,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("k", [1, 10, 100])
def test_the_nearest_are_found_best_first(index: ann.SegmentIndex, mask: str, k: int) -> None:
    allowed = MASKS[mask]
    xb, xq = corpus(), questions()
    scores, ids = index.search(xq, k, allowed)
    assert scores.shape == ids.shape == (len(xq), k)
    assert scores.dtype == np.float32 and ids.dtype == np.int64
    present = min(k, N if allowed is None else int(allowed.sum()))
    assert (ids[:, present:] == -1).all() and np.isneginf(scores[:, present:]).all()
    assert (ids[:, :present] >= 0).all()
    if allowed is not None:
        assert allowed[ids[:, :present]].all()
    assert (np.diff(scores[:, :present], axis=1) <= 0).all()
    truth_scores = np.take_along_axis(
        xq @ xb.astype(np.float32).T, np.maximum(ids[:, :present], 0), axis=1
    )
    np.testing.assert_allclose(scores[:, :present], truth_scores, atol=1e-5)
    truth = exact(xb, xq, present, allowed)
    recall = np.mean([len(set(a) & set(b)) / present for a, b in zip(truth, ids, strict=True)])
    if isinstance(index, ann.Flat):
        assert recall > 0.999  # float32 may swap neighbours whose scores differ by 1e-7
    else:
        assert recall >= 0.9


def test_equal_scores_come_in_row_order(index: ann.SegmentIndex) -> None:
    xb = np.zeros((2000, D), np.float16)
    xb[:, 0] = 1
    kind = "flat" if isinstance(index, ann.Flat) else "ivfpq"
    same = build(kind, xb)
    _, ids = same.search(xb[:1].astype(np.float32), 5, None)
    if kind == "flat":
        assert ids.tolist() == [[0, 1, 2, 3, 4]]
    else:  # which of the equals become candidates is the quantiser's choice
        assert ids[0].tolist() == sorted(ids[0].tolist())


def test_no_row_allowed_gives_no_hit(index: ann.SegmentIndex) -> None:
    scores, ids = index.search(questions(2), 3, np.zeros(N, bool))
    assert (ids == -1).all() and np.isneginf(scores).all()


def test_many_queries_in_one_call_give_what_each_gives_alone(index: ann.SegmentIndex) -> None:
    xq = np.concatenate([questions(), questions()[::-1]])
    _, together = index.search(xq, 10, None)
    for i in (0, 7, 79):
        _, alone = index.search(xq[i : i + 1], 10, None)
        assert alone[0].tolist() == together[i].tolist()


def test_merging_segments_gives_what_one_segment_gives() -> None:
    xb, xq = corpus(), questions()
    _, whole = ann.Flat(xb).search(xq, 10, None)
    found = []
    for start, stop in ((0, 100), (100, 4000), (4000, N)):
        scores, ids = ann.Flat(xb[start:stop]).search(xq, 10, None)
        found.append((scores, np.where(ids >= 0, ids + start, -1)))
    _, merged = ann.merge(found, 10)
    assert merged.tolist() == whole.tolist()


def test_an_empty_segment_gives_no_hit() -> None:
    scores, ids = ann.Flat(np.empty((0, D), np.float16)).search(questions(2), 3, None)
    assert (ids == -1).all() and scores.shape == (2, 3)


def test_damaged_lists_are_an_error_and_no_crash() -> None:
    with pytest.raises(IndexDamaged):
        ann.IvfPq(corpus(), np.frombuffer(b"IwPf" + b"\0" * 40, np.uint8), {"nprobe": 1}).search(
            questions(1), 3, None
        )


@pytest.mark.parametrize(
    ("kind", "live", "trained_on", "verdict"),
    [
        ("auto", 49_999, None, "none"),
        ("auto", 50_000, None, "train"),
        ("auto", 60_000, 50_000, "keep"),
        ("auto", 200_001, 50_000, "train"),
        ("flat", 10**6, 10**6, "none"),
        ("ivfpq", 1000, None, "train"),
        ("ivfpq", 100, None, "none"),
        ("auto", 10, 50_000, "none"),
        ("auto", 30_000, 50_000, "keep"),
        ("auto", 24_000, 50_000, "none"),
    ],
)
def test_when_a_quantiser_is_trained(
    kind: str, live: int, trained_on: int | None, verdict: str
) -> None:
    assert ann.wanted(kind, live, trained_on) == verdict
