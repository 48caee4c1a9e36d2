"""Changes from many threads and processes: all come in, and an error finds its own caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mmsearch
from mmsearch.indexer import committing
from mmsearch.store import Writer


def test_an_empty_index_is_made_searched_and_filled(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    assert len(index) == 0 and list(index.search("a dog")) == []
    with pytest.raises(mmsearch.UsageError, match=r"there is an index at .* already, of mini"):
        mmsearch.create(tmp_path / "ix")
    index.add([{"text": "a dog on a beach"}], ids=["dog"])
    assert [hit.id for hit in mmsearch.open(tmp_path / "ix").search("a dog")] == ["dog"]


def test_sixteen_threads_add_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    start = threading.Barrier(16)

    def add(thread: int) -> None:
        start.wait()
        for n in range(4):
            name = f"{thread}-{n}"
            index.add([{"text": f"note {name}"}], ids=[name])
            assert mmsearch.open(tmp_path / "ix").get(name) is not None

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(add, range(16)))
    assert len(index) == 64
    assert index.snapshot.manifest.generation < 1 + 64 * 3  # several came in one commit
    assert index.verify() == []


def test_the_encoder_is_loaded_once_for_many_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmsearch.searcher import searcher

    index = mmsearch.create(tmp_path / "ix")
    loaded = []
    real = searcher.encoder_of
    monkeypatch.setattr(searcher, "encoder_of", lambda *a, **k: loaded.append(1) or real(*a, **k))
    for n in range(5):
        index.add([{"text": f"note {n}"}])
    assert len(loaded) == 1


def test_an_error_reaches_its_own_caller_and_no_other(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    committer, space = committing.committer_of(index.path), index.space
    first, go = threading.Event(), threading.Event()

    def slow(writer: Writer) -> tuple[str, set[str]]:
        first.set()
        go.wait(30)
        return "slow", set()

    def bad(writer: Writer) -> tuple[None, set[str]]:
        raise ValueError("mine")

    def good(writer: Writer) -> tuple[str, set[str]]:
        return "good", set()

    with ThreadPoolExecutor(4) as threads:
        one = threads.submit(committer.put, slow, space)
        first.wait(30)
        others = [threads.submit(committer.put, change, space) for change in (bad, good, good)]
        while len(committer._waiting) < 3:
            pass
        go.set()
        assert one.result() == "slow"
        with pytest.raises(ValueError, match="mine"):
            others[0].result()
        assert [other.result() for other in others[1:]] == ["good", "good"]


def test_processes_take_turns(tmp_path: Path) -> None:
    mmsearch.create(tmp_path / "ix")
    code = (
        "import sys, mmsearch\n"
        "index = mmsearch.open(sys.argv[1])\n"
        "for n in range(8):\n"
        "    index.add([{'text': f'{sys.argv[2]} {n}'}], ids=[f'{sys.argv[2]}-{n}'])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "ix")]
    several = [subprocess.Popen([*command, str(n)]) for n in range(4)]
    assert [process.wait(120) for process in several] == [0] * 4
    index = mmsearch.open(tmp_path / "ix")
    assert len(index) == 32 and index.verify() == []


def test_a_change_does_not_wait_longer_than_it_is_told(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    with (
        Writer(index.path, index.space),
        pytest.raises(mmsearch.IndexLocked, match="is being written"),
    ):
        index.add([{"text": "a dog"}], wait_s=0.1)
    index.add([{"text": "a dog"}], wait_s=0.1)
    assert len(index) == 1


def test_many_changes_wait_together_and_not_one_after_the_other(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")

    def wait(n: int) -> float:
        started = time.monotonic()
        with pytest.raises(mmsearch.IndexLocked, match="is being written"):
            index.delete(f"note {n}", wait_s=0.5)
        return time.monotonic() - started

    with Writer(index.path, index.space), ThreadPoolExecutor(20) as threads:
        waited_s = list(threads.map(wait, range(20)))
    assert min(waited_s) > 0.4 and max(waited_s) < 3


def test_named_indexes_are_listed_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMSEARCH_HOME", str(tmp_path / "home"))
    assert mmsearch.list() == []
    for name in ("b", "a", "c.index"):
        mmsearch.create(name).add([{"text": "a dog"}], ids=["dog"])
    assert mmsearch.list() == ["a", "b"] and (tmp_path / "c.index").is_dir()
    (tmp_path / "home" / "a" / "mine.txt").write_text("precious")
    mmsearch.delete("a")
    mmsearch.delete("c.index")
    assert mmsearch.list() == ["b"] and not (tmp_path / "c.index").exists()
    assert [p.name for p in (tmp_path / "home" / "a").iterdir()] == ["mine.txt"]
    with pytest.raises(mmsearch.IndexNotFound):
        mmsearch.delete("a")
    index = mmsearch.open("b")
    with Writer(index.path, index.space), pytest.raises(mmsearch.IndexLocked):
        mmsearch.delete("b")
    assert index.verify() == []


def test_after_ctrl_c_in_one_thread_the_changes_of_others_are_committed(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    committer = committing.committer_of(index.path)
    first, go = threading.Event(), threading.Event()

    def stopped(writer: Writer) -> tuple[None, set[str]]:
        first.set()
        go.wait(30)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(3) as threads:
        one = threads.submit(committer.put, stopped, None)
        first.wait(30)
        two = threads.submit(committer.put, lambda writer: ("two", set()), None)
        while len(committer._waiting) < 1:
            pass
        go.set()
        with pytest.raises(KeyboardInterrupt):
            one.result()
        assert two.result() == "two"


def test_after_ctrl_c_in_a_commit_for_several_the_others_are_committed(tmp_path: Path) -> None:
    index = mmsearch.create(tmp_path / "ix")
    committer, first, go = committing.committer_of(index.path), threading.Event(), threading.Event()
    by: list[int] = []  # threads that ran the change

    def slow(writer: Writer) -> tuple[None, set[str]]:
        first.set()
        go.wait(30)
        return None, set()

    def stopped(writer: Writer) -> tuple[str, set[str]]:
        by.append(threading.get_ident())
        if len(by) == 1:
            raise KeyboardInterrupt
        return "done", set()

    with ThreadPoolExecutor(3) as threads:
        one = threads.submit(committer.put, slow, None)
        first.wait(30)
        others = [threads.submit(committer.put, stopped, None) for _ in range(2)]
        while len(committer._waiting) < 2:
            pass
        go.set()
        one.result()
        errors = [other.exception(30) for other in others]
    assert sorted(map(type, errors), key=str) == sorted([KeyboardInterrupt, type(None)], key=str)
    assert len(by) == 2 and by[0] != by[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_that_was_forked_while_a_thread_waited_does_not_keep_its_turn(
    tmp_path: Path,
) -> None:
    index = mmsearch.create(tmp_path / "ix")
    with ThreadPoolExecutor(1) as threads, Writer(index.path, index.space):
        waiting = threads.submit(lambda: Writer(index.path, index.space, wait_s=1.0))
        time.sleep(0.3)  # it has the turn, and waits for the lock
        child = os.fork()
        if not child:
            time.sleep(20)
            os._exit(0)
        assert isinstance(waiting.exception(30), mmsearch.IndexLocked)
    try:
        Writer(index.path, index.space, wait_s=1.0).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
