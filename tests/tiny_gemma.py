"""EmbeddingGemma 2 checkpoints with random weights, written by the libraries' own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROMPTS = {"query": "task: search result | query: ", "document": "title: none | text: "}
MARKS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}
# What is said first, then what is shown, in its order, without any turns.
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{ part['text'] }}"
    "{%- elif part['type'] == 'image' -%}<|image|>"
    "{%- elif part['type'] == 'audio' -%}<|audio|>"
    "{%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}"
)
WIDTH = 24  # of a vector


def tiny_gemma(folder: Path, longest: int | None = None, pieces: int = 0) -> Path:
    """A folder as ``gemma:`` takes it: pictures of at most 70 cells of 12 × 12, 16 kHz.

    longest: the most tokens that it reads; as many as there are if left out. pieces: how many
    it knows, at least: each has 128 bytes of weights.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import EmbeddingGemma2Config, EmbeddingGemma2Model

    torch.manual_seed(0)
    processor = _processor(longest)
    ids = processor.tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": max(pieces, len(processor.tokenizer)),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "global_head_dim": 16,
        "sliding_window": 8,
        "sliding_window_pattern": 3,
        "hidden_size_per_layer_input": 8,
        "embedding_dim": WIDTH,
    }
    vision = {
        "model_type": "gemma4_vision",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "patch_size": 4,
        "pooling_kernel_size": 3,
        "position_embedding_size": 256,
    }
    audio = {
        "model_type": "gemma4_audio",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "subsampling_conv_channels": [128, 4],
        "output_proj_dims": 24,
    }
    config = EmbeddingGemma2Config(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        video_token_id=ids("<|video|>"),
        eoa_token_index=ids(MARKS["eoa_token"]),
        **{f"{name}_id": ids(mark) for name, mark in MARKS.items() if name != "eoa_token"},
    )
    model = EmbeddingGemma2Model(config).eval()
    with torch.no_grad():  # as trained ones have them: else all vectors are nearly the same
        for name, parameter in model.named_parameters():
            if "position_embedding" in name:
                parameter.normal_(0, 0.3)
            elif "patch_embedder" in name:  # two ways of resizing differ in pixels' last bits
                parameter.mul_(0.3)
            elif parameter.ndim > 1 and "vision" not in name:
                parameter.mul_(4)
    work = folder.with_name(folder.name + "-parts")
    model.save_pretrained(work)
    processor.save_pretrained(work)
    made = SentenceTransformer(
        modules=[Transformer(str(work)), Pooling(WIDTH, "mean"), Normalize()],
        prompts=PROMPTS,
        device="cpu",
    )
    made.save_pretrained(str(folder), create_model_card=False)
    return folder


def change(path: Path, **values: object) -> None:
    """Other values in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def _processor(longest: int | None) -> Any:
    from tokenizers import Tokenizer, models, processors, trainers
    from transformers import (
        EmbeddingGemma2Processor,
        EmbeddingGemma2VideoProcessor,
        Gemma4AudioFeatureExtractor,
        Gemma4ImageProcessor,
        GemmaTokenizer,
    )

    usual = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=usual, max_token_length=5, show_progress=False
    )
    texts = ["a▁dog▁on▁a▁beach", "the▁sound▁of▁rain", "title:▁none▁|▁text:▁search▁result"]
    pieces.train_from_iterator(texts, trainer)
    found = json.loads(pieces.to_str())["model"]
    vocab = dict(found["vocab"])
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    more = {} if longest is None else {"model_max_length": longest}
    tokenizer = GemmaTokenizer(
        vocab=vocab, merges=[tuple(pair) for pair in found["merges"]], **MARKS, **more
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS.values())})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<bos> $A <eos>",
        "<bos> $A <eos> $B",
        [("<bos>", vocab["<bos>"]), ("<eos>", vocab["<eos>"])],
    )
    sizes = {"patch_size": 4, "max_soft_tokens": 70, "pooling_kernel_size": 3}
    return EmbeddingGemma2Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=EmbeddingGemma2VideoProcessor(**sizes),
        chat_template=TEMPLATE,
    )
