"""Index folders from strangers are refused or harmless, whatever is in them. See SECURITY.md."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from altered_manifest import places, put, signed, use
from forged import Forged, build
from forged_cases import CASES, READS_WHAT_IS_NAMED
from forged_runner import commands, picture
from mmsearch.errors import IndexDamaged, IndexLocked, MmsearchError
from mmsearch.indexer import verify
from mmsearch.store import Writer, WriterLock, manifest
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.lock import _lock, is_held
from tiny_space import write_space

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="watches with inotify")
POSIX = pytest.mark.skipif(os.name == "nt", reason="makes links and changes modes")
COMMANDS = list(commands(Path("ix"), Path("work")))
MAX_MB = 1000
SHORT = [  # in `make test`; all cases and commands are a campaign
    ("retired_leads_through_a_link", "index"),
    ("stray_segment_holds_links", "delete"),
    ("stray_segment_is_deep", "add"),
    ("link_holder_to_a_file", "compact"),
    ("link_segment", "query text"),
    ("fifo_arrow", "info"),
    ("arrow_offset_beyond_in_text", "verify"),
    ("vectors_are_nan", "eval"),
    ("roots_of_rows_are_unknown", "index"),
    ("arrow_offset_negative_in_id", "query where"),
    ("lists_rows_beyond", "ask"),
    ("tower_has_weights_anywhere", "query text"),
    ("tower_unpacks_at_run", "query text"),
]
# What is honest in form, so that `verify` finds nothing: what it says may still be a lie.
WHOLE = {
    "fifo_writer.json", "lock_is_another_name_of_a_file", "link_holder_to_a_file",
    "link_holder_to_nowhere", "retired_segment_is_a_link", "next_is_a_link_to_an_index",
    "every_next_is_a_link", "facts_without_end", "facts_that_divide_by_nothing", "include_is_slow",
    "unfinished_is_strange", "meta_has_half_characters", "paths_hold_strange_bytes",
    "part_numbers_are_strange", "texts_are_long", "ledger_of_no_outcome",
    "ledger_with_long_reasons", "tokenizer_has_a_slow_pattern", "tokenizer_has_huge_numbers",
    "card_holds_nothing", "tower_unpacks_a_constant", "tower_unpacks_at_run",
    "tower_reads_beyond_a_table", "tower_gives_another_shape", "tower_gives_another_type",
    "tower_gives_no_numbers", "tower_gives_texts", "tower_gives_nothing",
}  # fmt: skip


PRINTS_ITSELF = {"tokenizer_has_a_slow_pattern"}  # Rust tells of a panic before our line


def made(work: Path) -> Path:
    """The honest index, and what the commands need beside it."""
    build(work)
    write_space(work / "space2", seed=7)
    pairs = [
        {"image": str(work / "docs/red.png"), "en": ["a red square", "red"]},
        {"image": str(work / "docs/green.png"), "en": ["a green square", "green"]},
    ]
    (work / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in pairs))
    return work


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("forged"))


@pytest.fixture
def base(work: Path, tmp_path: Path) -> Path:
    """A copy of the honest index."""
    shutil.copytree(work / "base", tmp_path / "ix")
    return tmp_path / "ix"


def run(work: Path, jobs: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """What became of each job, as they are done."""
    (work / "jobs.json").write_text(json.dumps(jobs))
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forged_runner.py")), str(work),
         str(work / "jobs.json")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(work / "cache")},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    assert process.wait() == 0


def wrong(found: dict[str, Any]) -> list[str]:
    """What is wrong with the way that a command took a forged index."""
    case, command = found["case"], found["command"]
    reasons = []
    if found["signal"] is not None:
        reasons.append(f"it ended with signal {found['signal']}")
    if found["code"] not in (None, *range(8)) or "Traceback" in found["said"]:
        reasons.append(f"it ended with code {found['code']}: {found['said']}")
    if found["mb"] > MAX_MB:
        reasons.append(f"it took {found['mb']} MB")
    if found["changed"]:
        reasons.append(f"outside was changed: {found['changed']}")
    if found["opened"] and case not in READS_WHAT_IS_NAMED:
        reasons.append(f"outside was opened: {found['opened']}")
    if found.get("written"):
        reasons.append(f"verify wrote {found['written']}")
    one_line = command not in ("verify", "index") and case not in PRINTS_ITSELF
    if found["code"] and one_line and found["lines"] != 1:
        reasons.append(f"it was refused in {found['lines']} lines: {found['said']}")
    if command == "verify" and (found["code"] == 0) != (case in WHOLE | {""}):
        reasons.append(f"verify ended with {found['code']}: {found['said']}")
    return [f"{case}, {command}: {reason}" for reason in reasons]


@LINUX
def test_forged_indexes_are_refused_or_harmless(work: Path) -> None:
    found = list(run(work, [("", "ask"), *SHORT]))
    assert [line for one in found for line in wrong(one)] == []
    assert len(found) == 1 + len(SHORT) and found[0]["code"] == 0


@LINUX
@pytest.mark.campaign
@pytest.mark.parametrize("command", COMMANDS)
def test_every_forged_index_is_refused_or_harmless(tmp_path: Path, command: str) -> None:
    work = made(tmp_path)
    failures, codes = [], {}
    for one in run(work, [(case, command) for case in ("", *CASES)]):
        failures += wrong(one)
        codes[one["case"]] = one["code"]
    print(f"{command}: {len(codes)} indexes, {sum(map(bool, codes.values()))} refused")
    assert failures == []
    assert codes[""] == (6 if command == "caption" else 0)


# -- the manifest ----------------------------------------------------------------------

VALUES = (None, True, -1, 2**70, 1e308, "x", "../x", "a/../../x", "", "\0", [], {}, [[]], {"a": 1})


def altered(base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The manifest with another value in one place, each place and each value."""
    body = json.loads((base / "manifest.json").read_bytes())
    del body["checksum"]
    for path in places(body):
        for value in VALUES:
            other = copy.deepcopy(body)
            put(other, path, value)
            yield f"{path} = {value!r}", other


def write(base: Path, body: dict[str, Any]) -> None:
    (base / "manifest.json").write_bytes(signed(body))


def check_values(base: Path, every: int) -> int:
    """Tries one value in ``every``, and uses those that are taken. Returns how many were."""
    taken = 0
    for what, body in islice(altered(base), 0, None, every):
        write(base, body)
        try:
            manifest.read(base)
        except MmsearchError as e:
            assert len(str(e).splitlines()) == 1, what
            continue
        except Exception as e:
            raise AssertionError(what) from e
        taken += 1
        try:
            use(base)
        except MmsearchError:
            continue
        except Exception as e:
            raise AssertionError(what) from e
    return taken


def test_no_value_of_a_manifest_gives_another_error(base: Path) -> None:
    assert check_values(base, every=29) > 0


@pytest.mark.campaign
def test_every_value_of_a_manifest_that_is_taken_can_be_used(base: Path) -> None:
    assert check_values(base, every=1) > 20


@pytest.mark.parametrize(
    "retired",
    ["x/Documents", "notes.txt", "segments", "segments/a", "segments/000001-abcd/notes.txt",
     "query/../x", "manifest.json", "writer.lock", "ann", "ann/x.quantiser", "next-00000000"],
)  # fmt: skip
def test_a_manifest_that_retires_what_no_writer_makes_is_refused(base: Path, retired: str) -> None:
    body = json.loads((base / "manifest.json").read_bytes())
    del body["checksum"]
    write(base, {**body, "retired": [retired]})
    with pytest.raises(IndexDamaged, match=r"retired\[0\]"):
        manifest.read(base)


@pytest.mark.parametrize("name", ["target", "queries", "queries_of"])
def test_a_curve_without_what_it_was_measured_with_is_refused(base: Path, name: str) -> None:
    body = json.loads((base / "manifest.json").read_bytes())
    del body["checksum"]
    (ann,) = body["anns"].values()
    assert ann["facts"]["curve"]
    del ann["facts"][name]
    write(base, body)
    with pytest.raises(IndexDamaged, match=f"hold a curve and lack {name}"):
        manifest.read(base)


# -- verify and the lock ---------------------------------------------------------------


def test_verify_writes_nothing(base: Path) -> None:
    (base / "writer.lock").unlink()
    before = picture(base)
    assert verify(base) == []
    assert picture(base) == before


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write where nobody else can"
)
def test_verify_works_where_nobody_may_write(base: Path) -> None:
    for path in [base, *base.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert verify(base) == []
    finally:
        for path in [base, *base.rglob("*")]:
            path.chmod(0o700)


def test_verify_sees_a_writer_and_is_not_seen(base: Path) -> None:
    space = manifest.read(base).space
    (base / "segments" / "000099-abcd").mkdir()  # as if it was being written
    with WriterLock(base):
        assert is_held(ConfinedPath(base)) and verify(base) == []
    assert not is_held(ConfinedPath(base))
    assert [Path(problem.path).name for problem in verify(base)] == ["000099-abcd"]
    Writer(base, space).close()
    assert verify(base) == []


@POSIX
def test_a_writer_that_starts_while_verify_looks_is_not_refused(base: Path) -> None:
    looking = os.open(base / "writer.lock", os.O_RDONLY)
    _lock(looking, shared=True)
    threading.Timer(0.06, os.close, [looking]).start()
    started = time.monotonic()
    with WriterLock(base):
        assert time.monotonic() - started > 0.03
        with pytest.raises(IndexLocked, match=f"process {os.getpid()} "):
            WriterLock(base).acquire()


@POSIX
def test_the_lock_does_not_live_on_in_a_forked_child(base: Path) -> None:
    lock = WriterLock(base)
    lock.acquire()
    (until, leave), (begun, begin) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(leave)
        os.write(begin, b"!")  # by now it has let go of its copies
        os.read(until, 1)  # until the parent has let go and looked
        os._exit(0)
    os.read(begun, 1)
    lock.release()
    try:
        assert not is_held(ConfinedPath(base))
        WriterLock(base).acquire()
    finally:
        os.close(leave)
        os.waitpid(pid, 0)
        for descriptor in (until, begun, begin):
            os.close(descriptor)


@POSIX
def test_what_says_who_writes_is_replaced_and_not_followed(base: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (base / "writer.json").symlink_to(victim)
    with WriterLock(base):
        assert json.loads((base / "writer.json").read_bytes())["pid"] == os.getpid()
    assert victim.read_bytes() == b"precious" and not (base / "writer.json").exists()


# -- what is found ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "file", "words"),
    [
        ("lists_one_row_twice", "codes-", "each row once"),
        ("lists_rows_beyond", "codes-", "rows that the segment does not have"),
        ("quantiser_nan", "codes-", "numbers that no training gives"),
        ("arrow_offset_beyond_in_text", "", "cannot be read"),
        ("meta_is_a_list", "parts.arrow", "no object"),
        ("paths_climb_out", "", "leaves its root"),
        ("vectors_are_nan", "", "not of unit length"),
        ("deletions_unsorted", "", "ascending"),
        ("parquet_has_other_columns", "parts.parquet", "9 rows"),
        ("tower_loops_without_end", "query", "loops"),
        ("tokenizer_replaces_without_end", "query", "too many"),
    ],
)
def test_verify_says_which_file_it_is_and_why(
    work: Path, tmp_path: Path, case: str, file: str, words: str
) -> None:
    (tmp_path / "outside/Documents").mkdir(parents=True)
    forged = Forged(work / "base", tmp_path / "ix", tmp_path / "outside")
    CASES[case](forged)
    forged.save()
    problems = verify(tmp_path / "ix")
    assert any(file in problem.path and words in problem.what for problem in problems), problems
