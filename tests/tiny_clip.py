"""open_clip checkpoints with random weights, written by open_clip's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PREPROCESS = {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.26, 0.27]}


def tiny_clip(folder: Path, siglip: bool = False, timm: bool = False, **preprocess: Any) -> Path:
    """A folder as ``openclip:local-dir:`` takes it: two small transformers.

    siglip: with a text side and tokenizer of SigLIP's kind. timm: with a tower for pictures of
    timm, pooled by attention as SigLIP's is. preprocess: of the pictures.
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
        },
    }
    if timm:
        model["vision_cfg"] = {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "",
        }
    made = open_clip.CLIP
    if siglip:
        model |= {"custom_text": True, "init_logit_bias": -10}
        model["text_cfg"] |= {
            "context_length": 16,
            "vocab_size": 400,
            "hf_tokenizer_name": "beside",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        }
        _sentence_pieces().save_pretrained(folder)
        made = open_clip.CustomTextCLIP
    config = {"model_cfg": model, "preprocess_cfg": {**PREPROCESS, **preprocess}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    built = made(**{k: v for k, v in model.items() if k != "custom_text"})
    state = {k: v.contiguous() for k, v in built.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def _sentence_pieces() -> Any:
    """A tokenizer as SigLIP has one: unigrams of pieces, an end mark, padded with it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.Unigram())
    pieces.normalizer = normalizers.NFKC()
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", "</s>"], unk_token="<unk>"
    )
    texts = ["a dog runs on a beach", "two cats look alike", "snow in july", "don't they"] * 5
    pieces.train_from_iterator([*texts, "abcdefghijklmnopqrstuvwxyz 0123456789"], trainer)
    pieces.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )


def tiny_coca(folder: Path) -> Path:
    """The same of CoCa's kind, which also writes captions."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    words: dict[str, Any] = {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2,
                             "layers": 2}  # fmt: skip
    pooled = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    seen = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
    model = {
        "embed_dim": 32,
        "vision_cfg": seen | pooled,
        "text_cfg": words | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": words | {"attn_pooler_heads": 2},
    }
    torch.manual_seed(0)
    made = open_clip.CoCa(**model)
    with torch.no_grad():  # so that captions differ from picture to picture
        for parameter in made.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    state = {k: v.contiguous() for k, v in made.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    config = {"model_cfg": model | {"custom_text": True}, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
