"""Contenders in processes of their own, and what such a process uses.

Each is a fresh process on the same cores, whose thread pools are all told the same size, so
that neither memory nor threads of one are counted to another. Linux only: memory is read from
``/proc``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_POOLS = (  # every variable by which a library here sizes its pool of threads
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "LANCE_CPU_THREADS",
)
_POLL_S = 0.1  # how often a child's memory is looked at
_READ_BYTES = 8 << 20
MB = 1e6


class ChildFailed(Exception):
    """A child ended badly; the message holds the last lines that it wrote."""


def memory(pid: int | str = "self") -> dict[str, int]:
    """Resident bytes of a process: ``anon``, ``file``, ``shmem``, and ``peak`` of their sum.

    ``anon`` is its own (heap, stacks, copies), ``file`` what it has mapped of files and touched,
    which the system may drop and read again. Raises OSError where there is no such process.
    """
    names = {"RssAnon": "anon", "RssFile": "file", "RssShmem": "shmem", "VmHWM": "peak"}
    found = {}  # name -> bytes
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in names:
            found[names[key]] = int(value.split()[0]) * 1024
    if len(found) != len(names):
        raise OSError(f"/proc/{pid}/status names no resident memory")
    return found


def grown(before: dict[str, int]) -> dict[str, int]:
    """By how many bytes ``anon`` and ``file`` of this process grew since then."""
    now = memory()
    return {
        "anon": now["anon"] + now["shmem"] - before["anon"] - before["shmem"],
        "file": now["file"] - before["file"],
    }


def pin(threads: int) -> None:
    """Keeps this process to the first so many of its cores."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < threads:
        raise SystemExit(f"{threads} threads were asked for; there are {len(mine)} cores.")
    os.sched_setaffinity(0, mine[:threads])


def run_child(command: Sequence[str], result: Path, threads: int, log: Path) -> dict[str, Any]:
    """Runs a script of this folder and returns the JSON that it left in ``result``.

    command: the script's name and its arguments. What it prints goes where ours goes; what it
    and its libraries complain of, to ``log``. Beside its own keys the result has
    ``peak_anon_bytes``, the most that was seen of its own memory.
    Raises ChildFailed.
    """
    result.unlink(missing_ok=True)
    script = str(Path(__file__).parent / command[0])
    environment = {**os.environ, **dict.fromkeys(_POOLS, str(threads)), "LANCE_LOG": "error"}
    most = 0
    sys.stdout.flush()
    with log.open("ab") as complaints:
        child = subprocess.Popen(
            [sys.executable, script, *command[1:], "--result", str(result)],
            env=environment,
            stderr=complaints,
        )
        try:
            while child.poll() is None:
                with suppress(OSError):  # it has just ended
                    most = max(most, memory(child.pid)["anon"])
                time.sleep(_POLL_S)
        finally:
            child.kill()
            child.wait()
    if child.returncode or not result.exists():
        tail = log.read_text("utf-8", "replace").splitlines()[-8:]
        raise ChildFailed(f"exit {child.returncode}:\n    " + "\n    ".join(tail))
    return {**json.loads(result.read_text()), "peak_anon_bytes": most}


def files_under(folder: Path) -> list[Path]:
    """Every file in a folder and below it, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def disk_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below it; two names of one file count once."""
    sizes = {(s.st_dev, s.st_ino): s.st_size for s in map(Path.stat, files_under(folder))}
    return sum(sizes.values())


def read_once(paths: Iterable[Path]) -> None:
    """Reads files from beginning to end, so that the page cache holds them for everyone."""
    for path in paths:
        with path.open("rb", buffering=0) as f:
            while f.read(_READ_BYTES):
                pass


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of equal length, the first as heading; all but the first column to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
