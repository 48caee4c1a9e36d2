"""The trained towers of pictures and texts in the cache, so that sounds and files can be made anew
without training them again. A safetensors file; delete it to train again."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmsearch.train.mini.heads import PictureHead
from mmsearch.train.mini.pictures import DROPOUT, HIDDEN, NOISE
from mmsearch.train.mini.towers import EfficientNetLite
from mmsearch.train.mini.use import SentenceEncoder


def save(path: Path, head: PictureHead, tower: SentenceEncoder, lite: EfficientNetLite) -> None:
    """Writes the three, whole."""
    part = path.with_suffix(".part")
    parts: dict[str, nn.Module] = {"head": head, "tower": tower, "lite": lite}
    weights = {
        f"{name}.{key}": value.contiguous()
        for name, module in parts.items()
        for key, value in module.state_dict().items()
    }
    save_file(weights, part)
    part.replace(path)


def load(path: Path, tower: SentenceEncoder, lite: EfficientNetLite) -> PictureHead:
    """Reads ``tower`` and ``lite`` in place, and gives the head."""
    weights: dict[str, Tensor] = load_file(path)

    def of(name: str) -> dict[str, Tensor]:
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}

    found = of("head")
    head = PictureHead(found["mean"], found["deviation"], found["classes"], HIDDEN, DROPOUT, NOISE)
    for module, name in ((head, "head"), (tower, "tower"), (lite, "lite")):
        module.load_state_dict(of(name))
        module.eval()
    return head
