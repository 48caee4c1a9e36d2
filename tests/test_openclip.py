"""Spaces of open_clip: answered to open_clip itself, called as its README does.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

import mmsearch
from mmsearch.cli.app import app
from mmsearch.errors import DecodeError, SpaceUnavailable, UsageError
from mmsearch.spaces import Placement, load_encoder, missing_for, open_folder
from mmsearch.spaces.catalogue import CATALOGUE
from mmsearch.spaces.on_torch import reason
from mmsearch.spaces.openclip import OpenClip
from mmsearch.spaces.portable import PROBES
from mmsearch.types import Modality
from tiny_clip import tiny_clip

SIZES = [(32, 32), (31, 47), (333, 200), (64, 500), (5, 7), (640, 480), (1, 1)]
TEXTS = ["a dog", "A Dog!  It's   here", "狗", "snow ❄", "long " * 200, "x"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed + size[0])
    small = rng.integers(0, 256, (max(2, size[1] // 7), max(2, size[0] // 7), 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def theirs(folder: Path, images: list[Image.Image], texts: list[str]) -> list[np.ndarray]:
    """As open_clip's README does it, one input at a time."""
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad():
        pictures = [model.encode_image(preprocess(image).unsqueeze(0)) for image in images]
        sentences = [model.encode_text(tokenizer([text])) for text in texts]
    unit = [[(v / v.norm(dim=-1, keepdim=True)).numpy() for v in all_] for all_ in
            (pictures, sentences)]  # fmt: skip
    return [np.concatenate(rows) if rows else np.empty((0, 32)) for rows in unit]


def test_vectors_of_siglips_kind_are_open_clips_own(tmp_path: Path) -> None:
    """A tower for pictures of timm, and a sentence-piece tokenizer."""
    folder = tiny_clip(tmp_path / "clip", siglip=True, timm=True, resize_mode="squash")
    images = [photo(size) for size in SIZES]
    pictures, sentences = theirs(folder, images, TEXTS)
    space = mmsearch.load_space(f"openclip:local-dir:{folder}")
    assert (space.encode_images(images) * pictures).sum(1).min() > 0.99999
    assert (space.encode_document(TEXTS) * sentences).sum(1).min() > 0.99999
    encoder = load_encoder(f"openclip:local-dir:{folder}", Placement(carry="all"))
    towers = open_folder(encoder.files["image.onnx"].parent, check=False)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 160, 160, 3)).astype(np.uint8)
    own = encoder.encode(Modality.IMAGE, list(pixels))
    assert (towers.encode(Modality.IMAGE, list(pixels)) * own).sum(1).min() > 0.9999


@pytest.mark.parametrize(
    "preprocess",
    [
        {},
        {"resize_mode": "squash", "interpolation": "bilinear"},
        {"resize_mode": "longest", "fill_color": 77},
        {"resize_mode": "shortest", "interpolation": "bilinear", "mean": 0.5, "std": 0.5},
    ],
)
def test_vectors_are_open_clips_own(tmp_path: Path, preprocess: dict[str, object]) -> None:
    folder = tiny_clip(tmp_path / "clip", **preprocess)  # type: ignore[arg-type]
    images = [photo(size) for size in SIZES] + [photo((300, 200)).convert("L")]
    pictures, sentences = theirs(folder, images, TEXTS)
    space = mmsearch.load_space(f"openclip:local-dir:{folder}")
    assert (space.encode_images(images) * pictures).sum(1).min() > 0.99999
    assert (space.encode_document(TEXTS) * sentences).sum(1).min() > 0.99999


def test_a_vector_is_the_same_in_any_batch(tmp_path: Path) -> None:
    encoder = load_encoder(f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}")
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (70, 32, 32, 3), np.uint8))
    together = encoder.encode(Modality.IMAGE, pictures)
    singly = np.concatenate([encoder.encode(Modality.IMAGE, [one]) for one in pictures])
    assert (together * singly).sum(1).min() > 0.99999


def test_an_index_is_asked_through_the_tower_that_it_keeps(tmp_path: Path, samples: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    index = mmsearch.index([samples / "photos"], tmp_path / "ix", space=name)
    assert index.space.name == name
    space = mmsearch.load_space(name)
    asked = "a dog on a beach"
    vector = space.encode_document([asked])[0]
    wanted = [(hit.id, hit.score) for hit in index.search(vector=vector)]
    (tmp_path / "clip").rename(tmp_path / "gone")
    again = mmsearch.open(tmp_path / "ix")
    found = [(hit.id, hit.score) for hit in again.search(asked)]
    assert [one for one, _ in found] == [one for one, _ in wanted]
    assert np.allclose([s for _, s in found], [s for _, s in wanted], atol=1e-4)


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def test_what_a_space_has_no_tower_for_is_ignored(tmp_path: Path, samples: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    folders = [samples / kind for kind in ("photos", "sounds", "texts")]
    sounds = sum(p.suffix in (".ogg", ".wav", ".flac", ".mp3") for p in folders[1].rglob("*"))
    out = cli("index", *folders, "--index", tmp_path / "ix", "--space", name, "--json")
    assert out[0] == 0, out
    report = json.loads(out[1])
    assert report["skipped"] == 0
    assert report["ignored"] >= sounds > 0
    again = json.loads(cli("index", *folders, "--index", tmp_path / "ix", "--json")[1])
    assert again["indexed"] == again["parts"] == 0
    rc, _, said = cli(
        "query", "--audio", next(folders[1].glob("*.ogg")), "--index", tmp_path / "ix"
    )
    assert rc != 0
    assert "has no tower for audio" in said
    texts = mmsearch.open(tmp_path / "ix").search("a dog", to="text", k=100)
    assert texts
    assert all(len(hit.text.split()) <= 60 for hit in texts if hit.text and hit.text.isascii())


def broken(folder: Path, how: str) -> str:
    """A checkpoint that cannot be loaded, by what is wrong with it; returns the space's name."""
    weights = folder / "open_clip_model.safetensors"
    config = folder / "open_clip_config.json"
    content = weights.read_bytes()
    match how:
        case "truncated":
            weights.write_bytes(content[: len(content) // 2])
        case "empty":
            weights.write_bytes(b"")
        case "garbage":
            weights.write_bytes(b"\x93" * 5000)
        case "another model's":
            config.write_text(config.read_text().replace('"width": 64', '"width": 128'))
        case "no weights":
            weights.unlink()
        case "pickle":
            weights.rename(folder / "open_clip_pytorch_model.bin")
        case "no config":
            config.unlink()
        case "config cut":
            config.write_text(config.read_text()[:50])
        case "empty config":
            config.write_text('{"model_cfg": {}}')
        case "no model config":
            config.write_text('{"model": {}}')
        case "renamed":
            return f"openclip:local-dir:{folder}-2"
        case "file":
            return f"openclip:ViT-B-32/{weights}"
        case "pickled file":
            (folder / "weights.pt").write_bytes(b"x")
            return f"openclip:ViT-B-32/{folder}/weights.pt"
        case "no file":
            return f"openclip:ViT-B-32/{folder}/weights.safetensors"
    return f"openclip:local-dir:{folder}"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "cannot be loaded"),
        ("empty", "cannot be loaded"),
        ("garbage", "cannot be loaded"),
        ("another model's", "cannot be loaded"),
        ("no weights", "holds no weights"),
        ("pickle", "would have to be unpickled"),
        ("pickle", "spaces pull 'openclip:local-dir:/"),
        ("no config", "holds no open_clip_config.json"),
        ("config cut", "cannot be loaded"),
        ("renamed", "is no folder"),
        ("file", "cannot be loaded"),
        ("pickled file", "is no safetensors file"),
        ("pickled file", "/weights.pt'`."),
        ("no file", "there are no weights at"),
        ("empty config", "lacks embed_dim, vision_cfg, text_cfg in its model_cfg"),
        ("no model config", "lacks the object model_cfg"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_one_line(
    tmp_path: Path, samples: Path, how: str, said: str
) -> None:
    name = broken(tiny_clip(tmp_path / "clip"), how)
    rc, _, err = cli("index", samples / "photos", "--index", tmp_path / "ix", "--space", name)
    assert rc != 0
    assert said in err
    assert len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "ix").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openclip:ViT-B-23/laion2b_s34b_b79k", "did you mean ViT-B-32"),
        ("openclip:ViT-B-32/laion2b_s34b_b97k", "did you mean openclip:ViT-B-32/laion2b_s34b_b79k"),
        ("openclip:ViT-B-32/xyz", "has no weights 'xyz' for ViT-B-32; there is: openai, "),
        ("openclip:ViT-B-32/laion2b_s34b_b79k", "mmsearch spaces pull openclip:ViT-B-32/laion2b"),
        ("openclip:ViT-B-32/openai", "use openclip:ViT-B-32-quickgelu/openai"),
        ("openclip:ViT-B-32", "say which weights of ViT-B-32: openclip:ViT-B-32/"),
        ("openclip:", "say which model: openclip:MODEL/PRETRAINED"),
        ("openclip:local-dir:", "say which model: openclip:local-dir:FOLDER"),
        ("openclip:hf-hub:", "say which model: openclip:hf-hub:OWNER/REPOSITORY"),
        ("openclip:/nowhere/clip", "did you mean openclip:local-dir:/nowhere/clip"),
        ("openclip:laion/CLIP-ViT", "did you mean openclip:hf-hub:laion/CLIP-ViT"),
        ("openclip:hf-hub:nobody/nothing", "are not on this machine"),
        ("openclip:hf-hub:../..", "called OWNER/REPOSITORY, not '../..'"),
        ("openclip:hf-hub:x", "called OWNER/REPOSITORY, not 'x'"),
        ("openclip:hf-hub:a/b/c", "called OWNER/REPOSITORY, not 'a/b/c'"),
        ("openclup:ViT-B-32/openai", "did you mean openclip:ViT-B-32/openai"),
        ("CLAP:laion/clap", "did you mean clap:laion/clap"),
    ],
)
def test_a_name_that_cannot_be_loaded_is_one_line(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    rc, _, err = cli("index", samples / "photos", "--index", tmp_path / "ix", "--space", name)
    assert rc != 0
    assert re.search(said, err), err
    assert len(err.strip().splitlines()) == 1, err
    assert not re.search(r"[.?;:]{2}", err.replace("../..", "")), err
    if "spaces pull" not in said and "not on this" not in said:
        assert "spaces pull" not in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "cuda"), "PyTorch sees no such device; there is: cpu"),
        (("--device", "gpu"), "--device is cpu, cuda"),
        (("--dtype", "fp8"), "--dtype is one of fp32, fp16, bf16"),
        (("--dtype", "fp16", "--device", "cpu"), "fp16 needs a GPU"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    tmp_path: Path, samples: Path, options: tuple[str, ...], said: str
) -> None:
    if torch.cuda.is_available() and "cuda" in options:
        pytest.skip("there is a GPU here")
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    where = ("--index", tmp_path / "ix", "--space", name)
    rc, _, err = cli("index", samples / "photos", *where, *options)
    assert rc == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1, err


def test_another_models_index_is_refused(tmp_path: Path, samples: Path) -> None:
    first = f"openclip:local-dir:{tiny_clip(tmp_path / 'one')}"
    second = f"openclip:local-dir:{tiny_clip(tmp_path / 'two', resize_mode='squash')}"
    cli("index", samples / "photos", "--index", tmp_path / "ix", "--space", first)
    rc, _, err = cli("index", samples / "photos", "--index", tmp_path / "ix", "--space", second)
    assert rc != 0
    assert first in err
    assert second in err


def test_a_moved_model_goes_on(tmp_path: Path, samples: Path) -> None:
    first = tiny_clip(tmp_path / "one")
    where = ("--index", tmp_path / "ix")
    cli("index", samples / "photos", *where, "--space", f"openclip:local-dir:{first}")
    moved = first.rename(tmp_path / "moved")
    name = f"openclip:local-dir:{moved}"
    rc, out, _ = cli("index", samples / "photos", *where, "--space", name, "--json")
    assert rc == 0
    assert json.loads(out)["parts"] == 0


def test_memory_that_runs_out_halves_the_batch(tmp_path: Path) -> None:
    encoder = load_encoder(f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}")
    assert isinstance(encoder, OpenClip)
    whole, sizes = encoder.model.encode_image, []

    def small(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 5:
            raise torch.OutOfMemoryError
        return whole(x)

    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (20, 32, 32, 3), np.uint8))
    wanted = encoder.encode(Modality.IMAGE, pictures)
    encoder.model.encode_image = small
    assert np.allclose(encoder.encode(Modality.IMAGE, pictures), wanted, atol=1e-6)
    # a batch may be shared out to threads first, each of which halves its own
    assert set(sizes) <= {20, 10, 5} and sizes.count(5) == 4 and len(sizes) > 4
    encoder.model.encode_image = lambda x: (_ for _ in ()).throw(torch.OutOfMemoryError())
    with pytest.raises(SpaceUnavailable, match="too little memory for one input"):
        encoder.encode(Modality.IMAGE, pictures)


def test_what_is_said_of_known_models_is_what_open_clip_says() -> None:
    for known in (one for one in CATALOGUE if one.name.startswith("openclip:")):
        model, _, tag = known.name.removeprefix("openclip:").partition("/")
        assert open_clip.get_model_config(model)["embed_dim"] == known.dimension
        assert open_clip.get_pretrained_cfg(model, tag)


def test_spaces_are_listed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    rows = json.loads(cli("spaces", "--json")[1])["spaces"]
    clip = next(row for row in rows if row["name"] == "openclip:ViT-B-32/laion2b_s34b_b79k")
    assert not clip["available"]
    assert "mmsearch spaces pull" in clip["needs"]
    assert (clip["recall_at_1"], clip["dimension"], clip["licence"]) == (39.3, 512, "MIT")
    names = cli("spaces", "--all")[1].split()
    assert clip["name"] in names
    assert len(names) > 100


def test_fetching_without_a_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rc, _, err = cli("spaces", "pull", "openclip:ViT-B-32/laion2b_s34b_b79k")
    assert rc == 6
    assert "could not be fetched: huggingface.co cannot be reached" in err and "offline" in err
    assert len(err.strip().splitlines()) == 1, err
    rc, _, err = cli("spaces", "pull", "mini")
    assert rc == 2
    assert "is no model that is fetched" in err


@pytest.mark.parametrize("siglip", [False, True], ids=["clip", "siglip"])
def test_the_written_text_tower_is_the_models(tmp_path: Path, siglip: bool) -> None:
    folder = tiny_clip(tmp_path / "clip", siglip)
    _, sentences = theirs(folder, [], [*TEXTS, *PROBES])
    encoder = load_encoder(f"openclip:local-dir:{folder}")
    kept = open_folder(next(iter(encoder.files.values())).parent, check=False)
    assert kept.space == encoder.space
    found = kept.encode(Modality.TEXT, [*TEXTS, *PROBES])
    assert (found * sentences).sum(1).min() > 0.9999
    own = encoder.encode(Modality.TEXT, [*TEXTS, *PROBES])
    assert (own * sentences).sum(1).min() > 0.99999
    assert kept.truncated(TEXTS) == encoder.truncated(TEXTS)
    assert encoder.truncated(TEXTS)[4] > 100
    with pytest.raises(SpaceUnavailable, match="keeps no tower for image"):
        kept.encode(Modality.IMAGE, [np.zeros((32, 32, 3), np.uint8)])


def test_a_text_tower_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    first = load_encoder(name).files

    def refuse(encoder: object, path: Path) -> None:
        raise SpaceUnavailable("it cannot be written")

    monkeypatch.setattr("mmsearch.spaces.portable.export_text", refuse)
    assert load_encoder(name).files == first
    file = Path(str(first["text.bin"]))
    weights = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(weights[:100] + b"damaged" + weights[107:])
    assert load_encoder(name).files == {}  # what cannot be written is not kept


def test_a_batch_is_shared_out_to_threads_and_the_programs_own_stay_as_they_are(
    tmp_path: Path,
) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    pixels = list(np.random.default_rng(0).integers(0, 256, (33, 32, 32, 3)).astype(np.uint8))
    before = torch.get_num_threads()
    alone: list[np.ndarray] = []
    try:
        for threads in (3, 1, 2):
            torch.set_num_threads(threads)
            encoder = load_encoder(name)
            rows = encoder.encode(Modality.IMAGE, pixels)
            assert torch.get_num_threads() == threads
            alone = alone or [encoder.encode(Modality.IMAGE, [one])[0] for one in pixels]
            assert (rows * np.stack(alone)).sum(1).min() > 0.99999
            torch.set_num_threads(threads + 1)  # also what was set later
            encoder.encode(Modality.IMAGE, pixels)
            assert torch.get_num_threads() == threads + 1
            with ThreadPoolExecutor(1) as other:
                assert other.submit(torch.get_num_threads).result() == threads + 1
        with pytest.raises(DecodeError, match="must be uint8"):
            encoder.encode(Modality.IMAGE, [*pixels, np.zeros((3, 3, 3), np.uint8)])
    finally:
        torch.set_num_threads(before)


def test_what_has_no_tower_cannot_be_added(tmp_path: Path, samples: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    index = mmsearch.index([samples / "photos"], tmp_path / "ix", space=name)
    sound = next((samples / "sounds").glob("*.ogg"))
    with pytest.raises(SpaceUnavailable, match="has no tower for audio"):
        index.add([sound])


def test_a_text_as_people_type_it_finds_itself(tmp_path: Path) -> None:
    text = "ＦＵＬＬ width — “curly quotes” don’t, it’s ﬁne &amp; good"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(text, encoding="utf-8")
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    index = mmsearch.index([tmp_path / "texts"], tmp_path / "ix", space=name)
    hit = next(iter(index.search(text)))
    assert hit.score > 0.999


def test_passages_of_prose_fit_the_text_tower(tmp_path: Path, samples: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    where = ("--index", tmp_path / "ix", "--space", name, "--json")
    rc, out, err = cli("index", samples / "texts", *where)
    assert rc == 0, err
    assert json.loads(out)["cut"] == 0
    assert "longer than the space reads" not in err
    (tmp_path / "urls").mkdir()
    (tmp_path / "urls" / "a.txt").write_text("https://a.b/c?d=e&f=%20#g " * 50)
    rc, out, err = cli("index", tmp_path / "urls", *where)
    assert json.loads(out)["cut"] == 0
    # letters that its byte pairs hardly know: more tokens than passages are cut for
    (tmp_path / "urls" / "a.txt").write_text("שלום עולם, מה שלום כולם היום. " * 50, "utf-8")
    rc, out, err = cli("index", tmp_path / "urls", *where)
    cut = json.loads(out)["cut"]
    assert cut > 0
    assert f"passages longer than the space reads: {cut} (" in err
    assert len(err.strip().splitlines()) == 1, err


def test_eval_names_what_it_cannot_ask_with_for_want_of_the_model(
    tmp_path: Path, samples: Path
) -> None:
    model = tiny_clip(tmp_path / "clip")
    photos = sorted((samples / "photos").glob("*.jpg"))[:3]
    name, where = f"openclip:local-dir:{model}", tmp_path / "ix"
    mmsearch.index(photos[:2], where, space=name)
    model.rename(tmp_path / "gone")
    rows = [{"image": str(photo), "en": f"a picture, {i}"} for i, photo in enumerate(photos)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rc, out, err = cli("eval", pairs, "--index", where, "--json")
    assert rc == 0, err
    body = json.loads(out)
    assert [d["queries"] for d in body["directions"]] == [2, 2]
    (note,) = [note for note in body["notes"] if "left out" in note]
    assert note.startswith(
        f"left out: {pairs}:3: image: {photos[2]} is not in the index and cannot"
    )
    assert f"{model} is no folder: openclip:local-dir:FOLDER names a model's." in note
    rc, out, err = cli("eval", pairs, "--index", where, "--strict")
    assert rc == 2
    assert str(photos[2]) in err
    assert len(err.strip().splitlines()) == 1, err


def test_a_model_that_was_half_fetched_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def cached(repository: str) -> Path:
        own = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (own / "refs").mkdir(parents=True)
        (own / "refs" / "main").write_text("a" * 40)
        (own / "snapshots").mkdir()
        return own / "snapshots" / ("a" * 40)

    name, other = "openclip:hf-hub:nobody/clip", "openclip:ViT-B-16-SigLIP/webli"
    files = tiny_clip(cached("nobody/clip"))
    assert missing_for(name) is None
    assert load_encoder(name).space.name == name
    (files / "open_clip_model.safetensors").unlink()
    assert f"mmsearch spaces pull {name}" in str(missing_for(name))
    weights = cached("timm/ViT-B-16-SigLIP")
    weights.mkdir()
    (weights / "open_clip_model.safetensors").write_bytes(b"")
    assert f"mmsearch spaces pull {other}" in str(missing_for(other))  # its tokenizer is not here
    (weights / "tokenizer.json").write_text("{}")
    assert missing_for(other) is None


def test_ctrl_c_while_fetching_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmsearch.spaces.openclip.can_fetch", lambda *_: True)
    monkeypatch.setattr(open_clip, "create_model", stopped)
    name = "openclip:ViT-B-32/laion2b_s34b_b79k"
    rc, out, err = cli("spaces", "pull", name)
    assert (rc, out) == (130, "")
    (line,) = err.strip().splitlines()
    assert (
        line == f"mmsearch: stopped before all of {name} was here; run the same command to go on."
    )


def test_a_librarys_error_is_cut_between_words() -> None:
    long = reason(ValueError("what it lacks: " + "layer.weight, " * 60))
    assert long.endswith("layer.weight, …")
    assert len(long) <= 300
    assert reason(KeyError("text_cfg")) == "'text_cfg' is missing."
    assert reason(ValueError("Is it there?")) == "Is it there?"
    assert reason(ValueError("It is not.\nMore of it.")) == "It is not."
    assert reason(ValueError("Failed:\n  it is not")) == "Failed: it is not."
    assert reason(RuntimeError()) == "RuntimeError."


def test_several_devices_give_the_vectors_of_one(tmp_path: Path, samples: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    one = mmsearch.index([samples / "photos"], tmp_path / "one", space=name, device="cpu")
    two = mmsearch.index(
        [samples / "photos"], tmp_path / "two", space=name, device="cpu,cpu", batch_size=3
    )
    wanted = {hit.id: hit.score for hit in one.search("a dog", k=100)}
    found = {hit.id: hit.score for hit in two.search("a dog", k=100)}
    assert wanted.keys() == found.keys()
    assert all(abs(wanted[key] - found[key]) < 1e-4 for key in wanted)
    with pytest.raises(UsageError, match="no GPU"):
        load_encoder(name, Placement(device="all"))
    with pytest.raises(UsageError, match="tpu"):
        load_encoder(name, Placement(device="cpu,tpu"))


@pytest.mark.campaign  # compiling takes half a minute
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_towers_give_the_same_vectors(tmp_path: Path, samples: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    plain, fast = load_encoder(name), load_encoder(name, Placement(compile=True))
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (5, 32, 32, 3), np.uint8))
    for some in (pictures, pictures[:2]):
        both = [one.encode(Modality.IMAGE, some) for one in (plain, fast)]
        assert (both[0] * both[1]).sum(1).min() > 0.9999
    both = [one.encode(Modality.TEXT, TEXTS) for one in (plain, fast)]
    assert (both[0] * both[1]).sum(1).min() > 0.9999
    with pytest.raises(UsageError, match="--compile"):
        load_encoder("mini", Placement(compile=True))
