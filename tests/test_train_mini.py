"""The trainer of ``mini``, on random weights in the shapes of the published ones: what is
exported says what was trained, and what is cached says what the whole tower says.

Needs the extra ``torch`` (`make test-train`); without it everything here is left out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("onnx", "safetensors"):
    pytest.importorskip(needed)

from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces.graphs import open_session
from mmsearch.train.mini import data, export, pictures, trained, use
from mmsearch.train.mini.features import numbered, repeated
from mmsearch.train.mini.heads import PictureHead, contrast
from mmsearch.train.mini.towers import BLOCKS, DEPTH, EfficientNetLite
from mmsearch.train.onnx_torch import Net

PIECES = 60  # of the small vocabulary
CHANNELS = (8, 8, 16, 16, 24, 24, 32)  # of the seven stages of a small Lite


def published(rng: np.random.Generator) -> dict[str, Any]:
    """Arrays in the shapes of the Universal Sentence Encoder's, of PIECES pieces."""
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (PIECES, 512), "ln_g": (1280,), "ln_b": (1280,), "cnn_W": (1280, 512),
        "cnn_b": (512,), "d0": (512, 320), "d1": (320, 320), "p1": (512, 320),
        "d2": (320, 512), "p3": (320, 512), "d3": (512, 512),
    }  # fmt: skip
    for n, _ in use.ORDERS:
        shapes |= {f"proj{n}": (512, 256)} | {
            f"{one}{n}": (256,) for one in ("proj_b", "ln_g", "ln_b", "b1_", "b2_")
        }
        shapes |= {f"w1_{n}": (n * 256, 256), f"w2_{n}": (n * 256, 256)}
    made = {
        name: (rng.standard_normal(shape) / math.sqrt(shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }
    return {**made, "eps": np.array(1e-6)}


@pytest.fixture
def tower(monkeypatch: pytest.MonkeyPatch) -> use.SentenceEncoder:
    """A text tower that has learned something: what starts at nothing is random too."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(use, "published_weights", lambda: published(rng))
    torch.manual_seed(0)
    made = use.SentenceEncoder(range(PIECES))
    for layer in (made.outer, made.bag_out):
        torch.nn.init.normal_(layer.weight, std=0.05)
    made.centre.normal_(std=0.01)
    return made.eval()


def random_lite(path: Path, lite: int) -> EfficientNetLite:
    """An EfficientNet-Lite of random weights, read from a file as the published ones are."""
    torch.manual_seed(1)
    state: dict[str, Any] = {}

    def conv(name: str, norm: str, out: int, into: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(out, into, kernel, kernel) * 0.9 / kernel / into**0.5
        state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.ones(out), 0.1 * torch.randn(out)
        state[f"{norm}.running_mean"], state[f"{norm}.running_var"] = (
            torch.zeros(out),
            torch.ones(out),
        )

    conv("_conv_stem", "_bn0", 8, 3, 3)
    number, width = 0, 8
    for stage, ((repeats, kernel, _, expansion), out) in enumerate(
        zip(BLOCKS, CHANNELS, strict=True)
    ):
        ends = stage in (0, len(BLOCKS) - 1)
        for _ in range(repeats if ends else math.ceil(repeats * DEPTH[lite])):
            at, inner = f"_blocks.{number}.", width * expansion
            if expansion > 1:
                conv(at + "_expand_conv", at + "_bn0", inner, width, 1)
            conv(at + "_depthwise_conv", at + "_bn1", inner, 1, kernel)
            conv(at + "_project_conv", at + "_bn2", out, inner, 1)
            number, width = number + 1, out
    conv("_conv_head", "_bn1", 1280, width, 1)
    state["_fc.weight"], state["_fc.bias"] = torch.randn(1000, 1280) * 0.1, torch.zeros(1000)
    torch.save(state, path)
    return EfficientNetLite(lite, path)


def random_head(lite: EfficientNetLite) -> PictureHead:
    """A head over a tower's features and 1,000 class names."""
    width = sum(lite.widths) + 512
    classes = torch.nn.functional.normalize(torch.randn(1000, 512), dim=1)
    head = PictureHead(torch.zeros(width), torch.ones(width), classes, 64, 0.5, 0.3)
    head.centre.normal_(std=0.01)
    return head.eval()


def cosine(a: Any, b: Any) -> float:
    a, b = np.ravel(a), np.ravel(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_exported_text_tower_says_what_the_trained_one_says(
    tower: use.SentenceEncoder, tmp_path: Path
) -> None:
    tower.forget_unseen(torch.arange(40))
    export.write_text(tmp_path / "text.onnx", tower)
    session = open_session(tmp_path / "text.onnx")
    for ids in ([1, 5, 2], [1, 7, 55, 9, 2], [1, *range(3, 59), 2]):  # 55 was never seen
        found = session.run(["vector"], {"x": np.array([ids], np.int64)})[0][0]
        with torch.inference_mode():
            assert cosine(found, tower(torch.tensor([ids]))[0].numpy()) > 0.999


def test_what_is_cached_of_texts_says_what_the_whole_tower_says(
    tower: use.SentenceEncoder,
) -> None:
    texts = [[1, 5, 2], [1, 7, 8, 9, 30, 2], [1, 3, 2]]
    with torch.inference_mode():
        whole = torch.cat([tower(torch.tensor([ids])) for ids in texts])
        found = use.finished(tower, torch.from_numpy(use.pooled(tower, texts)))
    assert torch.allclose(found, whole, atol=1e-5)


def test_padding_and_unknown_pieces_say_nothing_in_the_bag(tower: use.SentenceEncoder) -> None:
    short, long = torch.tensor([[1, 5, 2]]), torch.tensor([[1, 5, 2, 0, 0, 0, 0]])
    assert torch.equal(tower.bagged(short), tower.bagged(long))
    tower.forget_unseen(torch.tensor([0, 1, 2, 5]))
    assert not tower.bag.weight[7].any()
    assert tower.bag.weight[5].any()


@pytest.mark.parametrize("number", [0, 2])
def test_the_exported_picture_tower_says_what_the_trained_one_says(
    number: int, tmp_path: Path
) -> None:
    lite = random_lite(tmp_path / "lite.pth", number)
    head = random_head(lite)
    export.write_middle(tmp_path / "middle.onnx", lite)
    export.write_image(tmp_path / "image.onnx", lite, head)
    px = data.PICTURE_PX
    picture = np.random.default_rng(2).integers(0, 256, (1, px, px, 3), np.uint8)
    middle = open_session(tmp_path / "middle.onnx").run(None, {"x": picture})[0]
    assert middle.shape == (1, sum(lite.middle))
    with torch.inference_mode():
        found, _ = lite.end(torch.from_numpy(middle))
        vector = pictures.Namer(lite, head.classes).vectors(head, found)[0].numpy()
    exported = open_session(tmp_path / "image.onnx").run(["vector"], {"x": picture})[0][0]
    assert cosine(exported, vector) > 0.999


def test_the_end_leaves_blocks_out_of_some_pictures_only_while_it_is_trained(
    tmp_path: Path,
) -> None:
    lite = random_lite(tmp_path / "lite.pth", 0)
    rows = torch.randn(1, sum(lite.middle)).repeat(64, 1)
    with torch.inference_mode():
        measured, _ = lite.end(rows)
        trained_on, _ = lite.train().end(rows)
    assert torch.allclose(measured, measured[:1].expand_as(measured), atol=1e-5)
    assert len({tuple(row.tolist()) for row in trained_on}) > 4


def test_trained_towers_come_back_from_their_file_as_they_were(
    tower: use.SentenceEncoder, tmp_path: Path
) -> None:
    lite = random_lite(tmp_path / "lite.pth", 0)
    width = sum(lite.widths) + 512
    head = PictureHead(
        torch.zeros(width), torch.ones(width), torch.randn(1000, 512), pictures.HIDDEN, 0.5, 0.3
    )
    trained.save(tmp_path / "trained.safetensors", head, tower, lite)
    before = tower(torch.tensor([[1, 5, 2]]))
    with torch.no_grad():
        tower.bag.weight.zero_()
        lite.fc.weight.zero_()
    again = trained.load(tmp_path / "trained.safetensors", tower, lite)
    assert torch.equal(tower(torch.tensor([[1, 5, 2]])), before)
    assert lite.fc.weight.any()
    assert torch.equal(again.straight.weight, head.straight.weight)


def test_seenthat_say_the_same_are_not_held_against_each_other() -> None:
    captions = numbered(repeated([["A cat", "cat"], ["a cat"], ["dog"]], 2))
    assert captions.tolist() == [[0, 1], [0, 0], [2, 2]]
    seen, texts = torch.eye(3), torch.eye(3)[[1, 0, 2]]  # the first two fit crosswise
    apart = contrast(seen, texts, torch.tensor(20.0))
    together = contrast(seen, texts, torch.tensor(20.0), np.array([0, 0, 1]))
    assert float(together) < float(apart) - 5


def test_weights_beside_a_graph_are_read_under_whatever_names_they_have(
    tower: use.SentenceEncoder, tmp_path: Path
) -> None:
    export.write_text(tmp_path / "text.onnx", tower)
    (tmp_path / "kept.bin").hardlink_to(tmp_path / "text.bin")  # as an index keeps its space
    net = Net(tmp_path / "text.onnx", 1)
    assert net.model.graph.initializer[0].data_location == 0
    with (tmp_path / "text.bin").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(SpaceUnavailable, match="cut short"):
        Net(tmp_path / "text.onnx", 1)


def test_weights_from_another_folder_are_refused(
    tower: use.SentenceEncoder, tmp_path: Path
) -> None:
    space = tmp_path / "space"
    space.mkdir()
    export.write_text(space / "text.onnx", tower)
    (space / "text.bin").rename(tmp_path / "text.bin")
    graph = (space / "text.onnx").read_bytes()
    (space / "text.onnx").write_bytes(graph.replace(b"text.bin", b"../t.bin"))
    with pytest.raises(SpaceUnavailable, match="not a file beside it"):
        Net(space / "text.onnx", 1)
