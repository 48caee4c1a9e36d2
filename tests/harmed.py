"""One run whose decoders are killed or stopped at random: harmed.py CORPUS INDEX SPACE HOW SEED.

Everything is the real code; a thread beside it harms a decoder every second or so. Prints the
report as ``mmsearch index --json`` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

from mmsearch.indexer import Options, run, running
from mmsearch.media.pool import DecodePool

TIMEOUT_S = 2.0  # for a decoder that is stopped
PAUSES_S = (0.05, 1.5)  # between two harms
EARLY = 0.2  # share of the harms that may meet a decoder before it has begun


def harm(
    pools: list[DecodePool],
    how: str,
    rng: random.Random,
    done: threading.Event,
    harmed: list[int],
) -> None:
    """Harms a decoder now and then until all is done; notes whom."""
    while not done.wait(rng.uniform(*PAUSES_S)):
        # a decoder takes a second to start: killed more often than that, none ever begins
        workers = [worker for pool in pools for worker in list(pool._workers)]
        early = rng.random() < EARLY
        pids = [worker.process.pid for worker in workers if early or worker.ready]
        with contextlib.suppress(ProcessLookupError):
            if pids:
                pid = rng.choice(pids)
                os.kill(pid, getattr(signal, how))
                harmed.append(pid)


def main(corpus: Path, index: Path, space: str, how: str, seed: int) -> None:
    pools: list[DecodePool] = []

    class Harmed(DecodePool):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, **more)  # type: ignore[arg-type]
            pools.append(self)

    assert running.DecodePool is DecodePool, "what a run decodes with is elsewhere now"
    running.DecodePool = partial(Harmed, timeout_s=TIMEOUT_S)  # type: ignore[misc, assignment]
    done = threading.Event()
    harmed: list[int] = []
    thread = threading.Thread(target=harm, args=(pools, how, random.Random(seed), done, harmed))
    thread.start()
    started = time.monotonic()
    try:
        report = run([corpus], index, space, Options(commit_s=1.0, workers=2))
    finally:
        done.set()
        thread.join()
    took_s = time.monotonic() - started
    print(json.dumps({**report.to_json(), "took_s": took_s, "harmed": len(harmed)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
