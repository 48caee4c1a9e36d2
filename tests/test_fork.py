"""A child of a process that has searched can search."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

import mmsearch
from asked import KINDS, Corpus, add_texts, answers, make
from filter_parts import SPACE
from mmsearch import Index, IndexLocked, forks
from mmsearch.once import Memo, once
from mmsearch.store import Writer, verify

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
FORKING = Path(__file__).parent / "forking.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make(tmp_path_factory.mktemp("asked"))


def forking(corpus: Corpus, *options: object, timeout_s: float = 120) -> int:
    """How many children gave their parent's answers; fails if one did not."""
    command = [sys.executable, str(FORKING), str(corpus.home), *map(str, options)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    right: int = json.loads(done.stdout)["right"]
    return right


@pytest.mark.slow
def test_a_child_answers_as_the_parent_that_searched_before_it(corpus: Corpus) -> None:
    assert forking(corpus, "--at-once", 2) == 2


@pytest.mark.slow
def test_children_of_a_pool_by_fork_answer_as_their_parent(corpus: Corpus) -> None:
    assert forking(corpus, "--pool", "--at-once", 2, "--kinds", "ivfpq") == 2


@pytest.mark.slow
def test_a_child_needs_no_lock_that_another_thread_held(corpus: Corpus) -> None:
    assert forking(corpus, "--rounds", 3, "--at-once", 2, "--busy", 3, "--kinds", "ivfpq") == 6


@pytest.mark.campaign
def test_two_hundred_children_while_threads_search_and_filter(corpus: Corpus) -> None:
    assert forking(corpus, "--rounds", 100, "--at-once", 2, "--busy", 3, timeout_s=3000) == 200


def serve(corpus: Corpus, requests: int, *options: str) -> dict[int, int]:
    """Asks a gunicorn with four workers; how many of its answers, all right, each worker gave."""
    port = free_port()
    environ = {**os.environ, "ASKED": str(corpus.home), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", *options]
    command += ["--bind", f"127.0.0.1:{port}", "--chdir", str(FORKING.parent), "served:app"]
    known = {kind: answers(corpus, corpus.open(kind)) for kind in KINDS}
    paths = [(kind, name) for kind in KINDS for name in known[kind]]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as server:
        try:
            await_server(server, port)
            with ThreadPoolExecutor(8) as clients:
                asked = [paths[n % len(paths)] for n in range(requests)]
                found = list(clients.map(lambda path: get(port, *path), asked))
        finally:
            server.terminate()
    for (kind, name), one in zip(asked, found, strict=True):
        assert one["answer"] == known[kind][name], (kind, name)
    return Counter(one["process"] for one in found)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def await_server(server: subprocess.Popen[str], port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    server.kill()
    raise AssertionError(f"no server: {server.stderr.read() if server.stderr else ''}")


def get(port: int, kind: str, question: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/{kind}/{quote(question)}", timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.mark.campaign
@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_four_workers_of_a_preloaded_server_lose_none_of_10000_requests(
    corpus: Corpus, worker: str
) -> None:
    options = ["--worker-class", worker, *(["--threads", "4"] if worker == "gthread" else [])]
    found = serve(corpus, 10_000, *options)
    assert len(found) == 4 and sum(found.values()) == 10_000


# -- the writer's lock ----------------------------------------------------


HELD = """
import os, sys, time
from pathlib import Path
from filter_parts import SPACE, part, IMAGE, unit
from mmsearch import IndexLocked
from mmsearch.store import Writer
folder, what = Path(sys.argv[1]), sys.argv[2]
writer = Writer(folder, SPACE)
writer.root("/pictures")
writer.extend([(part("mine", IMAGE, "mine.png"), unit(1))])
pid = os.fork()
if what == "holder dies":
    if pid == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    os.kill(os.getpid(), 9)
if pid == 0:
    try:
        writer.commit()
    except IndexLocked as e:
        print(e, flush=True)
    writer.close()
    sys.exit()
os.waitpid(pid, 0)
print("waited", flush=True)
input()
writer.commit()
writer.close()
"""


def holder(folder: Path, what: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", HELD, str(folder), what],
        env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_child_of_a_writer_can_neither_write_nor_let_go_of_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "ix", "child tries") as writer:
        assert writer.stdout is not None
        assert "forked from" in writer.stdout.readline()
        assert writer.stdout.readline() == "waited\n"
        with pytest.raises(IndexLocked, match=str(writer.pid)):
            Writer(tmp_path / "ix", SPACE)
        writer.communicate("\n", timeout=60)
    assert writer.returncode == 0
    assert verify(tmp_path / "ix") == [] and Index(tmp_path / "ix").get("mine") is not None


def test_a_lock_dies_with_its_holder_though_a_child_lives(tmp_path: Path) -> None:
    with holder(tmp_path / "ix", "holder dies") as writer:
        assert writer.stdout is not None
        child = int(writer.stdout.readline())
        try:
            assert writer.wait(60) == -9
            with Writer(tmp_path / "ix", SPACE) as mine:
                mine.commit()
        finally:
            os.kill(child, 9)


def test_a_child_adds_removes_and_trains_and_its_parent_sees_it(tmp_path: Path) -> None:
    corpus = make(tmp_path, ["ivfpq"], texts=300)  # too few for lists, until the child adds some
    index = corpus.open("ivfpq")
    answers(corpus, index)

    def write() -> bool:
        added = add_texts(index, 500, first=3000)
        index.compact()
        if index.snapshot.manifest.ann is None or index.delete(added[:3]) != 3:
            return False
        found = index.search_batch(["a dull red square"] * 300, k=900).ids()
        return all(set(added[3:]) <= set(ids) and not set(added[:3]) & set(ids) for ids in found)

    assert child(write) == 0
    assert len(index) == 444 and index.refresh() and len(index) == 444 + 497
    assert verify(index.path) == []
    assert answers(corpus, index) == answers(corpus, corpus.open("ivfpq"))


# -- native work ----------------------------------------------------------


def child(work: Callable[[], bool]) -> int:
    """The exit status of a child that does this: 0 if it gave True, 1 if not, -14 if it hung."""
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_waits_for_native_work_that_others_have_begun() -> None:
    begun, done = threading.Event(), []

    @forks.native
    def work() -> None:
        begun.set()
        time.sleep(0.2)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    assert child(lambda: done == [True]) == 0
    thread.join()


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_PATIENCE_S", 0.02)
    begun, end = threading.Event(), threading.Event()

    @forks.native
    def work(wait: bool) -> bool:
        begun.set()
        return end.wait(20) if wait else True

    thread = threading.Thread(target=work, args=[True])
    thread.start()
    begun.wait()
    assert child(lambda: work(False)) == 0
    end.set()
    thread.join()
    assert work(False)


def test_the_thread_that_forked_has_native_work_done_by_another_in_the_child_alone() -> None:
    @forks.native
    def inner() -> int:
        return threading.get_ident()

    @forks.native
    def work() -> tuple[int, int]:
        return threading.get_ident(), inner()

    me = threading.get_ident()
    assert work() == (me, me)

    def one_other() -> bool:
        found = work()
        return found[0] == found[1] != threading.get_ident() and work() == found

    def its_child() -> bool:
        return one_other() and child(one_other) == 0

    assert child(one_other) == 0
    assert child(its_child) == 0
    assert work() == (me, me)


def test_what_native_work_raises_comes_back_from_the_other_thread() -> None:
    @forks.native
    def work() -> None:
        raise LookupError("mine")

    def caught() -> bool:
        try:
            work()
        except LookupError as e:
            return str(e) == "mine"
        return False

    assert caught() and child(caught) == 0


def test_values_and_locks_that_others_had_in_hand_are_made_anew_in_a_child() -> None:
    begun, end = threading.Event(), threading.Event()
    lock, memo = forks.Lock(), Memo[str, int]()

    class Thing:
        @once
        def value(self) -> int:
            return slowly()

    def slowly() -> int:
        if threading.current_thread() is thread:
            begun.set()
            end.wait(20)
        return 1

    thing = Thing()

    def hold() -> None:
        with lock:
            memo.get("a", lambda: thing.value)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()

    def use() -> bool:
        with lock:
            return memo.get("a", lambda: 2) == 2 and thing.value == 1

    assert child(use) == 0
    end.set()
    thread.join()
    assert memo.get("a", lambda: 2) == 1


def test_a_child_that_was_forked_while_a_filter_imported_can_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB looks for pandas whenever it is asked; Python locks what is being imported."""
    (tmp_path / "none").mkdir()
    index = mmsearch.index(tmp_path / "none", tmp_path / "ix")
    add_texts(index, 20)
    importing = threading.Event()

    class Slow:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pandas":
                importing.set()
                time.sleep(0.2)

    monkeypatch.setattr(sys, "meta_path", [Slow(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    asked = threading.Thread(target=found, args=(index, "length(text) > 1"))
    asked.start()
    if not importing.wait(10):
        pytest.skip("this DuckDB looks for no module that is not there")
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # it ends what hangs
        os._exit(0 if found(index, "length(text) > 2") else 1)
    asked.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def found(index: Index, where: str) -> int:
    """How many parts a filter finds."""
    return len(index.search(vector=[1.0] * index.space.dimension, where=where))
