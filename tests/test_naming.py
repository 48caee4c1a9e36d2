"""Names that stand for no space, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mmsearch
from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.spaces import load_encoder, pull
from mmsearch.spaces.catalogue import CATALOGUE


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("minni", "mini"),
        ("MINI", "mini"),
        ("local-dir:/models/clip", "openclip:local-dir:/models/clip"),
        ("hf-hub:nobody/clip", "openclip:hf-hub:nobody/clip"),
        ("ViT-B-32/laion2b_s34b_b79k", "openclip:ViT-B-32/laion2b_s34b_b79k"),
        ("laion/clap-htsat-unfused", "clap:laion/clap-htsat-unfused"),
        ("nobody/model", "clap:nobody/model or openclip:hf-hub:nobody/model"),
        ("clap-:nobody/model", "clap:nobody/model"),
    ],
)
def test_a_name_without_its_prefix_gets_a_hint(name: str, meant: str) -> None:
    with pytest.raises(SpaceUnavailable) as e:
        load_encoder(name)
    assert str(e.value) == f"no space is called {name!r}; did you mean {meant}?"


def test_a_folder_is_known_by_what_lies_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clip, clap, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    for folder, file, body in (
        (clip, "open_clip_config.json", {"model_cfg": {}}),
        (clap, "config.json", {"model_type": "clap"}),
        (other, "config.json", {"model_type": "bert"}),
    ):
        folder.mkdir()
        (folder / file).write_text(json.dumps(body))
    for name, meant in (
        (str(clip), f"openclip:local-dir:{clip}"),
        ("./a", "openclip:local-dir:./a"),
        ("a", "openclip:local-dir:a"),
        (str(clap), f"clap:{clap}"),
        ("b", "clap:b"),
    ):
        with pytest.raises(SpaceUnavailable) as e:
            load_encoder(name)
        assert str(e.value).endswith(f"did you mean {meant}?")
        with pytest.raises(UsageError) as usage:
            pull(name)
        assert str(usage.value).endswith(f"did you mean {meant}?")
    with pytest.raises(SpaceUnavailable, match=r"is no space: card\.json cannot be read"):
        load_encoder(str(other))


def test_what_is_near_nothing_gets_no_hint() -> None:
    with pytest.raises(
        SpaceUnavailable, match=r"there is: mini, .*openclip:MODEL, clap:MODEL"
    ) as e:
        load_encoder("xyz")
    assert "did you mean" not in str(e.value)
    with pytest.raises(UsageError, match=r"those begin with openclip:, clap:.*:\.$"):
        pull("mini")


@pytest.mark.parametrize(
    "name", ["~nosuchuser/x", "bridge:~nosuchuser/x", "mini+bridge:~nosuchuser/x"]
)
def test_the_home_of_nobody_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    ix = tmp_path / "ix"
    calls = (load_encoder, pull, lambda x: mmsearch.index([tmp_path / "notes"], ix, x))
    for call in calls:
        with pytest.raises(UsageError, match="~nosuchuser"):
            call(name)
    with pytest.raises(UsageError, match="'~nosuchuser': there is no such home folder"):
        mmsearch.index([tmp_path], "~nosuchuser/ix")


def test_no_model_is_offered_that_finds_nothing() -> None:
    names = [known.name for known in CATALOGUE]
    assert {"clap:laion/clap-htsat-unfused", "clap:laion/larger_clap_general"} < set(names)
    assert not any("clap_music" in name for name in names)
