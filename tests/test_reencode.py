"""Changing an index's model: nothing is lost, nobody sees two spaces, and it resumes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmsearch
from mmsearch.cli.app import app
from mmsearch.errors import SpaceMismatch, UsageError
from mmsearch.indexer import Options, Report, reencode
from mmsearch.media import META_KEYS, joined, passages
from mmsearch.store import Snapshot, manifest, verify
from mmsearch.store.strays import strays
from reencoded import STAGES
from tiny_space import write_space

SCRIPT = Path(__file__).parent / "reencoded.py"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_space(tmp_path_factory.mktemp("spaces") / "tiny")


@pytest.fixture
def corpus(tmp_path: Path, samples: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for kind, n in (("photos", 4), ("sounds", 3), ("texts", 3)):
        files = (p for p in (samples / kind).rglob("*") if p.suffix in (".jpg", ".ogg", ".txt"))
        for file in sorted(files)[:n]:
            shutil.copyfile(file, folder / file.name)
    return folder


def content(index: Path) -> dict[str, tuple[object, ...]]:
    """What an index holds: part id -> its row without the file's times, and its vector."""
    snapshot = Snapshot.open(index)
    d = snapshot.manifest.space.dimension
    found = {}
    for segment in snapshot.segments:
        assert segment.lanes[0].vectors.shape[1] == d
        for r in np.flatnonzero(segment.live).tolist():
            row = segment.row(r)
            path = snapshot.absolute(row.root, row.path)
            meta = json.dumps(row.meta, sort_keys=True)
            assert row.id not in found
            found[row.id] = (path, row.modality, row.start_s, row.end_s, row.text, meta,
                             row.content_hash, segment.lanes[0].vectors[r].tobytes())  # fmt: skip
    return found


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def test_everything_is_in_the_new_space_as_if_it_had_been_indexed_there(
    tmp_path: Path, corpus: Path, samples: Path, tiny: Path
) -> None:
    long = " ".join(f"word{i}" for i in range(700))
    more = sorted((samples / "photos").glob("*.jpg"))[-1]
    made = []
    for name, space in (("old", "mini"), ("wanted", str(tiny))):
        index = mmsearch.index(corpus, tmp_path / name, space=space)
        index.add(
            [{"text": "a note"}, {"text": long}, more],
            ids=["n1", "n2", "p1"],
            meta=[
                {"by": "me", "title": "mine", "section": "news", "page": 3},
                {"by": "you"},
                {"title": "a photo"},
            ],
        )
        index.add([corpus / sorted(os.listdir(corpus))[0]], meta=[{"stars": 5}])
        made.append(tmp_path / name)
    old, wanted = made
    rc, out, err = cli("reencode", "--space", tiny, "--index", old, "--json")
    assert rc == 0, err
    assert json.loads(out)["lost"] == 0
    assert manifest.read(old).space == manifest.read(wanted).space
    found, should = content(old), content(wanted)
    assert found.keys() == should.keys()
    assert found == should
    came = {"by": "me", "title": "mine", "section": "news", "page": 3}
    assert mmsearch.open(old).get("n1").meta == came  # type: ignore[union-attr]
    assert verify(old) == []
    assert strays(old, manifest.read(old)) == []
    again = json.loads(cli("index", corpus, "--index", old, "--json")[1])
    assert (again["indexed"], again["removed"], again["parts"]) == (0, 0, 0)
    assert found == content(old)


def test_an_open_index_shows_the_old_until_it_is_refreshed(
    tmp_path: Path, corpus: Path, tiny: Path
) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    before = [(hit.id, hit.score) for hit in index.search("a dog", k=5)]
    vector = mmsearch.load_space("mini").encode_document(["a dog"])[0]
    reencode(tmp_path / "ix", str(tiny))
    assert [(hit.id, hit.score) for hit in index.search("a dog", k=5)] == before
    assert index.refresh()
    assert index.space.name == "tiny"
    with pytest.raises(mmsearch.DimensionMismatch):
        index.search(vector=np.asarray(vector))
    assert len(index.search("a red square", k=5)) == 5


def test_a_vector_of_another_space_is_refused_though_it_fits(
    tmp_path: Path, corpus: Path, tiny: Path
) -> None:
    other = write_space(tmp_path / "other", seed=1)  # of the same width
    index = mmsearch.index(corpus, tmp_path / "ix", space=tiny)
    right = mmsearch.load_space(tiny).encode_document(["a red square", "a blue square"])
    wrong = mmsearch.load_space(other).encode_document(["a red square", "a blue square"])
    assert index.search(vector=right[0], k=3)[0].id == index.search("a red square", k=3)[0].id
    assert len(index.search_batch(vectors=right)) == 2
    theirs = mmsearch.load_space(other).space.fingerprint
    for ask in (
        lambda: index.search(vector=wrong[0]),
        lambda: index.search_batch(vectors=wrong[:1]),
        lambda: index.search(vector=wrong[1:] * 2),
    ):
        with pytest.raises(SpaceMismatch, match=f"{index.space.fingerprint}.*{theirs}"):
            ask()


def test_what_is_gone_is_not_dropped_unasked(tmp_path: Path, corpus: Path, tiny: Path) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    index.add([{"image": np_image()}], ids=["drawn"])
    before = content(tmp_path / "ix")
    gone = sorted(corpus.glob("*.jpg"))[0]
    kept = gone.rename(tmp_path / "kept.jpg")
    rc, _, err = cli("reencode", "--space", tiny, "--index", tmp_path / "ix")
    assert rc == 2
    assert "2 items" in err
    assert str(gone) in err
    assert "drawn" in err
    assert content(tmp_path / "ix") == before
    kept.rename(gone)
    rc, out, err = cli("reencode", "--space", tiny, "--drop-missing", "--index", tmp_path / "ix")
    assert rc == 0, err
    assert "left out 1" in out
    assert items(content(tmp_path / "ix")) == items(before) - {"drawn"}


def items(found: dict[str, tuple[object, ...]]) -> set[str]:
    return {part.partition("#")[0] for part in found}


def test_a_decoder_says_nothing_of_a_part_that_is_not_on_the_list(
    tmp_path: Path, samples: Path, tiny: Path
) -> None:
    index = mmsearch.index(samples, tmp_path / "ix", space=tiny)
    found = content(index.path).values()
    said = {key for row in found for key in json.loads(str(row[5]))}
    assert said - {"cut_tokens", "unknown_share"} <= META_KEYS
    assert {"width", "duration_s", "offset"} <= said


def np_image() -> object:
    from PIL import Image

    return Image.new("RGB", (40, 30), "red")


def test_what_the_new_space_has_no_tower_for_is_named(
    tmp_path: Path, corpus: Path, tiny: Path
) -> None:
    deaf = tmp_path / "deaf"
    shutil.copytree(tiny, deaf)
    (deaf / "audio.onnx").unlink()
    card = json.loads((deaf / "card.json").read_text())
    from mmsearch.spaces.folder import digest_of

    card |= {"modalities": ["image", "text"], "digest": digest_of(deaf)}
    (deaf / "card.json").write_text(json.dumps(card))
    index = mmsearch.index(corpus, tmp_path / "ix")
    with pytest.raises(UsageError, match=r"of audio, and .* no tower"):
        index.reencode(deaf)
    assert index.reencode(deaf, drop_missing=True)
    assert {hit.modality for hit in index.search("a red square", k=100)} == {"image", "text"}
    back = json.loads(cli("index", corpus, "--index", tmp_path / "ix", "--json")[1])
    assert back["ignored"] == 3


def test_the_old_is_kept_where_it_is_asked_for(tmp_path: Path, corpus: Path, tiny: Path) -> None:
    mmsearch.index(corpus, tmp_path / "ix")
    before = content(tmp_path / "ix")
    rc, out, err = cli(
        "reencode", "--space", tiny, "--keep", tmp_path / "before", "--index", tmp_path / "ix"
    )
    assert rc == 0, err
    assert str(tmp_path / "before") in out
    assert content(tmp_path / "before") == before
    assert verify(tmp_path / "before") == []
    assert mmsearch.open(tmp_path / "before").search("a dog")[0].score > 0
    taken = cli("reencode", "--space", "mini", "--keep", corpus, "--index", tmp_path / "ix")
    assert taken[0] == 2
    assert "there already" in taken[2]


def test_what_others_write_meanwhile_is_not_lost(tmp_path: Path, corpus: Path, tiny: Path) -> None:
    index = mmsearch.index(corpus, tmp_path / "ix")
    told = []

    def meanwhile(report: Report, path: str) -> None:
        told.append(path)
        if len(told) == 3:
            mmsearch.open(tmp_path / "ix").add([{"text": "a red square"}], ids=["late"])
            mmsearch.open(tmp_path / "ix").delete(paths=sorted(corpus.glob("*.jpg"))[0])

    before = set(content(tmp_path / "ix"))
    reencode(tmp_path / "ix", str(tiny), progress=meanwhile)
    after = content(tmp_path / "ix")
    assert len(told) >= 3
    assert "late" in after
    assert len(before - after.keys()) == 1
    index.refresh()
    assert index.search("a red square", to="text")[0].id == "late"


@pytest.mark.slow
def test_there_and_back_again(tmp_path: Path, corpus: Path, tiny: Path) -> None:
    options = Options(ann="ivfpq")
    from mmsearch.indexer import run

    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(700):
        (folder / f"{i}.txt").write_text(f"a red square number {i}")
    run([folder], tmp_path / "ix", str(tiny), options)
    before = content(tmp_path / "ix")
    for space in ("mini", str(tiny)):
        reencode(tmp_path / "ix", space)
        assert manifest.read(tmp_path / "ix").ann is not None
        assert verify(tmp_path / "ix") == []
        assert len(mmsearch.open(tmp_path / "ix").search("a red square", k=20)) == 20
    assert content(tmp_path / "ix") == before
    assert reencode(tmp_path / "ix", str(tiny)).report.parts == 0
    said = cli("reencode", "--space", tiny, "--index", tmp_path / "ix")
    assert said[:2] == (
        0,
        f"nothing to do: {tmp_path / 'ix'} is in {manifest.read(tmp_path / 'ix').space} already\n",
    )


def test_a_change_that_was_begun_is_finished_or_given_up(
    tmp_path: Path, corpus: Path, tiny: Path
) -> None:
    ix = ("--index", tmp_path / "ix")
    mmsearch.index(corpus, tmp_path / "ix")
    gone = sorted(corpus.glob("*.jpg"))[0]
    gone.rename(tmp_path / "kept.jpg")
    assert cli("reencode", "--space", tiny, *ix)[0] == 2
    other = write_space(tmp_path / "other", seed=1)
    rc, _, err = cli("reencode", "--space", other, *ix)
    assert rc == 2
    assert "--abandon" in err
    assert verify(tmp_path / "ix") == []
    assert cli("index", corpus, *ix)[0] == 0  # which goes on with the old
    assert cli("reencode", "--abandon", *ix)[1] == "given up\n"
    assert not list((tmp_path / "ix").glob("next-*"))
    assert cli("reencode", "--abandon", *ix)[1] == "nothing was begun\n"
    assert cli("reencode", *ix)[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.campaign)])
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_at_any_moment_it_resumes_and_readers_see_one_space(
    tmp_path: Path, corpus: Path, tiny: Path, seed: int
) -> None:
    rng = random.Random(seed)
    for i in range(40):
        (corpus / f"note{i}.txt").write_text(f"a red square and note {i}")
    mmsearch.index(corpus, tmp_path / "ix").add([{"text": "a blue square"}], ids=["own"])
    mmsearch.index(corpus, tmp_path / "wanted", space=tiny).add(
        [{"text": "a blue square"}], ids=["own"]
    )
    old, new = content(tmp_path / "ix"), content(tmp_path / "wanted")
    killed = set()
    for _ in range(4 if seed == 1 else 40):
        stage = rng.choice(list(STAGES))
        nth = rng.randint(1, STAGES[stage])
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path / "ix"), str(tiny)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            nth -= line.strip() == stage
            if nth <= 0:
                time.sleep(rng.random() * 0.01)
                process.kill()
                killed.add(stage)
                break
        errors = process.communicate()[1]
        assert "Traceback" not in errors or "already" in errors, errors
        found = content(tmp_path / "ix")
        switched = manifest.read(tmp_path / "ix").space.name == "tiny"
        assert found == (new if switched else old)
        assert len(mmsearch.open(tmp_path / "ix").search("a red square", k=9)) == 9
        if switched and rng.random() < 0.5:
            reencode(tmp_path / "ix", "mini")
            old = content(tmp_path / "ix")
    assert len(killed) >= 2
    if manifest.read(tmp_path / "ix").space.name != "tiny":
        reencode(tmp_path / "ix", str(tiny))
    mmsearch.index(corpus, tmp_path / "ix")
    assert content(tmp_path / "ix") == new
    assert verify(tmp_path / "ix") == []
    assert strays(tmp_path / "ix", manifest.read(tmp_path / "ix")) == []


def test_killed_after_keeping_the_old_the_same_command_goes_on(
    tmp_path: Path, corpus: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mmsearch.index(corpus, tmp_path / "ix")
    before = content(tmp_path / "ix")
    module = sys.modules["mmsearch.indexer.reencode"]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "switch", stopped)
        with pytest.raises(KeyboardInterrupt):
            reencode(tmp_path / "ix", str(tiny), keep=tmp_path / "kept")
    assert content(tmp_path / "kept") == content(tmp_path / "ix") == before
    reencode(tmp_path / "ix", str(tiny), keep=tmp_path / "kept")
    assert manifest.read(tmp_path / "ix").space.name == "tiny"
    assert content(tmp_path / "kept") == before
    with pytest.raises(UsageError, match="already"):  # the copy of another content
        mmsearch.open(tmp_path / "kept").add([{"text": "more"}])
        reencode(tmp_path / "ix", "mini", keep=tmp_path / "kept")


def test_the_old_is_not_kept_inside_itself(tmp_path: Path, corpus: Path, tiny: Path) -> None:
    mmsearch.index(corpus, tmp_path / "ix")
    for inside in ("next-old", "segments/x"):
        with pytest.raises(UsageError, match="inside the index"):
            reencode(tmp_path / "ix", str(tiny), keep=tmp_path / "ix" / inside)
    rc, _, err = cli("reencode", "--space", tiny, "--index", tmp_path / "ix", "--keep",
                     tmp_path / ("x" * 300))  # fmt: skip
    assert rc == 5
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "la " * 2000,
        " ".join(["all day the sea", "all day the rain", "and the sea"] * 300),
        "狗在海滩上" * 300,
        " ".join(f"word{i % 97}" for i in range(900)),
    ],
    ids=["la", "poem", "zh", "turns"],
)
def test_a_text_that_repeats_itself_is_whole_again(text: str) -> None:
    preprocess = mmsearch.load_space("mini").space.preprocess
    pieces = list(passages(text, preprocess))
    assert len(pieces) > 1
    whole = joined(pieces, preprocess.passage_overlap)
    assert abs(len(whole) - len(text.strip())) <= 0.02 * len(text)
    assert len(list(passages(whole, preprocess))) == len(pieces)


def test_an_index_that_was_not_asked_yet_says_that_it_was_reencoded(
    tmp_path: Path, corpus: Path, tiny: Path
) -> None:
    other = write_space(tmp_path / "other", seed=1)
    waiting = mmsearch.index(corpus, tmp_path / "ix", space=tiny)
    for space in (other, tiny, other):
        reencode(tmp_path / "ix", str(space))
        mmsearch.open(tmp_path / "ix").add([{"text": "a red square"}], ids=["n"])
    with pytest.raises(SpaceMismatch, match=r"refresh\(\)"):
        waiting.search("a red square")
    assert waiting.refresh()
    assert len(waiting.search("a red square")) == 10
