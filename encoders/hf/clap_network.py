"""CLAP models as networks of SLAP, and back: the same weights under other names.

`ClapModel` of transformers is the meeting point: published folders are read as one, and networks are written as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from slap.core.errors import UserError
from slap.encoders.hf.clap import HFCLAP
from slap.encoders.hf.clap_text import HFCLAPText
from slap.encoders.hf.pretrained import describe_config, describe_extractor, make_extractor
from slap.inference.network_backend import NetworkBackend
from slap.inference.rebuild import build
from slap.nn.json_tokenizer import HFTokenizer

NAMES = {
    "audio_model.": "audio.model.",
    "audio_projection.": "audio_pool.projection.",
    "text_model.pooler.dense.": "text_pool.dense.",
    "text_model.": "text.model.",
    "text_projection.": "text_pool.projection.",
}
"""Beginnings of the names of weights in a `ClapModel`, and in a network; of several the first counts."""

TOKENIZER, MASK_TOKEN = "text._extra_state", "audio.mask_token"
"""What a network has beside the weights of a `ClapModel`: its tokenizer, and a token of the masked view."""

SCALE, OBJECTIVE = "objectives.contrastive.log_scale", "contrastive"
"""The scale of the cosines, as a logarithm, and the objective that goes on learning it."""


def network_of(
    model: Any, extractor: Any, tokenizer: HFTokenizer, device: torch.device, max_tokens: int | None = None
) -> NetworkBackend:
    """Make the network of a CLAP model: both encoders, both projections, and the temperature.

    CLAP models have two scales of cosines, of which LAION's training learned `logit_scale_a` alone; it becomes the
    scale of the objective `contrastive`. The token that replaces hidden patches, which CLAP lacks, is zeros.

    Args:
        model: a `ClapModel`.
        extractor: its `ClapFeatureExtractor`.
        tokenizer: its tokenizer.
        device: the device that the network computes on.
        max_tokens: maximal number of tokens per caption, at most that of the model, which is the default.

    Raises:
        ValueError: the tokenizer does not fit, or the encoder cannot run such a model.
    """
    shape = model.config.text_config
    room = shape.max_position_embeddings - shape.pad_token_id - 1
    shape.bos_token_id, shape.eos_token_id = tokenizer.bos, tokenizer.eos  # configurations are often copied
    arguments = {
        "audio": {
            "name": "hf-clap",
            "config": describe_config(model.config.audio_config),
            "extractor": describe_extractor(extractor),
            "projection": True,
            "lr_scale": 1.0,
        },
        "text": {
            "name": "hf-clap-text",
            "config": describe_config(shape),
            "max_tokens": min(max_tokens or room, room),
            "projection": True,
            "lr_scale": 1.0,
        },
        "embedding_dim": model.config.projection_dim,
        "objectives": {OBJECTIVE: 1.0},
    }
    state = {_renamed(name): value for name, value in model.state_dict().items()}
    state[SCALE] = model.logit_scale_a.detach()
    state[TOKENIZER] = torch.frombuffer(bytearray(tokenizer.proto), dtype=torch.uint8)
    state[MASK_TOKEN] = torch.zeros(model.config.audio_config.patch_embeds_hidden_size)
    network = build(arguments, state, take=True, trust=True)  # `slap.load` looks for weights that are not finite
    seconds = extractor.nb_max_samples / extractor.sampling_rate
    return NetworkBackend(network.to(device), arguments, seconds)


def clap_of(backend: NetworkBackend) -> tuple[Any, Any]:
    """Make the `ClapModel` of a network, and its `ClapProcessor`.

    Both scales of cosines are that of the network, since its training has one.

    Raises:
        UserError: the network is no CLAP model.
    """
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapProcessor,
        PreTrainedTokenizerFast,
    )

    audio, text, settings = _parts(backend)
    config = ClapConfig(
        text_config=describe_config(text.shape),
        audio_config=describe_config(audio.model.config),
        projection_dim=backend.embedding_dim,
        projection_hidden_act=text.shape.projection_hidden_act,
    )
    model = ClapModel(config).eval()
    state = backend.network.state_dict()
    scale = state.get(SCALE, model.logit_scale_a)
    wanted = {name: state[_renamed(name)] for name in model.state_dict() if not name.startswith("logit_scale")}
    model.load_state_dict({**wanted, "logit_scale_a": scale, "logit_scale_t": scale})
    assert isinstance(text.tokenizer, HFTokenizer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=text.tokenizer.backend(),
        model_max_length=text.max_tokens,
        **_special(text.tokenizer, text.shape.pad_token_id),
    )
    return model, ClapProcessor(make_extractor(ClapFeatureExtractor, settings), tokenizer)


def _parts(backend: NetworkBackend) -> tuple[HFCLAP, HFCLAPText, Mapping[str, Any]]:
    audio, text = backend.network.audio, backend.network.text
    fits = isinstance(audio, HFCLAP) and isinstance(text, HFCLAPText) and audio.projection and text.projection
    if not fits:
        raise UserError(
            f"the format of transformers has no place for this model: it takes the encoders of CLAP with their own "
            f"projections (hf-clap and hf-clap-text with `projection: true`), as models have that began from a CLAP "
            f"folder; this one has {type(audio).__name__} and {type(text).__name__}. Leave out --format transformers"
        )
    assert isinstance(audio, HFCLAP) and isinstance(text, HFCLAPText)  # noqa: PT018 - for the type checker
    return audio, text, audio.extractor


def _special(tokenizer: HFTokenizer, padding: int) -> dict[str, str]:
    """Return the special tokens by the names that transformers has for them."""
    first, last = tokenizer.word(tokenizer.bos), tokenizer.word(tokenizer.eos)
    names = {"bos_token": first, "cls_token": first, "eos_token": last, "sep_token": last}
    return {**names, "pad_token": tokenizer.word(padding)}


def _renamed(name: str) -> str:
    """Return the name in a network of a weight of a `ClapModel`."""
    beginning = next((start for start in NAMES if name.startswith(start)), None)
    return name if beginning is None else NAMES[beginning] + name.removeprefix(beginning)
