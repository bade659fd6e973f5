"""CLAP models of the `transformers` library for `slap.load`, from a folder that `ClapModel` was saved to.

The folder holds the model (safetensors), the feature extractor and the tokenizer, as the models published by LAION do.
`slap.encoders.hf.clap_files` reads them: nothing is unpickled, no code of the folder runs, and nothing else is opened.

n clips or texts, E shared dimension, T frames, F mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from slap.core.calibration import Calibration
from slap.core.errors import UserError
from slap.core.files import digest, read_json
from slap.core.outline import outline
from slap.core.packed import Packed
from slap.encoders.hf.clap_files import CONFIG, ClapFiles
from slap.encoders.hf.clap_logmel import ClapLogMel
from slap.encoders.hf.pretrained import describe_config, describe_extractor, make_extractor, require_transformers

TEXTS = 256
"""Maximal number of texts per batch."""


def recognizes(folder: Path) -> bool:
    """Return whether a folder holds a CLAP model of transformers."""
    try:
        return (folder / CONFIG).is_file() and read_json(folder / CONFIG).get("model_type") == "clap"
    except (OSError, UserError):
        return False


def load(folder: Path, device: torch.device) -> ClapFolder:
    """Load the model of a folder, see `ClapFolder`.

    Raises:
        ImportError: transformers is missing or too old.
        ValueError: the weights are no safetensors or incomplete, or there is no feature extractor or tokenizer.
    """
    require_transformers()
    from transformers import ClapFeatureExtractor

    files = ClapFiles(folder)
    model = make_model(files.config(), files.weights(), folder)
    try:
        extractor = make_extractor(ClapFeatureExtractor, files.extractor())
        tokenizer = files.tokenizer()
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{folder} needs a feature extractor and a tokenizer beside the model: {error}") from error
    return ClapFolder(model.to(device), extractor, tokenizer)


def make_model(config: Any, weights: dict[str, Tensor], folder: Path) -> Any:
    """Make the model of a configuration and fill it with weights, after a look at their sizes.

    Raises:
        ValueError: the weights are incomplete, or of another model.
    """
    from transformers import ClapModel

    outline(lambda: ClapModel(config), weights)
    try:
        made, report = ClapModel.from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )
    except RuntimeError as error:
        raise UserError(f"{folder} has weights of another model than its config.json describes: {error}") from error
    if report["missing_keys"]:
        names = ", ".join(sorted(report["missing_keys"]))
        raise UserError(f"{folder} lacks weights, so they would stay random: {names}")
    return made


class ClapFolder:
    """A CLAP model (arXiv 2211.06687) with the protocol `slap.inference.backend.AudioTextModel`.

    Embeddings are those of `get_audio_features` and `get_text_features`. A recording that is longer than the model
    takes, 10 s, is cut into windows (`slap.core.windows`), where its feature extractor would crop it at random, so that
    the same recording always has the same embedding. Models with "fusion" would fuse such crops, and in a batch without
    any they would fuse one short clip at random; here no clip is fused, so that it does not depend on its batch.

    Args:
        model: a `ClapModel`.
        extractor: a `ClapFeatureExtractor`.
        tokenizer: the tokenizer of texts.
    """

    def __init__(self, model: Any, extractor: Any, tokenizer: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.logmel = ClapLogMel(extractor)
        self.sample_rate: int = extractor.sampling_rate
        self.max_seconds: float = self.logmel.longest / self.sample_rate
        self.embedding_dim: int = model.config.projection_dim
        self.calibration: Calibration | None = Calibration("softmax", float(model.logit_scale_a.exp()))
        self._settings = {"config": describe_config(model.config), "extractor": describe_extractor(extractor)}

    @cached_property
    def name(self) -> str:
        """A content hash of weights, settings and tokens."""
        return digest({**self._settings, "tokens": self.tokenizer.get_vocab()}, self.model.state_dict())[:16]

    @torch.no_grad()
    def encode_audio(self, clips: Sequence[Tensor]) -> Tensor:
        """Embed clips, (T_i,) each, as (n, E)."""
        mel = self.logmel(Packed.pack(list(clips)).to(self.model.device))
        never = torch.zeros(len(clips), 1, dtype=torch.bool, device=mel.device)
        channels = mel[:, None].expand(-1, 4 if self.model.config.audio_config.enable_fusion else 1, -1, -1)
        return _unit(self.model.get_audio_features(input_features=channels, is_longer=never))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (n, E); texts that are longer than the model reads lose their end."""
        shape = self.model.config.text_config
        room = min(self.tokenizer.model_max_length, shape.max_position_embeddings - shape.pad_token_id - 1)
        rows = []
        for start in range(0, len(texts), TEXTS):
            part = list(texts[start : start + TEXTS])
            tokens = self.tokenizer(part, padding=True, truncation=True, max_length=room, return_tensors="pt")
            inputs = {name: tokens[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            rows.append(_unit(self.model.get_text_features(**inputs)))
        return torch.cat(rows) if rows else torch.empty(0, self.embedding_dim)


def _unit(output: Any) -> Tensor:
    return normalize(output.pooler_output.float(), dim=-1).cpu()
