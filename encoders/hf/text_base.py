"""Base of the text encoders of the `transformers` library."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from slap.encoders.text_base import TokenizedTextEncoder
from slap.nn.json_tokenizer import HFTokenizer


class HFTextEncoder(TokenizedTextEncoder):
    """A text encoder around a model of transformers.

    A subclass makes the model and says how to describe it, in `_config`.
    """

    TOKENIZER = HFTokenizer
    ADVICE = "pass the tokenizer that belongs to the model"

    sources = ("pretrained", "tokenizer", "revision")

    _lr_scale: float

    def lr_scale(self, name: str) -> float:
        """Return the argument `lr_scale`, the same for all parameters."""
        del name
        return self._lr_scale

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that rebuild this encoder without hub and folders: weights and tokenizer are saved."""
        kept = {name: value for name, value in options.items() if name not in (*self.sources, "size", "config")}
        return {**kept, "config": self._config(), "lr_scale": self._lr_scale}

    @abstractmethod
    def _config(self) -> dict[str, Any]:
        """Return the configuration of the model as plain data, see `describe_config`."""
