"""What ``refresh`` takes over from the snapshot before: all that did not change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asked import Corpus, add_texts, answers, make
from filter_parts import IMAGE, SPACE, TEXT, D, part
from mmsearch import Index, UsageError, ann, filters
from mmsearch.ann import NOTHING
from mmsearch.filters import engine
from mmsearch.indexer import tune
from mmsearch.indexer.quantise import update_ann
from mmsearch.store import Segment, Snapshot, Writer

ROWS = 700  # of a segment: enough to train lists from


def vectors(n: int, seed: int = 0) -> np.ndarray:
    xb = np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)
    return xb / np.linalg.norm(xb, axis=1, keepdims=True)


def add(folder: Path, number: int, ann_kind: str = "flat") -> None:
    """Commits one more segment: half of its parts are images, and ``size`` numbers them."""
    with Writer(folder, SPACE) as writer:
        writer.root("/files")
        writer.want(ann_kind)
        for i, vector in enumerate(vectors(ROWS, number)):
            n = number * ROWS + i
            row = part(f"{n:05d}", IMAGE if n % 2 else TEXT, f"{n}.txt", size=n)
            writer.extend([(row, vector)])
        writer.commit()
        update_ann(writer)


def delete(index: Index, ids: Iterable[str]) -> None:
    """Deletes parts and shows that; merges nothing, as ``Index.remove`` might."""
    with Writer(index.path, SPACE) as writer:
        writer.drop(*ids)
        writer.commit()
    assert index.refresh()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        add(tmp_path / "ix", number)
    return tmp_path / "ix"


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of the first rows of segments that a filter was evaluated over."""
    seen: list[int] = []
    matching = engine.matching

    def noting(
        snapshot: Snapshot, where: str, segments: Sequence[Segment] | None = None
    ) -> list[Any]:
        for segment in snapshot.segments if segments is None else segments:
            seen.append(int(segment.row(0).size))
        return matching(snapshot, where, segments)

    monkeypatch.setattr(filters, "matching", noting, raising=False)
    yield seen


def found(index: Index, where: str | None = None, to: str | None = None) -> list[tuple[str, float]]:
    hits = index.search(vector=vectors(1, 99)[0], where=where, to=to, k=50)
    return [(hit.id, hit.score) for hit in hits]


def as_opened_anew(index: Index, *asked: str | None) -> list[tuple[str, float]]:
    """What the index finds, which must be what it finds when it is opened now."""
    mine = found(index, *asked)
    assert mine == found(Index(index.path), *asked)
    assert mine
    return mine


def test_a_new_segment_leaves_the_others_as_they_are(folder: Path) -> None:
    index = Index(folder)
    found(index, to="image")
    before = index._view
    masks = before.allowed(IMAGE)[0].masks
    add(folder, 2)
    assert index.refresh() and len(index) == 3 * ROWS
    now = index._view
    assert all(
        a is b for a, b in zip(before.snapshot.segments, now.snapshot.segments, strict=False)
    )
    assert all(a is b for a, b in zip(before.lanes[0], now.lanes[0], strict=False))
    assert all(a is b for a, b in zip(masks, now.allowed(IMAGE)[0].masks, strict=False))
    assert len(now.allowed(IMAGE)[0].masks) == 3
    as_opened_anew(index)
    as_opened_anew(index, None, "image")


def test_a_filter_is_evaluated_over_new_segments_only(folder: Path, evaluated: list[int]) -> None:
    index, where = Index(folder), "size % 5 = 1"
    found(index, where, "text")
    assert evaluated == [0, ROWS]
    add(folder, 2)
    index.refresh()
    found(index, where, "text")
    assert evaluated == [0, ROWS, 2 * ROWS]
    add(folder, 3)
    index.refresh()
    add(folder, 4)  # not asked between two refreshes
    index.refresh()
    found(index, where, "text")
    found(index, where)
    assert evaluated == [ROWS * n for n in range(5)]
    as_opened_anew(index, where, "text")
    as_opened_anew(index, where)


def test_deletions_narrow_what_is_known_and_evaluate_nothing(
    folder: Path, evaluated: list[int]
) -> None:
    index, where = Index(folder), "size % 5 < 4"
    gone = {id for id, _ in found(index, where, "image")[:3]}
    kept = index._view.allowed(IMAGE, where)[0].masks
    delete(index, gone)
    del evaluated[:]
    left = found(index, where, "image")
    assert evaluated == [] and not gone & {id for id, _ in left}
    as_opened_anew(index, where, "image")
    masks = index._view.allowed(IMAGE, where)[0].masks
    changed = {n for n in range(2) if masks[n] is not kept[n]}
    assert changed == {int(id) // ROWS for id in gone}
    delete(index, [id for id, _ in left])
    delete(index, [f"{n:05d}" for n in range(ROWS)])  # a whole segment
    as_opened_anew(index, where, "image")


def test_what_no_row_meets_stays_so_when_rows_are_deleted(
    folder: Path, evaluated: list[int]
) -> None:
    index, where = Index(folder), f"size < {ROWS}"
    found(index, where)
    delete(index, ["00003", f"{ROWS + 3:05d}"])
    del evaluated[:]
    assert index._view.allowed(None, where)[0].masks[1] is NOTHING
    assert "00003" not in {id for id, _ in as_opened_anew(index, where)}
    assert evaluated == [0, ROWS]  # by the index that was opened anew


def test_filters_of_moved_roots_are_evaluated_anew(folder: Path, evaluated: list[int]) -> None:
    index, where = Index(folder), "path like '/files/%'"
    assert len(found(index, where)) == 50
    with Writer(folder, SPACE) as writer:
        roots = tuple(replace(root, path="/moved") for root in writer.manifest.roots)
        writer.manifest = replace(writer.manifest, roots=roots)
        writer.commit()
    assert index.refresh()
    assert found(index, where) == [] and len(found(index, where.replace("files", "moved"))) == 50
    assert evaluated == [0, ROWS] * 3


def test_a_filter_that_is_none_is_refused_after_a_refresh_too(folder: Path) -> None:
    index = Index(folder)
    for _ in range(2):
        with pytest.raises(UsageError):
            found(index, "sise > 3")
        delete(index, [index.search(vector=vectors(1)[0])[0].id])


def test_loaded_lists_stay_loaded_when_segments_come_and_rows_go(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    add(folder, 0, "ivfpq")
    index = Index(folder)
    index.search_batch(vectors=vectors(300), k=3)
    (lists,) = index._view.lanes[0]
    opened = lists._open()
    add(folder, 1, "ivfpq")  # which codes the new segment under the same quantiser
    assert index.refresh()
    delete(index, ["00005"])
    assert [type(one) for one in index._view.lanes[0]] == [ann.IvfPq] * 2
    assert index._view.lanes[0][0] is lists and lists._open() is opened
    as_opened_anew(index)
    tune(folder, recall=0.7)  # other effort, so another index
    assert index.refresh() and index._view.lanes[0][0] is not lists
    as_opened_anew(index)


def test_what_chance_gives_is_measured_anew_only_for_other_parts(tmp_path: Path) -> None:
    corpus = make(tmp_path, ["composite"], texts=40)
    index = corpus.open("composite")
    before = answers(corpus, index)
    chances = index._view.chances
    with Writer(index.path, index.space) as writer:
        writer.root("/another")
        writer.commit()
    assert index.refresh() and index._view.chances is chances
    assert answers(corpus, index) == before
    assert add_texts(index, 40, first=3000)
    assert index._view.chances is not chances
    again = Corpus(tmp_path).open("composite")
    assert answers(corpus, index) == answers(corpus, again)
    ids = index.search_batch(vectors=np.eye(index.space.dimension), k=20).ids()
    assert ids == again.search_batch(vectors=np.eye(index.space.dimension), k=20).ids()
