"""Tuning, compacting and merging, through the library and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmsearch
from mmsearch.cli.app import app
from mmsearch.errors import IndexNotFound, SpaceMismatch, UsageError
from mmsearch.indexer import Options, compact, merge, run, tune
from mmsearch.indexer.quantise import parsed_bytes
from mmsearch.indexer.sampling import likely_queries
from mmsearch.sample_queries import sample_queries
from mmsearch.store import Writer, manifest, verify
from mmsearch.types import Vectors


def make(tmp_path: Path, name: str, texts: list[str], **options: object) -> mmsearch.Index:
    """An index of texts, with the texts themselves as ids."""
    (tmp_path / "nothing").mkdir(exist_ok=True)
    run([tmp_path / "nothing"], tmp_path / name, None, Options(**options))  # type: ignore[arg-type]
    index = mmsearch.open(tmp_path / name)
    if texts:
        index.add([{"text": t} for t in texts], ids=texts)
        index.sync(tmp_path / "nothing")  # an add trains no lists
    return index


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> mmsearch.Index:
    texts = sample_queries(3000, seed=4)
    return make(tmp_path_factory.mktemp("tuned"), "ix", texts, ann="ivfpq")


@pytest.mark.slow
def test_the_tuner_asks_for_what_is_in_the_index(tmp_path: Path, samples: Path) -> None:
    index = mmsearch.index([samples / "photos", samples / "texts"], tmp_path / "ix")
    segments = index.snapshot.segments
    asked, kind = likely_queries(index.snapshot, None, 40)
    assert kind == "fragments of the index's texts and sample texts"
    assert asked.shape == (40, 512)
    is_text = np.concatenate([s.modality_codes == 1 for s in segments])
    assert 0 < is_text.mean() < 1
    n_made_up = 40 - round(40 * float(is_text.mean()))
    photos = np.concatenate([s.lanes[0].vectors for s in segments])[~is_text].astype(np.float32)

    def nearness(xq: Vectors) -> float:
        return float(np.sort(xq @ photos.T, axis=1)[:, -10:].mean())

    every = mmsearch.load_space("mini").encode_document(sample_queries(2 * n_made_up))
    made_up = asked[-n_made_up:]
    assert all((every == one).all(axis=1).any() for one in made_up)
    others = [one for one in every if not (made_up == one).all(axis=1).any()]
    assert nearness(made_up) > nearness(np.array(others)) + 0.03


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.slow
def test_building_lists_measures_what_they_find(tuned: mmsearch.Index) -> None:
    facts = tuned.snapshot.manifest.ann.facts  # type: ignore[union-attr]
    recalls = [point["recall"] for point in facts["curve"]]
    assert recalls == sorted(recalls) and recalls[-1] > 0.97
    assert facts["target"] == 0.95 and facts["queries_of"].startswith("fragments of the index")


@pytest.mark.slow
def test_more_recall_finds_more_and_a_recall_of_one_finds_all(tuned: mmsearch.Index) -> None:
    xq = mmsearch.load_space("mini").encode_document(sample_queries(200, seed=11))
    vectors = np.concatenate([s.lanes[0].vectors for s in tuned.snapshot.segments]).astype(
        np.float32
    )
    truth = np.argsort(-(xq @ vectors.T), axis=1)[:, :10]

    def found(recall: float | None) -> float:
        rows = tuned.search_batch(vectors=xq, k=10, recall=recall).rows
        return float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(truth, rows, strict=True)]))

    assert found(1) > 0.999  # rounding may swap equals
    assert 0.6 < found(0.8) <= found(0.99) + 0.01
    assert abs(found(None) - found(0.95)) < 1e-9 and found(None) > 0.92


@pytest.mark.slow
def test_tune_keeps_the_recall_that_it_was_asked_for(tmp_path: Path) -> None:
    index = make(tmp_path, "ix", sample_queries(900), ann="ivfpq")
    before = index.snapshot.manifest.ann
    own = sample_queries(60, seed=8)
    facts = tune(index.path, 0.99, own)
    after = manifest.read(index.path).ann
    assert after is not None and before is not None and after.name == before.name
    assert facts["target"] == 0.99 and facts["queries"] == 60 and facts["queries_of"] == "given"
    assert after.facts == facts and verify(index.path) == []
    index.refresh()
    assert index.search(own[0]).hits[0].id == mmsearch.open(index.path).search(own[0]).hits[0].id


@pytest.mark.parametrize(
    ("recall", "queries", "words"),
    [
        (0.3, None, "between 0.5 and 1"),
        (None, ["one", "two"], "at least 20 different queries"),
        (None, ["x" * 30_000] * 20, "characters"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    tuned: mmsearch.Index, recall: float | None, queries: list[str] | None, words: str
) -> None:
    before = manifest.read(tuned.path)
    with pytest.raises(UsageError, match=words):
        tune(tuned.path, recall, queries)
    assert manifest.read(tuned.path) == before


def test_an_exact_index_has_nothing_to_tune(tmp_path: Path) -> None:
    index = make(tmp_path, "ix", ["a dog"])
    with pytest.raises(UsageError, match="searched exactly"):
        tune(index.path)


@pytest.mark.slow
def test_compacting_drops_what_was_deleted_and_finds_the_same(tmp_path: Path) -> None:
    texts = sample_queries(900)
    index = make(tmp_path, "ix", texts[:700], ann="ivfpq")
    index.add([{"text": t} for t in texts[700:]], ids=texts[700:])
    index.delete(texts[:100])
    asked = sample_queries(30, seed=3)
    before = [[(h.id, h.score) for h in index.search(t, recall=1)] for t in asked]
    done = compact(index.path)
    (only,) = manifest.read(index.path).segments
    assert only.deleted == 0 and only.rows == 800
    assert done.segments == 1 and done.segments_before >= 1
    # the open index goes on with what it had, and shows the same after a refresh
    assert [[(h.id, h.score) for h in index.search(t, recall=1)] for t in asked] == before
    index.refresh()
    assert [[(h.id, h.score) for h in index.search(t, recall=1)] for t in asked] == before
    assert verify(index.path) == []


@pytest.mark.slow
def test_merged_shards_answer_as_one_index_of_everything(tmp_path: Path) -> None:
    texts = sample_queries(300)
    whole = make(tmp_path, "whole", texts)
    make(tmp_path, "a", texts[:200])
    make(tmp_path, "b", texts[150:])  # fifty are in both
    report = merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert vars(report) == {"parts": 350, "replaced": 50}
    merged = mmsearch.open(tmp_path / "all")
    assert len(merged) == 300 and verify(merged.path) == []
    for text in sample_queries(20, seed=6):
        expected = [(h.id, round(h.score, 6)) for h in whole.search(text)]
        assert [(h.id, round(h.score, 6)) for h in merged.search(text)] == expected
    merged.delete(texts[0])
    assert len(merged) == 299


def test_merging_keeps_where_files_lie(tmp_path: Path, corpus: Path) -> None:
    folders = sorted(path for path in corpus.iterdir() if path.is_dir())[:2]
    for name, folder in zip("ab", folders, strict=True):
        mmsearch.index(folder, tmp_path / name)
    merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    merged = mmsearch.open(tmp_path / "all")
    paths = {h.path for h in merged.search("a picture", k=100)}
    single = {h.path for n in "ab" for h in mmsearch.open(tmp_path / n).search("a picture", k=100)}
    assert paths == single and all(Path(str(p)).exists() for p in paths)
    # a run over the same folders finds nothing to do
    report = run(folders, tmp_path / "all")
    assert report.parts == 0 and report.removed == 0


def test_indexes_of_two_spaces_are_not_merged(tmp_path: Path) -> None:
    space = make(tmp_path, "a", ["a dog"]).space
    Writer(tmp_path / "b", replace(space, name="other")).close()
    with pytest.raises(SpaceMismatch, match="Only indexes of one space"):
        merge(tmp_path / "a", [tmp_path / "b"])
    with pytest.raises(IndexNotFound):
        merge(tmp_path / "c", [tmp_path / "nowhere"])
    assert not (tmp_path / "c").exists()
    with pytest.raises(UsageError, match="into itself"):
        merge(tmp_path / "a", [tmp_path / "a"])


@pytest.mark.slow
def test_the_lists_stay_within_the_memory_that_is_allowed(tmp_path: Path) -> None:
    texts = sample_queries(1200)
    (tmp_path / "nothing").mkdir()
    sizes = {}
    for memory in (None, "110kB"):
        name = f"ix-{memory}"
        run([tmp_path / "nothing"], tmp_path / name, None, Options(ann="ivfpq", memory=memory))
        index = mmsearch.open(tmp_path / name)
        index.add([{"text": t} for t in texts])
        index.compact()  # an add trains no lists
        sizes[memory] = index.snapshot.manifest.ann.facts["code_bytes"]  # type: ignore[union-attr]
    assert sizes[None] == 64 and sizes["110kB"] < 64
    with pytest.raises(UsageError, match="take at least"):
        run([tmp_path / "nothing"], tmp_path / "ix-None", None, Options(memory="10kB"))


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2_000_000_000), ("1.5 MiB", 1_572_864), ("700", 700), (12, 12)]
)
def test_sizes_are_read_as_people_write_them(text: str | int, size: int) -> None:
    assert parsed_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-2GB", "0", "2 GBs", "1e9", True])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="512MB or 2GB"):
        parsed_bytes(text)


@pytest.mark.slow
def test_the_commands_say_what_they_did(tmp_path: Path, tuned: mmsearch.Index) -> None:
    code, out, _ = cli("info", "--index", tuned.path)
    assert code == 0 and "queries/s" in out and "← aimed at 0.95" in out
    plot = tmp_path / "curve.svg"
    code, out, _ = cli("tune", "--index", tuned.path, "--plot", plot, "--json")
    assert code == 0 and json.loads(out)["curve"] and plot.read_text().startswith("<?xml")
    code, out, _ = cli("compact", "--index", tuned.path)
    assert code == 0 and out == "nothing to do: one segment, nothing deleted\n"
    code, out, _ = cli("merge", tuned.path, "--index", tmp_path / "copy")
    assert code == 0 and out == "merged 3,000 parts · replaced 0 items\n"
    code, out, _ = cli("query", "a dog", "--recall", "1", "--index", tmp_path / "copy", "--json")
    assert code == 0 and json.loads(out)["query"]["recall"] == 1
    code, _, errors = cli("query", "a dog", "--recall", "2", "--index", tmp_path / "copy")
    assert code == 2 and "between 0.5 and 1" in errors
    (tmp_path / "asked.txt").write_text("only one\n")
    code, _, errors = cli("tune", "--queries", tmp_path / "asked.txt", "--index", tuned.path)
    assert code == 2 and "at least 20" in errors
