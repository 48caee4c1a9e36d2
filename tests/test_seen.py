"""`mmsearch eval` says which pairs the space was trained on."""

from __future__ import annotations

import io
import json
import shutil
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmsearch
import tiny_space
from mmsearch.cli.app import app
from mmsearch.errors import IndexDamaged, SpaceUnavailable
from mmsearch.evaluation import evaluate
from mmsearch.seen import Seen, file_key, joined, pack, read, sentence_keys, set_keys
from mmsearch.spaces.folder import digest_of
from mmsearch.spaces.mini import ASSETS
from mmsearch.store import verify

LONG = "A brown dog runs along the beach with a red ball."


def knows(captions: dict[str, list[str]], **asked: list[str]) -> bool:
    keys = [*sentence_keys(captions), *set_keys(captions)]
    return Seen([pack(keys)]).knows([], asked)


def test_a_long_sentence_tells_a_picture_however_it_is_spelt() -> None:
    spelt = ["a BROWN dog runs, along the beach with a red ball", "ａ " + LONG[2:]]
    for text in (LONG, *spelt):
        assert knows({"en": [LONG]}, text=[text])
    assert not knows({"en": [LONG]}, en=[LONG.replace("red", "blue")])
    assert not knows({"en": ["a dog runs on the grass"]}, en=["a dog runs on the grass"])
    assert not knows({"en": [LONG]}, en=[LONG, *(f"{LONG} It is {n} today" for n in "abc")])
    assert knows({"en": [LONG]}, en=[LONG, "a short one", "another"])


def test_short_sentences_tell_a_picture_together() -> None:
    several = ["在玩滑板的两个女孩。", "小孩趴在滑板车上。"]
    assert knows({"zh": several}, zh=several[::-1])
    assert not knows({"zh": several}, zh=several[:1])
    assert not knows({"zh": several}, zh=[*several, "又一句"])


def test_keys_are_kept_sorted_and_whole() -> None:
    keys = [2**40 - 1, 0, 7, 7, 2**39]
    packed = pack(keys)
    assert packed.shape == (4, 5) and packed.dtype == np.uint8
    seen = Seen([packed, pack([8])])
    assert len(seen) == 5 and seen.some([7, 8, 9, 2**40 - 1]) == 3 and seen.some([]) == 0
    assert (joined([packed, pack([8, 7])]) == pack([*keys, 8])).all()
    assert seen.some([0, 1, 7, 7, 2**39, 2**40]) == 4
    assert Seen([]).some([7]) == 0 and len(Seen([])) == 0 and len(joined([pack([]), packed])) == 4
    assert file_key(blake2b(b"x", digest_size=16).digest()) < 2**40


@pytest.mark.parametrize("kind", ["cut", "wide", "floats", "objects", "archive"])
def test_a_list_that_is_none_is_refused(kind: str) -> None:
    file = io.BytesIO()
    if kind == "archive":
        np.savez(file, pack([1]))
    else:
        arrays = {
            "cut": pack(range(9)), "wide": np.zeros((3, 8), np.uint8),
            "floats": np.zeros((3, 5)), "objects": np.array([[{}]]),
        }  # fmt: skip
        np.save(file, arrays[kind], allow_pickle=True)
    content = file.getvalue()
    with pytest.raises(SpaceUnavailable, match="seen in training is damaged"):
        read(content[:-3] if kind == "cut" else content)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space that was trained on twelve of the 72 squares, an index of it, and pairs."""
    folder = tmp_path_factory.mktemp("made")
    pairs = tiny_space.write_pairs(folder / "pairs")
    space = tiny_space.write_space(folder / "space")
    files = sorted((folder / "pairs").glob("*.png"))[:12]
    keys = [file_key(blake2b(path.read_bytes(), digest_size=16).digest()) for path in files]
    np.save(space / "seen.npy", pack(keys))
    assert digest_of(space) == json.loads((space / "card.json").read_text())["digest"]
    mmsearch.index(pairs.parent, folder / "ix", space)
    return folder


def test_pairs_that_were_trained_on_are_counted_and_told(made: Path) -> None:
    found = evaluate(made / "ix", made / "pairs" / "pairs.jsonl")
    assert found.seen_in_training == 12 and found.to_json()["seen_in_training"] == 12
    assert found.notes[0].startswith("12 of 72 pairs were seen in training")
    asked = ["eval", str(made / "pairs" / "pairs.jsonl"), "--index", str(made / "ix")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0
    assert "note      12 of 72 pairs were seen in training: these figures are" in done.stdout


def test_files_that_the_index_does_not_hold_are_told_by_their_content(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "pairs", tmp_path / "moved")
    seen, unseen = sorted((tmp_path / "moved").glob("*.png"))[11:13]
    (tmp_path / "moved" / "renamed.png").write_bytes(seen.read_bytes())
    for name, count in (("renamed.png", 1), (unseen.name, 0)):
        held = made / "pairs" / "warm_red.png"
        rows = [{"image": name, "text": "red"}, {"image": str(held), "text": "warm red"}]
        pairs = tmp_path / "moved" / "two.jsonl"
        pairs.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        assert evaluate(made / "ix", pairs).seen_in_training == count


def test_a_space_that_does_not_tell_is_not_asked(made: Path, tmp_path: Path) -> None:
    space = shutil.copytree(made / "space", tmp_path / "space")
    (space / "seen.npy").unlink()
    mmsearch.index(made / "pairs", tmp_path / "ix", space)
    found = evaluate(tmp_path / "ix", made / "pairs" / "pairs.jsonl")
    assert found.seen_in_training is None and not any("training" in n for n in found.notes)


def test_an_altered_list_is_damage_that_is_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "ix", tmp_path / "ix")
    (file,) = (tmp_path / "ix" / "query").glob("*/seen.npy")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(IndexDamaged, match=r"seen\.npy"):
        evaluate(tmp_path / "ix", made / "pairs" / "pairs.jsonl")
    assert [p.path for p in verify(tmp_path / "ix")] == [str(file)]


def test_mini_knows_the_captions_that_it_learned_from() -> None:
    seen = Seen([read((ASSETS / "seen.npy").read_bytes())])
    # captions of Flickr8k, one of the training part and one of the validation part
    learned = {"en": ["A child in a pink dress is climbing up a set of stairs in an entry way ."]}
    kept_out = {"en": ["the boy laying face down on a skateboard is being pushed along the ground "
                       "by another boy ."]}  # fmt: skip
    assert seen.knows([], learned) and not seen.knows([], kept_out)
