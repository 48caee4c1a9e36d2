"""Opens forged indexes with every command, each in a forked child: forged_runner.py WORK JOBS.json.

JOBS is a list of [case, command]; prints what became of each, a JSON object a line. Around each run
a folder outside of the index is compared byte for byte, with all its metadata, and watched for
anything that is opened in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_S = 100  # for one command; a loaded machine takes its time
_IN_OPEN, _IN_NONBLOCK = 0x20, 0o4000


def commands(ix: Path, work: Path) -> dict[str, Callable[[], object]]:
    """Every way to use an index: name -> what is run in the child."""

    def run(*words: str) -> Callable[[], object]:
        def start() -> object:
            from mmsearch.cli import main

            sys.argv = ["mmsearch", *words]
            return main()

        return start

    index, docs, other = ["--index", str(ix)], str(work / "docs"), str(work / "other")
    return {
        "query text": run("query", "a red square", *index),
        "query text to json": run("query", "aaaa red", "-k", "2000", "--json", *index),
        "query image": run("query", "--image", f"{docs}/red.png", *index),
        "query audio": run("query", "--audio", f"{docs}/tone.wav", "--json", *index),
        "query where": run("query", "a", "--where", "meta.n > 5 and path is null", *index),
        "query path": run("query", "a", "--where", "path like '%a%' or start_s > 3", *index),
        "ask": lambda: ask(ix),
        "info": run("info", *index),
        "info json": run("info", "--skipped", "--json", *index),
        "verify": run("verify", *index),
        "index": run("index", docs, *index),
        "delete": run("delete", "own700", docs, *index),
        "compact": run("compact", *index),
        "tune": run("tune", "--recall", "0.9", *index),
        "merge from": run("merge", str(ix), "--index", other),
        "merge into": run("merge", other, *index),
        "reencode": run(
            *("reencode", "--space", str(work / "space2"), "--drop-missing"),
            *("--keep", str(work / "kept"), *index),
        ),
        "abandon": run("reencode", "--abandon", *index),
        "eval": run("eval", str(work / "pairs.jsonl"), *index),
        "caption": run("caption", *index),
        "add": lambda: add(ix),
    }


def ask(ix: Path) -> object:
    """Vectors, alone and many, by lists and exactly; single parts; what a hit shows."""
    import numpy as np

    import mmsearch

    try:
        opened = mmsearch.open(ix)
        xq = np.random.default_rng(1).standard_normal((300, opened.space.dimension))
        for recall in (None, 1.0):
            json.dumps(opened.search(vector=xq[0], k=50, recall=recall).to_json())
            opened.search(vector=xq[1], to="text", where="length(text) > 3", recall=recall)
            batch = opened.search_batch(vectors=xq, k=20, recall=recall)
            batch.ids()
            [one.hits for one in batch]
        opened.get("own700")
        opened.refresh()
    except mmsearch.MmsearchError as e:
        print(f"mmsearch: {e}", file=sys.stderr)
        return 4
    return 0


def add(ix: Path) -> object:
    """A text under an id of its own."""
    import mmsearch

    try:
        mmsearch.open(ix).add([{"text": "a green square"}], ids=["own5"], meta=[{"a": 1}])
    except mmsearch.MmsearchError as e:
        print(f"mmsearch: {e}", file=sys.stderr)
        return 4
    return 0


def picture(folder: Path) -> dict[str, Any]:
    """A folder's files with their content and all metadata but the time of the last look."""
    found: dict[str, Any] = {}
    left = [folder]
    while left:  # by no recursion: some folders are deep
        path = left.pop()
        s = path.lstat()
        if stat.S_ISDIR(s.st_mode):
            left += path.iterdir()
        content = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes().hex()[:4096]
        facts = (s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        found[str(path.relative_to(folder))] = (facts, s.st_ino, content)
    return found


class Watch:
    """Tells what is opened inside a folder, by any process (Linux's inotify)."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_NONBLOCK)
        self._names: dict[int, Path] = {}
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_OPEN)
                self._names[number] = path

    def seen(self) -> list[str]:
        """What was opened since it was asked last."""
        found = []
        while True:
            try:
                events = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return sorted(set(found))
            while events:
                number, _, _, length = struct.unpack_from("iIII", events)
                name = events[16 : 16 + length].rstrip(b"\0").decode("utf-8", "replace")
                found.append(str(self._names[number] / name))
                events = events[16 + length :]

    def close(self) -> None:
        os.close(self._fd)


def in_child(work: Callable[[], object], talk: Path) -> dict[str, Any]:
    """Runs something in a forked child; how it ended."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        out = os.open(talk, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, nothing), (1, nothing), (2, out)):
            os.dup2(source, target)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(MAX_S)
        code = 99
        try:
            code = int(work() or 0)  # type: ignore[call-overload]
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 98
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    said = talk.read_text("utf-8", "replace")
    return {
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "seconds": round(time.monotonic() - started, 2),
        "mb": usage.ru_maxrss // 1024,
        "said": said[-3000:],
        "lines": len(said.splitlines()),
    }


def clear(work: Path) -> None:
    """Removes what the case before left, however deep it is."""
    names = ("ix", "outside", "kept", "other")
    subprocess.run(["rm", "-rf", *(str(work / name) for name in names)], check=True)


def one(work: Path, case: str, command: str) -> dict[str, Any]:
    """Forges an index, opens it with a command, and looks at what is outside."""
    from forged import SECRET, Forged
    from forged_cases import CASES

    ix, outside = work / "ix", work / "outside"
    clear(work)
    shutil.copytree(work / "base", work / "other")
    (outside / "Documents").mkdir(parents=True)
    (outside / "Documents/letter.txt").write_bytes(SECRET)
    (outside / "Documents/letter.txt").chmod(0o640)

    def forge() -> None:
        forged = Forged(work / "base", ix, outside)
        if case:
            CASES[case](forged)
        forged.save()

    # in a child, too: what that takes is not what opening takes
    made = in_child(forge, work / "talk")
    assert made["code"] == 0, f"{case}: {made['said']}"
    before = picture(outside)
    inside = picture(ix) if command == "verify" else {}
    watch = Watch(outside)
    watch.seen()
    found = in_child(commands(ix, work)[command], work / "talk")
    found["opened"] = watch.seen()
    watch.close()
    after = picture(outside)
    found["changed"] = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    if command == "verify":
        found["written"] = sorted(
            name
            for name, now in picture(ix).items()
            if name != "manifest.json" and inside.get(name) != now
        )
    return {"case": case, "command": command, **found}


def warm() -> None:
    """Loads what the commands need, so that each child need not; nothing of it is used before a
    child is forked."""
    import duckdb  # noqa: F401
    import faiss  # noqa: F401
    import onnxruntime  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import tokenizers  # noqa: F401

    import mmsearch.cli.app
    import mmsearch.evaluation
    import mmsearch.indexer
    import mmsearch.searcher  # noqa: F401


def main(work: Path, jobs: list[list[str]]) -> None:
    warm()
    for case, command in jobs:
        print(json.dumps(one(work, case, command)), flush=True)
    clear(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
