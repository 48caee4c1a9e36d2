"""Captions of pictures, by an open_clip CoCa model (Yu et al. 2022, "CoCa: Contrastive Captioners
are Image-Text Foundation Models").

The likeliest word follows each word (greedy search), so that a picture has the same caption
whatever else is in its batch. open_clip's own ``generate`` also knows beam search, which needs a
part of transformers that version 5 no longer has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.spaces import ANYWHERE, Placement
from mmsearch.spaces.naming import OPENCLIP as PREFIX
from mmsearch.spaces.on_torch import imported
from mmsearch.spaces.openclip import OpenClip
from mmsearch.types import Modality

MOST_TOKENS, LEAST_TOKENS = 30, 5  # of a caption, marks included: as open_clip's generate
FIT = "coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k"


class Captioner(OpenClip):
    """Writes what is on pictures. Safe to call from several threads.

    name: of an open_clip CoCa model, as a space is named. Raises UsageError for a model that
    writes nothing, and what ``OpenClip`` raises.
    """

    def __init__(self, name: str, placement: Placement = ANYWHERE) -> None:
        if not name.startswith(PREFIX):
            raise UsageError(f"captions are written by CoCa models, such as {PREFIX}{FIT}.")
        super().__init__(name, placement)
        if not hasattr(self.model, "text_decoder"):
            raise UsageError(f"{name} writes no captions: CoCa models do, such as {PREFIX}{FIT}.")
        own = self.tokenizer
        if not (hasattr(own, "sot_token_id") and hasattr(own, "decode")):
            raise SpaceUnavailable(f"{name} has a tokenizer that captions cannot be read with.")
        self._start, self._end = int(own.sot_token_id), int(own.eot_token_id)

    def captions(self, pictures: Sequence[NDArray[Any]]) -> list[str]:
        """One caption a picture. pictures: uint8 (px, px, 3) RGB each, as for ``encode``."""
        size = self.batch_sizes[Modality.IMAGE]
        out = []
        for at in range(0, len(pictures), size):
            out += self._some(pictures[at : at + size])
        return out

    def tokens_of(self, pixels: Any) -> Any:
        """int64 (n, at most MOST_TOKENS): from the start mark on; the end mark ends a caption.

        pixels: uint8 tensor (n, px, px, 3) on the device.
        """
        torch = imported("torch")
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        ids = torch.full((len(x), 1), self._start, dtype=torch.long, device=x.device)
        ended = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        with torch.inference_mode(), self.precision():
            seen = self.model(x)
            latent, embs = seen["image_features"], seen["image_embs"]
            while ids.shape[1] < MOST_TOKENS and not bool(ended.all()):
                found = self.model(None, ids, latent, embs, output_labels=False)
                logits = found["logits"][:, -1].float()
                if ids.shape[1] < LEAST_TOKENS:
                    logits[:, self._end] = -torch.inf
                following = logits.argmax(dim=-1)
                following[ended] = self._end
                ended |= following == self._end
                ids = torch.cat([ids, following[:, None]], dim=1)
        return ids

    def _some(self, pictures: Sequence[NDArray[Any]]) -> list[str]:
        ids = self.tokens_of(self._stacked(pictures).to(self.device)).tolist()
        texts = []
        for row in ids:
            row = row[1 : row.index(self._end)] if self._end in row else row[1:]
            texts.append(" ".join(self.tokenizer.decode(row).split()))
        return texts
