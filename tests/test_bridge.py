"""Bridges: a map between two spaces that share text, and the space that it makes of them."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmsearch
from mmsearch.cli.app import app
from mmsearch.errors import LimitExceeded, SpaceMismatch, SpaceUnavailable, UsageError
from mmsearch.spaces import load_encoder, maps
from mmsearch.spaces.maps import unit
from mmsearch.train.bridging import bridge, learned, memory, procrustes, ridge
from mmsearch.types import Modality
from tiny_space import COLOURS, SHADES, part, write_pairs, write_space


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See ``spaces_of``."""
    return spaces_of(tmp_path_factory.mktemp("spaces"))


def spaces_of(home: Path) -> Path:
    """``whole``, and its parts ``heard`` (texts, sounds) and ``seen`` (pictures, texts)."""
    whole = write_space(home / "whole")
    part(home / "heard", whole, "text", "audio")
    part(home / "seen", whole, "image", "text")
    several = [f"a {s} {c}" for s, c in itertools.product(SHADES, COLOURS)]
    several += [f"{a} {b} square" for a, b in itertools.permutations(COLOURS, 2)]
    (home / "captions.txt").write_text("\n".join(several))
    return home


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def rows(n: int, d: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


def test_a_rotation_is_found_by_procrustes_and_ridge() -> None:
    x = rows(2000, 24, 0)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((32, 24)))[0].astype(np.float32)
    y = x @ turn.T
    fresh = rows(50, 24, 2)
    for made in (procrustes(x, y), ridge(x, y, 1e-4)):
        assert (made(fresh) * unit(fresh @ turn.T)).sum(1).min() > 0.999
    assert np.allclose(procrustes(x, y).weight @ procrustes(x, y).weight.T @ y[0], y[0], atol=1e-3)


def test_ridge_finds_a_map_that_is_no_rotation() -> None:
    x = rows(2000, 24, 0)
    linear = np.random.default_rng(1).standard_normal((16, 24)).astype(np.float32)
    y = unit(x @ linear.T)
    made, recall, mrr = learned(x, y, "ridge")
    turned = learned(x, y, "procrustes")[0]
    assert recall > 0.9
    assert mrr >= recall
    fresh = rows(50, 24, 2)
    assert (turned(fresh) * unit(fresh @ linear.T)).sum(1).min() < 0.9
    assert (made(fresh) * unit(fresh @ linear.T)).sum(1).min() > 0.95


def test_a_memory_gives_what_lies_beside_the_captions_that_are_near() -> None:
    x, y = rows(300, 24, 0), rows(300, 16, 1)
    made = memory(x, y, temperature=0.01)
    assert (made(x[:20]) * y[:20]).sum(1).min() > 0.99


def test_the_mean_of_what_is_heard_closes_the_gap() -> None:
    x = rows(2000, 24, 0)
    y = x[:, ::-1].copy()
    gap = rows(1, 24, 5) * 0.9
    fresh = rows(200, 24, 2)
    there = unit(fresh + gap)  # apart from the captions, as another modality's vectors are
    for method in ("memory", "ridge", "procrustes"):
        plain, closed = (learned(x, y, method, heard)[0] for heard in (None, there))
        wanted = fresh[:, ::-1]
        assert (closed(there) * wanted).sum() > (plain(there) * wanted).sum() + 1


def test_a_bridge_is_a_space_of_both(tmp_path: Path, spaces: Path) -> None:
    out = tmp_path / "bridge"
    rc, said, err = cli(
        "bridge", "--from", spaces / "heard", "--to", spaces / "seen", "--method", "procrustes",
        "--captions", spaces / "captions.txt", "--out", out, "--json",
    )  # fmt: skip
    assert rc == 0, err
    report = json.loads(said)
    assert report["captions"] == 204
    assert report["carried"] == ["audio"]
    assert report["recall_at_1"] >= 0.9
    space, whole = mmsearch.load_space(f"bridge:{out}"), mmsearch.load_space(spaces / "whole")
    rng = np.random.default_rng(0)
    sounds = [(rng.standard_normal(8000).astype(np.float32) * v, 8000) for v in (0.1, 0.5, 0.9)]
    assert (space.encode_audio(sounds) * whole.encode_audio(sounds)).sum(1).min() > 0.99
    pictures = [np_picture(colour) for colour in ("red", "blue")]
    assert np.array_equal(space.encode_images(pictures), whole.encode_images(pictures))
    assert np.array_equal(space.encode_document(["a red"]), whole.encode_document(["a red"]))
    data = write_pairs(tmp_path / "data", sounds=True).parent
    ix = ("--index", tmp_path / "ix")
    rc, _, err = cli("index", data, "--space", f"bridge:{out}", *ix)
    assert rc == 0, err
    index = mmsearch.open(tmp_path / "ix")
    direct = mmsearch.index(data, tmp_path / "direct", space=spaces / "whole")
    sound = next(data.rglob("*.wav"), None) or next(data.rglob("*.ogg"))
    wanted = [hit.id for hit in direct.search(audio=sound, to="image", k=5)]
    assert [hit.id for hit in index.search(audio=sound, to="image", k=5)] == wanted
    moved = out.rename(tmp_path / "moved")
    again = mmsearch.open(tmp_path / "ix")
    assert len(again.search("a red square", k=3)) == 3  # by the towers that the index keeps
    with pytest.raises(SpaceUnavailable, match="--space"):
        again.search(audio=sound)
    found = mmsearch.open(tmp_path / "ix", space=f"bridge:{moved}").search(audio=sound, to="image")
    assert [hit.id for hit in found][:5] == wanted


def np_picture(colour: str) -> object:
    from PIL import Image

    return Image.new("RGB", (20, 10), colour)


@pytest.fixture
def made(tmp_path: Path, spaces: Path) -> Path:
    home = tmp_path / "home"
    shutil.copytree(spaces, home)
    out = home / "bridge"
    bridge(str(home / "heard"), str(home / "seen"), home / "captions.txt", out)
    return home


def test_what_does_not_fit_a_bridge_is_one_line(made: Path) -> None:
    name = f"bridge:{made / 'bridge'}"
    sound = [np.zeros(800, np.float32)]
    load_encoder(name).encode(Modality.AUDIO, sound)
    shutil.rmtree(made / "heard")
    assert load_encoder(name).encode(Modality.TEXT, ["a red"]).shape == (1, 24)
    with pytest.raises(SpaceUnavailable, match="heard"):
        load_encoder(name).encode(Modality.AUDIO, sound)
    other = write_space(made / "other", seed=3)
    part(made / "heard", other, "text", "audio")
    with pytest.raises(SpaceMismatch, match=r"made from heard@.*is heard@.*again"):
        load_encoder(name).encode(Modality.AUDIO, sound)
    values = np.load(made / "bridge" / "values.npy")
    values[0] += 1
    np.save(made / "bridge" / "values.npy", values)
    with pytest.raises(SpaceUnavailable, match="was changed"):
        load_encoder(name)
    (made / "bridge" / "keys.npy").unlink()
    with pytest.raises(SpaceUnavailable, match=r"keys\.npy cannot be read"):
        load_encoder(name)
    for wrong, said in (("bridge:", "FOLDER"), (f"bridge:{made / 'seen'}", "is no bridge")):
        with pytest.raises(SpaceUnavailable, match=said):
            load_encoder(wrong)


def test_what_is_heard_gives_the_mean(made: Path, samples: Path) -> None:
    out = made / "with"
    spaces = ("--from", made / "heard", "--to", made / "seen", "--captions", made / "captions.txt")
    rc, _, err = cli("bridge", *spaces, "--heard", samples / "sounds", "--out", out)
    assert rc == 0, err
    kept = json.loads((out / "card.json").read_text())["heard"]
    index = mmsearch.index(samples / "sounds", made / "ix", space=made / "heard")
    vectors = np.concatenate([s.lanes[0].vectors for s in index.snapshot.segments]).astype(
        np.float32
    )
    assert kept == len(vectors) > 10
    assert np.allclose(np.load(out / "mean.npy"), vectors.mean(0), atol=1e-3)
    rc, _, err = cli("bridge", *spaces, "--heard", samples / "photos", "--out", made / "none")
    assert rc == 2
    assert "holds no audio" in err
    assert cli("spaces", "pull", f"bridge:{out}")[0] == 2


def test_what_a_bridge_cannot_be_made_of_is_one_line(made: Path) -> None:
    few = made / "few.txt"
    few.write_text("a red square\n" * 300)
    ways = {
        "at least 200": (made / "heard", made / "seen", few, made / "new"),
        "nothing is to carry": (made / "seen", made / "whole", made / "captions.txt", made / "new"),
        "is no bridge": (made / "heard", made / "seen", made / "captions.txt", made / "whole"),
        "cannot be read": (made / "heard", made / "seen", made / "none.txt", made / "new"),
    }
    for said, (source, target, captions, out) in ways.items():
        with pytest.raises(UsageError, match=said):
            bridge(str(source), str(target), captions, out)
    assert not (made / "new").exists()
    assert cli("bridge", "--from", "mini", "--to", made / "seen", "--captions", few,
               "--out", made / "new", "--method", "magic")[0] == 2  # fmt: skip


def test_a_folder_that_is_called_mini_is_not_taken_for_the_built_in_space(
    tmp_path: Path, spaces: Path
) -> None:
    named = shutil.copytree(spaces / "seen", tmp_path / "own")
    card = json.loads((named / "card.json").read_text()) | {"name": "mini"}
    (named / "card.json").write_text(json.dumps(card))
    bridge(str(spaces / "heard"), str(named), spaces / "captions.txt", tmp_path / "out")
    found = load_encoder(f"bridge:{tmp_path / 'out'}").encode(Modality.TEXT, ["a red"])
    assert np.array_equal(found, load_encoder(str(named)).encode(Modality.TEXT, ["a red"]))


def test_writing_a_bridge_takes_nothing_away(made: Path) -> None:
    ours, captions = made / "bridge", made / "captions.txt"
    before = {path.name: path.read_bytes() for path in ours.iterdir()}
    with pytest.raises(UsageError, match="is one of the two spaces"):
        bridge(str(made / "heard"), f"bridge:{ours}", captions, ours)
    (ours / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"other things than a bridge \(notes\.txt\)"):
        bridge(str(made / "heard"), str(made / "seen"), captions, ours)
    assert (ours / "notes.txt").read_text() == "mine"
    (ours / "notes.txt").unlink()
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == before
    bridge(str(made / "heard"), str(made / "seen"), captions, ours, "ridge")
    assert sorted(path.name for path in ours.iterdir()) == [
        "bias.npy", "card.json", "mean.npy", "weight.npy",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="cannot be written"):
        bridge(str(made / "heard"), str(made / "seen"), captions, captions / "below")


def test_a_memory_that_could_not_be_read_again_is_not_made(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "MAX_FILE_BYTES", 4_096 + 4 * 24 * 203)
    with pytest.raises(LimitExceeded, match=r"204 captions .* at most 203, or take --method ridge"):
        bridge(str(made / "heard"), str(made / "seen"), made / "captions.txt", made / "new")
    assert not (made / "new").exists()
    bridge(str(made / "heard"), str(made / "seen"), made / "captions.txt", made / "new", "ridge")


def test_a_memory_gives_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rows(300, 24, 0), rows(300, 16, 1)
    made, asked = memory(x, y), rows(50, 24, 2)
    whole = made(asked)
    monkeypatch.setattr(maps, "BLOCK_CELLS", 7 * 300)
    assert (made(asked) * whole).sum(1).min() > 0.99999
    assert made(asked[:0]).shape == (0, 16)
