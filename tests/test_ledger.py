"""The ledger of files without parts: appended run by run, the newest row holds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmsearch.errors import IndexDamaged
from mmsearch.store import Writer, manifest, verify
from mmsearch.store import ledger as ledgers
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import checksum
from mmsearch.store.ledger import LedgerRow, Outcome, read_ledger
from mmsearch.types import Modality, Preprocess, Space

SPACE = Space("ledger-only", "0" * 64, 8, tuple(Modality), Preprocess(224, 16000, 10.0))
ROOT = "/pictures"


def skipped(name: str, reason: str = "no picture", size: int = 1) -> LedgerRow:
    where = f"{ROOT}/{name}" if name else ROOT
    return LedgerRow(where, Outcome.SKIPPED, "decode", reason, "pillow 1", size, 2, 3, 4)


def gone(name: str) -> LedgerRow:
    return LedgerRow(f"{ROOT}/{name}", None)


def commit(folder: Path, *commits: list[LedgerRow]) -> None:
    with Writer(folder, SPACE) as writer:
        writer.root(ROOT)
        for rows in commits:
            writer.commit(ledger=rows)
        writer.finish()


def held(folder: Path) -> dict[str, LedgerRow]:
    rows = list(read_ledger(folder, manifest.read(folder)))
    found = {row.path.removeprefix(f"{ROOT}/"): row for row in rows}
    assert len(found) == len(rows), "a file is there twice"
    return found


def test_the_newest_row_of_a_file_holds_and_a_row_without_outcome_ends_it(tmp_path: Path) -> None:
    commit(
        tmp_path / "ix",
        [skipped("a", "first"), skipped("b", "first"), skipped("c", "first")],
        [skipped("b", "second"), gone("c")],
        [skipped("b", "third"), skipped("d", "third")],
    )
    found = held(tmp_path / "ix")
    assert {name: row.reason for name, row in found.items()} == {
        "a": "first",
        "b": "third",
        "d": "third",
    }
    assert found["a"] == skipped("a", "first"), "all that was kept comes back"
    assert [run.rows for run in manifest.read(tmp_path / "ix").ledger] == [3, 2, 2]
    assert verify(tmp_path / "ix") == []


def test_of_two_rows_of_a_file_in_one_commit_the_last_holds(tmp_path: Path) -> None:
    commit(tmp_path / "ix", [skipped("a", "first"), gone("a"), skipped("b"), skipped("a", "last")])
    assert {name: row.reason for name, row in held(tmp_path / "ix").items()} == {
        "a": "last",
        "b": "no picture",
    }


def test_a_commit_appends_and_leaves_older_runs_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    commit(folder, [skipped(str(i)) for i in range(100)])
    (first,) = manifest.read(folder).ledger
    before = (folder / first.name).stat()
    commit(folder, [skipped("new")])
    assert manifest.read(folder).ledger[0] == first
    assert (folder / first.name).stat().st_mtime_ns == before.st_mtime_ns
    assert len(held(folder)) == 101


def test_many_runs_are_merged_and_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    commits = [[skipped(f"{n}-{i}", f"in {n}") for i in range(20)] for n in range(40)]
    commits[20] += [gone("3-7"), skipped("4-1", "later")]
    commit(folder, *commits)
    wanted = {f"{n}-{i}": f"in {n}" for n in range(40) for i in range(20)}
    wanted["4-1"] = "later"
    del wanted["3-7"]
    assert {name: row.reason for name, row in held(folder).items()} == wanted
    runs = manifest.read(folder).ledger
    assert len(runs) <= ledgers._MAX_RUNS + 1
    assert sorted(p.name for p in folder.glob("ledger-*")) == [run.name for run in runs]
    assert verify(folder) == []


def test_a_ledger_that_comes_to_an_end_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    names = [str(i) for i in range(30)]
    commit(folder, *([skipped(name)] for name in names))
    commit(folder, [gone(name) for name in names], *([gone(names[0])] for _ in range(20)))
    assert held(folder) == {}
    assert len(manifest.read(folder).ledger) <= ledgers._MAX_RUNS + 1


def test_two_files_whose_keys_collide_stay_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "_hash", lambda root, path: 7)
    commit(tmp_path / "ix", [skipped("a", "of a"), skipped("b", "of b")], [gone("a")])
    assert {name: row.reason for name, row in held(tmp_path / "ix").items()} == {"b": "of b"}


def test_names_of_any_bytes_and_the_root_itself_come_back(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9\n.jpg")
    commit(tmp_path / "ix", [skipped(odd), skipped(""), skipped("日本/b.jpg")])
    assert {row.path for row in read_ledger(tmp_path / "ix", manifest.read(tmp_path / "ix"))} == {
        f"{ROOT}/{odd}",
        ROOT,
        f"{ROOT}/日本/b.jpg",
    }


def test_a_long_reason_with_half_a_character_is_kept(tmp_path: Path) -> None:
    commit(tmp_path / "ix", [skipped("a", "x" * 5000 + "\udcff")])
    assert held(tmp_path / "ix")["a"].reason == "x" * 5000 + "?"


def test_paths_are_stored_relative_to_their_root(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    commit(folder, [skipped("deep/a.jpg")])
    now = manifest.read(folder)
    moved = replace(now, roots=tuple(replace(root, path="/elsewhere") for root in now.roots))
    assert [row.path for row in read_ledger(folder, moved)] == ["/elsewhere/deep/a.jpg"]


def test_verify_finds_a_run_that_is_out_of_order_or_of_no_root(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    commit(folder, [skipped(str(i)) for i in range(5)])
    now = manifest.read(folder)
    (run,) = now.ledger
    path = ConfinedPath(folder) / run.name
    rows = list(ledgers._run(ConfinedPath(folder), run, now.roots))
    for wrong in (rows[::-1], [(key, 99, path, row) for key, _, path, row in rows]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ledgers, "_GROUP_ROWS", 2)
            ledgers._write(path, iter(wrong))
        file = manifest.FileRef(*checksum(path))
        manifest.write(folder, replace(now, ledger=(replace(run, file=file),)))
        (problem,) = verify(folder)
        assert problem.path == str(path)
    with pytest.raises(IndexDamaged, match=run.name):
        list(read_ledger(folder, manifest.read(folder)))
