"""Checkpoints of LAION's own package (laion_clap), as CLAP models: an HTS-AT, a RoBERTa, and two projections.

The names are those of transformers' conversion of these checkpoints. They hold the training's state beside the weights,
with numpy's numbers in it; nothing else than tensors, plain data and such numbers is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import safe_globals

from slap.core.checkpoint_file import read
from slap.core.errors import UserError
from slap.encoders.hf.clap_files import ClapFiles
from slap.encoders.hf.clap_folder import make_model
from slap.encoders.hf.clap_network import network_of
from slap.encoders.hf.pretrained import require_transformers
from slap.inference.network_backend import NetworkBackend
from slap.nn.json_tokenizer import HFTokenizer

MAX_TOKENS = 77
"""Longest text that the package reads, in tokens."""

EXTRACTOR = {"frequency_min": 50, "padding": "repeatpad"}
"""Arguments of `ClapFeatureExtractor` that are other than its defaults."""

MSCLAP = ("caption_encoder.", "clap.base.")
"""Beginnings of names of weights in the checkpoints of msclap, and in those of its captioner."""

UNUSED = re.compile(
    r"(audio|text)_transform\.|audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\.|.*\.attn_mask$"
)
"""Names of weights that embeddings do not depend on: spectrograms, which are computed, and heads of the training."""

RENAMED = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.bn0\.", "audio_branch.batch_norm."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"(blocks\.\d+)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
    (r"(blocks\.\d+)\.attn\.proj\.", r"\1.attention.output.dense."),
    (r"(blocks\.\d+)\.attn\.", r"\1.attention.self."),
)
"""Parts of names in LAION's checkpoints, and in a `ClapModel`, in the order in which they are replaced."""


def numpy_numbers() -> list[Any]:
    """Return what numpy's numbers are pickled as, by the names of numpy 1 and 2."""
    scalar: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = {type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")}
    names = [(scalar, f"numpy.{place}.multiarray.scalar") for place in ("core", "_core")]
    return [*names, np.dtype, *kinds]


def load(path: Path, tokenizer: Path, device: torch.device) -> NetworkBackend:
    """Load a checkpoint of LAION's package.

    Args:
        path: the checkpoint (.pt).
        tokenizer: a folder with RoBERTa's tokenizer: tokenizer.json, or vocab.json and merges.txt.
        device: the device that the model computes on.

    Raises:
        ImportError: transformers is missing or too old.
        UserError: the file is damaged, holds other things than tensors, plain data and numbers, or another model; or
            there is no tokenizer.
    """
    require_transformers()
    from transformers import ClapFeatureExtractor

    with safe_globals(numpy_numbers()):
        content = read(path)
    weights = renamed(_state(content, path))
    config = config_of(weights, path)
    weights |= _tables(config.text_config.max_position_embeddings)
    model = make_model(config, weights, path)
    truncation = "fusion" if config.audio_config.enable_fusion else "rand_trunc"
    extractor = ClapFeatureExtractor(**EXTRACTOR, truncation=truncation)
    words = HFTokenizer.of(ClapFiles(tokenizer).tokenizer(), str(tokenizer))
    return network_of(model, extractor, words, device, MAX_TOKENS)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by their names in a `ClapModel`, without those that it does not have."""
    weights = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if UNUSED.match(name):
            continue
        for old, new in RENAMED:
            name = re.sub(old, new, name)
        if ".qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                weights[name.replace(".qkv.", f".{part}.")] = third.contiguous()
        else:
            weights[name] = value
    return weights


def config_of(weights: dict[str, Tensor], path: Path) -> Any:
    """Return the `ClapConfig` of weights, by their shapes.

    Raises:
        UserError: they are of another model than an HTS-AT with a RoBERTa.
    """
    from transformers import ClapConfig

    audio, text = "audio_model.audio_encoder.", "text_model."
    needed = [f"{audio}patch_embed.proj.weight", f"{text}embeddings.word_embeddings.weight"]
    needed += [f"{side}_projection.linear1.weight" for side in ("audio", "text")]
    if missing := [name for name in needed if name not in weights]:
        raise UserError(f"{path} is no CLAP model with HTS-AT and RoBERTa, as are converted: it lacks {missing}")
    tables = {name: w for name, w in weights.items() if name.endswith("relative_position_bias_table")}
    places = [re.search(r"layers\.(\d+)\.blocks\.(\d+)\.", name) for name in tables]
    blocks = [(int(found[1]), int(found[2])) for found in places if found]
    stages = range(1 + max(stage for stage, _ in blocks))
    heads = [tables[_table(stage)].shape[1] for stage in stages]
    words, positions = (weights[f"{text}embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
    layers = {found[1] for name in weights if (found := re.match(r"text_model\.encoder\.layer\.(\d+)\.", name))}
    first = weights["audio_projection.linear1.weight"]
    fused = any(".fusion_model." in name for name in weights)
    return ClapConfig(
        audio_config={
            "patch_embeds_hidden_size": weights[needed[0]].shape[0],
            "depths": [sum(stage == s for s, _ in blocks) for stage in stages],
            "num_attention_heads": heads,
            "hidden_size": first.shape[1],
            "enable_fusion": fused,
            "fusion_type": "aff_2d" if fused else None,
        },
        text_config={
            "vocab_size": words.shape[0],
            "hidden_size": words.shape[1],
            "max_position_embeddings": positions.shape[0],
            "num_hidden_layers": len(layers),
            "num_attention_heads": max(words.shape[1] // 64, 1),  # as in all published RoBERTas
            "intermediate_size": weights["text_model.encoder.layer.0.intermediate.dense.weight"].shape[0],
            "layer_norm_eps": 1e-5,  # RoBERTa's, where transformers' conversion has 1e-12
        },
        projection_dim=first.shape[0],
    )


def _tables(positions: int) -> dict[str, Tensor]:
    """Return what `ClapModel` saves with its weights, and newer checkpoints of the package lack."""
    start = "text_model.embeddings."
    numbers = torch.arange(positions)[None]
    return {f"{start}position_ids": numbers, f"{start}token_type_ids": torch.zeros_like(numbers)}


def _table(stage: int) -> str:
    return f"audio_model.audio_encoder.layers.{stage}.blocks.0.attention.self.relative_position_bias_table"


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    other = content.get("model") if isinstance(content, dict) else None
    if isinstance(other, dict) and any(str(name).startswith(MSCLAP) for name in other):
        raise UserError(
            f"{path} is a checkpoint of Microsoft's package msclap, which is not converted: its projections end in a "
            "layer norm, its texts are read by a GPT-2 at the last token (2023, clapcap) or a BERT (2022), and its "
            "sounds are spectrograms at 44.1 kHz, of which no encoder here has the layers. Embed with msclap, or "
            "start from a CLAP model of LAION's"
        )
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} is no checkpoint of laion_clap: it holds no `state_dict` of tensors")
    return state
