"""Models that are worth knowing, with what is published of them, and which suits a machine.

Any other that a family's library knows can be named as well. The figures are text → picture
on MSCOCO's 5,000 test photos, as open_clip publishes them
(https://github.com/mlfoundations/open_clip, docs/openclip_retrieval_results.csv). For CLAP's
models, whose cards have none of that kind, there are no figures; licences and sizes are those of
their cards and configurations (https://huggingface.co/laion). ``laion/larger_clap_music`` is
left out on purpose: it finds no better than chance. Facts of EmbeddingGemma 2 are its model
card's (https://ai.google.dev/gemma/docs/embeddinggemma/model_card_2).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from mmsearch.types import Modality

SOURCE = "open_clip, docs/openclip_retrieval_results.csv: MSCOCO, text to picture"
_PICTURES = (Modality.IMAGE, Modality.TEXT)
_ALL = (Modality.IMAGE, Modality.TEXT, Modality.AUDIO)
_SOUNDS = (Modality.TEXT, Modality.AUDIO)


@dataclass(frozen=True)
class Known:
    """A model by its space's name.

    parameters: in millions; in fp32 four bytes each. recall_at_1, recall_at_5: of ``SOURCE``,
    in percent; None where it has none. languages: what its texts may be in.
    """

    name: str
    dimension: int
    parameters: float
    licence: str
    recall_at_1: float | None = None
    recall_at_5: float | None = None
    languages: str = "English"
    modalities: tuple[Modality, ...] = _PICTURES

    @property
    def megabytes(self) -> float:
        """Of weights in fp32."""
        return self.parameters * 4


MANY = "about a hundred"
CATALOGUE = (
    Known("openclip:ViT-B-32/laion2b_s34b_b79k", 512, 151.28, "MIT", 39.3, 65.4),
    Known("openclip:ViT-B-32-256/datacomp_s34b_b86k", 512, 151.29, "MIT", 39.9, 65.4),
    Known("openclip:ViT-B-16/datacomp_xl_s13b_b90k", 512, 149.62, "MIT", 40.2, 66.0),
    Known("openclip:ViT-B-16-SigLIP/webli", 768, 203.16, "Apache-2.0", 47.8, 72.4),
    Known("openclip:ViT-B-16-SigLIP-i18n-256/webli", 768, 370.63, "Apache-2.0", 44.9, 69.5, MANY),
    Known("openclip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", 512, 366.12, "MIT", 37.8, 63.4,
          MANY),
    Known("openclip:ViT-L-14/datacomp_xl_s13b_b90k", 768, 427.62, "MIT", 45.7, 70.0),
    Known("openclip:ViT-L-16-SigLIP-256/webli", 1024, 652.15, "Apache-2.0", 52.3, 75.8),
    Known("openclip:ViT-SO400M-14-SigLIP-384/webli", 1152, 877.96, "Apache-2.0", 54.2, 76.8),
    Known("openclip:ViT-H-14/laion2b_s32b_b79k", 1024, 986.11, "MIT", 49.5, 73.4),
    Known("gemma:google/embeddinggemma-2", 768, 740, "Apache-2.0", languages=MANY, modalities=_ALL),
    Known("clap:laion/clap-htsat-unfused", 512, 153.49, "Apache-2.0", modalities=_SOUNDS),
    Known("clap:laion/clap-htsat-fused", 512, 153.51, "Apache-2.0", modalities=_SOUNDS),
    Known("clap:laion/larger_clap_general", 512, 193.91, "Apache-2.0", modalities=_SOUNDS),
)  # fmt: skip


def languages_of(name: str) -> str:
    """What texts of a space may be in, by its name; empty where nothing is published of it."""
    found = (known.languages for known in CATALOGUE if known.name == name.partition("@")[0])
    return next(found, "")


def recommended() -> tuple[str, str]:
    """The space that suits this machine, and why."""
    if find_spec("torch") is None or find_spec("open_clip") is None:
        return "mini", "it needs no PyTorch, which is not installed here"
    import torch

    if not torch.cuda.is_available():
        return (
            "mini",
            "there is no GPU here; openclip:ViT-B-32/laion2b_s34b_b79k runs on a CPU, too",
        )
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
    name = "openclip:ViT-B-16-SigLIP/webli"
    if gigabytes >= 10:
        name = "openclip:ViT-SO400M-14-SigLIP-384/webli"
    return name, f"the GPU here has {gigabytes:.0f} GB"
