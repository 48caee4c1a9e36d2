"""What an index keeps of a model on PyTorch, and what goes on without the model.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

import mmsearch
from mmsearch.api.info import describe
from mmsearch.cli.app import app
from mmsearch.errors import IndexDamaged, SpaceMismatch, SpaceUnavailable, UsageError
from mmsearch.indexer import run
from mmsearch.spaces import load_encoder, open_folder
from mmsearch.spaces.folder import FolderSpace
from mmsearch.spaces.portable import PROBES
from mmsearch.store import verify
from mmsearch.store.confined import AnyPath
from mmsearch.types import Modality
from tiny_clap import tiny_clap
from tiny_clip import tiny_clip

WITHOUT = (
    "import sys; sys.modules.update(torch=None, open_clip=None, transformers=None); "
    "from mmsearch.cli.app import main; main()"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photos(samples: Path) -> Path:
    return samples / "photos"


def without_torch(*args: object) -> subprocess.CompletedProcess[str]:
    """The command line where PyTorch is not installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, args)], capture_output=True, text=True
    )


def damage(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()  # another index may have the same file
    file.write_bytes(content[:200] + b"damaged" + content[207:])


def test_the_card_of_what_is_kept_is_read_once_for_all_pictures(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    index = mmsearch.index(photos, tmp_path / "ix", space=name)
    made: list[AnyPath] = []

    class Counted(FolderSpace):
        def __init__(self, folder: AnyPath) -> None:
            made.append(folder)
            super().__init__(folder)

    monkeypatch.setattr("mmsearch.spaces.kept.FolderSpace", Counted)
    for picture in sorted(photos.glob("*.jpg"))[:3]:
        assert index.search(image=picture)[0].path == str(picture)
    assert len(made) == 1


def test_a_damaged_tower_is_written_anew_by_the_next_run(tmp_path: Path, photos: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    index = mmsearch.index(photos, tmp_path / "ix", space=name)
    wanted = [(hit.id, hit.score) for hit in index.search("a dog")]
    damage(next((tmp_path / "ix" / "query").glob("*/text.bin")))
    picture = next(photos.glob("*.jpg"))
    broken = mmsearch.open(tmp_path / "ix")
    assert broken.search(image=picture)[0].path == str(picture)  # the model answers that
    with pytest.raises(IndexDamaged, match=r"text.bin.*`mmsearch index`"):
        broken.search("a dog")
    mended = mmsearch.index(photos, tmp_path / "ix")
    assert [(hit.id, hit.score) for hit in mended.search("a dog")] == wanted


def test_one_damaged_file_of_cache_and_indexes_is_mended(tmp_path: Path, photos: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    mmsearch.index(photos, tmp_path / "ix", space=name)
    kept = next((tmp_path / "ix" / "query").glob("*/text.bin"))
    with kept.open("r+b") as file:  # in place: the cache has the same file
        file.seek(100)
        file.write(b"damaged")
    mended = mmsearch.index(photos, tmp_path / "ix")
    assert len(mended.search("a dog")) > 0


def test_a_mended_tower_has_the_form_that_it_had(tmp_path: Path, photos: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    args = ["index", str(photos), "--index", str(tmp_path / "ix")]
    CliRunner().invoke(app, [*args, "--space", name, "--tower", "int8"])
    for more in ([], ["--space", name]):
        damage(next((tmp_path / "ix" / "query").glob("*/text.onnx")))
        done = CliRunner().invoke(app, [*args, *more])
        assert done.exit_code == 0, done.output
        assert describe(mmsearch.open(tmp_path / "ix"))["kept"]["stored"] == "int8"


def test_where_there_is_no_cache_the_index_keeps_its_tower(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    mmsearch.index(photos, tmp_path / "ix", space=name)
    assert without_torch("query", "a dog", "--index", tmp_path / "ix").returncode == 0


def test_a_moved_model_is_found_again_where_it_was_named(tmp_path: Path, photos: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    ix = tmp_path / "ix"
    mmsearch.index(photos, ix, space=f"openclip:local-dir:{folder}")
    moved = f"openclip:local-dir:{folder.rename(tmp_path / 'moved')}"
    picture = next(photos.glob("*.jpg"))
    with pytest.raises(SpaceUnavailable, match="--space"):
        mmsearch.open(ix).search(image=picture)
    assert mmsearch.open(ix, space=moved).search(image=picture)[0].path == str(picture)
    mmsearch.index(photos, ix, space=moved)
    assert mmsearch.open(ix).space.name == moved
    assert mmsearch.open(ix).search(image=picture)[0].path == str(picture)


def test_asking_with_another_model_is_refused(tmp_path: Path, photos: Path) -> None:
    one, other = (
        f"openclip:local-dir:{tiny_clip(tmp_path / name, **more)}"
        for name, more in (("one", {}), ("other", {"resize_mode": "squash"}))
    )
    mmsearch.index(photos, tmp_path / "ix", space=one)
    for space in (other, "mini"):
        with pytest.raises(SpaceMismatch, match=f"holds {one}.*{space}"):
            mmsearch.open(tmp_path / "ix", space=space).search("a dog")


def test_what_needs_no_model_goes_on_without_pytorch(tmp_path: Path, photos: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in list(photos.glob("*.jpg"))[:3]:
        (folder / photo.name).write_bytes(photo.read_bytes())
    ix = ("--index", tmp_path / "ix")
    mmsearch.index(folder, tmp_path / "ix", space=name)
    again = without_torch("index", folder, *ix, "--json")
    assert json.loads(again.stdout)["unchanged"] == 3, again.stderr
    next(folder.glob("*.jpg")).unlink()
    fewer = without_torch("index", folder, *ix, "--json")
    assert json.loads(fewer.stdout)["removed"] == 1, fewer.stderr
    (folder / "new.jpg").write_bytes(
        next(photos.glob("*.png"), next(photos.glob("*.jpg"))).read_bytes() + b" "
    )
    refused = without_torch("index", folder, *ix)
    assert refused.returncode == 6
    assert "torch" in refused.stderr
    assert "Traceback" not in refused.stderr
    sound = without_torch("query", "--audio", "x.wav", *ix)
    assert "has no tower for audio" in sound.stderr
    add = "import mmsearch; print(mmsearch.open(sys.argv[1]).add([{'text': 'a note'}]))"
    added = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules.update(torch=None); {add}", ix[1]],
        capture_output=True,
        text=True,
    )
    assert added.returncode == 0, added.stderr
    assert mmsearch.open(tmp_path / "ix").search("a note", to="text")[0].text == "a note"


def test_the_first_questions_and_later_ones_get_the_same_vectors(
    tmp_path: Path, photos: Path
) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    mmsearch.index(photos, tmp_path / "ix", space=name)
    tower = open_folder(next((tmp_path / "ix" / "query").iterdir()), check=False)
    rows = [tower.encode(Modality.TEXT, ["a dog on a beach"])[0] for _ in range(5)]
    assert min(float(row @ rows[0]) for row in rows) > 0.999999
    assert sorted(tower._loaded) == ["text.onnx", "tokenizer.json"]  # one graph in the end


@pytest.mark.parametrize("siglip", [False, True], ids=["clip", "siglip"])
def test_a_tower_in_fewer_bits_is_smaller_and_says_what_it_loses(
    tmp_path: Path, photos: Path, siglip: bool
) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip', siglip)}"
    wanted = mmsearch.load_space(name).encode_document(list(PROBES))
    sizes = {}
    for form, least in (("fp32", 0.9999), ("fp16", 0.999), ("int8", 0.98)):
        ix = tmp_path / form
        rc = CliRunner().invoke(
            app, ["index", str(photos), "--space", name, "--tower", form, "--index", str(ix)]
        )
        assert rc.exit_code == 0, rc.output
        kept = describe(mmsearch.open(ix))["kept"]
        assert (kept["stored"], kept["holds"]) == (form, ["text"])
        found = open_folder(next((ix / "query").iterdir()), check=False)
        cosines = (found.encode(Modality.TEXT, list(PROBES)) * wanted).sum(1)
        assert cosines.min() > least
        assert kept["least_cosine"] == pytest.approx(cosines.min(), abs=2e-6)
        sizes[form] = (found.files["text.bin"]).stat().st_size
    assert sizes["fp16"] < 0.52 * sizes["fp32"]
    assert sizes["int8"] < 0.35 * sizes["fp32"]
    mmsearch.index(photos, tmp_path / "fp32")  # stays as it is
    assert describe(mmsearch.open(tmp_path / "fp32"))["kept"]["stored"] == "fp32"
    args = ["index", str(photos), "--space", name, "--tower", "int8", "--index"]
    assert CliRunner().invoke(app, [*args, str(tmp_path / "fp32")]).exit_code == 0
    assert describe(mmsearch.open(tmp_path / "fp32"))["kept"]["stored"] == "int8"
    assert mmsearch.open(tmp_path / "fp32").search("a dog")
    refused = CliRunner().invoke(app, [*args[:-2], "int4", "--index", str(tmp_path / "x")])
    assert refused.exit_code == 2
    assert "fp32, fp16, int8" in refused.output


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8"])
def test_a_small_tower_for_pictures_is_carried_and_asked_without_pytorch(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("mmsearch.spaces.portable.SMALL_BYTES", 1 << 20)
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    index = mmsearch.index(photos, tmp_path / "ix", space=name, tower=form)
    kept = describe(index)["kept"]
    least = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}[form]
    assert kept["holds"] == ["text", "image"] and kept["least_cosine"] >= least
    pixels = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    towers = open_folder(next((tmp_path / "ix" / "query").iterdir()), check=False)
    wanted = load_encoder(name).encode(Modality.IMAGE, list(pixels))
    assert (towers.encode(Modality.IMAGE, list(pixels)) * wanted).sum(1).min() > least
    picture = next(photos.glob("*.jpg"))
    asked = without_torch("query", "--image", picture, "--index", tmp_path / "ix", "--json")
    assert json.loads(asked.stdout)["hits"][0]["path"] == str(picture), asked.stderr
    shutil.rmtree(tmp_path / "clip")
    assert mmsearch.open(tmp_path / "ix").search(image=picture)[0].path == str(picture)


def test_which_towers_an_index_carries_is_asked_for_and_stays(tmp_path: Path, photos: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    args = ["index", str(photos), "--index", str(tmp_path / "ix")]

    def carried(*more: str) -> list[str]:
        done = CliRunner().invoke(app, [*args, *more])
        assert done.exit_code == 0, done.output
        found: list[str] = describe(mmsearch.open(tmp_path / "ix"))["kept"]["holds"]
        return found

    assert carried("--space", name) == ["text"]  # a large one is not, unasked
    assert carried("--space", name, "--carry", "all") == ["text", "image"]
    damage(next((tmp_path / "ix" / "query").glob("*/image.bin")))
    with pytest.raises(IndexDamaged, match=r"image\.bin"):
        mmsearch.open(tmp_path / "ix").search(image=next(photos.glob("*.jpg")))
    assert carried() == ["text", "image"] and verify(tmp_path / "ix") == []
    assert carried("--carry", "text") == ["text"] and verify(tmp_path / "ix") == []
    assert not list((tmp_path / "ix" / "query").glob("*/image.*"))
    other = CliRunner().invoke(app, [*args, "--space", "mini"])
    assert other.exit_code == 6 and "holds openclip" in other.output
    for space, carry, code in ((name, "images", 2), ("mini", "all", 2)):
        more = ["--space", space, "--carry", carry, "--index", str(tmp_path / "other")]
        refused = CliRunner().invoke(app, [*args[:2], *more])
        assert refused.exit_code == code and "--carry" in refused.output


def test_lanes_of_pytorch_and_others_are_asked_without_pytorch(
    tmp_path: Path, samples: Path
) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}+clap:{tiny_clap(tmp_path / 'clap')}"
    sources = [samples / "photos", samples / "sounds", samples / "texts"]
    index = mmsearch.index(sources, tmp_path / "ix", space=name, tower="fp16")
    assert {h.modality for h in index.search("a dog", k=500)} == set(Modality)
    kept = describe(index)["kept"]
    assert kept["stored"] == "fp16" and kept["holds"] == ["text"]
    wanted = [(h.id, round(h.score, 4)) for h in index.search("a dog")]
    asked = without_torch("query", "a dog", "--index", tmp_path / "ix", "--json")
    hits = json.loads(asked.stdout)["hits"]
    assert [(h["id"], round(h["score"], 4)) for h in hits] == wanted, asked.stderr
    sound = next((samples / "sounds").glob("*.ogg"))
    assert index.search(audio=sound)[0].path == str(sound)
    refused = without_torch("query", "--audio", sound, "--index", tmp_path / "ix")
    assert refused.returncode == 6 and "torch" in refused.stderr
    moved = tmp_path / "moved"
    (tmp_path / "clap").rename(moved)
    place = f"openclip:local-dir:{tmp_path / 'clip'}+clap:{moved}"
    assert mmsearch.open(tmp_path / "ix", place).search(audio=sound)[0].path == str(sound)
    with pytest.raises(UsageError, match="name a space for each of its 2 lanes"):
        mmsearch.open(tmp_path / "ix", f"clap:{moved}").search("a dog")
    report = run(sources, tmp_path / "ix", place)
    assert report.parts == 0 and mmsearch.open(tmp_path / "ix").space.name == place
