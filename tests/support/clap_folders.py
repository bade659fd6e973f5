"""Small CLAP models with random weights, in folders that transformers itself saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import hub_models

RATE = 8_000
TEXTS = ["a dog barks", "rain on a tin roof, and then thunder 😀", "مطر"]
TEXT = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 60,
    "initializer_factor": 20.0,
}


def save(folder: Path, extractor: Mapping[str, Any] | None = None, **audio: Any) -> Any:
    """Write a folder by `save_pretrained` of model and processor, with a tokenizer of bytes as in RoBERTa."""
    import transformers

    torch.manual_seed(0)
    shape = {**hub_models.CLAP, **audio}
    config = transformers.ClapConfig(text_config=TEXT, audio_config=shape, projection_dim=12)
    model = transformers.ClapModel(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # of zeros, masked spectrograms stay zeros, and norms on zeros multiply gradients
            torch.nn.init.normal_(parameter, std=0.1)
    norm = model.audio_model.audio_encoder.batch_norm
    torch.nn.init.uniform_(norm.running_mean, -40, -20)
    torch.nn.init.uniform_(norm.running_var, 50, 90)
    model.save_pretrained(folder)
    settings = {**hub_models.CLAP_EXTRACTOR, "truncation": "fusion" if audio else "rand_trunc", **(extractor or {})}
    transformers.ClapProcessor(transformers.ClapFeatureExtractor(**settings), roberta()).save_pretrained(folder)
    return model


def roberta() -> Any:
    """Make a tokenizer of bytes with two merges."""
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "do", "ra"]
    vocabulary = {word: i for i, word in enumerate(words)}
    vocabulary["<mask>"] = len(words)
    return transformers.RobertaTokenizer(vocab=vocabulary, merges=[("d", "o"), ("r", "a")], model_max_length=40)
