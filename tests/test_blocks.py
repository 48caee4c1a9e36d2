"""Files whose blocks are checked when they are first touched."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
import xxhash

from mmsearch.errors import IndexDamaged
from mmsearch.store import (
    PARTS_SCHEMA,
    PartRow,
    Segment,
    Snapshot,
    Writer,
    ipc_file,
    manifest,
    verify,
)
from mmsearch.store.blocks import BLOCK_BYTES, Blocks, Unchecked, Whole, mapped, seal, summed
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import checksum, checksum_of
from mmsearch.types import Modality, Preprocess, Space

D = 32
SPACE = Space("test", "0" * 64, D, tuple(Modality), Preprocess(224, 16000, 10.0))


def ranges(*spans: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    both = np.array(spans, np.int64)
    return both[:, 0], both[:, 1]


def confined(path: Path) -> ConfinedPath:
    """The path as the store takes it."""
    return ConfinedPath(path.parent) / path.name


def written(path: Path, size: int) -> bytes:
    content = np.random.default_rng(size).bytes(size)
    path.write_bytes(content)
    return content


def sealed(path: Path, size: int) -> tuple[bytes, Callable[[], Blocks]]:
    """A file with its checks, and what opens it."""
    content = written(path, size)
    files = seal(confined(path))
    return content, lambda: Blocks(confined(path), files[path.name], files[f"{path.name}.blocks"])


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def test_the_checks_are_xxh3_of_each_block_seeded_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "f"
    content, _ = sealed(path, 3 * BLOCK_BYTES + 5)
    wanted = [
        xxhash.xxh3_64_intdigest(content[n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES], seed=n)
        for n in range(4)
    ]
    listed = tmp_path / "f.blocks"
    assert listed.read_bytes() == b"".join(n.to_bytes(8, "little") for n in wanted)
    ref, sums = summed(confined(path))
    assert sums == listed.read_bytes()
    assert ref == manifest.FileRef(len(content), "xxh3:" + xxhash.xxh3_128(content).hexdigest())
    assert checksum(confined(path)) == (len(content), ref.checksum)


@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, (1 << 20) + 9])
def test_a_whole_file_passes_whatever_its_size(tmp_path: Path, size: int) -> None:
    content, opened = sealed(tmp_path / "f", size)
    blocks = opened()
    assert not blocks.whole and blocks.data.tobytes() == content
    blocks.check(*ranges((0, 1), (size - 1, size)))
    blocks.check_all()
    assert blocks.whole


def test_an_empty_file_is_whole(tmp_path: Path) -> None:
    _, opened = sealed(tmp_path / "f", 0)
    assert opened().whole


@pytest.mark.parametrize("at", [0, 8191, 8192, 30000, 5 * 8192])
def test_damage_is_seen_when_its_block_is_touched_and_not_before(tmp_path: Path, at: int) -> None:
    path = tmp_path / "f"
    _, opened = sealed(path, 5 * BLOCK_BYTES + 1)
    flip(path, at)
    bad = at // BLOCK_BYTES
    blocks = opened()
    others = [(n * BLOCK_BYTES, n * BLOCK_BYTES + 1) for n in range(6) if n != bad]
    blocks.check(*ranges(*others))
    for span in [
        (at, at + 1),
        (bad * BLOCK_BYTES, bad * BLOCK_BYTES + 1),
        (0, 5 * BLOCK_BYTES + 1),
    ]:
        for _ in range(2):  # what was damaged stays so
            with pytest.raises(IndexDamaged, match=f"{path} is damaged: its bytes {bad * 8192:,}"):
                blocks.check(*ranges(span))
    with pytest.raises(IndexDamaged):
        blocks.check_all()
    assert not blocks.whole


def test_a_range_over_many_blocks_is_checked_in_its_middle(tmp_path: Path) -> None:
    path = tmp_path / "f"
    _, opened = sealed(path, 9 * BLOCK_BYTES)
    flip(path, 4 * BLOCK_BYTES + 7)
    blocks = opened()
    blocks.check(*ranges((0, 10), (8 * BLOCK_BYTES, 9 * BLOCK_BYTES)))
    with pytest.raises(IndexDamaged):  # both of its ends were seen before
        blocks.check(*ranges((5, 6), (5, 8 * BLOCK_BYTES + 1)))


def test_whole_becomes_true_with_the_last_block(tmp_path: Path) -> None:
    _, opened = sealed(tmp_path / "f", 4 * BLOCK_BYTES)
    blocks = opened()
    for n in (2, 0, 3, 1):
        assert not blocks.whole
        blocks.check(*ranges((n * BLOCK_BYTES, n * BLOCK_BYTES + 9)))
    assert blocks.whole


def test_blocks_that_changed_places_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "f"
    content, opened = sealed(path, 3 * BLOCK_BYTES)
    a, b, c = (content[n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES] for n in range(3))
    path.write_bytes(b + a + c)
    blocks = opened()
    blocks.check(*ranges((2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1)))
    with pytest.raises(IndexDamaged):
        blocks.check(*ranges((0, 1)))
    # nor do zeroed blocks, of which all would have one sum without the numbers
    zeros = tmp_path / "zeros"
    zeros.write_bytes(bytes(2 * BLOCK_BYTES))
    sums = summed(confined(zeros))[1]
    assert sums[:8] != sums[8:]


def test_checks_of_another_file_or_length_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    _, open_one = sealed(one, 3 * BLOCK_BYTES)
    sealed(other, 3 * BLOCK_BYTES + 1)
    other_sums = (tmp_path / "other.blocks").read_bytes()
    kept = (tmp_path / "one.blocks").read_bytes()
    for wrong in (other_sums, other_sums[:24], kept[:-1], kept + b"\0", b""):
        (tmp_path / "one.blocks").write_bytes(wrong)
        with pytest.raises(IndexDamaged, match=f"{one}.blocks"):
            open_one()
    (tmp_path / "one.blocks").unlink()
    with pytest.raises(FileNotFoundError):
        open_one()
    sums = manifest.FileRef(len(other_sums), checksum_of(other_sums))
    (tmp_path / "one.blocks").write_bytes(other_sums)
    with pytest.raises(IndexDamaged, match="has 4 checks and one 3 blocks"):
        Blocks(confined(one), manifest.FileRef(*checksum(confined(one))), sums)


def test_a_file_that_was_cut_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "f"
    content, opened = sealed(path, 3 * BLOCK_BYTES)
    for wrong in (content[:-1], content[:1], b"", content + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(IndexDamaged, match=f"{path} has {len(wrong):,} bytes and should have"):
            opened()
    with pytest.raises(FileNotFoundError):
        mapped(confined(tmp_path / "gone"), 5)


@pytest.mark.parametrize("like", ["xxh3:", ""], ids=["XXH3", "BLAKE2b, as up to schema 2"])
def test_a_file_without_a_list_is_compared_whole_and_once(tmp_path: Path, like: str) -> None:
    path = tmp_path / "f"
    written(path, 20_000)
    ref = manifest.FileRef(*checksum(confined(path), like))
    assert ref.checksum.startswith("xxh3:") == bool(like)
    flip(path, 19_999)
    broken = Whole(confined(path), ref)
    assert not broken.whole
    with pytest.raises(IndexDamaged, match=str(path)):
        broken.check(*ranges((0, 1)))
    flip(path, 19_999)
    good = Whole(confined(path), ref)
    good.check_all()
    assert good.whole
    flip(path, 3)
    good.check_all()  # not read again
    assert Unchecked(confined(path), ref).whole


def test_threads_may_check_the_same_blocks_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    size = 400 * BLOCK_BYTES
    _, opened = sealed(path, size)
    flip(path, 399 * BLOCK_BYTES)
    blocks = opened()
    wrong: list[object] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(200):
            starts = rng.integers(0, 398 * BLOCK_BYTES, 20)
            blocks.check(starts, starts + 900)
            with suppress(IndexDamaged):
                blocks.check(np.array([0]), np.array([size]))
                wrong.append("damage was not seen")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert wrong == [] and not blocks.whole


def test_asking_again_is_cheap(tmp_path: Path) -> None:
    _, opened = sealed(tmp_path / "f", 4096 * BLOCK_BYTES)
    blocks = opened()
    rng = np.random.default_rng(0)
    starts = np.sort(rng.integers(0, 4095 * BLOCK_BYTES - 1024, 100_000))
    blocks.check(starts, starts + 1024)
    assert not blocks.whole  # the last block is left out: so nothing is answered by that

    def best_s(n: int) -> float:
        times = []
        for _ in range(30):
            started = time.perf_counter()
            blocks.check(starts[:n], starts[:n] + 1024)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best_s(100) < 50e-6  # some 7 µs; the rest is for a busy machine
    assert best_s(100_000) / 100_000 < 20e-9  # some 4 ns


# -- in a segment --------------------------------------------------------------


def unit(seed: int) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal(D).astype(np.float32)
    return v / np.linalg.norm(v)


def row(n: int) -> PartRow:
    modality = tuple(Modality)[n % 3]
    odd = b"odd \xff %d.txt" % n
    return PartRow(
        f"item{n}" if n % 5 else f"item{n}#{n % 7 + 1}",
        0,
        None
        if n % 11 == 0
        else odd.decode("utf-8", "surrogateescape")
        if n % 13 == 0
        else f"ä/{n}",
        modality,
        0 if n % 5 else n % 7 + 1,
        n / 4 if n % 3 == 2 else None,
        n / 4 + 1 if n % 3 == 2 else None,
        f"passage {n} " * (n % 40) if n % 3 == 1 else None,
        {"n": n, "of": ["a", {"ö": n}]} if n % 2 else {},
        *range(4),
        n.to_bytes(16, "little"),
    )


def fill(folder: Path, *groups: range) -> Path:
    with Writer(folder, SPACE) as writer:
        writer.root("/pictures")
        for group in groups:
            for n in group:
                writer.extend([(row(n), unit(n))])
            writer.commit()
    return folder


def only(folder: Path) -> Segment:
    (segment,) = Snapshot.open(folder).segments
    return segment


def test_rows_for_hits_are_the_rows_that_were_written(tmp_path: Path) -> None:
    segment = only(fill(tmp_path / "ix", range(9000)))
    asked = [8999, 0, 4095, 4096, 13, 11, 143, 4096, 8191, 8192, *range(100, 200)]
    for _ in range(2):  # from columns just opened, and from those that are kept
        for n, hit in zip(asked, segment.rows(asked), strict=True):
            assert hit == tuple(getattr(row(n), name) for name in hit._fields)
    assert not segment.arrow_blocks.whole
    segment.arrow_blocks.check_all()
    assert segment.rows([79])[0].path == "ä/79" and segment.rows([]) == []
    assert [segment.row(n) for n in (0, 13, 5000)] == [row(n) for n in (0, 13, 5000)]


def test_the_footer_says_where_each_batch_lies(tmp_path: Path) -> None:
    path = tmp_path / "parts.arrow"
    spans = []
    source = only(fill(tmp_path / "ix", range(9000)))
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, PARTS_SCHEMA) as writer,
    ):
        for batch in source.batches():
            start = sink.tell()
            writer.write_batch(batch)
            spans.append((start, sink.tell()))
    footer = path.read_bytes()
    length = int.from_bytes(footer[-10:-6], "little")
    listed = ipc_file.listed(footer[-10 - length : -10], len(footer) - 10 - length)
    (dictionary,), found = listed[0].tolist(), listed[1]
    # head and dictionary are written together with the first batch
    assert 0 < dictionary[0] < dictionary[2] == found[0, 0]
    assert found[:, 2].tolist() == [stop for _, stop in spans]
    assert found[1:, 0].tolist() == [start for start, _ in spans[1:]]


def damaged(segment: Segment, name: str, at: int) -> Path:
    path = segment.folder / name
    flip(path, at)
    return path


def test_opening_and_asking_read_a_small_part_of_the_files(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(9000))
    segment = only(folder)
    counts = {}
    for name, blocks in (("vectors", segment.lanes[0].blocks), ("rows", segment.arrow_blocks)):
        seen = blocks._seen  # type: ignore[attr-defined]
        counts[name] = int(seen.sum())
        assert len(seen) > 60
    assert counts == {"vectors": 1, "rows": 2}  # heads; the footer
    segment.lanes[0].check_rows(np.array([5000]))
    segment.rows([5000])
    assert segment.lanes[0].blocks._seen.sum() == 2  # type: ignore[attr-defined]
    assert segment.arrow_blocks._seen.sum() < 60  # type: ignore[attr-defined]
    assert len(segment.modality_codes) == 9000


def test_a_vector_that_was_altered_is_seen_by_whoever_asks_for_it(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(3000))
    segment = only(folder)
    start, stop = (int(x[0]) for x in segment.lanes[0].row_ranges(np.array([2000])))
    assert (
        segment.lanes[0].blocks.data[start:stop].tobytes()
        == segment.lanes[0].vectors[2000].tobytes()
    )
    path = damaged(segment, segment.lanes[0].name, start + 3)
    opened = only(folder)
    opened.lanes[0].check_rows(np.array([10, 2999]))
    with pytest.raises(IndexDamaged, match=str(path)):
        opened.lanes[0].check_rows(np.array([10, 2000, 2999]))
    with pytest.raises(IndexDamaged, match=str(path)):
        opened.check_whole()


def test_every_byte_of_the_rows_is_checked_before_arrow_or_a_hit_sees_it(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(5000))
    segment = only(folder)
    good = [segment.rows([n]) for n in (3, 4500)]
    path = segment.folder / "parts.arrow"
    size = path.stat().st_size
    asks: dict[str, Callable[[Segment], object]] = {
        "hit": lambda s: [s.rows([3]), s.rows([4500])],
        "row": lambda s: [s.row(3), s.row(4500)],
        "codes": lambda s: s.modality_codes,
        "find": lambda s: s.find("item4501"),
        "all": lambda s: pa.Table.from_batches(s.batches()),
        "meta": lambda s: pa.Table.from_batches(s.batches(["meta"])),
    }
    seen = dict.fromkeys(asks, 0)
    for at in [*np.random.default_rng(3).integers(0, size, 60).tolist(), 0, size - 1, size - 8]:
        flip(path, at, at % 8)
        for name, ask in asks.items():
            try:
                ask(only(folder))
            except IndexDamaged as e:
                assert str(path) in str(e)
                seen[name] += 1
        with suppress(IndexDamaged):
            assert [only(folder).rows([n]) for n in (3, 4500)] == good
        flip(path, at, at % 8)
    assert seen["all"] == 63  # reads everything; the others see what they touch
    assert 3 <= seen["codes"] < 20 and 3 <= seen["find"] < 40 and 3 < seen["hit"] < 50
    assert only(folder).modality_codes.tolist() == [n % 3 for n in range(5000)]


def test_deletions_and_ledger_are_checked_when_they_are_read(tmp_path: Path) -> None:
    from mmsearch.store.ledger import LedgerRow, Outcome, read_ledger

    folder = fill(tmp_path / "ix", range(50))
    with Writer(folder, SPACE) as writer:
        writer.drop("item7", "item8")
        path = f"{writer.manifest.roots[0].path}/a"
        writer.commit(ledger=[LedgerRow(path, Outcome.SKIPPED, "decode", "no picture")])
    deletions = next(folder.glob("segments/*/deleted-*.npy"))
    flip(deletions, deletions.stat().st_size - 4)
    with pytest.raises(IndexDamaged, match=str(deletions)):
        Snapshot.open(folder)
    flip(deletions, deletions.stat().st_size - 4)
    assert only(folder).dead.tolist() == [7, 8]
    ledger = next(folder.glob("ledger-*.arrow"))
    flip(ledger, 30)
    with pytest.raises(IndexDamaged, match=str(ledger)):
        list(read_ledger(folder, manifest.read(folder)))


@pytest.mark.parametrize("name", ["vectors-*.npy", "parts.arrow"])
def test_damage_is_never_copied_into_a_new_segment(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "ix", range(600), range(600, 1000))
    before = manifest.read(folder)
    path = next((folder / "segments" / before.segments[0].name).glob(name))
    flip(path, path.stat().st_size // 2)
    with Writer(folder, SPACE) as writer, pytest.raises(IndexDamaged, match=str(path)):
        writer.compact()
    segment = Snapshot.open(folder).segments[0]
    with pytest.raises(IndexDamaged, match=str(path)):
        segment.check_copied(np.arange(600))
        [segment.row(n) for n in range(600)]
    assert manifest.read(folder).segments == before.segments
    flip(path, path.stat().st_size // 2)
    with Writer(folder, SPACE) as writer:
        writer.compact()
        writer.finish()
    (ref,) = manifest.read(folder).segments
    assert sum(n.endswith(".blocks") for n in ref.files) == 2  # rewritten, they have checks
    assert verify(folder) == []


def test_what_was_checked_is_not_checked_again_after_a_commit(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(500))
    before = Snapshot.open(folder)
    before.segments[0].check_whole()
    with Writer(folder, SPACE) as writer:
        writer.drop("item3")
        writer.commit()
    after = Snapshot.open(folder, before)
    assert after.segments[0].lanes[0].blocks is before.segments[0].lanes[0].blocks
    assert after.segments[0].lanes[0].blocks.whole and after.segments[0].dead.tolist() == [3]


def test_lists_are_written_in_pieces_and_have_checks_of_their_own(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(50))
    pieces = [np.random.default_rng(n).bytes(9000) for n in range(4)]
    with Writer(folder, SPACE) as writer:
        (segment,) = writer.manifest.segments
        quantiser = manifest.AnnRef(
            f"{SPACE.fingerprint}-q001",
            "ivfpq",
            50,
            {"nlist": 1},
            writer.write_ann(f"{SPACE.fingerprint}-q001", b"q" * 9),
        )
        codes = writer.write_codes(
            segment.name, f"{SPACE.fingerprint}-q001", (memoryview(p) for p in pieces)
        )
        writer.set_ann(SPACE.fingerprint, quantiser, {segment.name: codes})
        again = writer.snapshot.segments[0].ref.files[f"codes-{SPACE.fingerprint}-q001.lists"]
        writer.set_ann(
            SPACE.fingerprint, replace(quantiser, trained_on=51), {segment.name: again}
        )  # kept as they are
    assert verify(folder) == []
    lists = folder / "segments" / segment.name / f"codes-{SPACE.fingerprint}-q001.lists"
    opened = only(folder).lanes[0].code_blocks
    assert opened is not None and opened.data.tobytes() == b"".join(pieces)
    flip(lists, 20_000)
    opened = only(folder).lanes[0].code_blocks
    assert opened is not None
    opened.check(np.array([0]), np.array([8192]))
    with pytest.raises(IndexDamaged, match=f"{lists} .*mmsearch index"):
        opened.check_all()
    assert [p.path for p in verify(folder)] == [str(lists)]
    flip(lists, 20_000)
    sums = lists.with_name(lists.name + ".blocks")
    flip(sums, 3)  # lists that cannot be checked are not used
    assert only(folder).lanes[0].code_blocks is None
    assert [p.path for p in verify(folder)] == [str(sums)]
    sums.unlink()
    assert only(folder).lanes[0].code_blocks is None
    quantiser_path = folder / "ann" / f"{SPACE.fingerprint}-q001.quantiser"
    flip(quantiser_path, 2)
    blocks = Snapshot.open(folder).ann_blocks[SPACE.fingerprint]
    assert not blocks.whole
    with pytest.raises(IndexDamaged, match=str(quantiser_path)):
        blocks.check_all()
    quantiser_path.write_bytes(b"q")
    assert Snapshot.open(folder).ann_blocks == {}


def test_verify_compares_the_checks_with_their_file(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(500))
    now = manifest.read(folder)
    (ref,) = now.segments
    where = folder / "segments" / ref.name
    # both whole by their own checksums, and yet not of each other
    wrong = bytes(8) + (where / "parts.arrow.blocks").read_bytes()[8:]
    (where / "parts.arrow.blocks").write_bytes(wrong)
    files = {
        **ref.files,
        "parts.arrow.blocks": manifest.FileRef(len(wrong), checksum_of(wrong)),
    }
    manifest.write(folder, replace(now, segments=(replace(ref, files=files),)))
    (problem,) = verify(folder)
    assert problem.path == str(where / "parts.arrow") and "parts.arrow.blocks" in problem.what


def test_verify_sees_a_manifest_that_says_the_same_in_other_bytes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(5))
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\t", 1))
    assert len(Snapshot.open(folder)) == 5
    assert [p.path for p in verify(folder)] == [str(path)]


def test_the_kept_space_is_compared_when_it_is_to_be_used(tmp_path: Path) -> None:
    from mmsearch.spaces.kept import encoder_of

    made = tmp_path / "space"
    made.mkdir()
    written(made / "text.onnx", 50_000)
    written(made / "card.json", 300)
    with Writer(tmp_path / "ix", SPACE) as writer:
        writer.keep_space({p.name: p for p in made.iterdir()})
        writer.commit()
    snapshot = Snapshot.open(tmp_path / "ix")
    snapshot.check_kept_space()
    place = snapshot.kept_space
    assert place is not None
    kept = place.path
    content = (kept / "text.onnx").read_bytes()
    for wrong in (content[:-1], content + b"\0", bytes([content[0] ^ 1]) + content[1:]):
        (kept / "text.onnx").unlink()
        (kept / "text.onnx").write_bytes(wrong)
        with pytest.raises(IndexDamaged, match=str(kept / "text.onnx")):
            snapshot.check_kept_space()
        with pytest.raises(IndexDamaged, match=str(kept / "text.onnx")):
            encoder_of(SPACE, place, snapshot.check_kept_space)
    (kept / "text.onnx").unlink()
    with pytest.raises(IndexDamaged, match=str(kept / "text.onnx")):
        snapshot.check_kept_space()


def test_what_is_asked_often_gets_whole_and_then_needs_no_checks(tmp_path: Path) -> None:
    segment = only(fill(tmp_path / "ix", range(9000)))
    asked = 0
    while not segment.arrow_blocks.whole:
        segment.rows([5000])
        asked += 1
        assert asked < 100
    assert segment.rows([0, 8999]) == only(tmp_path / "ix").rows([0, 8999])


def test_checking_more_finds_damage_where_nobody_asked(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ix", range(9000))
    path = damaged(only(folder), "parts.arrow", 100_000)
    segment = only(folder)
    with pytest.raises(IndexDamaged, match=str(path)):
        for _ in range(100):
            segment.rows([8999])
