"""CLAP checkpoints with random weights, written by transformers' own classes."""

from __future__ import annotations

from pathlib import Path


def tiny_clap(folder: Path, fusion: bool = False, pickled: bool = False) -> Path:
    """A folder as ``clap:`` takes it: a small HTSAT and a small RoBERTa, 48 kHz, 10 s."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    config = ClapConfig(
        text_config={
            "vocab_size": 400,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 66,
        },
        audio_config={
            "hidden_size": 64,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "enable_fusion": fusion,
            "fusion_type": "aff_2d" if fusion else None,
        },
        projection_dim=16,
    )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=marks, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(["the sound of a dog barking in the rain", "a cat, a bell"], trainer)
    bpe.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=64,
    )
    model = ClapModel(config).eval()
    with torch.no_grad():  # as trained ones have them: else all vectors are nearly the same
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    truncation = "fusion" if fusion else "rand_trunc"
    model.save_pretrained(folder)
    ClapProcessor(ClapFeatureExtractor(truncation=truncation), tokenizer).save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder
