"""Exact search: the ways of finding the same rows, and what each reads, answered by NumPy."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from mmsearch import ann
from mmsearch.ann import exact as ways
from mmsearch.ann import products, without_faiss
from mmsearch.ann.masked import Masked
from mmsearch.errors import IndexDamaged
from vectors import D, N, corpus, exact, questions


def sparse(n: int, share: float) -> np.ndarray:
    """A mask that allows so large a share of n rows."""
    return np.random.default_rng(7).random(n) < share


@pytest.mark.parametrize("share", [None, 0.01, 0.25, 0.9])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_products_find_what_the_scan_finds(share: float | None, k: int) -> None:
    xb, xq = corpus(12_000), questions(90)
    only = None if share is None else Masked(sparse(len(xb), share))
    index, m = ways.view(xb), len(xb) if only is None else only.n
    scanned, rows = ways.scanned(xq, ways.Scan.of(index, only), k)
    allowed = None if only is None else only.rows
    best, ids, sure = products.nearest(xq, xb, min(k, m), allowed)
    assert sure.mean() > 0.9
    assert ids[sure].tolist() == rows[sure, :m].tolist()
    assert best[sure].tobytes() == np.ascontiguousarray(scanned[sure, :m]).tobytes()


def test_many_queries_of_many_rows_go_through_products(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    nearest = products.nearest
    monkeypatch.setattr(
        products, "nearest", lambda xq, *more: asked.append(len(xq)) or nearest(xq, *more)
    )
    flat = ann.Flat(corpus())
    for nq in (1, 8, 64):
        flat.search(questions(nq), 10, None)
    flat.search(questions(64), 1000, None)  # nearly as many to be scored as there are
    flat.search(questions(64), 10, sparse(N, 0.05))
    assert asked == [64]


def test_neighbours_closer_than_a_product_rounds_are_told_apart() -> None:
    """All rows lie within a few units in the last place of each other: no query is sure."""
    rng = np.random.default_rng(3)
    xb = np.tile(corpus(1), (4000, 1))
    xb[:, 0] += (rng.integers(0, 3, len(xb)) * 2.0**-14).astype(np.float16)
    xq = np.tile(corpus(1).astype(np.float32), (70, 1))
    _, _, sure = products.nearest(xq, xb, 10, None)
    assert not sure.any()
    _, ids = ann.Flat(xb).search(xq, 10, None)
    assert ids.tolist() == exact(xb, xq, 10).tolist()


@pytest.fixture
def scan_of_lanes(request: pytest.FixtureRequest) -> Iterator[int]:
    """Makes FAISS sum so many products side by side, where this machine and FAISS can."""
    lanes = request.param
    levels = getattr(faiss, "SIMDConfig", None)  # older versions take what the machine has
    if levels is None:
        if lanes != without_faiss._lanes(D):
            pytest.skip("this FAISS sums otherwise, and cannot be told")
        yield lanes
        return
    level = {16: faiss.SIMDLevel_AVX512, 8: faiss.SIMDLevel_AVX2}[lanes]
    if not levels.is_simd_level_available(level):
        pytest.skip(f"this machine does not sum {lanes} products side by side")
    before = levels.get_level()
    levels.set_level(level)
    yield lanes
    levels.set_level(before)


@pytest.mark.parametrize("scan_of_lanes", [16, 8], indirect=True)
def test_numpy_alone_gives_the_scores_of_faiss_to_the_last_digit(scan_of_lanes: int) -> None:
    xb, xq = corpus(), questions(20)
    for q, rows, known in zip(xq, *ways.view(xb).search(xq, 500)[::-1], strict=True):
        assert without_faiss._as_faiss(q, xb[rows], scan_of_lanes).tobytes() == known.tobytes()


COLD = """
import sys
import numpy as np
from mmsearch import ann
from mmsearch.ann import without_faiss
from vectors import corpus, questions
xb, xq = corpus(), questions(40)
without_faiss._MOST_ROWS = 9 * len(xb) // 4
few = np.arange(len(xb)) % 4 == 1
flat = ann.Flat(xb)
cold = [flat.search(xq[:1], 10, None), flat.search(xq[1:2], 10, few)]
cold.append(ann.Together([ann.Flat(xb)]).search(xq[2:3], 10, [None]))
loaded = "faiss" in sys.modules
cold.append(flat.search(xq[3:4], 10, None))  # now it has compared enough
assert "faiss" in sys.modules
warm = [flat.search(xq, 10, allowed) for allowed in (None, few, None, None)]
for n, ((D, ids), (D_all, ids_all)) in enumerate(zip(cold, warm)):
    assert ids[0].tolist() == ids_all[n].tolist(), n
    assert D[0].tobytes() == D_all[n].tobytes(), n
print(loaded)
"""


def test_the_first_queries_of_a_process_do_without_faiss_and_score_the_same() -> None:
    beside = Path(__file__).parent  # where the vectors come from
    done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, cwd=beside)
    assert not done.stderr, done.stderr
    assert done.stdout == f"{without_faiss._lanes(D) == 0}\n"


def test_numpy_leaves_to_faiss_what_rounding_leaves_open() -> None:
    xb = np.tile(corpus(1), (300, 1))
    assert without_faiss.nearest(corpus(1).astype(np.float32), xb, 10, None) is None
    found = without_faiss.nearest(corpus(1).astype(np.float32), xb[:15], 10, None)
    assert found is not None and found[1].tolist() == [list(range(10))]  # all of them are scored


NOT_INSTALLED = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "faiss" else find(name, *more)
import numpy as np
from mmsearch import ann
from mmsearch.ann import without_faiss
from vectors import corpus, exact, questions
without_faiss._MOST_ROWS = 0
for d in (0, 1):  # a width that FAISS sums in some lanes, and one that it does not
    xb, xq = corpus()[:, d:], questions(40)[:, d:]
    xq = np.ascontiguousarray(xq / np.linalg.norm(xq, axis=1, keepdims=True))
    for allowed in (None, np.arange(len(xb)) % 4 == 1):
        _, ids = ann.Flat(xb).search(xq, 10, allowed)
        assert (ids == exact(xb, xq, 10, allowed)).mean() > 0.999
        _, ids = ann.Together([ann.Flat(xb)]).search(xq[:1], 10, [allowed])
        assert (ids == exact(xb, xq[:1], 10, allowed)).all()
same = np.tile(corpus(1), (300, 1))
_, ids = ann.Flat(same).search(questions(3), 10, None)
assert ids.tolist() == [list(range(10))] * 3
print("faiss" in sys.modules)
"""


def test_exact_search_needs_no_faiss_however_much_is_asked() -> None:
    beside = Path(__file__).parent
    command = [sys.executable, "-c", NOT_INSTALLED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=beside)
    assert not done.stderr, done.stderr
    assert done.stdout == "False\n"


def refusing(damaged: int, asked: list[np.ndarray]) -> ann.CheckRows:
    """A check that notes which rows it was asked for, and finds one of them damaged."""

    def check(rows: np.ndarray) -> None:
        asked.append(rows)
        if damaged in rows:
            raise IndexDamaged("row 4321")

    return check


@pytest.mark.parametrize("nq", [1, 8, 64])
@pytest.mark.parametrize("share", [0.002, 0.3, 0.9])
def test_what_may_be_found_is_checked_before_and_nothing_else(nq: int, share: float) -> None:
    mask, asked = sparse(N, share), []
    mask[4321] = False
    flat = ann.Flat(corpus(), refusing(4321, asked))
    _, ids = flat.search(questions(nq), 10, mask)
    m = min(10, int(mask.sum()))
    assert ids[:, :m].tolist() == exact(corpus(), questions(nq), m, mask).tolist()
    assert np.concatenate(asked).tolist() == np.flatnonzero(mask).tolist()
    flat.search(questions(nq), 10, mask)
    assert len(asked) == 1  # the same mask is not checked twice
    for wrong in (None, mask | (np.arange(N) == 4321)):
        with pytest.raises(IndexDamaged):
            flat.search(questions(nq), 10, wrong)


@pytest.mark.parametrize("nq", [1, 40])
@pytest.mark.parametrize("sizes", [[N], [0, 3, 40, 0, 2500, 17, 3000, 440], [200] * 30])
def test_segments_together_find_what_one_finds(sizes: list[int], nq: int) -> None:
    xb, xq = corpus(), questions(nq)
    cuts = np.cumsum([0, *sizes])
    spans = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    together = ann.Together([ann.Flat(xb[span]) for span in spans])
    for mask in (np.ones(N, bool), sparse(N, 0.9), sparse(N, 0.02), sparse(N, 0.001)):
        mask = mask & (np.arange(N) // 300 % 3 != 1)
        masks = [
            None if mask[span].all() else mask[span] if mask[span].any() else ann.NOTHING
            for span in spans
        ]
        for k in (1, 10, 500):
            scores, ids = together.search(xq, k, masks)
            one, rows = ann.Flat(xb).search(xq, k, mask)
            assert ids.tolist() == rows.tolist() and scores.tobytes() == one.tobytes()
    scores, ids = together.search(xq, 10, [ann.NOTHING] * len(spans))
    assert (ids == -1).all() and np.isneginf(scores).all()


def test_equal_scores_of_several_segments_come_in_row_order() -> None:
    xb = np.tile(corpus(5), (1400, 1))
    spans = [slice(0, 30), slice(30, 3000), slice(3000, 3100), slice(3100, 7000)]
    together = ann.Together([ann.Flat(xb[span]) for span in spans])
    for nq in (1, 30):
        xq = np.tile(corpus(5)[2:3].astype(np.float32), (nq, 1))
        for k in (10, 1000):
            _, ids = together.search(xq, k, [None] * 4)
            assert ids.tolist() == [list(range(2, 5 * k, 5))] * nq


def test_small_neighbours_are_copied_together_and_large_ones_searched_where_they_lie() -> None:
    xb = corpus(30_000)
    sizes = [9000, 100, 2000, 2000, 10, 9000, 500]
    cuts = np.cumsum([0, *sizes])
    flats = [ann.Flat(xb[a:b]) for a, b in itertools.pairwise(cuts)]
    together = ann.Together(flats)
    together.search(questions(1), 10, masks := [None] * len(sizes))
    searched = [part.searched for part in together._plan(masks).parts]
    assert [len(one.vectors) for one in searched] == [9000, 4100 - 2000, 2010, 9000, 500]
    assert searched[0] is flats[0] and searched[3] is flats[5] and searched[4] is flats[6]


def test_a_damaged_small_segment_is_an_error_for_each_query() -> None:
    together = ann.Together([ann.Flat(corpus(50)), ann.Flat(corpus(60), refusing(7, []))])
    for _ in range(2):
        with pytest.raises(IndexDamaged):
            together.search(questions(1), 10, [None, None])


def test_threads_that_ask_with_new_masks_at_once_find_what_one_finds() -> None:
    xb, cuts = corpus(), [0, 400, 900, 4000, N]
    spans = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    together = ann.Together([ann.Flat(xb[span]) for span in spans])
    whole = [sparse(N, share) for share in (0.01, 0.1, 0.5, 0.9)]
    masks = [[mask[span] for span in spans] for mask in whole]
    asked = [questions(40)[:nq] for nq in (1, 8, 40)]

    def ask(n: int) -> bool:
        xq, which = asked[n % 3], n % 4
        _, ids = together.search(xq, 10, masks[which])
        return bool((ids == truth[which][: len(xq)]).all())

    truth = [exact(xb, asked[-1], 10, mask) for mask in whole]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(96)))
