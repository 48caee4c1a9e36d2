"""What several threads share."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmsearch
from mmsearch.ann import masked
from mmsearch.once import Memo, once
from mmsearch.store import Snapshot

STRESS = Path(__file__).parent / "stress.py"


def at_once(*works: Callable[[], object], times: int = 8) -> None:
    """Does each of these in so many threads, all at the same moment."""
    barrier = threading.Barrier(len(works) * times)
    threads = [
        threading.Thread(target=lambda work=work: (barrier.wait(), work()))  # type: ignore[misc]
        for work in works * times
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Slow:
    """A thing with a value that takes a while to make."""

    def __init__(self) -> None:
        self.made = 0

    @once
    def value(self) -> object:
        """Something that no other is equal to."""
        time.sleep(0.05)
        self.made += 1
        return object()


def test_a_value_that_many_threads_ask_for_is_made_once() -> None:
    slow, found = Slow(), []
    at_once(lambda: found.append(slow.value))
    assert slow.made == 1 and len(set(map(id, found))) == 1 and slow.value is found[0]
    assert Slow.value.__doc__ == "Something that no other is equal to."
    assert vars(slow).keys() == {"made", "value"}  # and no lock any more


def test_the_value_of_one_thing_keeps_no_other_waiting() -> None:
    first_has_begun, second_is_made = threading.Event(), threading.Event()

    class Thing:
        def __init__(self, first: bool) -> None:
            self.first = first

        @once
        def value(self) -> bool:
            if self.first:
                first_has_begun.set()
                assert second_is_made.wait(10), "it waited"
            return self.first

    first, second = Thing(True), Thing(False)
    thread = threading.Thread(target=lambda: first.value)
    thread.start()
    assert first_has_begun.wait(10)
    assert second.value is False
    second_is_made.set()
    thread.join()
    assert first.value is True


def test_a_value_that_could_not_be_made_is_made_by_who_asks_next() -> None:
    tried: list[int] = []

    class Failing:
        @once
        def value(self) -> int:
            tried.append(1)
            if len(tried) == 1:
                raise OSError
            return 7

    thing = Failing()
    with pytest.raises(OSError):
        _ = thing.value
    assert thing.value == 7 and thing.value == 7 and len(tried) == 2


def test_each_key_of_a_memo_is_made_once() -> None:
    memo: Memo[str, object] = Memo()
    made: list[str] = []
    found: dict[str, list[object]] = {"a": [], "b": []}

    def ask(key: str) -> None:
        def make() -> object:
            time.sleep(0.05)
            made.append(key)
            return object()

        found[key].append(memo.get(key, make))

    at_once(lambda: ask("a"), lambda: ask("b"))
    assert sorted(made) == ["a", "b"]
    assert all(len(set(map(id, one))) == 1 for one in found.values())


def test_a_filters_bits_live_as_long_as_faiss_points_to_them() -> None:
    mask = np.random.default_rng(0).random(16_384) < 0.5  # 2 KB of bits
    selector = masked.Masked(mask).selector  # whose owner is gone by now
    gc.collect()
    others = [np.zeros(2048, np.uint8) for _ in range(100)]  # would take the freed place
    assert [selector.is_member(i) for i in range(len(mask))] == mask.tolist()
    assert len(others) == 100


def test_what_faiss_is_told_keeps_a_filters_bits() -> None:
    mask = np.random.default_rng(0).random(16_384) < 0.5
    parameters = masked.Masked(mask).parameters
    gc.collect()
    others = [np.zeros(2048, np.uint8) for _ in range(100)]
    assert [parameters.sel.is_member(i) for i in range(len(mask))] == mask.tolist()
    assert len(others) == 100


def test_a_search_waits_for_no_refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a dog on a beach")
    index = mmsearch.index(tmp_path / "notes", tmp_path / "ix")
    index.search("a dog")
    opening, go_on, opened = threading.Event(), threading.Event(), Snapshot.open

    def slowly(*given: Any) -> Snapshot:
        opening.set()
        assert go_on.wait(20)
        return opened(*given)

    monkeypatch.setattr(Snapshot, "open", slowly)
    refresh = threading.Thread(target=index.refresh)
    refresh.start()
    assert opening.wait(20)
    found: list[int] = []
    search = threading.Thread(target=lambda: found.append(len(index.search("a dog"))))
    search.start()
    search.join(10)
    assert found == [1], "it waited for the refresh"
    go_on.set()
    refresh.join()


def test_many_rows_of_a_mask_are_not_kept() -> None:
    few, many = np.arange(100_000) % 2 == 0, np.ones(100_000, bool)
    for mask, kept in ((few, True), (many, False)):
        one = masked.Masked(mask)
        assert one.rows.tolist() == np.flatnonzero(mask).tolist()
        assert (one.rows is one.rows) == kept


@pytest.mark.campaign
def test_ten_thousand_searches_by_eight_threads_with_new_filters() -> None:
    allocators = {"PYTHONMALLOC": "debug", "MALLOC_PERTURB_": "165"}
    environ = {**os.environ, **allocators, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(STRESS), "--searches", "10000", "--threads", "8"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["wrong"] == 0
