"""A process that searches, forks, and lets its children search:

    forking.py FOLDER [--rounds N] [--at-once N] [--busy N] [--kinds KIND ...] [--pool]

FOLDER is what ``asked.make`` made. The parent asks everything first; then, in each round, so
many children fork at once while ``--busy`` threads of the parent go on searching and filtering.
Each child must give the parent's answers to each kind of index. Prints how many did, as JSON.
``--pool``: the children are those of ``multiprocessing`` by fork.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import sys
import threading
import time
from pathlib import Path

import mmsearch
from asked import KINDS, Answer, Corpus, answers, questions

CHILD_S = 60.0  # a child that takes longer hangs
Opened = dict[str, mmsearch.Index]


def in_child(corpus: Corpus, opened: Opened, known: dict[str, Answer]) -> list[str]:
    """What a child answers otherwise than its parent."""
    return [
        f"{kind}: {name}"
        for kind, index in opened.items()
        for name, answer in answers(corpus, index).items()
        if answer != known[kind][name]
    ]


def forked(corpus: Corpus, opened: Opened, known: dict[str, Answer]) -> int:
    """Forks a child that asks everything; its process id. It exits with 0 if all was right."""
    pid = os.fork()
    if pid:
        return pid
    faulthandler.dump_traceback_later(CHILD_S - 2, exit=True)
    code = 1
    try:
        wrong = in_child(corpus, opened, known)
        print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr, flush=True)
        code = 3 if wrong else 0
    except BaseException as e:
        print(f"a child: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
        raise
    finally:
        if code:
            os._exit(code)
    sys.exit(0)  # as a server's worker ends: what it inherited is destroyed


def waited(pids: list[int]) -> list[int]:
    """The exit status of each child; -9 for one that hung."""
    found: dict[int, int] = {}
    until = time.monotonic() + CHILD_S
    while len(found) < len(pids) and time.monotonic() < until:
        for pid in set(pids) - set(found):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                found[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    for pid in set(pids) - set(found):
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return [found.get(pid, -9) for pid in pids]


class Busy:
    """Threads that search and filter until they are told to stop."""

    def __init__(self, corpus: Corpus, opened: Opened, n: int) -> None:
        self._asked = [(opened[kind], ask) for kind in opened for ask in questions(corpus).values()]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(n)]
        for thread in self._threads:
            thread.start()

    def _ask(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._stop.is_set():
            index, ask = rng.choice(self._asked)
            ask(index)
            index.search("a red square", where=f"meta.number < '{rng.randrange(10**9)}'")
            if rng.random() < 0.1:  # what is loaded when it is first asked for
                mmsearch.open(index.path).search("a blue square", where="meta.number > '3'")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


_pooled: tuple[Corpus, Opened, dict[str, Answer]]


def _in_pool(_: int) -> list[str]:
    return in_child(*_pooled)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--pool", action="store_true")
    args = parser.parse_args()
    corpus = Corpus(args.folder)
    opened = {kind: corpus.open(kind) for kind in args.kinds}
    known = {kind: answers(corpus, index) for kind, index in opened.items()}
    statuses: list[int] = []
    if args.pool:
        global _pooled
        _pooled = corpus, opened, known
        with multiprocessing.get_context("fork").Pool(args.at_once) as pool:
            wrong = pool.map_async(_in_pool, range(args.rounds * args.at_once), 1).get(CHILD_S)
        statuses = [3 if one else 0 for one in wrong]
    else:
        busy = Busy(corpus, opened, args.busy)
        for _ in range(args.rounds):
            pids = [forked(corpus, opened, known) for _ in range(args.at_once)]
            statuses += waited(pids)
        busy.stop()
    for kind, index in opened.items():  # the parent itself goes on as before
        assert answers(corpus, index) == known[kind], kind
    print(json.dumps({"right": statuses.count(0), "of": len(statuses)}))
    sys.exit(any(statuses))


if __name__ == "__main__":
    main()
