"""Captions by a CoCa model, in the metadata of an index's pictures.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

import mmsearch
from mmsearch.cli.app import app
from mmsearch.errors import UsageError
from mmsearch.media import image_array
from mmsearch.spaces.captions import LEAST_TOKENS, MOST_TOKENS, Captioner
from mmsearch.store import Snapshot, Writer, verify
from tiny_clip import tiny_clip, tiny_coca


@pytest.fixture(scope="module")
def coca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"openclip:local-dir:{tiny_coca(tmp_path_factory.mktemp('coca') / 'coca')}"


@pytest.fixture
def photos(tmp_path: Path, samples: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in sorted((samples / "photos").glob("*.jpg"))[:6]:
        shutil.copyfile(photo, folder / photo.name)
    return folder


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def test_each_word_is_the_likeliest_after_those_before_it(coca: str, photos: Path) -> None:
    captioner = Captioner(coca)
    pictures = [image_array(p, captioner.space.preprocess) for p in sorted(photos.iterdir())]
    ids = captioner.tokens_of(torch.from_numpy(np.stack(pictures)))
    assert LEAST_TOKENS <= ids.shape[1] <= MOST_TOKENS
    model, _, preprocess = open_clip.create_model_and_transforms(coca.removeprefix("openclip:"))
    model.eval()
    as_theirs = preprocess.transforms[-1]  # the mean and deviation of the model's own
    end = captioner.tokenizer.eot_token_id
    for picture, row in zip(pictures, ids.tolist(), strict=True):
        row = row[: row.index(end) + 1] if end in row else row
        with torch.no_grad():
            image = as_theirs(torch.from_numpy(picture).permute(2, 0, 1) / 255).unsqueeze(0)
            logits = model(image, torch.tensor([row[:-1]]), output_labels=False)["logits"][0]
        logits[: LEAST_TOKENS - 1, end] = -torch.inf
        assert logits.argmax(-1).tolist() == row[1:]
    together = captioner.captions(pictures)
    assert [captioner.captions([one])[0] for one in pictures] == together
    assert len(set(together)) > 1


def test_captions_are_found_by_their_words_and_vectors_stay(
    tmp_path: Path, photos: Path, coca: str
) -> None:
    ix = ("--index", tmp_path / "ix")
    index = mmsearch.index(photos, tmp_path / "ix")
    before = {hit.id: hit.score for hit in index.search("a dog", k=100)}
    rc, out, err = cli("caption", "--model", coca, *ix, "--json")
    assert rc == 0, err
    assert json.loads(out)["written"] == 6
    assert index.refresh()
    after = index.search("a dog", k=100)
    assert {hit.id: hit.score for hit in after} == before
    assert all(hit.meta["caption"] and hit.meta["width"] for hit in after)
    word = after[0].meta["caption"].split()[0].replace("'", "''")
    where = f"contains(meta.caption, '{word}')"
    assert after[0].id in [hit.id for hit in index.search("a dog", where=where, k=100)]
    assert verify(tmp_path / "ix") == []
    again = json.loads(cli("caption", "--model", coca, *ix, "--json")[1])
    assert (again["written"], again["there"]) == (0, 6)
    unchanged = json.loads(cli("index", photos, *ix, "--json")[1])
    assert (unchanged["indexed"], unchanged["unchanged"]) == (0, 6)


def test_a_picture_that_is_gone_or_changed_is_left_alone(
    tmp_path: Path, photos: Path, coca: str
) -> None:
    mmsearch.index(photos, tmp_path / "ix")
    first, second, *_ = sorted(photos.iterdir())
    first.unlink()
    second.write_bytes(sorted(photos.iterdir())[-1].read_bytes())
    rc, out, _ = cli("caption", "--model", coca, "--index", tmp_path / "ix")
    assert rc == 0
    assert "captions 4 " in out
    assert "skipped 2" in out
    snapshot = Snapshot.open(tmp_path / "ix")
    assert len(snapshot) == 6


def test_stopped_half_way_no_picture_is_lost(
    tmp_path: Path, photos: Path, coca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = mmsearch.index(photos, tmp_path / "ix")
    first = sorted(photos.iterdir())[0]
    index.add([first], ids=["own"])  # the same file once more
    before = {hit.id for hit in index.search("a dog", k=100)}
    usual = Writer.extend

    def stopped(writer: Writer, parts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "extend", stopped)
        assert cli("caption", "--model", coca, "--index", tmp_path / "ix")[0] == 130
    assert Writer.extend is usual
    index.refresh()
    assert {hit.id for hit in index.search("a dog", k=100)} == before
    assert "captions 7 " in cli("caption", "--model", coca, "--index", tmp_path / "ix")[1]
    index.refresh()
    hits = index.search("a dog", k=100)
    assert {hit.id for hit in hits} == before
    assert all(hit.meta["caption"] for hit in hits)


def test_a_model_that_writes_none_is_one_line(tmp_path: Path, photos: Path) -> None:
    mmsearch.index(photos, tmp_path / "ix")
    clip = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    for model in (clip, "mini", "clap:x/y"):
        rc, _, err = cli("caption", "--model", model, "--index", tmp_path / "ix")
        assert rc == 2
        assert "CoCa" in err
        assert err.count("\n") == 1
    with pytest.raises(UsageError):
        Captioner("mini")
