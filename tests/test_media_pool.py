"""The decoding processes: every task ends once, whatever its file or its worker does."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hostile import KILLING, make_hostile_folder, pictures, sounds, wav_header
from mmsearch.cores import available_cores
from mmsearch.errors import MmsearchError
from mmsearch.media import Limits, decode
from mmsearch.media.jobs import death_by_exit
from mmsearch.media.pool import (
    DecodePool,
    Event,
    Failed,
    Finished,
    Ignored,
    Known,
    PartReady,
    Skipped,
    Task,
)
from mmsearch.types import Item, Preprocess

PREPROCESS = Preprocess(image_px=224, sample_rate_hz=16000, window_s=10.0)
ROOT = Path(__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and FIFOs")


def item(root: Path, path: str) -> Item:
    try:
        facts = os.lstat(root / path)
    except FileNotFoundError:
        return Item(str(root), path, 0, 0, 0, 0)
    return Item(str(root), path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def always(_task: Task, _digest: bytes) -> bool:
    return True


def run(
    pool: DecodePool,
    root: Path,
    *paths: str,
    ask: bool = False,
    accept: Callable[[Task, bytes], bool] = always,
) -> dict[str, list[Event]]:
    """Events by path; fails if any task does not end exactly once, as its last event."""
    out: dict[str, list[Event]] = {path: [] for path in paths}
    for event in pool.run((Task(item(root, path), ask=ask) for path in paths), accept):
        out[event.task.item.path].append(event)
    for events in out.values():
        assert [isinstance(e, PartReady) for e in events] == [True] * (len(events) - 1) + [False]
    return out


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[DecodePool]:
    with DecodePool(PREPROCESS, workers=2, timeout_s=60) as pool:
        yield pool


def test_parts_come_through_the_pipe_unchanged(shared_pool: DecodePool, tmp_path: Path) -> None:
    files = {
        "a.jpg": ("image", pictures()["jpg"]),
        "b.wav": ("audio", sounds()["wav"]),
        "c.txt": ("text", "今天天气很好。 words 👨‍👩‍👧".encode() * 200),
    }
    for name, (_, data) in files.items():
        (tmp_path / name).write_bytes(data)
    out = run(shared_pool, tmp_path, *files)
    for name, (kind, data) in files.items():
        truth = list(decode(data, kind, PREPROCESS))
        *ready, end = out[name]
        for event, part in zip(ready, truth, strict=True):
            assert isinstance(event, PartReady)
            got = event.part
            if isinstance(part.data, str):
                assert got.data == part.data
            else:
                assert isinstance(got.data, np.ndarray)
                assert got.data.dtype == part.data.dtype
                assert np.array_equal(got.data, part.data)
            assert (got.modality, got.part_no, got.start_s, got.end_s, got.meta) == (
                *(part.modality, part.part_no, part.start_s, part.end_s, part.meta),
            )
        facts = (tmp_path / name).stat()
        assert isinstance(end, Finished)
        assert end.content_hash == hashlib.blake2b(data, digest_size=16).digest()
        assert end.n_parts == len(truth)
        assert end.signature == (
            *(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino),
        )


def test_known_content_is_not_decoded(shared_pool: DecodePool, tmp_path: Path) -> None:
    (tmp_path / "old.jpg").write_bytes(pictures()["jpg"])
    (tmp_path / "new.png").write_bytes(pictures()["png"])
    known = hashlib.blake2b(pictures()["jpg"], digest_size=16).digest()
    out = run(shared_pool, tmp_path, "old.jpg", "new.png", ask=True, accept=lambda _, h: h != known)
    assert [type(e) for e in out["old.jpg"]] == [Known]
    assert [type(e) for e in out["new.png"]] == [PartReady, Finished]
    assert out["old.jpg"][0].content_hash == known  # type: ignore[union-attr]


def test_skipped_parts_count_but_do_not_come_again(shared_pool: DecodePool, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("word " * 1000)
    everything = run(shared_pool, tmp_path, "long.txt")["long.txt"]
    task = Task(item(tmp_path, "long.txt"), skip_parts=2)
    rest = list(shared_pool.run([task], always))
    assert [e.part.part_no for e in rest if isinstance(e, PartReady)] == list(
        range(2, len(everything) - 1)
    )
    assert isinstance(rest[-1], Finished)
    assert rest[-1].n_parts == len(everything) - 1


def test_ignored_deleted_and_special_files_are_told_apart(
    shared_pool: DecodePool, tmp_path: Path
) -> None:
    (tmp_path / "code.py").write_text("x = 1")
    (tmp_path / "folder.jpg").mkdir()
    out = run(shared_pool, tmp_path, "code.py", "gone.jpg", "folder.jpg")
    assert isinstance(out["code.py"][0], Ignored)
    assert [(e.stage, e.reason) for e in out["gone.jpg"]] == [  # type: ignore[union-attr]
        ("read", "there is no such file (any more)")
    ]
    assert "not a regular file" in out["folder.jpg"][0].reason  # type: ignore[union-attr]


@POSIX
def test_a_fifo_does_not_block(shared_pool: DecodePool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (end,) = run(shared_pool, tmp_path, "pipe.jpg")["pipe.jpg"]
    assert isinstance(end, Failed)
    assert (end.stage, end.reason) == (
        "read",
        "is not a regular file (save first what a pipe gives)",
    )


def test_a_file_that_grows_while_it_is_read_is_left_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "growing.wav"
    path.write_bytes(wav_header(data_bytes=0xFFFFFFFF) + bytes(32000 * 60))
    grown = []

    def grow(_task: Task, _digest: bytes) -> bool:
        with path.open("ab") as file:
            file.write(bytes(1000))
        grown.append(True)
        return True

    with DecodePool(PREPROCESS, workers=1) as pool:
        *_, end = run(pool, tmp_path, "growing.wav", ask=True, accept=grow)["growing.wav"]
    assert grown
    assert isinstance(end, Failed)
    assert end.stage == "read"
    assert "changed while being read" in end.reason


def _hour_of_silence(path: Path) -> None:
    """An hour of sound: long enough to be killed amid it. Sparse, so it costs no disk."""
    size = 3600 * 32000
    with path.open("wb") as file:
        file.write(wav_header(data_bytes=size))
        file.truncate(44 + size)


def _harmed(
    pool: DecodePool, folder: Path, victim: str, harm: Callable[[int, int], None], others: int = 0
) -> dict[str, Event]:
    """How each file ended. harm: called with the try (0, 1, …) and the only worker's process id
    when the first part of the victim comes in that try."""
    names = [f"{n}.jpg" for n in range(others)]
    for name in names:
        (folder / name).write_bytes(pictures()["jpg"])
    harmed: list[int] = []
    ends: dict[str, Event] = {}
    for event in pool.run([Task(item(folder, name)) for name in (victim, *names)], always):
        if isinstance(event, PartReady):
            if event.task.item.path == victim and pool.pids[0] not in harmed:
                harmed.append(pool.pids[0])
                harm(len(harmed) - 1, pool.pids[0])
        else:
            assert event.task.item.path not in ends
            ends[event.task.item.path] = event
    assert sorted(ends) == sorted((victim, *names))
    assert all(isinstance(ends[name], Finished) for name in names)
    return ends


@POSIX
def test_a_file_that_crashes_its_decoder_twice_is_skipped(tmp_path: Path) -> None:
    _hour_of_silence(tmp_path / "crash.wav")
    with DecodePool(PREPROCESS, workers=1) as pool:
        ends = _harmed(
            pool, tmp_path, "crash.wav", lambda _, pid: os.kill(pid, signal.SIGSEGV), others=20
        )
    end = ends["crash.wav"]
    assert isinstance(end, Skipped)
    assert (end.stage, end.reason) == (
        "decode",
        "the decoder crashed (signal 11, SIGSEGV); it was tried twice",
    )


@POSIX
@pytest.mark.parametrize("first", [signal.SIGSEGV, signal.SIGKILL])
def test_a_file_whose_decoder_dies_once_is_decoded_whole(
    tmp_path: Path, first: signal.Signals
) -> None:
    _hour_of_silence(tmp_path / "long.wav")
    with DecodePool(PREPROCESS, workers=1) as pool:
        parts, killed = [], False
        for event in pool.run([Task(item(tmp_path, "long.wav"))], always):
            if isinstance(event, PartReady):
                parts.append(event.part.part_no)
                if not killed and event.part.part_no == 100:
                    os.kill(pool.pids[0], first)
                    killed = True
    assert isinstance(event, Finished) and event.n_parts == 360
    assert parts == list(range(360)), "no part is missing and none comes twice"


@POSIX
@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGKILL, signal.SIGKILL),
        (signal.SIGKILL, signal.SIGSEGV),
        (signal.SIGBUS, signal.SIGBUS),
        (signal.SIGSYS, signal.SIGSYS),
    ],
    ids=["killed twice", "killed, then crashed", "a disk that is gone", "a sandbox"],
)
def test_a_file_whose_decoder_was_killed_is_not_to_blame(
    tmp_path: Path, signals: tuple[int, int]
) -> None:
    _hour_of_silence(tmp_path / "long.wav")
    with DecodePool(PREPROCESS, workers=1) as pool:
        end = _harmed(
            pool, tmp_path, "long.wav", lambda nth, pid: os.kill(pid, signals[nth]), others=3
        )["long.wav"]
    assert isinstance(end, Failed)
    name = signal.Signals(signals[-1]).name
    assert name in end.reason and "next run" not in end.reason, "add and queries have none"


@pytest.mark.parametrize(
    ("code", "own"),
    [(0xC0000005, True), (0xC0000409, True), (0xC0000017, False), (0xC000013A, False), (1, False)],
    ids=["access violation", "abort", "no memory", "Ctrl-C", "an ordinary end"],
)
def test_a_crash_on_windows_is_told_from_an_end_that_came_from_outside(
    code: int, own: bool
) -> None:
    death = death_by_exit(code, Limits())
    assert death.own is own and (f"0x{code:X}" in death.reason or code == 1)


@POSIX
def test_a_file_that_changed_between_two_tries_is_left_for_the_next_run(tmp_path: Path) -> None:
    _hour_of_silence(tmp_path / "long.wav")

    def harm(_nth: int, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        with (tmp_path / "long.wav").open("rb+") as file:
            file.seek(1000)
            file.write(b"other")

    with DecodePool(PREPROCESS, workers=1) as pool:
        end = _harmed(pool, tmp_path, "long.wav", harm)["long.wav"]
    assert isinstance(end, Failed)
    assert (end.stage, "changed while being read" in end.reason) == ("read", True)


@POSIX
def test_many_files_behind_a_killed_decoder_are_all_decoded(tmp_path: Path) -> None:
    """Tasks of a dead worker go back into a queue that is full: there is no room for others."""
    names = [f"{n}.txt" for n in range(300)]
    for name in names:
        (tmp_path / name).write_text(f"the note called {name}")
    with DecodePool(PREPROCESS, workers=2, queue_parts=2) as pool:
        ends, failed = [], 0
        for number, event in enumerate(pool.run((Task(item(tmp_path, n)) for n in names), always)):
            if number in (20, 200, 400):
                os.kill(pool.pids[0], signal.SIGKILL)
            if isinstance(event, Finished | Failed):
                ends.append(event.task.item.path)
                failed += isinstance(event, Failed)
    assert sorted(ends) == sorted(names)
    # on a loaded machine a decoder may be killed again with the file that it has just begun
    assert failed <= 1


@pytest.mark.slow
@POSIX
def test_a_hung_decoder_is_given_up_and_its_file_tried_again(tmp_path: Path) -> None:
    _hour_of_silence(tmp_path / "hang.wav")
    with DecodePool(PREPROCESS, workers=1, timeout_s=1.5) as pool:
        end = _harmed(
            pool, tmp_path, "hang.wav", lambda _, pid: os.kill(pid, signal.SIGSTOP), others=1
        )["hang.wav"]
    assert isinstance(end, Failed)
    assert end.reason == "the decoder gave no sign of life for 1.5 s"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_decoder_computed_before_its_silence_does_not_excuse_it(tmp_path: Path) -> None:
    _hour_of_silence(tmp_path / "hang.wav")
    with DecodePool(PREPROCESS, workers=1, queue_parts=1000) as pool:
        events = pool.run([Task(item(tmp_path, "hang.wav"))], always)
        next(events)
        (worker,) = pool._workers
        os.kill(worker.process.pid, signal.SIGSTOP)
        heard = 0.0
        while heard != worker.heard:  # what is in the pipe still comes
            heard = worker.heard
            time.sleep(0.2)
        assert not worker.is_hung(heard + 1, 2.0), "its silence is still short"
        assert worker.is_hung(heard + 3, 2.0)


@POSIX
@pytest.mark.parametrize("answer", [True, False])
def test_what_was_answered_to_a_decoder_that_died_holds_for_the_next_one(
    tmp_path: Path, answer: bool
) -> None:
    (tmp_path / "note.txt").write_text("a note")
    asked = []

    def accept(_task: Task, _digest: bytes) -> bool:
        asked.append(pool.pids[0])
        os.kill(pool.pids[0], signal.SIGKILL)
        return answer

    with DecodePool(PREPROCESS, workers=1) as pool:
        ends = run(pool, tmp_path, "note.txt", ask=True, accept=accept)["note.txt"]
    assert [type(e) for e in ends] == ([PartReady, Finished] if answer else [Known])
    assert len(asked) == 1


@pytest.mark.slow
@POSIX
def test_a_decoder_that_cannot_even_be_killed_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits for a network drive: the system does not end it."""
    _hour_of_silence(tmp_path / "hang.wav")
    stuck: list[int] = []

    def stop(nth: int, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        stuck.append(pid)

    monkeypatch.setattr("mmsearch.media.child._END_S", 0.2)
    monkeypatch.setattr("mmsearch.media.child.Child.kill", lambda self: None)
    pool = DecodePool(PREPROCESS, workers=1, timeout_s=1.0)
    try:
        end = _harmed(pool, tmp_path, "hang.wav", stop, others=1)["hang.wav"]
    finally:
        for pid in stuck + pool.pids:
            os.kill(pid, signal.SIGKILL)
        pool.close()
    assert isinstance(end, Failed) and len(stuck) == 2
    assert end.reason.startswith("the decoder gave no sign of life for 1 s")


@pytest.mark.slow
@POSIX
def test_a_decoder_that_computes_without_an_end_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "slow.html").write_bytes(b"<html><p>words " + b"<b>word </b>" * 400_000)
    (tmp_path / "next.txt").write_text("a note")
    with DecodePool(PREPROCESS, workers=1, limits=Limits(worker_cpu_s=1)) as pool:
        ends = run(pool, tmp_path, "slow.html", "next.txt")
    (end,) = ends["slow.html"]
    assert isinstance(end, Skipped)
    assert end.reason == "one part of it took more than 1 s to compute; it was tried twice"
    assert isinstance(ends["next.txt"][-1], Finished)


@POSIX
def test_a_decoder_that_computes_in_silence_is_not_hung(tmp_path: Path) -> None:
    (tmp_path / "slow.html").write_bytes(b"<html><p>words " + b"<b>word </b>" * 100_000)
    with DecodePool(PREPROCESS, workers=1, timeout_s=0.4) as pool:
        *_, end = run(pool, tmp_path, "slow.html")["slow.html"]
    assert isinstance(end, Finished)


@POSIX
def test_a_slow_consumer_is_not_taken_for_a_hung_worker(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("word " * 20000)
    with DecodePool(PREPROCESS, workers=1, timeout_s=1.0, queue_parts=2) as pool:
        ends = []
        for number, event in enumerate(pool.run([Task(item(tmp_path, "long.txt"))], always)):
            if number == 3:
                time.sleep(3.0)
            ends.append(event)
    assert isinstance(ends[-1], Finished)


def test_memory_of_a_decoder_is_bounded(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("RLIMIT_DATA counts the heap on Linux only")
    from PIL import Image

    Image.new("RGB", (9000, 9000)).save(tmp_path / "wide.png", compress_level=1)
    with DecodePool(PREPROCESS, workers=1, limits=Limits(worker_memory_bytes=200 << 20)) as pool:
        (end,) = run(pool, tmp_path, "wide.png")["wide.png"]
    assert isinstance(end, Skipped)
    assert (
        end.reason == "it needs more memory than a decoder may take (200 MiB); it was tried twice"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts the heap on Linux only")
def test_a_decoder_that_takes_lack_of_memory_for_damage_gets_a_second_try(tmp_path: Path) -> None:
    from PIL import Image, features

    if not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    Image.new("RGB", (6000, 6000)).save(tmp_path / "wide.webp", lossless=True, quality=0, method=0)
    (tmp_path / "cut.webp").write_bytes(b"RIFF\x2a\x01\0\0WEBPVP8 " + b"aa" * 200)
    with DecodePool(PREPROCESS, workers=1, limits=Limits(worker_memory_bytes=256 << 20)) as pool:
        before = pool.pids
        (cut,) = run(pool, tmp_path, "cut.webp")["cut.webp"]
        assert isinstance(cut, Skipped) and "memory" not in cut.reason and pool.pids == before
        (end,) = run(pool, tmp_path, "wide.webp")["wide.webp"]
    assert isinstance(end, Skipped)
    assert (
        end.reason == "it needs more memory than a decoder may take (256 MiB); it was tried twice"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts the heap on Linux only")
@pytest.mark.parametrize(("limit", "most_mb"), [("RLIMIT_DATA", 180), ("RLIMIT_AS", 450)])
def test_a_file_is_not_blamed_for_a_limit_of_the_session(
    tmp_path: Path, limit: str, most_mb: int
) -> None:
    from PIL import Image

    Image.new("RGB", (9000, 9000)).save(tmp_path / "wide.png", compress_level=1)
    program = f"""
import resource
from test_media_pool import DecodePool, PREPROCESS, Path, run

resource.setrlimit(resource.{limit}, ({most_mb} << 20,) * 2)
with DecodePool(PREPROCESS, workers=1) as pool:
    (end,) = run(pool, Path({str(tmp_path)!r}), "wide.png")["wide.png"]
print(type(end).__name__, end.reason, sep=": ")
"""
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("Failed: there was not enough memory"), done.stderr


def test_tasks_are_taken_as_they_are_needed(shared_pool: DecodePool, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures()["jpg"])
    taken = []

    def endless() -> Iterator[Task]:
        while True:
            taken.append(1)
            yield Task(item(tmp_path, "a.jpg"))

    events = shared_pool.run(endless(), always)
    for _ in range(40):
        next(events)
    events.close()  # type: ignore[attr-defined]
    assert len(taken) < 40 + 2 * 64 + 2 * 2 + 16
    # A run that was left early leaves nothing behind for the next one.
    assert [type(e) for e in run(shared_pool, tmp_path, "a.jpg")["a.jpg"]] == [PartReady, Finished]


def test_an_error_in_the_callers_tasks_reaches_the_caller(shared_pool: DecodePool) -> None:
    def broken() -> Iterator[Task]:
        raise KeyError("mine")
        yield

    with pytest.raises(KeyError, match="mine"):
        list(shared_pool.run(broken(), always))


def test_a_pool_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(MmsearchError, match="cannot start a decoding process"):
        DecodePool(PREPROCESS, workers=1)


def test_a_worker_that_dies_at_once_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsearch.media.child._CODE", "raise SystemExit('no such module')")
    with (
        DecodePool(PREPROCESS, workers=1) as pool,
        pytest.raises(MmsearchError, match=r"cannot start .*no such module"),
    ):
        list(pool.run([Task(Item("/", "a.jpg", 0, 0, 0, 0))], always))


def test_there_are_no_more_workers_than_files(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(f"words, {i}")
    tasks = [Task(Item(str(tmp_path), f"{i}.txt", 0, 0, 0, 0)) for i in range(5)]
    with DecodePool(PREPROCESS, workers=256) as pool:
        events = list(pool.run(tasks, always))
        assert sorted(e.task.item.path for e in events if isinstance(e, Finished)) == [
            f"{i}.txt" for i in range(5)
        ]
        assert 1 <= pool.most_workers == len(pool.pids) <= 5
        assert pool.start_s > 0
    assert pool.start_s > 0 and pool.pids == []


def test_more_workers_start_as_long_as_files_wait(tmp_path: Path) -> None:
    wide = available_cores() + 2
    (tmp_path / "a.txt").write_text("a word")
    task = Task(Item(str(tmp_path), "a.txt", 0, 0, 0, 0))
    with DecodePool(PREPROCESS, workers=wide) as pool:
        for event in pool.run(itertools.repeat(task), always):
            assert isinstance(event, PartReady | Finished)
            if len(pool.pids) == wide:
                break
        assert pool.most_workers == wide


def test_close_leaves_no_process() -> None:
    pool = DecodePool(PREPROCESS, workers=2)
    events = pool.run([Task(Item("/", "nowhere", 0, 0, 0, 0))] * 2, always)
    assert isinstance(next(events), Failed)
    pids = pool.pids
    assert len(pids) == 2
    pool.close()
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


_PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from mmsearch.media.pool import DecodePool, Task, PartReady
from mmsearch.types import Item, Preprocess
pool = DecodePool(Preprocess(224, 16000, 10.0), workers=2)
task = Task(Item(sys.argv[2], sys.argv[3], 0, 0, 0, 0))
for event in pool.run([task, task], lambda t, h: True):
    print(*pool.pids, flush=True)
    if sys.argv[4] == "stay":
        time.sleep(60)
pool.close()
"""


@POSIX
def test_kill_9_of_the_parent_leaves_no_orphans(tmp_path: Path) -> None:
    _hour_of_silence(tmp_path / "long.wav")
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(ROOT), str(tmp_path), "long.wav", "stay"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a zombie that nobody in a container reaps is dead enough
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return sys.platform != "linux"


def test_a_script_without_a_main_guard_in_a_folder_of_traps(tmp_path: Path) -> None:
    """The working directory holds a numpy.py and is never on the workers' path."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('the trap')")
    (tmp_path / "json.py").write_text("raise SystemExit('the trap')")
    (tmp_path / "a.jpg").write_bytes(pictures()["jpg"])
    script = tmp_path / "sub" / "script.py"
    script.parent.mkdir()
    script.write_text(_PARENT)
    done = subprocess.run(
        [sys.executable, str(script), str(ROOT), str(tmp_path), "a.jpg", "go"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4  # PartReady and Finished, twice, from one process
    assert done.stderr == ""


def test_a_resource_fork_in_the_working_directory_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libsndfile finds `._` there and takes it for the sound's own (see child_python.start)."""
    (tmp_path / "._").write_bytes(b"")
    (tmp_path / "a.mp3").write_bytes(sounds()["mp3"])
    monkeypatch.chdir(tmp_path)
    with DecodePool(PREPROCESS, workers=1) as pool:
        assert isinstance(run(pool, tmp_path, "a.mp3")["a.mp3"][-1], Finished)


@pytest.mark.slow
def test_a_hostile_folder_ends_as_expected_in_bounded_memory(tmp_path: Path) -> None:
    expected = make_hostile_folder(tmp_path)
    names = {Finished: "indexed", Skipped: "skipped", Failed: "failed", Ignored: "ignored"}
    with DecodePool(PREPROCESS, workers=2, timeout_s=60) as pool:
        out = run(pool, tmp_path, *expected)
        peaks = [_peak_rss_bytes(pid) for pid in pool.pids]
        assert len(pool.pids) == 2
    (tmp_path / "closed").chmod(0o700)
    got = {path: names[type(events[-1])] for path, events in out.items()}
    wrong = {p: (expected[p], got[p]) for p in expected if expected[p] not in (got[p], "any")}
    assert wrong == {}
    for path, events in out.items():
        if isinstance(events[-1], Skipped | Failed):
            assert events[-1].stage in ("read", "sniff", "decode")
            assert len(events[-1].reason) > 8 and "crashed" not in events[-1].reason
            # Two PDFs are made to ask for memory without an end.
            assert ("gave up" in events[-1].reason) == (path in KILLING)
            assert "Traceback" not in events[-1].reason
    assert max(peaks) < 400 << 20


def _peak_rss_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
