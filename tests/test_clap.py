"""Spaces of CLAP: answered to transformers itself, called as its documentation does.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
librosa = pytest.importorskip("librosa")

import mmsearch
from mmsearch.cli.app import app
from mmsearch.spaces import load_encoder, missing_for
from mmsearch.types import Modality
from tiny_clap import tiny_clap

RATE_HZ = 48_000
TEXTS = ["a dog barks", "the sound of rain " * 30, "狗在叫", "x", "<pad> <s>", "ticking; a CLOCK!"]


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clap(tmp_path_factory.mktemp("model") / "clap", request.param)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sound(seconds: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """A few gliding tones and noise, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(np.sin(2 * np.pi * f * t * (1 + 0.1 * t)) for f in rng.uniform(100, 4000, 5))
    out = tones + rng.standard_normal(len(t))
    return (0.9 * out / np.abs(out).max()).astype(np.float32)


class Theirs:
    """The library's own way, one input at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = transformers.ClapModel.from_pretrained(folder).eval()
        self.processor = transformers.ClapProcessor.from_pretrained(folder)

    def sound(self, samples: np.ndarray) -> np.ndarray:
        inputs = self.processor(audio=samples, sampling_rate=RATE_HZ, return_tensors="pt")
        return self._unit(self.model.get_audio_features, inputs)

    def text(self, text: str) -> np.ndarray:
        inputs = self.processor(
            text=[text], return_tensors="pt", padding=True, truncation=True, max_length=64
        )
        return self._unit(self.model.get_text_features, inputs)

    def _unit(self, features: Any, inputs: Any) -> np.ndarray:
        with torch.no_grad():
            found = features(**inputs)
        row = getattr(found, "pooler_output", found)[0].numpy()
        return row / np.linalg.norm(row)


def test_vectors_are_the_librarys_own(folder: Path) -> None:
    theirs, space = Theirs(folder), mmsearch.load_space(f"clap:{folder}")
    sounds = [sound(seconds) for seconds in (0.2, 0.9, 1, 3.3, 9.99, 10)]
    found = space.encode_audio([(samples, RATE_HZ) for samples in sounds])
    for samples, row in zip(sounds, found, strict=True):
        assert float(theirs.sound(samples) @ row) > 0.99999
    for text, row in zip(TEXTS, space.encode_document(TEXTS), strict=True):
        assert float(theirs.text(text) @ row) > 0.99999


@pytest.mark.parametrize("seconds", [4.0, 25.0, 60.0])
def test_a_file_of_another_rate_is_as_librosa_reads_it(
    folder: Path, tmp_path: Path, seconds: float
) -> None:
    theirs, path = Theirs(folder), tmp_path / "sound.wav"
    soundfile.write(path, sound(seconds, 44_100), 44_100)
    samples, _ = librosa.load(path, sr=RATE_HZ)
    window = 10 * RATE_HZ
    # librosa rounds the length up: a sample more is no window
    windows = [samples[at : at + window] for at in range(0, len(samples) - 1, window)]
    mean = sum(theirs.sound(one) for one in windows)
    row = mmsearch.load_space(f"clap:{folder}").encode_audio([path])[0]
    assert float(mean @ row) / np.linalg.norm(mean) > 0.99999


def test_a_vector_is_the_same_in_any_batch_and_every_time(folder: Path) -> None:
    encoder = load_encoder(f"clap:{folder}")
    sounds = [sound(seconds, seed=i) for i, seconds in enumerate((10, 0.3, 5, 10, 2))]
    texts = TEXTS * 20
    for modality, data in ((Modality.AUDIO, sounds), (Modality.TEXT, texts)):
        together = encoder.encode(modality, data)
        singly = np.concatenate([encoder.encode(modality, [one]) for one in data])
        assert (together * singly).sum(1).min() > 0.99999
        assert np.array_equal(together, encoder.encode(modality, data))


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def test_sounds_are_indexed_and_asked_without_the_model(
    folder: Path, tmp_path: Path, samples: Path
) -> None:
    name, where = f"clap:{folder}", ("--index", tmp_path / "ix")
    folders = (samples / "sounds", samples / "photos")
    rc, out, err = cli("index", *folders, *where, "--space", name, "--json")
    assert rc == 0, err
    report = json.loads(out)
    assert report["indexed"] > 5
    assert report["skipped"] == 0
    assert report["ignored"] >= len(list((samples / "photos").glob("*.jpg")))
    vector = mmsearch.load_space(name).encode_document(["a dog barks"])[0]
    index = mmsearch.open(tmp_path / "ix")
    by_text = index.search("a dog barks")  # through the tower that the index keeps
    assert index._encoder is not None
    assert not hasattr(index._encoder, "model")
    assert [h.id for h in by_text] == [h.id for h in index.search(vector=vector)]
    own = next(hit for hit in by_text if hit.path)
    assert next(iter(index.search(audio=own.path))).id.split("#")[0] == own.id.split("#")[0]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "cannot be loaded"),
        ("another model's", "do not fit its config.json"),
        ("of other layers", "weights are missing"),
        ("pickle", "cannot be loaded"),
        ("no config", "holds no CLAP model"),
        ("gone", "holds no CLAP model"),
        ("no tokenizer", "holds no tokenizer"),
        ("hub", "mmsearch spaces pull clap:laion/clap-htsat-unfused"),
        ("no name", "say which model: clap:OWNER/REPOSITORY or clap:FOLDER"),
        ("three names", "called OWNER/REPOSITORY, not 'a/b/c'"),
        ("openclip's", "did you mean openclip:local-dir:"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_one_line(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tiny_clap(tmp_path / "clap", pickled=how == "pickle")
    weights, config, name = model / "model.safetensors", model / "config.json", f"clap:{model}"
    match how:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "another model's":
            config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 48'))
        case "of other layers":
            body = json.loads(config.read_text())
            body["text_config"]["num_hidden_layers"] = 3
            config.write_text(json.dumps(body))
        case "no config":
            config.unlink()
        case "gone":
            name += "-2"
        case "no tokenizer":
            for path in model.glob("tokenizer*"):
                path.unlink()
        case "no name":
            name = "clap:"
        case "three names":
            name = "clap:a/b/c"
        case "openclip's":
            config.rename(model / "open_clip_config.json")
        case "hub":
            name = "clap:laion/clap-htsat-unfused"
    rc, _, err = cli("index", samples / "sounds", "--index", tmp_path / "ix", "--space", name)
    assert rc == 6, err
    assert said in err
    assert len(err.strip().splitlines()) == 1, err
    assert ".." not in err and "?." not in err


def test_a_long_text_is_counted_in_silence(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = load_encoder(f"clap:{folder}")
    assert encoder.truncated(["rain " * 300])[0] > 100
    assert capfd.readouterr().err == ""


def test_fetching_what_is_a_folder_here_only_says_so(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rc, _, err = cli("spaces", "pull", f"clap:{folder}")
    assert rc == 0
    assert err == f"clap:{folder} is here: mmsearch index FOLDER --space clap:{folder}\n"
    assert capfd.readouterr().err == ""
    rc, _, err = cli("spaces", "pull", f"clap:{folder}-2")
    assert rc == 6
    assert "holds no CLAP model" in err


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's library keeps it, with a model whose weights are only proposed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    own = tmp_path / "hub" / "models--nobody--clap"
    main, proposed = own / "snapshots" / ("a" * 40), own / "snapshots" / ("b" * 40)
    (own / "refs" / "refs" / "pr").mkdir(parents=True)
    (own / "refs" / "main").write_text("a" * 40)
    (own / "refs" / "refs" / "pr" / "3").write_text("b" * 40)
    tiny_clap(main)
    proposed.mkdir()
    (main / "model.safetensors").rename(proposed / "model.safetensors")
    return own


def test_weights_that_are_only_proposed_to_a_repository_are_found(cache: Path) -> None:
    encoder = load_encoder("clap:nobody/clap")
    assert encoder.space.name == "clap:nobody/clap"
    folder = cache.parent / "plain"
    tiny_clap(folder)
    assert load_encoder(f"clap:{folder}").space.digest == encoder.space.digest


def test_a_model_that_was_half_fetched_is_not_here(cache: Path) -> None:
    assert missing_for("clap:nobody/clap") is None
    next(cache.rglob("model.safetensors")).unlink()
    assert "mmsearch spaces pull clap:nobody/clap" in str(missing_for("clap:nobody/clap"))


def test_ctrl_c_while_fetching_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmsearch.spaces.clap.can_fetch", lambda *_: True)
    monkeypatch.setattr(transformers.ClapModel, "from_pretrained", stopped)
    rc, out, err = cli("spaces", "pull", "clap:nobody/clap")
    assert rc == 130
    assert err.strip() == (
        "mmsearch: stopped before all of clap:nobody/clap was here; run the same command to go on."
    )
    assert out == ""


def test_sounds_are_carried_over_to_clip_by_a_bridge(tmp_path: Path, samples: Path) -> None:
    pytest.importorskip("open_clip")
    from mmsearch.train.bridging import bridge
    from tiny_clip import tiny_clip

    clap = f"clap:{tiny_clap(tmp_path / 'clap')}"
    clip = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    words = "dog cat bell rain sea train bird door".split()
    sentences = [f"a {a} beside the {b} in the {c}" for a in words for b in words for c in words]
    (tmp_path / "captions.txt").write_text("\n".join(sentences[:300]))
    bridge(clap, clip, tmp_path / "captions.txt", tmp_path / "bridge")
    name = f"bridge:{tmp_path / 'bridge'}"
    index = mmsearch.index([samples / "photos", samples / "sounds"], tmp_path / "ix", space=name)
    space, seen = mmsearch.load_space(name), mmsearch.load_space(clip)
    asked = ["a dog on a beach"]
    assert np.allclose(space.encode_document(asked), seen.encode_document(asked))
    sound = next((samples / "sounds").glob("*.ogg"))
    own = index.search(audio=sound, to="audio", k=3)
    assert own[0].path == str(sound)
    assert {hit.modality for hit in index.search(audio=sound, to="image", k=3)} == {"image"}
    (tmp_path / "clap").rename(tmp_path / "gone")
    again = mmsearch.open(tmp_path / "ix")
    assert [hit.id for hit in again.search("a dog", k=5)] == [
        hit.id for hit in index.search("a dog", k=5)
    ]
    with pytest.raises(mmsearch.SpaceUnavailable, match="clap"):
        again.search(audio=sound)
