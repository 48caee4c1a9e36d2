"""open_clip checkpoints with random weights, written by open_clip's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PREPROCESS = {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.26, 0.27]}


def tiny_clip(folder: Path, text: dict[str, Any] | None = None, **preprocess: Any) -> Path:
    """A folder as ``openclip:local-dir:`` takes it: two small transformers.

    text: more of the text side's configuration. preprocess: of the pictures'.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    model: dict[str, Any] = {
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
            **(text or {}),
        },
    }
    config = {"model_cfg": model, "preprocess_cfg": {**PREPROCESS, **preprocess}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in open_clip.CLIP(**model).state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder
