"""Whole runs over what breaks indexers, and runs that are stopped half way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hostile import ANY, FAILED, IGNORED, INDEXED, SKIPPED, make_hostile_folder
from mmsearch.store import Snapshot, verify
from mmsearch.store.ledger import read_ledger

MAX_MEMORY_MB = 1500
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MB (shared pages counted in each)."""
    total = 0.0
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) / 1024
    except OSError:
        return 0.0
    return total + sum(resident_mb(int(child)) for child in children)


def index(folder: Path, where: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mmsearch", "index", str(folder), "--index", str(where)]
    # a shell starts its background jobs with SIGINT ignored, and children inherit that
    heard = None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [*command, "--json", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )


def watched(process: subprocess.Popen[str], timeout_s: float) -> tuple[str, str, float]:
    """(stdout, stderr, peak resident MB of the process and its children)."""
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident_mb(process.pid))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, errors = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
        done.set()
        watcher.join()
    return out, errors, peak


def outcomes(where: Path) -> dict[str, str]:
    """Absolute path -> what became of the file."""
    snapshot = Snapshot.open(where)
    found = {}
    for segment in snapshot.segments:
        for r in np.flatnonzero(segment.live).tolist():
            row = segment.row(r)
            found[str(snapshot.absolute(row.root, row.path))] = INDEXED
    for entry in read_ledger(where, snapshot.manifest):
        assert entry.path not in found, f"{entry.path} is both indexed and not"
        if entry.outcome != IGNORED:
            assert entry.reason and "\n" not in entry.reason
        found[entry.path] = str(entry.outcome)
    return found


def survive(tmp_path: Path, big: bool) -> float:
    folder, where = tmp_path / "hostile", tmp_path / "ix"
    expected = make_hostile_folder(folder, big=big)
    out, errors, peak = watched(index(folder, where, "--workers", "2"), timeout_s=600)
    assert "Traceback" not in errors
    report = json.loads(out)
    found = outcomes(where)
    wrong = {}
    for name, outcome in expected.items():
        became = found.get(os.path.join(os.path.realpath(folder), name), "nothing")
        allowed = (INDEXED, SKIPPED, IGNORED) if outcome == ANY else (outcome,)
        if became not in allowed:
            wrong[name] = f"{became}, not {outcome}"
    assert wrong == {}
    assert report["skipped"] >= sum(outcome == SKIPPED for outcome in expected.values())
    assert report["failed"] == sum(became == FAILED for became in found.values())
    assert verify(where) == []
    again = index(folder, where)
    body = json.loads(again.communicate(timeout=600)[0])
    assert (body["indexed"], body["parts"]) == (0, 0)
    assert body["skipped"] == report["skipped"]
    return peak


@pytest.mark.slow
@LINUX
def test_a_hostile_folder_ends_with_each_file_accounted_for(tmp_path: Path) -> None:
    assert survive(tmp_path, big=False) < MAX_MEMORY_MB


@LINUX
@pytest.mark.campaign
def test_so_does_one_with_a_line_of_a_gigabyte(tmp_path: Path) -> None:
    peak = survive(tmp_path, big=True)
    print(f"peak {peak:.0f} MB")
    assert peak < MAX_MEMORY_MB


def many_texts(folder: Path, n: int) -> None:
    folder.mkdir()
    for i in range(n):
        (folder / f"{i}.txt").write_text(f"The {i}th note is about the sea and its ships.")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_ctrl_c_ends_cleanly_and_keeps_what_was_encoded(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    many_texts(folder, 3000)
    for wait_s in (1.5, 5, 15, 45):  # as long as this machine takes to encode something
        where = tmp_path / f"ix-{wait_s}"
        process = index(folder, where)
        while not (where / "manifest.json").exists():
            time.sleep(0.01)
        time.sleep(wait_s)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=100)
        assert process.returncode == 130, errors
        assert out == "" and "Traceback" not in errors
        assert errors.strip().splitlines()[-1].startswith("mmsearch: stopped.")
        if kept := len(Snapshot.open(where)):
            break
    assert kept > 0 and verify(where) == []
    report = json.loads(index(folder, where).communicate(timeout=100)[0])
    assert report["unchanged"] == kept and report["indexed"] == 3000 - kept


@LINUX
def test_no_decoding_process_outlives_a_killed_run(tmp_path: Path) -> None:
    folder, where = tmp_path / "notes", tmp_path / "ix"
    many_texts(folder, 3000)
    process = index(folder, where)
    children: list[str] = []
    while not children:
        time.sleep(0.02)
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        children = path.read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/exe").exists() for pid in children):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.05)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write where nobody else can"
)
def test_a_read_only_index_is_one_clear_line(tmp_path: Path) -> None:
    folder, where = tmp_path / "notes", tmp_path / "ix"
    many_texts(folder, 2)
    index(folder, where).communicate()
    where.chmod(0o500)
    try:
        many_texts(folder / "more", 2)
        process = index(folder, where)
        _, errors = process.communicate()
        assert process.returncode == 5
        assert "no permission" in errors and len(errors.splitlines()) == 1
    finally:
        where.chmod(0o700)


@pytest.mark.slow
def test_files_deleted_and_growing_during_a_run_cost_only_themselves(
    tmp_path: Path, samples: Path
) -> None:
    folder, where = tmp_path / "notes", tmp_path / "ix"
    many_texts(folder, 200)
    log = folder / "growing.txt"
    log.write_text("The log begins.\n")
    stop = threading.Event()

    def disturb() -> None:
        victims = sorted(folder.glob("1*.txt"))
        while not stop.is_set():
            if log.stat().st_size < 1 << 20:  # else a slow machine never gets to its end
                with log.open("a") as f:
                    f.write("one more line in the log\n" * 50)
            if victims:
                victims.pop().unlink()
            time.sleep(0.002)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        process = index(folder, where)
        out, errors = process.communicate(timeout=100)
    finally:
        stop.set()
        thread.join()
    assert process.returncode == 0 and "Traceback" not in errors
    report = json.loads(out)
    assert report["indexed"] >= 80
    shutil.copyfile(samples / "photos/coffee.jpg", folder / "coffee.jpg")
    settled = json.loads(index(folder, where).communicate(timeout=100)[0])
    assert settled["skipped"] == 0
    left = {p.name for p in folder.iterdir()}
    assert {Path(p).name for p in outcomes(where)} == left
