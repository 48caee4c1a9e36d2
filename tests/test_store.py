"""The index folder: segments, manifests, commits, merging, damage."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from altered_manifest import signed
from mmsearch import errors
from mmsearch.store import (
    Snapshot,
    Writer,
    default_home,
    manifest,
    resolve,
    verify,
)
from mmsearch.store.absorbing import absorb
from mmsearch.store.blocks import seal
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.manifest import Unfinished
from mmsearch.store.strays import strays
from mmsearch.types import Modality, Preprocess, Space
from stored import SPACE, D, contents, expected, fill, row, unit


def test_a_reader_finds_each_row_with_its_own_vector_across_batches(tmp_path: Path) -> None:
    fill(tmp_path / "ix", range(0, 5000), range(5000, 9001))
    assert contents(tmp_path / "ix") == expected(*range(9001))
    snapshot = Snapshot.open(tmp_path / "ix")
    found = snapshot.find("item8999")
    assert found is not None
    segment, at = found
    assert segment.row(at) == row(8999)
    assert snapshot.absolute(0, "a/8999.jpg") == os.path.join("/pictures", "a", "8999.jpg")


def test_merging_keeps_ids_vectors_and_order_and_drops_the_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(0, 300), range(300, 500), range(500, 700))
    with Writer(folder, SPACE) as writer:
        assert writer.drop("item7", "item450", "nobody") == {"item7", "item450"}
        writer.commit()
        writer.compact()
        writer.finish()
    left = [n for n in range(700) if n not in (7, 450)]
    assert list(contents(folder)) == [f"item{n}" for n in left]
    assert contents(folder) == expected(*left)
    assert len(Snapshot.open(folder).segments) == 1
    assert verify(folder) == []


def test_segments_stay_few_however_many_commits(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        for n in range(60):
            writer.extend([(row(n), unit(n))])
            writer.commit()
            writer.compact()
            assert len(writer.manifest.segments) <= 7  # log2(60) + 1
        writer.finish()
    assert contents(folder) == expected(*range(60))


def test_dropping_an_item_takes_all_its_parts_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        for part_no in range(3):
            writer.extend([(row(1, part_no), unit(part_no))])
            writer.extend([(row(11, part_no), unit(part_no))])
        writer.commit()
        assert writer.drop("item1") == {"item1"}
        writer.commit()
    assert set(contents(folder)) == {"item11", "item11#1", "item11#2"}


def nested(levels: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in range(levels - 1):
        found = {"x": found}
    return found


@pytest.mark.parametrize(
    "meta",
    [{"x": "a" * (1 << 20)}, nested(65), {"x": float("nan")}],
    ids=["too long", "too deep", "no number"],
)
def test_metadata_that_no_reader_takes_is_never_written(tmp_path: Path, meta) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(1))
    with Writer(folder, SPACE) as writer:
        writer.extend([(replace(row(1), meta=meta), unit(1))])
        with pytest.raises(errors.LimitExceeded, match="'item1' has metadata"):
            writer.commit()
    with Writer(folder, SPACE) as writer:
        writer.extend([(replace(row(2), meta=nested(64)), unit(2))])
        writer.commit()
    assert contents(folder) == expected(0, 2)
    assert verify(folder) == []


def test_merging_the_whole_of_an_unfinished_item_finishes_it(tmp_path: Path) -> None:
    half, other = (Unfinished(f"item{n}", f"{n:032x}", 2) for n in (1, 2))
    with Writer(tmp_path / "half", SPACE) as writer:
        writer.root("/pictures")
        writer.extend([(row(n, part_no), unit(part_no)) for n in (1, 2) for part_no in range(2)])
        writer.commit(unfinished=[half, other])
    with Writer(tmp_path / "whole", SPACE) as writer:
        writer.root("/pictures")
        writer.extend([(row(1, part_no), unit(part_no)) for part_no in range(5)])
        writer.commit()
    with Writer(tmp_path / "half", SPACE) as writer:
        assert absorb(writer, Snapshot.open(tmp_path / "whole")) == (5, 1)
    assert manifest.read(tmp_path / "half").unfinished == (other,)
    assert len(contents(tmp_path / "half")) == 5 + 2 and verify(tmp_path / "half") == []


def test_the_parquet_file_alone_tells_the_truth(tmp_path: Path) -> None:
    fill(tmp_path / "ix", range(3))
    (segment,) = Snapshot.open(tmp_path / "ix").segments
    table = pq.read_table(segment.folder / "parts.parquet").to_pylist()
    assert [r["path"] for r in table] == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
    assert [r["modality"] for r in table] == ["image"] * 3
    assert json.loads(table[2]["meta"]) == {"n": 2}


def test_names_that_are_not_utf8_come_back_as_they_were(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.root("/pictures")
        writer.extend([(row(1, path=name), unit(1))])
        writer.commit()
    (segment,) = Snapshot.open(tmp_path / "ix").segments
    assert segment.row(0).path == name
    stored = pq.read_table(segment.folder / "parts.parquet").to_pylist()[0]
    assert stored["path_bytes"] == b"caf\xe9 \xff.jpg"


def test_a_reader_keeps_its_snapshot_while_a_writer_replaces_everything(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(0, 50), range(50, 80))
    old = Snapshot.open(folder)
    with Writer(folder, SPACE) as writer:
        writer.drop(*(f"item{n}" for n in range(60)))
        writer.commit()
        writer.compact()
        writer.finish()
    assert [old.segments[0].row(n).id for n in range(50)] == [f"item{n}" for n in range(50)]
    assert old.segments[0].lanes[0].vectors[49].tobytes() == unit(49).astype(np.float16).tobytes()
    assert set(contents(folder)) == {f"item{n}" for n in range(60, 80)}


def test_a_replaced_file_outlives_one_more_generation(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(0, 5), range(5, 10))
    with Writer(folder, SPACE) as writer:
        before = [f"segments/{s.name}" for s in writer.manifest.segments]
        writer.compact()
        assert list(writer.manifest.retired) == before
        assert all((folder / p).exists() for p in before)
        assert strays(folder, writer.manifest) == []
        writer.finish()
        assert not any((folder / p).exists() for p in before)


def test_a_commit_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "ix", range(3))
    with Writer(tmp_path / "ix", SPACE) as writer:
        generation = writer.manifest.generation
        writer.commit()
        writer.compact()
        writer.finish()
        assert writer.manifest.generation == generation


def test_what_a_killed_writer_left_is_removed_and_what_a_user_left_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(3))
    half = folder / "segments" / "000099-abcd"
    half.mkdir()
    (half / "parts.parquet").write_bytes(b"half")
    (folder / "manifest.json.123.tmp").write_bytes(b"{")
    mine = folder / "notes.txt"
    mine.write_text("my own")
    assert len(strays(folder, manifest.read(folder))) == 3
    Writer(folder, SPACE).close()
    assert [p.path for p in strays(folder, manifest.read(folder))] == [mine]
    assert mine.read_text() == "my own"


def test_a_folder_with_other_things_in_it_never_becomes_an_index(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.UsageError, match="holds other things"):
        Writer(tmp_path, SPACE)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["writer.json.77.tmp", "manifest.json.77.tmp"])
def test_a_writer_killed_at_its_first_file_does_not_keep_the_next_one_out(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "ix"
    (folder / "segments").mkdir(parents=True)
    (folder / name).write_text("{")
    fill(folder, range(2))
    assert contents(folder) == expected(0, 1)
    assert not (folder / name).exists() and verify(folder) == []


def test_one_writer_at_a_time_and_the_message_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(1))
    program = (
        "import sys\nfrom pathlib import Path\nfrom mmsearch.store import WriterLock\n"
        f"lock = WriterLock(Path({str(folder)!r}))\nlock.acquire()\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(errors.IndexLocked, match=f"process {other.pid} "):
        Writer(folder, SPACE)
    assert len(Snapshot.open(folder)) == 1  # readers are not kept out
    other.kill()
    other.communicate()
    Writer(folder, SPACE).close()  # the lock died with its process


def test_another_space_is_refused_and_both_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "ix", range(1))
    other = Space("other", "1" * 64, D, tuple(Modality), Preprocess(224, 16000, 10.0))
    with pytest.raises(errors.SpaceMismatch) as e:
        Writer(tmp_path / "ix", other)
    assert SPACE.fingerprint in str(e.value) and other.fingerprint in str(e.value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda b: b[:-5], errors.IndexDamaged),
        (lambda b: b.replace(b'"generation": 1', b'"generation": 2'), errors.IndexDamaged),
        (lambda b: b.replace(b'"schema": 5', b'"schema": 9'), errors.IndexTooNew),
        (lambda b: b.replace(b'"schema": 5', b'"schema": 4'), errors.StoreError),
        (lambda b: b"[]", errors.IndexDamaged),
        (lambda b: b"", errors.IndexDamaged),
    ],
)
def test_a_manifest_that_was_altered_is_refused(tmp_path: Path, change, error) -> None:
    fill(tmp_path / "ix", range(1))
    path = tmp_path / "ix" / "manifest.json"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error):
        Snapshot.open(tmp_path / "ix")


@pytest.mark.parametrize(
    ("unreadable", "error", "words"),
    [
        (
            {"roots": tuple(manifest.Root(n, f"/{n:080}") for n in range(70_000))},
            errors.LimitExceeded,
            "70,000 roots are too many",
        ),
        ({"exclude": ("a\0b",)}, errors.UsageError, r"exclude\[0\] .* NUL"),
        ({"exclude": ("a" * 70_000,)}, errors.UsageError, r"exclude\[0\] is too long"),
    ],
    ids=["too large", "a NUL", "a long pattern"],
)
def test_a_manifest_that_no_reader_takes_is_never_written(
    tmp_path: Path, unreadable, error, words: str
) -> None:
    fill(tmp_path / "ix", range(1))
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.manifest = replace(writer.manifest, **unreadable)
        writer.extend([(row(1), unit(1))])
        with pytest.raises(error, match=f"{words}.* The index is as it was"):
            writer.commit()
    fill(tmp_path / "ix", range(2, 3))
    assert contents(tmp_path / "ix") == expected(0, 2)
    assert verify(tmp_path / "ix") == []


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".hidden"])
def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(1))
    good = manifest.read(folder)
    run = manifest.LedgerRef(name, 1, manifest.FileRef(1, "0" * 32))
    for forged in (replace(good, ledger=(run,)), replace(good, retired=("../" + (name or "x"),))):
        with pytest.raises(errors.UsageError, match="cannot stand here"):
            manifest.write(folder, forged)
        (folder / "manifest.json").write_bytes(
            signed({"schema": manifest.SCHEMA, **asdict(forged)})
        )
        with pytest.raises(errors.IndexDamaged):
            manifest.read(folder)


@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_verify_names_every_file_that_was_damaged(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(20))
    assert verify(folder) == []
    files = [p for p in folder.rglob("*") if p.is_file() and p.parent != folder]
    assert len(files) == 5
    for path in files:
        good = path.read_bytes()
        if how == "cut":
            path.write_bytes(good[:-1])
        elif how == "flipped":
            middle = len(good) // 2
            path.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        else:
            path.unlink()
        assert [p.path for p in verify(folder)] == [str(path)]
        path.write_bytes(good)


def test_verify_sees_rows_that_no_longer_fit_their_vectors(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(20))
    now = manifest.read(folder)
    (ref,) = now.segments
    vectors = next((folder / "segments" / ref.name).glob("vectors-*.npy"))
    np.save(vectors, np.ones((19, D), np.float16))
    files = {**ref.files, **seal(ConfinedPath(vectors.parent) / vectors.name)}
    manifest.write(
        folder,
        replace(now, segments=(manifest.SegmentRef(ref.name, 20, files),)),
    )
    assert "do not fit" in verify(folder)[0].what


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")],
)
def test_a_refusal_of_the_disk_is_one_clear_error(tmp_path: Path, number: int, words: str) -> None:
    from mmsearch.store.files import writing_to

    with pytest.raises(errors.IndexNotWritable, match=words), writing_to(tmp_path):
        raise OSError(number, os.strerror(number))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses a file size limit")
def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(10))
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
from dataclasses import asdict, replace
from pathlib import Path
from test_store import *
try:
    fill(Path({str(folder)!r}), range(10, 5000))
except errors.IndexNotWritable as e:
    print("refused", e)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("refused"), done.stderr
    assert contents(folder) == expected(*range(10))
    assert verify(folder) == []


def test_where_an_index_name_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMSEARCH_HOME", str(tmp_path / "home"))
    assert resolve("photos") == tmp_path / "home" / "photos"
    assert resolve("./photos") == tmp_path / "photos"
    assert resolve(Path("photos")) == tmp_path / "photos"
    monkeypatch.delenv("MMSEARCH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if sys.platform.startswith("linux"):
        assert resolve("photos") == tmp_path / "data" / "mmsearch" / "indexes" / "photos"
    usual = default_home()
    fill(tmp_path / "photos", range(1))
    assert resolve("photos") == usual / "photos"  # a word is a name, whatever is here
    assert resolve("photos.index") == tmp_path / "photos.index"
    assert resolve(".") == tmp_path and resolve("..") == tmp_path.parent
    with pytest.raises(errors.UsageError, match="cannot name an index"):
        resolve("my photos?")
    with pytest.raises(errors.IndexNotFound, match=r"here is an index: say '\./photos'"):
        manifest.read(resolve("photos"))


def test_a_folder_called_indexes_is_used_only_after_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMSEARCH_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    usual = default_home()
    work = tmp_path / "work"
    (work / "indexes").mkdir(parents=True)
    monkeypatch.chdir(work)
    assert default_home() == usual  # it came from somewhere
    fill(work / "indexes" / "photos", range(1))
    assert default_home() == work / "indexes"
    assert resolve("other") == work / "indexes" / "other"
    # a clone brings the marker along, and lies elsewhere
    clone = tmp_path / "clone"
    shutil.copytree(work, clone)
    monkeypatch.chdir(clone)
    assert default_home() == usual
    # nor is one that a clone brings to the same path, by somebody who knows that and not the key
    marker = work / "indexes" / ".mmsearch-home"
    assert str(work / "indexes") in marker.read_text()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "of somebody else"))
    usual_there = default_home()
    fill(tmp_path / "mine" / "indexes" / "photos", range(1))  # who has a key, another one
    assert default_home() == usual_there
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_home() == work / "indexes"
    if os.name != "nt":
        assert (tmp_path / "data" / "mmsearch" / "home.key").stat().st_mode & 0o777 == 0o600
    # nor is it used through links, or where it is somebody else's
    monkeypatch.chdir(work)
    (work / "indexes").rename(work / "real")
    (work / "indexes").symlink_to("real")
    assert default_home() == usual
    (work / "indexes").unlink()
    (work / "real").rename(work / "indexes")
    assert default_home() == work / "indexes"
    monkeypatch.setattr(os, "geteuid", lambda: 12345, raising=False)
    assert default_home() == usual


def test_a_long_run_opens_few_files_however_often_it_commits(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        for n in range(150):
            writer.extend([(row(n), unit(n))])
            writer.commit()
            assert len(writer.manifest.segments) <= 40
    assert contents(folder) == expected(*range(150))


def test_lists_that_are_gone_are_only_slower_and_the_segment_answers_exactly(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(5))
    with Writer(folder, SPACE) as writer:
        (segment,) = writer.manifest.segments
        content = np.zeros(10, np.uint8)
        ref = manifest.AnnRef(
            f"{SPACE.fingerprint}-q001",
            "ivfpq",
            5,
            {"nlist": 1},
            writer.write_ann(f"{SPACE.fingerprint}-q001", content),
        )
        writer.set_ann(
            SPACE.fingerprint,
            ref,
            {segment.name: writer.write_codes(segment.name, f"{SPACE.fingerprint}-q001", content)},
        )
    assert verify(folder) == []
    lists = folder / "segments" / segment.name / f"codes-{SPACE.fingerprint}-q001.lists"
    assert Snapshot.open(folder).segments[0].lanes[0].code_blocks is not None
    lists.unlink()
    assert Snapshot.open(folder).segments[0].lanes[0].code_blocks is None
    assert contents(folder) == expected(*range(5))
    assert [p.path for p in verify(folder)] == [str(lists)]


def test_segments_without_a_manifest_are_not_taken_for_a_new_index(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(5))
    kept = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").unlink()
    with pytest.raises(errors.IndexDamaged, match="is gone"):
        Writer(folder, SPACE)
    (folder / "manifest.json").write_bytes(kept)
    assert contents(folder) == expected(*range(5))


def test_verify_sees_a_part_that_is_there_twice(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        writer.extend([(row(1), unit(1))])
        writer.extend([(row(1), unit(1))])
        writer.commit()
    assert "item1 is there twice" in verify(folder)[0].what


def test_verify_beside_a_writer_does_not_cry_wolf(tmp_path: Path) -> None:
    folder = tmp_path / "ix"
    fill(folder, range(5))
    with Writer(folder, SPACE):
        (folder / "segments" / "000009-abcd").mkdir()  # the commit that is being written
        assert verify(folder) == []
    assert [p.what for p in verify(folder)] == ["no manifest refers to it"]


def test_where_there_is_no_index_those_beside_it_are_named(tmp_path: Path) -> None:
    for name in ("photos", "notes"):
        with Writer(tmp_path / name, SPACE):
            pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.IndexNotFound, match=r"beside it are: notes, photos\.$"):
        Snapshot.open(tmp_path / "default")
