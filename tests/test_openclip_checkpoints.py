"""Checkpoints of open_clip's own trainer: they become safetensors, and never run anything.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

import mmsearch
from mmsearch.cli.app import app
from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.spaces import checkpoints, load_encoder, pull
from mmsearch.types import Modality
from tiny_clip import tiny_clip

TEXTS = ["a dog", "a cat on a mat"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as ``openclip:local-dir:`` takes it; its model is also called ``tiny``."""
    made = tiny_clip(tmp_path / "clip")
    config = json.loads((made / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "configs")
    return made


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(folder / "open_clip_model.safetensors")
    return found


def save_as_the_trainer(path: Path, state: dict[str, Any], before: str = "module.") -> Path:
    """As open_clip_train writes it: of several processes, with the optimizer's state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {before + name: value for name, value in state.items()}
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))]).state_dict()
    torch.save({"epoch": 3, "name": "run", "state_dict": named, "optimizer": optimizer}, path)
    return path


def asked(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("before", ["module.", "", "module._orig_mod."])
def test_a_checkpoint_becomes_weights_by_the_command_that_the_error_names(
    folder: Path, tmp_path: Path, samples: Path, before: str
) -> None:
    file = save_as_the_trainer(tmp_path / "my logs" / "epoch_3.pt", weights(folder), before)
    code, out, err = asked(
        "index", samples / "texts", "--space", f"openclip:tiny/{file}", "--index", tmp_path / "ix"
    )
    assert (code, out) == (6, "") and err.count("\n") == 1
    command = re.search(r"`(mmsearch .*)`", err)
    assert command is not None
    code, out, err = asked(*shlex.split(command[1])[1:])
    name = f"openclip:tiny/{file.with_suffix('.safetensors')}"
    assert code == 0 and f"{name} is here" in err
    own = load_encoder(f"openclip:local-dir:{folder}").encode(Modality.TEXT, TEXTS)
    assert (load_encoder(name).encode(Modality.TEXT, TEXTS) == own).all()
    assert mmsearch.index(samples / "photos", tmp_path / "ix", name).search("a dog")
    assert file.exists()
    with pytest.raises(SpaceUnavailable, match="is there already"):
        pull(f"openclip:tiny/{file}")


def test_a_folder_with_a_checkpoint_alone_gets_its_weights_beside_it(folder: Path) -> None:
    state = weights(folder)
    own = load_encoder(f"openclip:local-dir:{folder}").encode(Modality.TEXT, TEXTS)
    (folder / "open_clip_model.safetensors").unlink()
    save_as_the_trainer(folder / "epoch_latest.pt", state)
    with pytest.raises(
        SpaceUnavailable, match=r"epoch_latest\.pt would have to be unpickled.*pull"
    ):
        load_encoder(f"openclip:local-dir:{folder}")
    assert pull(f"openclip:local-dir:{folder}") == f"openclip:local-dir:{folder}"
    assert (load_encoder(f"openclip:local-dir:{folder}").encode(Modality.TEXT, TEXTS) == own).all()


LONG = "a" * 300  # more than a file can be called


@pytest.mark.parametrize(
    "name",
    [
        "openclip:tiny/~nosuchuser/a.safetensors", "openclip:tiny/~nosuchuser/a.pt",
        "openclip:local-dir:~nosuchuser/a", "openclip:~nosuchuser/a", "clap:~nosuchuser/a",
        "gemma:~nosuchuser/a", "gemma:~nosuchuser/a@256", f"openclip:tiny/{LONG}.safetensors",
        f"openclip:tiny/{LONG}.pt", f"openclip:local-dir:{LONG}", f"openclip:hf-hub:a/{LONG}",
        f"clap:{LONG}", f"clap:./{LONG}", f"gemma:{LONG}", f"gemma:./{LONG}",
    ],
)  # fmt: skip
def test_a_name_that_no_file_can_have_is_refused(folder: Path, name: str) -> None:
    for call in (load_encoder, pull):
        with pytest.raises((UsageError, SpaceUnavailable), match=r"nosuchuser|aaa"):
            call(name)


class Harm:
    """What a stranger could put into a pickle."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("kind", ["program", "plain pickle", "list", "no tensors", "cut", "other"])
def test_what_is_no_checkpoint_of_weights_is_refused_and_runs_nothing(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    file, canary = tmp_path / "epoch_1.pt", tmp_path / "canary"
    state = weights(folder)
    if kind == "program":
        torch.save({"epoch": 1, "state_dict": state, "x": Harm(canary)}, file)
    elif kind == "plain pickle":
        file.write_bytes(pickle.dumps({"state_dict": Harm(canary)}))
    elif kind == "list":
        torch.save([1, 2], file)
    elif kind == "no tensors":
        torch.save({"epoch": 1, "state_dict": {"a": "b"}}, file)
    elif kind == "cut":
        content = save_as_the_trainer(file, state).read_bytes()
        file.write_bytes(content[: len(content) // 2])
    else:
        save_as_the_trainer(file, {"conv.weight": torch.ones(3)})
    before = sorted(tmp_path.iterdir())
    code, out, err = asked("spaces", "pull", f"openclip:tiny/{file}")
    assert (code, out) == (6, "") and err.count("\n") == 1, err
    assert "weights_only" not in err and "trust" not in err
    assert sorted(tmp_path.iterdir()) == before and not canary.exists()


def odd_tensor(kind: str) -> Any:
    plain = torch.eye(3)
    if kind == "sparse":
        return plain.to_sparse()
    if kind == "quantised":
        return torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)
    return plain.to(torch.complex128) if kind == "complex" else plain.to("meta")


@pytest.mark.parametrize("kind", ["sparse", "quantised", "complex", "meta"])
def test_a_tensor_that_safetensors_cannot_hold_is_named(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    state = weights(folder) | {"ln_final.weight": odd_tensor(kind)}
    file = save_as_the_trainer(tmp_path / "epoch_4.pt", state)
    before = sorted(tmp_path.iterdir())
    code, out, err = asked("spaces", "pull", f"openclip:tiny/{file}")
    assert (code, out) == (6, "") and err.count("\n") == 1
    assert "epoch_4.pt holds 'ln_final.weight', which is sparse, quantised, complex or" in err
    assert sorted(tmp_path.iterdir()) == before


def test_two_tensors_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    state = weights(folder)
    file = tmp_path / "epoch_5.pt"
    torch.save({**state, "module.logit_scale": torch.tensor(9.0)}, file)
    with pytest.raises(SpaceUnavailable, match=r"holds two tensors .* 'logit_scale'"):
        pull(f"openclip:tiny/{file}")
    assert not file.with_suffix(".safetensors").exists()


def test_a_disk_that_is_full_is_said_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    file = save_as_the_trainer(tmp_path / "epoch_6.pt", weights(folder))
    before = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:  # Python ignores SIGXFSZ, so that writing fails
        with pytest.raises(SpaceUnavailable, match=r"epoch_6\.safetensors cannot be written"):
            checkpoints.convert(file, file.with_suffix(".safetensors"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.iterdir()) == before


def test_what_the_trainer_ties_or_shares_is_written_once_for_each_name(
    folder: Path, tmp_path: Path
) -> None:
    state = weights(folder)
    shared = torch.arange(1000.0)
    state["logit_scale"] = shared[7]  # a view of what other names hold, too
    state["ln_final.weight"], state["ln_final.bias"] = shared[:32], shared[:32]
    file = save_as_the_trainer(tmp_path / "epoch_2.pt", state)
    pull(f"openclip:tiny/{file}")
    from safetensors.torch import load_file

    made = load_file(file.with_suffix(".safetensors"))
    assert made.keys() == state.keys()
    assert all(torch.equal(made[name], state[name]) for name in state)
