"""open_clip models as towers: trained whole, in part or by adapters, and written as ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody reads

from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces.portable import text_side, write_onnx
from mmsearch.train import recipe as asked
from mmsearch.train.towers import Head
from mmsearch.types import Modality, Preprocess

Rows = list[NDArray[Any]]
CHUNK = 64  # inputs that go through a side at a time where it is not trained


class ClipModel:
    """A model through open_clip's own loader, with adapters where the recipe asks for them.

    name: what follows ``openclip:``, MODEL/PRETRAINED or open_clip's ``local-dir:PATH``.
    Pictures are squashed to the model's square, as everywhere in mmsearch.
    Raises SpaceUnavailable where it cannot be loaded.
    """

    def __init__(self, name: str, lora: asked.Lora, folder: Path) -> None:
        import open_clip

        try:
            if name.startswith("local-dir:"):
                place = (folder / name.removeprefix("local-dir:")).absolute()
                model, tag = f"local-dir:{place}", None
            else:
                model, _, tag = name.partition("/")
            self.model: Any = open_clip.create_model(model, pretrained=tag or None)
            self.tokenizer: Any = open_clip.get_tokenizer(model)
        except Exception as e:  # open_clip raises many kinds: RuntimeError, KeyError, OSError
            reason = (str(e).splitlines() or [type(e).__name__])[0][:300]
            raise SpaceUnavailable(f"openclip:{name} cannot be loaded: {reason}") from None
        self.mean, self.std = self.model.visual.image_mean, self.model.visual.image_std
        size = self.model.visual.image_size
        self.px = int(size if isinstance(size, int) else size[0])
        self.dimension = int(self.model(None, self.tokens(["a"]))[1].shape[1])
        self.model.requires_grad_(False)
        if lora.rank:
            self._adapt(lora)

    def digest(self) -> str:
        """SHA-256 (hex) over the weights as they were loaded."""
        found = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            if "lora_" not in name:  # adapters begin at random
                found.update(name.replace(".base_layer", "").encode())
                found.update(
                    value.detach()
                    .cpu()
                    .reshape(-1)
                    .contiguous()
                    .view(torch.uint8)
                    .numpy()
                    .tobytes()
                )
        return found.hexdigest()

    def _adapt(self, lora: asked.Lora) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets),
        )
        try:
            self.model = inject_adapter_in_model(config, self.model)
        except ValueError as e:
            raise SpaceUnavailable(f"[lora] targets fit nothing in this model: {e}") from None

    def merged(self) -> Any:
        """The model with its adapters added into the weights they adapt."""
        from peft.tuners.lora import LoraLayer

        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                module.merge()
        return self.model

    def unmerged(self) -> None:
        """Takes the adapters out of the weights again."""
        from peft.tuners.lora import LoraLayer

        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                module.unmerge()

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """int64 (n, context length)."""
        found: Tensor = self.tokenizer(list(texts))
        return found

    @property
    def preprocess(self) -> Preprocess:
        """What mmsearch's decoders make for this model."""
        return Preprocess(image_px=self.px, sample_rate_hz=16_000, window_s=10.0)


class ClipTower(nn.Module):
    """One side of an open_clip model, with a head."""

    def __init__(self, clip: ClipModel, modality: Modality, what: asked.Tower) -> None:
        super().__init__()
        self.modality, self.what, self._clip = modality, what, [clip]  # not a submodule twice
        self.head = Head(what.head, clip.dimension, what.hidden, what.dropout, what.noise)
        self.side = clip.model.visual if modality == Modality.IMAGE else text_side(clip.model)
        mean = torch.tensor(clip.mean).view(1, 3, 1, 1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", torch.tensor(clip.std).view(1, 3, 1, 1), persistent=False)
        self._layers: list[list[nn.Parameter]] = []
        layers = [[p for p in m.parameters(False)] for m in self.side.modules()]
        layers = [own for own in layers if own and not any(p.requires_grad for p in own)]
        count = len(layers) if what.layers < 0 else what.layers
        for own in reversed(layers[len(layers) - count :]):
            for parameter in own:
                parameter.requires_grad_()
            self._layers.append(own)
        self._whole = any(p.requires_grad for p in self.side.parameters())

    def train(self, mode: bool = True) -> ClipTower:
        """As in torch, but the statistics of batch norms stay those of the start."""
        super().train(mode)
        for module in self.side.modules():
            if not self._whole or isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False
        return self

    @property
    def cut(self) -> str:
        """What is kept of an input: the input itself, or the vector of a side that stays."""
        return "inputs" if self._whole else "vectors"

    @property
    def still(self) -> bool:
        """Whether nothing of it is trained."""
        return not any(p.requires_grad for p in self.parameters())

    def prepare(self, inputs: Sequence[Any], threads: int) -> Rows:
        """Pictures uint8 (n, px, px, 3), texts int64 (n, context length); of a side that is
        not trained its unit rows float32 (n, d)."""
        x = (
            torch.from_numpy(np.stack(list(inputs)))
            if self.modality == Modality.IMAGE
            else self._clip[0].tokens(inputs)
        )
        if self._whole:
            return [x.numpy()]
        self.eval()
        with torch.no_grad():
            parts = [x[i : i + CHUNK].to(self.mean.device) for i in range(0, len(x), CHUNK)]
            chunks = [self._encoded(part).cpu() for part in parts]
        return [torch.cat(chunks).numpy()]

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        """What ``prepare`` gives, as tensors, to unit rows (b, d)."""
        return self.head(self._encoded(rows[0]) if self._whole else rows[0])

    def _encoded(self, x: Tensor) -> Tensor:
        if self.modality == Modality.IMAGE:
            x = (x.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return F.normalize(self.side(x), dim=1)

    def from_inputs(self, x: Tensor) -> Tensor:
        """Pictures or tokens to unit rows (b, d), whatever is kept of them."""
        found: Tensor = self.head(self._encoded(x))
        return found

    def groups(self, rate: float, decay: float) -> Iterator[dict[str, Any]]:
        """Parameters with their rates: the head's and the adapters', then the layers'."""
        listed = {id(p) for own in self._layers for p in own}
        free = [p for p in self.parameters() if p.requires_grad and id(p) not in listed]
        if free:
            yield {"params": free, "lr": rate, "weight_decay": decay}
        own_rate = self.what.rate
        for own in self._layers:
            yield {"params": own, "lr": own_rate, "weight_decay": decay}
            own_rate *= self.what.layer_decay

    def export(self, path: Path) -> None:
        """The tower as ONNX: uint8 (1, px, px, 3) or int64 (1, context length) to a unit row."""
        clip = self._clip[0]
        clip.merged()
        one = (
            torch.zeros((1, clip.px, clip.px, 3), dtype=torch.uint8)
            if self.modality == Modality.IMAGE
            else clip.tokens(["a"])
        )
        training = self.training
        self.eval()
        write_onnx(_Plain(self).eval(), one, path)
        self.train(training)
        clip.unmerged()


class _Plain(nn.Module):
    def __init__(self, tower: ClipTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.tower.from_inputs(x)
        return found
