"""Spaces of EmbeddingGemma 2: answered to sentence-transformers, called as its documentation does.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageOps
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
sentence_transformers = pytest.importorskip("sentence_transformers")
transformers = pytest.importorskip("transformers", minversion="5.19")

import mmsearch
from mmsearch.cli.app import app
from mmsearch.errors import DecodeError, LimitExceeded, SpaceUnavailable, UsageError
from mmsearch.media import audio_windows, image_array
from mmsearch.spaces import Placement, load_encoder
from mmsearch.types import Modality
from tiny_gemma import MARKS, PROMPTS, WIDTH, change, tiny_gemma

RATE_HZ = 16_000
TEXTS = [
    "a dog on a beach",
    "the sound of rain " * 60,
    "x",
    "",
    "狗在海滩上",
    "Ünï ❄️\n\tcode",
    "<bos>",
]
# smaller and larger than what they are made into, and ribbons
SIZES = [(77, 131), (640, 480), (96, 96), (1, 1), (1, 300), (300, 2), (1000, 37), (2001, 1499)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gemma(tmp_path_factory.mktemp("model") / "gemma")


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may change."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def theirs(folder: Path, **more: Any) -> Any:
    return sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", model_kwargs={"dtype": torch.float32}, **more
    )


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coarse and fine noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 25 + 2, width // 25 + 2, 3), np.uint8)
    fine = rng.integers(0, 20, (height, width, 3), np.uint8)
    blown = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray((blown * 0.9).astype(np.uint8) + fine)


def sound(seconds: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """A few gliding tones and noise, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(np.sin(2 * np.pi * f * t * (1 + 0.1 * t)) for f in rng.uniform(100, 4000, 5))
    out = tones + rng.standard_normal(len(t))
    return (0.9 * out / np.abs(out).max()).astype(np.float32)


def heard(samples: np.ndarray) -> dict[str, Any]:
    return {"array": samples, "sampling_rate": RATE_HZ}


def cosines(a: np.ndarray, b: np.ndarray) -> float:
    """The least cosine between rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def test_vectors_are_the_librarys_own(folder: Path) -> None:
    model, space = theirs(folder), mmsearch.load_space(f"gemma:{folder}")
    assert space.space.modalities == (Modality.IMAGE, Modality.TEXT, Modality.AUDIO)
    assert space.space.dimension == WIDTH
    for i, (width, height) in enumerate(SIZES):
        one = picture(width, height, i)
        assert cosines(model.encode([one]), space.encode_images([one])) > 0.99999, one.size
    for seconds in (0.2, 0.9, 1, 3.3, 9.99, 10):
        samples = sound(seconds)
        found = space.encode_audio([(samples, RATE_HZ)])
        assert cosines(model.encode([heard(samples)]), found) > 0.99999, seconds
    for text in TEXTS:
        stored, asked = space.encode_document([text]), space.encode_query([text])
        assert cosines(model.encode_document([text]), stored) > 0.99999, text
        assert cosines(model.encode_query([text]), asked) > 0.99999, text


def test_different_inputs_have_different_vectors(folder: Path) -> None:
    space = mmsearch.load_space(f"gemma:{folder}")
    pictures = space.encode_images([picture(300, 200, seed) for seed in range(4)])
    sounds = space.encode_audio([(sound(2, seed=seed), RATE_HZ) for seed in range(4)])
    texts = space.encode_document(["a dog", "a cat", "rain", "the sound of rain on a beach"])
    rows = np.concatenate([pictures, sounds, texts])
    assert (rows @ rows.T)[np.triu_indices(len(rows), 1)].max() < 0.995


@pytest.mark.parametrize("seconds", [0.2, 4.0, 25.0, 60.0])
def test_a_long_sound_is_the_mean_of_the_librarys_windows(
    folder: Path, tmp_path: Path, seconds: float
) -> None:
    model, path = theirs(folder), tmp_path / "sound.wav"
    soundfile.write(path, sound(seconds, 44_100), 44_100)
    space = mmsearch.load_space(f"gemma:{folder}")
    windows = [samples for samples, _, _ in audio_windows(path, space.space.preprocess)]
    assert len(windows) == -(-seconds // 10)
    mean = sum(model.encode([heard(one)]) for one in windows)
    assert cosines(mean, space.encode_audio([path])) > 0.99999


def test_pixels_are_the_librarys_but_for_their_last_bits(folder: Path) -> None:
    preprocess = load_encoder(f"gemma:{folder}").space.preprocess
    front, (px, sub) = theirs(folder).processor.image_processor, (preprocess.image_px, 4)
    for i, size in enumerate(SIZES):
        one = picture(*size, i)
        ours = image_array(one, preprocess)
        height, width = ours.shape[:2]
        found = front(one, return_tensors="np")
        assert int(found["num_soft_tokens_per_image"][0]) * px * px == height * width, size
        patches = found["pixel_values"][0][: height * width // sub**2] * 255
        grid = patches.reshape(height // sub, width // sub, sub, sub, 3)
        wanted = grid.transpose(0, 2, 1, 3, 4).reshape(height, width, 3)
        off = np.abs(wanted - ours)
        assert off.max() < 2.5, size
        assert off.mean() < 0.35, size


def test_a_photo_file_is_as_the_library_sees_it(folder: Path, samples: Path) -> None:
    model, space = theirs(folder), mmsearch.load_space(f"gemma:{folder}")
    paths = sorted((samples / "photos").glob("*.jpg"))
    # mmsearch turns photos upright and brings colours into sRGB; the library does neither
    paths = [path for path in paths if not Image.open(path).info.get("icc_profile")]
    opened = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths]
    assert len(paths) >= 30
    assert cosines(model.encode(opened), space.encode_images(paths)) > 0.99999


def test_a_vector_is_the_same_in_any_batch_and_every_time(folder: Path) -> None:
    encoder = load_encoder(f"gemma:{folder}", Placement(batch_size=5))
    images = [np.asarray(picture(*size)) for size in ((84, 108), (12, 840), (96, 96), (840, 12))]
    sounds = [sound(seconds, seed=i) for i, seconds in enumerate((10, 0.3, 5, 10, 2, 0.2))]
    every: list[tuple[Modality, list[Any]]] = [
        (Modality.IMAGE, [*images, *images]),
        (Modality.AUDIO, sounds),
        (Modality.TEXT, TEXTS * 3),
    ]
    for modality, data in every:
        singly = np.concatenate([encoder.encode(modality, [one]) for one in data])
        for size in (1, 2, 3, len(data)):
            sized = load_encoder(f"gemma:{folder}", Placement(batch_size=size))
            assert cosines(sized.encode(modality, data), singly) > 0.99999, (modality, size)
        assert np.array_equal(encoder.encode(modality, data), encoder.encode(modality, data))
        assert encoder.encode(modality, []).shape == (0, WIDTH)


def test_several_threads_get_the_same_vectors(folder: Path) -> None:
    encoder = load_encoder(f"gemma:{folder}")
    wanted = encoder.encode(Modality.TEXT, TEXTS)
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(encoder.encode(Modality.TEXT, TEXTS)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(np.array_equal(one, wanted) for one in found)


def test_a_text_is_never_taken_for_a_picture(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(30, 30).save("photo.png")
    space, model = mmsearch.load_space(f"gemma:{folder}"), theirs(folder)
    texts = ["photo.png", "https://localhost:1/photo.jpg", "data:image/png;base64,x"]
    wanted = model.encode_document([{"text": text} for text in texts])
    assert cosines(space.encode_document(texts), wanted) > 0.99999
    # what the library refuses: there is no picture in it
    marked = ["a picture: <|image|>", "<|audio|><|video|>" + "".join(MARKS.values())]
    assert np.isfinite(space.encode_document([*marked, "lone \udce4"])).all()
    parted = space.encode_document(["a picture: < |image|>"])
    assert cosines(space.encode_document(marked[:1]), parted) > 0.99999


def test_what_no_pipeline_makes_is_refused(folder: Path) -> None:
    encoder = load_encoder(f"gemma:{folder}")
    for shape in ((13, 12, 3), (12, 12), (12, 12, 4), (0, 12, 3), (12 * 8, 12 * 9, 3)):
        with pytest.raises(DecodeError, match="at most 70 squares of 12 × 12"):
            encoder.encode(Modality.IMAGE, [np.zeros(shape, np.uint8)])
    with pytest.raises(DecodeError, match="float32"):
        encoder.encode(Modality.AUDIO, [np.zeros(9, np.int16)])
    with pytest.raises(LimitExceeded, match="longer than one window"):
        encoder.encode(Modality.AUDIO, [np.zeros(10 * RATE_HZ + 1, np.float32)])
    odd = [np.full(RATE_HZ, np.nan, np.float32), np.zeros(1, np.float32), np.zeros(200, np.float32)]
    assert np.isfinite(encoder.encode(Modality.AUDIO, odd)).all()


def test_the_prompts_are_the_checkpoints_and_part_of_the_space(own: Path) -> None:
    before = mmsearch.load_space(f"gemma:{own}")
    change(own / "config_sentence_transformers.json", prompts=PROMPTS | {"query": "ask: "})
    after = mmsearch.load_space(f"gemma:{own}")
    assert after.space.fingerprint != before.space.fingerprint
    assert np.array_equal(after.encode_document(TEXTS), before.encode_document(TEXTS))
    model = theirs(own)
    assert cosines(after.encode_query(TEXTS), model.encode_query(TEXTS)) > 0.99999
    assert cosines(after.encode_query(TEXTS), before.encode_query(TEXTS)) < 0.9999
    change(own / "config_sentence_transformers.json", prompts={}, default_prompt_name=None)
    bare = mmsearch.load_space(f"gemma:{own}")
    assert np.array_equal(bare.encode_document(TEXTS), bare.encode_query(TEXTS))
    assert cosines(bare.encode_document(TEXTS), theirs(own).encode(TEXTS)) > 0.99999
    change(own / "config_sentence_transformers.json", prompts={"a": "b: "}, default_prompt_name="a")
    usual, model = mmsearch.load_space(f"gemma:{own}"), theirs(own)
    assert cosines(usual.encode_query(TEXTS), model.encode_query(TEXTS)) > 0.99999
    one = picture(50, 60)
    assert cosines(usual.encode_images([one]), model.encode([one])) > 0.99999
    assert len({one.space.fingerprint for one in (before, after, bare, usual)}) == 4


def test_a_smaller_dimension_is_the_start_of_the_vector_at_unit_length(folder: Path) -> None:
    whole, part = (mmsearch.load_space(f"gemma:{folder}{more}") for more in ("", "@8"))
    assert part.space.dimension == 8
    assert part.space.fingerprint != whole.space.fingerprint
    model = theirs(folder, truncate_dim=8)
    for find, data in (
        ("encode_document", TEXTS),
        ("encode_images", [picture(100, 70)]),
        ("encode_audio", [(sound(1), RATE_HZ)]),
    ):
        rows, of = (getattr(space, find)(data) for space in (part, whole))
        assert rows.shape == (len(data), 8)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        cut = of[:, :8]
        assert np.allclose(rows, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    own = model.encode_query(TEXTS, normalize_embeddings=True)
    assert cosines(part.encode_query(TEXTS), own) > 0.99999


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gemma:{}@0", "1 to 24 numbers, not 0"),
        ("gemma:{}@25", "1 to 24 numbers, not 25"),
        ("gemma:{}@half", "how many numbers a vector has"),
        ("gemma:{}@", "how many numbers a vector has"),
        ("gemma:{}@-8", "how many numbers a vector has"),
    ],
)
def test_a_dimension_that_cannot_be_is_said(folder: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_encoder(name.format(folder))


def test_a_moved_checkpoint_is_the_same_space(folder: Path, own: Path) -> None:
    one, other = (load_encoder(f"gemma:{place}@16").space for place in (folder, own))
    assert one.name != other.name
    assert one.fingerprint == other.fingerprint


def test_a_folder_may_have_an_at_sign_in_its_name(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "gemma@8")
    assert load_encoder(f"gemma:{place}").space.dimension == WIDTH
    assert load_encoder(f"gemma:{place}@8").space.dimension == 8


def test_fp16_is_refused_and_bf16_is_near(folder: Path) -> None:
    with pytest.raises(UsageError, match="fp16: its numbers exceed what fp16 holds"):
        load_encoder(f"gemma:{folder}", Placement(dtype="fp16"))
    whole, half = (load_encoder(f"gemma:{folder}", Placement("cpu", d)) for d in ("fp32", "bf16"))
    assert half.space.fingerprint == whole.space.fingerprint
    data: list[tuple[Modality, Any]] = [
        (Modality.IMAGE, np.asarray(picture(96, 96))),
        (Modality.AUDIO, sound(3)),
        (Modality.TEXT, "a dog on a beach"),
    ]
    for modality, one in data:
        rows = [encoder.encode(modality, [one]) for encoder in (whole, half)]
        assert 0.98 < cosines(*rows) < 0.9999999, modality


def test_what_a_text_has_beyond_the_most_tokens_is_counted(tmp_path: Path) -> None:
    place = tiny_gemma(tmp_path / "short", longest=24)
    encoder, model = load_encoder(f"gemma:{place}"), theirs(place)
    texts = ["a dog", "the sound of rain on a beach " * 20]
    tokens = model.tokenizer([PROMPTS["document"] + text for text in texts]).input_ids
    assert len(tokens[0]) <= 24
    assert encoder.truncated(texts) == [0, len(tokens[1]) - 24]
    assert cosines(encoder.encode(Modality.TEXT, texts), model.encode_document(texts)) > 0.99999


def test_texts_alone_are_a_space_too(own: Path) -> None:
    change(own / "config.json", vision_config=None, audio_config=None)
    encoder = load_encoder(f"gemma:{own}")
    assert encoder.space.modalities == (Modality.TEXT,)
    assert (
        cosines(encoder.encode(Modality.TEXT, TEXTS), theirs(own).encode_document(TEXTS)) > 0.9999
    )
    with pytest.raises(SpaceUnavailable, match="no tower for image; it has: text"):
        encoder.encode(Modality.IMAGE, [np.zeros((12, 12, 3), np.uint8)])


def test_everything_is_indexed_and_asked_from_all_sides(
    folder: Path, tmp_path: Path, samples: Path
) -> None:
    name, where = f"gemma:{folder}@16", ("--index", tmp_path / "ix")
    folders = [samples / one for one in ("photos", "sounds", "texts")]
    rc, out, err = cli("index", *folders, *where, "--space", name, "--json")
    assert rc == 0, err
    report = json.loads(out)
    assert report["skipped"] == 0
    assert report["indexed"] > 20
    rc, out, err = cli("index", *folders, *where, "--json")
    assert rc == 0, err
    assert json.loads(out)["indexed"] == 0  # nothing is encoded again
    space, index = mmsearch.load_space(name), mmsearch.open(tmp_path / "ix")
    asked = "a dog on a beach"
    vector = space.encode_query([asked])[0]
    rc, out, err = cli("query", asked, *where, "--json", "-k", 5)
    assert rc == 0, err
    by_cli = [hit["id"] for hit in json.loads(out)["hits"]]
    assert by_cli == [hit.id for hit in index.search(vector=vector, k=5)]
    assert by_cli == [hit.id for hit in next(iter(index.search_batch([asked], k=5)))]
    stored = space.encode_document([asked])[0]
    assert float(vector @ stored) < 0.9999
    files = {
        "image": sorted((samples / "photos").glob("*.jpg"))[0],
        "audio": sorted(p for p in (samples / "sounds").iterdir() if p.suffix != ".md")[0],
    }
    for modality, path in files.items():
        rc, out, err = cli("query", f"--{modality}", path, *where, "--to", modality, "--json")
        assert rc == 0, err
        assert json.loads(out)["hits"][0]["path"] == str(path)
        assert json.loads(out)["hits"][0]["score"] > 0.999
        rc, out, err = cli("query", f"--{modality}", path, *where, "--to", "text", "--json")
        assert rc == 0, err
        assert {hit["modality"] for hit in json.loads(out)["hits"]} == {"text"}


def test_evaluation_asks_with_one_prompt_and_finds_with_the_other(
    folder: Path, tmp_path: Path, samples: Path
) -> None:
    photos = sorted((samples / "photos").glob("*.jpg"))
    rows = [{"image": str(p), "en": p.stem.replace("_", " ")} for p in photos]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    name = f"gemma:{folder}"
    mmsearch.index(photos, tmp_path / "ix", space=name)
    rc, out, err = cli("eval", pairs, "--index", tmp_path / "ix", "--json")
    assert rc == 0, err
    found = {(d["query"], d["target"]): d["measures"] for d in json.loads(out)["directions"]}
    space = mmsearch.load_space(name)
    pictures = space.encode_images([str(p) for p in photos]).astype(np.float16).astype(np.float32)
    captions = [row["en"] for row in rows]

    def mrr(queries: np.ndarray, targets: np.ndarray) -> float:
        scores = queries @ targets.T
        return float(np.mean([1 / int((row >= row[i]).sum()) for i, row in enumerate(scores)]))

    stored, asked = space.encode_document(captions), space.encode_query(captions)
    assert mrr(pictures, stored) != mrr(pictures, asked)
    assert mrr(asked, pictures) != mrr(stored, pictures)
    assert found["image", "en"]["mrr"]["value"] == pytest.approx(mrr(pictures, stored), abs=1e-6)
    assert found["en", "image"]["mrr"]["value"] == pytest.approx(mrr(asked, pictures), abs=1e-6)
