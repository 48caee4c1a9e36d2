"""Training: recipes and pairs that are wrong, losses, gradients, resuming, spaces that come out.

Needs the extra ``torch`` (`make test-train`); without it everything here is left out.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("open_clip", "peft", "onnx", "safetensors"):
    pytest.importorskip(needed)

import mmsearch
from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.train import train
from mmsearch.train.losses import Contrast
from mmsearch.train.onnx_torch import Net
from mmsearch.train.pairs import read_pairs
from mmsearch.train.recipe import read_recipe
from tiny_space import write_pairs, write_recipe, write_space


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_space(tmp_path / "space")
    write_pairs(tmp_path)
    return tmp_path


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    found = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(found, dim=1)


# -- what is asked


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        (("batch = 32", "batch = 1"), 14, "a batch of one"),
        (("batch = 32", 'batch = "many"'), 14, "batch is a whole number"),
        (("steps = 30", "stepz = 30"), 13, "there is no key 'stepz' here"),
        (("share = 0.3", "share = 1.5"), 10, "share is from 0 to below 0.9"),
        (('name = "coloured"\n', ""), 1, "the key 'name' is missing"),
        (("rate = 0.01", "rate = 0"), 15, "rate is above 0"),
        (("[train]", "[lora]\nrank = 4\n[train]"), 13, "adapters are for start = 'openclip:"),
    ],
)
def test_a_broken_recipe_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, why: str
) -> None:
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UsageError) as e:
        read_recipe(path)
    assert f"recipe.toml:{line}: " in str(e.value)
    assert why in str(e.value)


def test_a_recipe_that_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("name = 'a'\nout = \n")
    with pytest.raises(UsageError, match="line 2"):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"image": "red.png"', "not JSON"),
        ('["red.png"]', "an object was wanted"),
        ('{"image": "red.png"}', "a pair needs two of"),
        ('{"image": 3, "text": "red"}', "field 'image': a path was wanted, not 3"),
        ('{"image": "none.png", "text": "red"}', "field 'image': there is no file 'none.png'"),
        ('{"image": "red.png", "text": [1]}', "field 'text': a text or a list of texts"),
    ],
)
def test_a_broken_pair_is_refused_with_its_line(tmp_path: Path, row: str, why: str) -> None:
    (tmp_path / "red.png").write_bytes(b"")
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"image": "red.png", "text": "red"}\n\n' + row + "\n")
    with pytest.raises(UsageError) as e:
        read_pairs(path)
    assert f"pairs.jsonl:3: {why}" in str(e.value)


def test_jsonl_parquet_and_tar_say_the_same(work: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    rows = [json.loads(line) for line in (work / "pairs.jsonl").read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), work / "rows.parquet")
    with tarfile.open(work / "pairs.tar", "w") as tar:
        for row in rows:
            stem = Path(row["image"]).stem
            (work / f"{stem}.json").write_text(json.dumps({"en": row["en"]}))
            tar.add(work / row["image"], row["image"])
            tar.add(work / f"{stem}.json", f"{stem}.json")
    jsonl, parquet, tar = (
        read_pairs(work / name) for name in ("pairs.jsonl", "rows.parquet", "pairs.tar")
    )
    said = [(t.key, t.texts) for t in jsonl]
    assert [(t.key, t.texts) for t in parquet] == said
    assert [(t.key, t.texts) for t in tar] == said
    # a tar of the same name is where a JSONL file's pictures are looked for first
    assert jsonl[0].image == (work / "pairs.tar", rows[0]["image"])


# -- losses and gradients


def test_infonce_is_open_clips_where_nothing_is_there_twice() -> None:
    from open_clip.loss import ClipLoss

    a, b, loss = unit(7, 5, 0), unit(7, 5, 1), Contrast("infonce", 12.0, 0.0)
    wanted = ClipLoss()(a, b, torch.tensor(12.0))
    assert torch.allclose(loss(a, b, torch.eye(7, dtype=torch.bool)), wanted, atol=1e-6)


def test_the_sigmoid_loss_is_open_clips_where_nothing_is_there_twice() -> None:
    from open_clip.loss import SigLipLoss

    a, b, loss = unit(7, 5, 0), unit(7, 5, 1), Contrast("sigmoid", 12.0, 0.0)
    wanted = SigLipLoss()(a, b, torch.tensor(12.0), torch.tensor(-10.0))
    assert torch.allclose(loss(a, b, torch.eye(7, dtype=torch.bool)), wanted, atol=1e-5)


def test_an_equal_caption_is_no_negative() -> None:
    a, b = unit(4, 5, 0), unit(4, 5, 1)
    twice = torch.eye(4, dtype=torch.bool)
    twice[0, 1] = twice[1, 0] = True
    logits = (20 * a @ b.T).numpy().astype(np.float64)
    share = twice.numpy() / twice.numpy().sum(1, keepdims=True)

    def one_way(x: np.ndarray) -> float:
        log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
        return float(-(share * log_p).sum(1).mean())

    found = Contrast("infonce", 20.0, 0.0)(a, b, twice).detach()
    assert float(found) == pytest.approx((one_way(logits) + one_way(logits.T)) / 2, rel=1e-5)
    sign = np.where(twice.numpy(), 1.0, -1.0)
    wanted = np.log1p(np.exp(-sign * (logits - 10))).sum() / 4
    found = Contrast("sigmoid", 20.0, 0.0)(a, b, twice).detach()
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def weights_after(work: Path, **keys: object) -> dict[str, bytes]:
    report = train(write_recipe(work, **keys), fresh=True)
    return {p.name: p.read_bytes() for p in report.out.iterdir() if p.suffix == ".onnx"}


def test_gradient_caching_changes_no_gradient(work: Path) -> None:
    from mmsearch.train.loop import Loop
    from mmsearch.train.processes import Processes

    def gradients(chunk: int) -> list[torch.Tensor]:
        loop = tiny_loop(work, chunk)
        assert isinstance(loop, Loop) and isinstance(loop.processes, Processes)
        loop.advance()
        return [w.grad.clone() for w in loop.weights if w.grad is not None]

    whole, cached = gradients(64), gradients(5)
    assert len(whole) == len(cached) > 4
    for one, other in zip(whole, cached, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def tiny_loop(work: Path, chunk: int):
    from mmsearch.train import run
    from mmsearch.train.inputs import Frozen, Reader
    from mmsearch.train.loop import Loop
    from mmsearch.train.processes import Processes
    from mmsearch.train.start import Start

    layers = "[image]\nlayers = 2\ndropout = 0.0\n[text]\nlayers = 1\ndropout = 0.0\n"
    recipe = read_recipe(write_recipe(work, layers, chunk=chunk))
    things, sources, held = run._read(recipe, lambda _: None)
    start = Start(recipe)
    towers = run._towers(start, things)
    frozen = Frozen(towers, Reader(start.preprocess), work / "f", "", 1, lambda _: None)
    data = run._data(frozen, things, sources, held, towers, 1)
    return Loop(recipe, towers, data, Processes("cpu", 1))


# -- whole runs


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_training_finds_held_out_things_better(work: Path, loss: str) -> None:
    layers = "[image]\nlayers = -1\nrate = 0.01\n[text]\nlayers = 2\nrate = 0.01\n"
    report = train(write_recipe(work, layers, steps=80, loss=loss))
    gain = [report.after[name][-1] - report.before[name][-1] for name in report.after]
    assert len(gain) == 2 and min(gain) > 10
    assert report.held > 5 and report.steps == 80


def test_a_trained_space_indexes_and_answers_as_it_was_measured(work: Path) -> None:
    layers = "[image]\nlayers = 2\nrate = 0.01\n[text]\nlayers = 2\nrate = 0.01\n"
    report = train(write_recipe(work, layers, steps=80))
    index = mmsearch.index(work, work / "ix", space=report.out)
    assert index.space.name == "coloured"
    from mmsearch.train.pairs import held_out

    held = [t for t in read_pairs(work / "pairs.jsonl") if held_out(t, 0.3)]
    vectors = mmsearch.load_space(report.out)
    base = vectors.encode_images([str(t.image) for t in held])
    queries = vectors.encode_texts([text for t in held for text in t.texts["en"]])
    own = np.repeat(np.arange(len(held)), 2)
    scores = queries @ base.T
    rank = (scores > scores[np.arange(len(own)), own][:, None]).sum(1)
    exported = 100 * float((rank < 10).mean())
    assert exported == pytest.approx(report.after["text:en to image"][-1], abs=3)
    card = json.loads((report.out / "card.json").read_text())
    assert card["trained_from"]["start"] == "space"
    assert card["measured"]["held out"]["things"] == len(held)


def test_three_modalities_are_trained_at_once(work: Path) -> None:
    write_pairs(work, sounds=True)
    report = train(write_recipe(work, "[audio]\nlayers = 1\n", steps=10))
    assert set(report.after) == {
        "image to audio",
        "audio to image",
        "image to text:en",
        "text:en to image",
        "audio to text:en",
        "text:en to audio",
    }
    assert {p.name for p in report.out.iterdir()} >= {"image.onnx", "text.onnx", "audio.onnx"}


def test_a_run_that_was_killed_ends_with_the_same_weights(work: Path, tmp_path: Path) -> None:
    whole = weights_after(work, steps=60, checkpoint_s=0.001)
    (work / "recipe.toml").write_text(
        (work / "recipe.toml").read_text().replace('"out"', '"again"'), "utf-8"
    )
    command = [sys.executable, "-m", "mmsearch", "train", str(work / "recipe.toml")]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("step 20/"):
            os.kill(run.pid, signal.SIGKILL)
            break
    run.wait()
    run.stderr.close()
    assert not (work / "again").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    at = re.search(r"going on from step (\d+)", again.stderr)
    assert at is not None and 0 < int(at[1]) < 60
    assert {p: (work / "again" / p).read_bytes() for p in whole} == whole


def test_a_teacher_is_followed(work: Path) -> None:
    write_space(work / "teacher", seed=9)
    taught = '[teacher]\nspace = "teacher"\nweight = 20.0\n[image]\nlayers = -1\nrate = 0.01\n'

    def likeness(out: Path) -> float:
        ours, theirs = (
            mmsearch.load_space(p).encode_images([str(t.image) for t in things])
            for p in (out, work / "teacher")
        )
        both = mmsearch.load_space(out), mmsearch.load_space(work / "teacher")
        texts = [t.texts["en"][0] for t in things]
        one, other = ours @ both[0].encode_texts(texts).T, theirs @ both[1].encode_texts(texts).T
        return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    things = read_pairs(work / "pairs.jsonl")
    alone = likeness(train(write_recipe(work, steps=60), fresh=True).out)
    followed = likeness(train(write_recipe(work, taught, steps=60), fresh=True).out)
    assert followed > alone + 0.2


def test_a_picture_that_cannot_be_read_is_named_and_left_out(work: Path) -> None:
    (work / "pale_red.png").write_bytes(b"not a picture")
    report = train(write_recipe(work, steps=2))
    assert len(report.skipped) == 1
    assert "pairs.jsonl:1:" in report.skipped[0]


def test_nothing_of_the_users_is_replaced(work: Path) -> None:
    (work / "out").mkdir()
    (work / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other things than a space"):
        train(write_recipe(work))
    assert (work / "out" / "thesis.txt").read_text() == "mine"


def test_a_recipe_that_trains_nothing_is_refused(work: Path) -> None:
    nothing = '[image]\nhead = "none"\n[text]\nhead = "none"\n'
    with pytest.raises(UsageError, match="trains nothing"):
        train(write_recipe(work, nothing))


def test_two_processes_give_what_one_gives(work: Path) -> None:
    texts = ["pale red", "dark blue"]
    recipe = write_recipe(work)
    code = f"from mmsearch.train import train; train({str(recipe)!r}, fresh=True)"
    script = work / "both.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(script)]
    plain = {**os.environ, "OMP_NUM_THREADS": "1"}
    # heads without dropout, so that chance is the same in both
    recipe.write_text(recipe.read_text() + "[image]\ndropout = 0.0\n[text]\ndropout = 0.0\n")
    alone = mmsearch.load_space(train(recipe, fresh=True).out).encode_texts(texts)
    subprocess.run(command, check=True, capture_output=True, env=plain)
    both = mmsearch.load_space(work / "out").encode_texts(texts)
    assert float((alone * both).sum(1).min()) > 0.999


# -- graphs and open_clip


@pytest.mark.parametrize("layers", [0, 1, 2, -1])
@pytest.mark.parametrize("modality", ["image", "audio"])
def test_a_cut_graph_gives_the_vectors_of_the_whole(work: Path, modality: str, layers: int) -> None:
    from mmsearch.spaces.folder import open_session

    path = work / "space" / f"{modality}.onnx"
    net, rng = Net(path, layers), np.random.default_rng(0)
    x = (
        rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
        if modality == "image"
        else rng.standard_normal((1, 4000)).astype(np.float32)
    )
    found = net([torch.from_numpy(v) for v in net.before()(x)]).detach().numpy()
    wanted = open_session(path).run(["vector"], {"x": x})[0]
    assert np.allclose(found, wanted, atol=1e-5)


def tiny_clip(folder: Path) -> Path:
    """A checkpoint with random weights, written by open_clip's own classes."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    model = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 64,
            "patch_size": 8,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    mean_std = {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.26, 0.27]}
    config = {"model_cfg": model, "preprocess_cfg": mean_std}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in open_clip.CLIP(**model).state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def test_adapters_of_an_open_clip_model_are_trained_exported_and_asked(work: Path) -> None:
    tiny_clip(work / "clip")
    more = '[lora]\nrank = 4\n[image]\nhead = "none"\n[text]\nhead = "none"\n'
    recipe = write_recipe(work, more, steps=40)
    recipe.write_text(recipe.read_text().replace('"space"', '"openclip:local-dir:clip"'))
    report = train(recipe)
    assert report.after["text:en to image"][-1] > report.before["text:en to image"][-1]
    index = mmsearch.index(work, work / "ix", space=report.out)
    hits = index.search("a dark blue square", to="image", k=3)
    assert len(hits) == 3 and index.space.modalities == ("image", "text")


def test_an_exported_clip_gives_open_clips_vectors(work: Path) -> None:
    import open_clip

    folder = tiny_clip(work / "clip")
    recipe = write_recipe(work, "", steps=1, rate=1e-12)
    recipe.write_text(recipe.read_text().replace('"space"', '"openclip:local-dir:clip"'))
    space = mmsearch.load_space(train(recipe).out)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    texts = ["a dark blue square!", "it's 2 cats", "word " * 200]
    with torch.no_grad():
        wanted = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), True)
    assert float((torch.from_numpy(space.encode_texts(texts)) * wanted).sum(1).min()) > 0.9999


def test_an_open_clip_model_that_is_not_there_is_named(work: Path) -> None:
    recipe = write_recipe(work)
    recipe.write_text(recipe.read_text().replace('"space"', '"openclip:ViT-B-33/none"'))
    with pytest.raises(SpaceUnavailable, match="openclip:ViT-B-33/none cannot be loaded"):
        train(recipe)
