"""One contract for every kind of ANN index, answered by NumPy."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

from mmsearch import ann
from mmsearch.ann import quantiser, tune
from mmsearch.ann.effort import Effort, effort_for
from mmsearch.errors import IndexDamaged
from vectors import D, File, N, corpus, exact, questions


def build(kind: str, xb: np.ndarray, whole: bool = True) -> ann.SegmentIndex:
    if kind == "flat":
        return ann.Flat(xb)
    trained, facts = quantiser.train(len(xb), D, xb.astype(np.float32))
    pieces, _ = quantiser.encode(trained, [xb[:1000], xb[1000:]])
    lists = np.concatenate(list(pieces))
    tuned = ann.IvfPq(xb, File(xb), File(lists), File(trained), facts)
    facts |= tune.tuned([tuned], [None], questions(300), 0.97)
    return ann.IvfPq(xb, File(xb, whole), File(lists, whole), File(trained), facts)


@pytest.fixture(scope="module", params=sorted(ann.KINDS))
def index(request: pytest.FixtureRequest) -> ann.SegmentIndex:
    return build(request.param, corpus())


MASKS = {
    "all": None,
    "most": np.arange(N) % 10 != 4,
    "half": np.arange(N) % 2 == 0,
    "few": np.arange(N) % 500 == 3,
    "one": np.arange(N) == 77,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("k", [1, 10, 100, 7000])
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


def copied_rows() -> np.ndarray:
    """2,000 rows: ten different ones that are nearest to the first axis, 600 that are all the
    same and next, between others that are far away."""
    rng = np.random.default_rng(4)
    xb = rng.standard_normal((2000, D)).astype(np.float32)
    xb[:, 0] = 0
    xb /= np.linalg.norm(xb, axis=1, keepdims=True)
    xb[1::3, 0] = 2
    xb[1::3, 1:] = 1 / 16
    for n, row in enumerate(range(1900, 2000, 10)):
        xb[row, :2] = 3 + n / 10, 0.1
    return (xb / np.linalg.norm(xb, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def copies(index: ann.SegmentIndex) -> ann.SegmentIndex:
    return build("flat" if isinstance(index, ann.Flat) else "ivfpq", copied_rows())


@pytest.mark.parametrize("nq", [1, 5, 80])
def test_equal_scores_come_in_row_order_also_at_the_border(
    copies: ann.SegmentIndex, nq: int
) -> None:
    xb, q = copied_rows(), np.eye(1, D, dtype=np.float32)
    for allowed in (None, np.arange(len(xb)) % 7 != 1):
        for k in (3, 10, 11, 40, 400, 700, 1600):
            scores, ids = copies.search(np.repeat(q, nq, axis=0), k, allowed, recall=1)
            assert ids.tolist() == exact(xb, q, k, allowed).tolist() * nq
            assert (np.diff(scores) <= 0).all()


def test_no_row_allowed_gives_no_hit(index: ann.SegmentIndex) -> None:
    scores, ids = index.search(questions(2), 3, np.zeros(N, bool))
    assert (ids == -1).all() and np.isneginf(scores).all()


@pytest.mark.parametrize("mask", MASKS)
def test_a_query_has_the_same_hits_and_scores_in_every_batch(
    index: ann.SegmentIndex, mask: str
) -> None:
    xq, allowed = questions(256), MASKS[mask]
    recall = None if allowed is None else 1  # lists are searched as the query that needs most
    scores, ids = index.search(xq, 10, allowed, recall)
    for nq in (1, 8, 32):
        some, rows = index.search(xq[:nq], 10, allowed, recall)
        assert rows.tolist() == ids[:nq].tolist(), nq
        assert some.tobytes() == scores[:nq].tobytes(), nq


def test_a_part_has_the_same_score_from_every_kind_of_index(index: ann.SegmentIndex) -> None:
    for allowed in MASKS.values():
        scores, ids = ann.Flat(corpus()).search(questions(), 10, allowed)
        same, rows = index.search(questions(), 10, allowed, recall=1)
        assert rows.tolist() == ids.tolist() and same.tobytes() == scores.tobytes()


def test_merging_segments_gives_what_one_segment_gives() -> None:
    xb, xq = corpus(), questions()
    _, whole = ann.Flat(xb).search(xq, 10, None)
    spans = [slice(0, 100), slice(100, 4000), slice(4000, N)]
    _, merged = ann.Together([ann.Flat(xb[span]) for span in spans]).search(xq, 10, [None] * 3)
    assert merged.tolist() == whole.tolist()


def test_an_empty_segment_gives_no_hit() -> None:
    scores, ids = ann.Flat(np.empty((0, D), np.float16)).search(questions(2), 3, None)
    assert (ids == -1).all() and scores.shape == (2, 3)


def test_damaged_lists_are_an_error_and_no_crash() -> None:
    with pytest.raises(IndexDamaged):
        lists = File(np.frombuffer(b"IwPf" + b"\0" * 40, np.uint8))
        ann.IvfPq(corpus(), File(corpus()), lists, lists, {"nlist": 9}).search(
            questions(1), 3, None
        )


@pytest.mark.parametrize(
    ("kind", "live", "trained_on", "verdict"),
    [
        ("auto", 199_999, None, "none"),
        ("auto", 200_000, None, "train"),
        ("auto", 250_000, 200_000, "keep"),
        ("auto", 800_001, 200_000, "train"),
        ("flat", 10**6, 10**6, "none"),
        ("ivfpq", 1000, None, "train"),
        ("ivfpq", 100, None, "none"),
        ("auto", 10, 200_000, "none"),
        ("auto", 120_000, 200_000, "keep"),
        ("auto", 99_999, 200_000, "none"),
    ],
)
def test_when_a_quantiser_is_trained(
    kind: str, live: int, trained_on: int | None, verdict: str
) -> None:
    assert ann.wanted(kind, live, trained_on) == verdict


def test_vectors_that_drifted_from_the_lists_ask_for_new_ones() -> None:
    assert ann.wanted("auto", 210_000, 200_000, drift=1.1) == "keep"
    assert ann.wanted("auto", 210_000, 200_000, drift=1.3) == "train"
    assert ann.wanted("flat", 210_000, 200_000, drift=1.3) == "none"


def test_before_everything_was_checked_the_answers_are_those_of_after(index) -> None:
    if isinstance(index, ann.Flat):
        pytest.skip("exact search compares all, at once")
    xq, xb = questions(), corpus()
    lists, trained = index._list_file.data, index._quantiser.data  # training anew would differ
    cold = ann.IvfPq(xb, File(xb, False), File(lists, False), File(trained), index._facts)
    half = MASKS["half"]
    for allowed in (None, half):
        for q in xq:
            scores, ids = index.search(q[None], 10, allowed)
            cold_scores, cold_ids = cold.search(q[None], 10, allowed)
            assert cold_ids.tolist() == ids.tolist() and (cold_scores == scores).all()


def test_one_query_touches_few_lists_and_vectors_and_each_is_checked_before() -> None:
    xb = corpus()
    cold = build("ivfpq", xb, whole=False)
    xq = questions(1)
    _, ids = cold.search(xq, 3, None)
    rows = cold._vector_file.checked.reshape(N, -1)
    assert not cold._list_file.checked.all()
    assert rows[ids[0]].all()
    compared = cold.candidates(xq, None, effort_for(cold._facts, None, 3, 1.0))
    assert rows[compared[compared >= 0]].all()


def test_going_on_everything_gets_checked_in_the_end() -> None:
    cold = build("ivfpq", corpus(), whole=False)
    for q in np.concatenate([questions(40)] * 2):
        cold.search(q[None], 3, None)
    assert cold._vector_file.checked.all() and cold._list_file.checked[40:].all()


def test_lists_that_were_interrupted_while_loading_hold_each_row_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, calls, pointer = build("ivfpq", corpus()), [], faiss.swig_ptr

    def interrupted(array: np.ndarray) -> Any:
        calls.append(array)
        if len(calls) == 41 and array.dtype == np.int64:
            raise KeyboardInterrupt
        return pointer(array)

    lists = index._open()[0]
    with monkeypatch.context() as inside, pytest.raises(KeyboardInterrupt):
        inside.setattr(faiss, "swig_ptr", interrupted)
        lists.load(None, index._open()[1])
    assert not lists.complete
    _, ids = index.search(questions(300), 10, None)
    assert lists.complete
    assert all(len(set(row)) == 10 for row in ids.tolist())


def test_a_recall_of_one_compares_every_vector(index: ann.SegmentIndex) -> None:
    for allowed in (None, MASKS["half"]):
        _, ids = index.search(questions(), 10, allowed, recall=1)
        assert ids.tolist() == exact(corpus(), questions(), 10, allowed).tolist()


def test_where_codes_do_not_tell_neighbours_the_tuner_tries_more_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = build("ivfpq", corpus())
    monkeypatch.setattr(tune, "_CANDIDATES", (12,))
    monkeypatch.setattr(tune, "_MORE_CANDIDATES", (500, N))
    curve = tune.tuned([index], [None], questions(100), 0.97)["curve"]
    assert curve[-1]["recall"] >= 0.99 and curve[-1]["candidates"] > 12


def test_more_recall_takes_more_lists_and_candidates() -> None:
    curve = [
        {"recall": 0.9, "nprobe": 4, "candidates": 40},
        {"recall": 0.96, "nprobe": 9, "candidates": 60},
        {"recall": 0.99, "nprobe": 30, "candidates": 100},
    ]
    facts = {"nlist": 200, "curve": curve, "depths": {"10": 1.0, "100": 3.0}, "target": 0.95}
    assert effort_for(facts, None, 10, 1.0) == Effort(9, 60)
    assert effort_for(facts, 0.9, 10, 1.0) == Effort(4, 40)
    assert effort_for(facts, 0.9999, 10, 1.0) == Effort(30, 100)
    # the 100 nearest, and the 10 nearest of a tenth of the rows, lie equally far away
    assert effort_for(facts, None, 100, 1.0) == Effort(27, 600)
    assert effort_for(facts, None, 10, 0.1) == Effort(27, 60)
    assert effort_for(facts, None, 10, 0.001).nprobe > 27
    assert effort_for(facts, None, 10, 0.000001).nprobe == 200


@pytest.mark.slow
def test_what_the_tuner_promises_holds_for_queries_it_never_saw() -> None:
    xb = corpus(20_000)
    index = build("ivfpq", xb)
    rng = np.random.default_rng(3)
    xq = xb[rng.integers(len(xb), size=800)].astype(np.float32) + 0.1
    xq = xq + 0.1 * rng.standard_normal(xq.shape).astype(np.float32)
    xq /= np.linalg.norm(xq, axis=1, keepdims=True)
    facts = tune.tuned([index], [None], xq[:400], 0.95)
    recalls = [point["recall"] for point in facts["curve"]]
    assert recalls == sorted(recalls) and recalls[-1] > 0.99
    index._facts.update(facts)
    _, truth = tune.exact_nearest([xb], [None], xq[400:], 10)
    for wanted in (0.9, 0.95, 0.99):
        promised = next(r for r in recalls if r >= wanted)
        _, ids = index.search(xq[400:], 10, None, wanted)
        found = np.mean([len({*a} & {*b}) / 10 for a, b in zip(truth, ids, strict=True)])
        assert abs(found - promised) < 0.02, wanted


def test_exact_neighbours_over_several_segments_leave_out_the_dead() -> None:
    xb, xq = corpus(), questions()
    live = np.arange(N) % 3 != 0
    _, ids = tune.exact_nearest([xb[:2500], xb[2500:]], [live[:2500], live[2500:]], xq, 10)
    assert ids.tolist() == exact(xb, xq, 10, live).tolist()


@pytest.mark.parametrize("d", [20, 48, 50, 99])
def test_every_width_of_vectors_gets_its_lists(d: int) -> None:
    rng = np.random.default_rng(0)
    xb = rng.standard_normal((3000, d))
    xb = (xb / np.linalg.norm(xb, axis=1, keepdims=True)).astype(np.float16)
    trained, facts = quantiser.train(len(xb), d, xb.astype(np.float32))
    pieces, _ = quantiser.encode(trained, [xb])
    lists = np.concatenate(list(pieces))
    index = ann.IvfPq(xb, File(xb), File(lists), File(trained), facts)
    _, ids = index.search(xb[:50].astype(np.float32), 1, None)
    assert (ids[:, 0] == np.arange(50)).mean() > 0.8


def test_lists_that_were_cut_or_belong_to_another_quantiser_are_an_error() -> None:
    whole = build("ivfpq", corpus())
    other, _ = quantiser.train(3 * N, D, corpus(3 * N).astype(np.float32))
    lists = whole._list_file.data
    for bad, trained in (
        (lists[:-32], whole._quantiser.data),
        (lists[:20], whole._quantiser.data),
        (lists, other),
    ):
        index = ann.IvfPq(corpus(), File(corpus()), File(bad), File(trained), whole._facts)
        with pytest.raises(IndexDamaged):
            index.search(questions(1), 3, None)
