"""Training: losses, gradients, resuming, the spaces that come out.

Needs the extra ``torch`` (`make test-train`); without it everything here is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("open_clip", "peft", "onnx", "safetensors"):
    pytest.importorskip(needed)

import mmsearch
from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.evaluation import evaluate
from mmsearch.train import train
from mmsearch.train.losses import Contrast
from mmsearch.train.onnx_torch import Net
from mmsearch.train.pairs import read_pairs
from mmsearch.train.recipe import read_recipe
from mmsearch.train.split import held_out, read
from tiny_clip import tiny_clip
from tiny_space import write_pairs, write_recipe, write_space


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_space(tmp_path / "space")
    write_pairs(tmp_path)
    return tmp_path


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    found = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(found, dim=1)


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


def tiny_loop(work: Path, chunk: int = 64, share: float = 0.3):
    from mmsearch.train import run
    from mmsearch.train.inputs import Frozen, Reader
    from mmsearch.train.loop import Loop
    from mmsearch.train.processes import Processes
    from mmsearch.train.start import Start

    layers = "[image]\nlayers = 2\ndropout = 0.0\n[text]\nlayers = 1\ndropout = 0.0\n"
    path = write_recipe(work, layers, chunk=chunk)
    path.write_text(path.read_text().replace("share = 0.3", f"share = {share}"))
    recipe = read_recipe(path)
    found = read(recipe, lambda _: None)
    start = Start(recipe)
    towers = run._towers(start, found.things)
    frozen = Frozen(towers, Reader(start.preprocess), work / "f", "", 1, lambda _: None)
    data = run._data(frozen, found, towers, 1)
    return Loop(recipe, towers, data, Processes("cpu", 1))


def test_captions_of_one_picture_are_no_negatives(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they stand in one row, in several, or with a sound in another."""
    write_pairs(work, sounds=True)
    rows = [
        {"image": "pale_red.png", "en": "pale red"},
        {"image": "./pale_red.png", "en": "red square"},
        {"image": "dark_blue.png", "en": "dark blue"},
        {"image": "pale_red.png", "audio": "pale_red.wav", "en": "a pale red square"},
    ]
    (work / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    seen: list[torch.Tensor] = []
    whole = Contrast.forward

    def forward(self, a, b, same):
        seen.append(same)
        return whole(self, a, b, same)

    monkeypatch.setattr(Contrast, "forward", forward)
    loop = tiny_loop(work, share=0.0)
    assert len(loop.data.sources[0][0]) == 3
    loop.advance()
    wanted = [[True, False, True], [False, True, False], [True, False, True]]
    assert seen[0].tolist() == wanted


def test_a_tower_that_gives_one_vector_for_everything_finds_nothing() -> None:
    from mmsearch.train.loop import recall

    right = torch.eye(20, dtype=torch.bool)
    assert recall(torch.ones(20, 20), right) == [0.0, 0.0, 0.0]
    assert recall(torch.full((20, 20), float("nan")), right) == [0.0, 0.0, 0.0]
    assert recall(torch.ones(20, 20), torch.ones(20, 20, dtype=torch.bool)) == [100.0] * 3
    assert recall(torch.eye(20), right) == [100.0] * 3


def test_a_run_that_diverges_is_an_error_before_any_checkpoint(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Contrast.forward

    def forward(self, a, b, same):
        return whole(self, a, b, same) * float("nan")

    monkeypatch.setattr(Contrast, "forward", forward)
    with pytest.raises(UsageError, match="step 1: the loss is nan: the training has diverged"):
        train(write_recipe(work, steps=4, checkpoint_s=1e-9))
    assert not (work / "out").exists()
    assert not list((work / "out.work").glob("checkpoint*"))


def test_a_space_that_is_not_what_was_trained_is_not_written(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmsearch.train.towers import Tower

    train(write_recipe(work, steps=1, views=1))
    before = (work / "out" / "card.json").read_bytes()
    whole = Tower.export

    def export(self, path):
        with torch.no_grad():
            for weight in self.head.parameters():
                weight.fill_(float("nan"))
        whole(self, path)

    monkeypatch.setattr(Tower, "export", export)
    with pytest.raises(UsageError, match="vectors that are not finite, so nothing was written"):
        train(write_recipe(work, steps=1), fresh=True)
    assert (work / "out" / "card.json").read_bytes() == before
    assert not list(work.glob(".out*"))


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
    things = read_pairs(work / "pairs.jsonl")
    held = [t for t, out in zip(things, held_out(things, 0.3), strict=True) if out]
    vectors = mmsearch.load_space(report.out)
    base = vectors.encode_images([str(t.image) for t in held])
    queries = vectors.encode_document([text for t in held for text in t.texts["en"]])
    own = np.repeat(np.arange(len(held)), 2)
    scores = queries @ base.T
    rank = (scores > scores[np.arange(len(own)), own][:, None]).sum(1)
    exported = 100 * float((rank < 10).mean())
    assert exported == pytest.approx(report.after["text:en to image"][-1], abs=3)
    card = json.loads((report.out / "card.json").read_text())
    assert card["trained_from"]["start"] == "space"
    assert card["measured"]["held out"]["things"] == len(held)
    readme = (report.out / "README.md").read_text()
    assert "- pairs of pairs.jsonl: not stated" in readme
    assert f"| text:en to image | 10 | {report.before['text:en to image'][-1]:.1f}%" in readme
    assert "## What it must not be used for" in readme


def test_a_trained_space_tells_what_it_was_trained_on_and_so_does_one_trained_further(
    work: Path,
) -> None:
    report = train(write_recipe(work, steps=1))
    index = mmsearch.index(work, work / "ix", space=report.out)
    things = read_pairs(work / "pairs.jsonl")
    lines = (work / "pairs.jsonl").read_text("utf-8").splitlines()
    out = held_out(things, 0.3)
    for aside in (True, False):
        own = [line for line, held in zip(lines, out, strict=True) if held is aside]
        (work / "some.jsonl").write_text("\n".join(own), "utf-8")
        found = evaluate(index, work / "some.jsonl")
        assert found.seen_in_training == (0 if aside else len(own))
    assert evaluate(index, work / "pairs.jsonl").seen_in_training == out.count(False)
    (work / "some.jsonl").write_text(
        "\n".join(line for line, h in zip(lines, out, strict=True) if h)
    )
    text = (work / "recipe.toml").read_text().replace('"space"', '"out"', 1)
    text = text.replace('out = "out"', 'out = "further"').replace("pairs.jsonl", "some.jsonl")
    (work / "recipe.toml").write_text(text.replace("share = 0.3", "share = 0"))
    further = train(work / "recipe.toml")
    again = mmsearch.index(work, work / "iy", space=further.out)
    assert evaluate(again, work / "pairs.jsonl").seen_in_training == len(things)


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
    (work / "pale_red.png").write_bytes(b"not a picture")  # shifts no row
    taught = '[teacher]\nspace = "teacher"\nweight = 20.0\n[image]\nlayers = -1\nrate = 0.01\n'

    def likeness(out: Path) -> float:
        ours, theirs = (
            mmsearch.load_space(p).encode_images([str(t.image) for t in things[1:]])
            for p in (out, work / "teacher")
        )
        both = mmsearch.load_space(out), mmsearch.load_space(work / "teacher")
        texts = [t.texts["en"][0] for t in things[1:]]
        one, other = (
            ours @ both[0].encode_document(texts).T,
            theirs @ both[1].encode_document(texts).T,
        )
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


def out_at(work: Path, out: str, **keys: object) -> Path:
    recipe = write_recipe(work, steps=1, **keys)
    recipe.write_text(recipe.read_text().replace('out = "out"', f"out = {json.dumps(out)}"))
    return recipe


def test_nothing_of_the_users_is_replaced(work: Path) -> None:
    shutil.copytree(work / "space", work / "out")
    for name in ("out", "out.old", "out.part"):
        (work / name).mkdir(exist_ok=True)
        (work / name / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other things than a space \(thesis.txt\)"):
        train(write_recipe(work, steps=1))
    (work / "out" / "thesis.txt").unlink()
    train(write_recipe(work, steps=1))
    assert json.loads((work / "out" / "card.json").read_text())["name"] == "coloured"
    for name in ("out.old", "out.part"):
        assert (work / name / "thesis.txt").read_text() == "mine"
    assert not list(work.glob(".out*"))


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("/", "is no place for a space folder"),
        ("", "holds what is read"),
        ("..", "holds what is read"),
        ("space", "is the start"),
        ("link", "is the start"),
        ("data", "holds what is read"),
        ("broken", "is no space"),
        ("recipe.toml", "is a file"),
        ("recipe.toml/out", "cannot be written"),
    ],
)
def test_a_place_that_is_read_from_or_is_not_ours_is_refused(
    work: Path, out: str, why: str
) -> None:
    (work / "link").symlink_to("space")
    (work / "data").mkdir()
    shutil.copy(work / "pairs.jsonl", work / "data" / "held.jsonl")
    (work / "broken").mkdir()
    (work / "broken" / "card.json").write_text("{")
    recipe = out_at(work, out)
    recipe.write_text(recipe.read_text().replace("share = 0.3", 'path = "data/held.jsonl"'))
    before = sorted(work.rglob("*"))
    with pytest.raises(UsageError, match=why):
        train(recipe)
    assert sorted(work.rglob("*")) == before


def test_only_one_run_writes_a_place(work: Path) -> None:
    from mmsearch.train.place import held

    with held(work / "out", work / "out.work"), pytest.raises(UsageError, match="another process"):
        train(write_recipe(work, steps=1))


def test_what_is_held_out_is_not_trained_on_under_another_name(work: Path) -> None:
    rows = [json.loads(line) for line in (work / "pairs.jsonl").read_text().splitlines()]
    (work / "val").mkdir()
    held = [json.dumps({**row, "image": f"../{row['image']}"}) for row in rows[:20]]
    (work / "val" / "v.jsonl").write_text("\n".join(held))
    recipe = write_recipe(work)
    recipe.write_text(recipe.read_text().replace("share = 0.3", 'path = "val/v.jsonl"'))
    found = read(read_recipe(recipe), lambda _: None)
    assert (len(found.things), len(found.held), len(found.sources[0][0])) == (72, 20, 52)


def test_a_language_that_nothing_held_out_has_is_left_out_of_the_measure(work: Path) -> None:
    rows = [json.loads(line) for line in (work / "pairs.jsonl").read_text().splitlines()]
    things = read_pairs(work / "pairs.jsonl")
    first = held_out(things, 0.3).index(False)
    rows[first]["zh"] = "红"
    (work / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    report = train(write_recipe(work, steps=1))
    assert set(report.after) == {"image to text:en", "text:en to image"}


def test_a_run_that_stopped_early_stays_stopped(work: Path) -> None:
    stopped = train(write_recipe(work, steps=40, patience=1, evaluate_every=1, rate=1e-12))
    again = train(write_recipe(work, steps=40, patience=1, evaluate_every=1, rate=1e-12))
    assert stopped.steps < 40
    assert (again.steps, again.digest) == (stopped.steps, stopped.digest)


def test_what_was_skipped_is_still_known_on_a_second_run(work: Path) -> None:
    for name in ("pale_red.png", "dull_red.png"):
        (work / name).write_bytes(b"not a picture")
    first, lines = train(write_recipe(work, steps=1)), []
    again = train(write_recipe(work, steps=2), say=lines.append)
    assert len(first.skipped) == 2 and list(first.skipped) == sorted(first.skipped)
    assert again.skipped == first.skipped
    assert "the recipe or the pairs changed since the checkpoint: beginning anew" in lines


def test_without_anything_held_out_the_report_says_so(work: Path) -> None:
    recipe = write_recipe(work, steps=1)
    recipe.write_text(recipe.read_text().replace("share = 0.3", "share = 0.0"))
    assert train(recipe).notes == ("nothing is held out: recall was not measured.",)


def test_ctrl_c_keeps_the_step_that_was_reached(work: Path) -> None:
    recipe = write_recipe(work, steps=6, evaluate_every=1)

    def say(line: str) -> None:
        if line.startswith("step 2/"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="stopped at step 2 of 6"):
        train(recipe, say=say)
    lines: list[str] = []
    assert train(recipe, say=lines.append).steps == 6
    assert "going on from step 2" in lines


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
    alone = mmsearch.load_space(train(recipe, fresh=True).out).encode_document(texts)
    shutil.rmtree(work / "out.work")  # the features are made once, by the first
    subprocess.run(command, check=True, capture_output=True, env=plain)
    both = mmsearch.load_space(work / "out").encode_document(texts)
    assert float((alone * both).sum(1).min()) > 0.999


# -- graphs and open_clip


@pytest.mark.parametrize("layers", [0, 1, 2, -1])
@pytest.mark.parametrize("modality", ["image", "audio"])
def test_a_cut_graph_gives_the_vectors_of_the_whole(work: Path, modality: str, layers: int) -> None:
    from mmsearch.spaces.graphs import open_session

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


def test_a_side_of_open_clip_that_is_not_trained_runs_once(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmsearch.train.clip import ClipTower

    tiny_clip(work / "clip")
    recipe = write_recipe(work, steps=4)
    recipe.write_text(recipe.read_text().replace('"space"', '"openclip:local-dir:clip"'))
    inputs = []
    whole = ClipTower._encoded

    def encoded(self, x):
        inputs.append(len(x))
        return whole(self, x)

    monkeypatch.setattr(ClipTower, "_encoded", encoded)
    train(recipe)
    assert 72 + 144 <= sum(inputs) < 72 + 144 + 2 * 16 + 8  # then what is looked at, and exported


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
    assert float((torch.from_numpy(space.encode_document(texts)) * wanted).sum(1).min()) > 0.9999


def test_an_open_clip_model_that_is_not_there_is_named(work: Path) -> None:
    recipe = write_recipe(work)
    recipe.write_text(recipe.read_text().replace('"space"', '"openclip:ViT-B-33/none"'))
    with pytest.raises(SpaceUnavailable, match="openclip:ViT-B-33/none cannot be loaded"):
        train(recipe)
