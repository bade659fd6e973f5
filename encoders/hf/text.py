"""Text encoders of the `transformers` library of any type.

C captions, N tokens of all captions, L tokens of the longest, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.registry import register
from slap.encoders.hf.pretrained import (
    check_layers,
    describe_config,
    one_at_most,
    read_model,
    recompute,
    require_transformers,
    scale_of,
)
from slap.encoders.hf.text_base import HFTextEncoder
from slap.encoders.hf.windows import padded
from slap.encoders.text_base import check_max_tokens
from slap.nn.json_tokenizer import HFTokenizer
from slap.nn.tokenizer import Tokenizer


@register("hf-text")
class HFText(HFTextEncoder):
    """A text model of transformers that `AutoModel` knows, pretrained or with random weights: BERT, RoBERTa, T5, ...

    It needs `pip install 'slap-audio[hf]'`. Captions are padded for the model and masked, which costs more than the
    packed `modernbert`. Of models with a decoder, the encoder is used; pooling layers are dropped. Models that were
    trained without a token at the beginning of a text, such as T5, get their padding token there, and do not attend to
    it (our choice). Weights and tokenizer that are read from the hub or a folder are saved in checkpoints.

    Args:
        pretrained: name of a model on the Hugging Face Hub, e.g. `FacebookAI/roberta-base`, or a folder that
            `save_pretrained` wrote.
        config: arguments of the model's configuration class and its `model_type`, e.g. `{model_type: bert,
            num_hidden_layers: 4}`, for a model with random weights.
        tokenizer: name on the hub, or folder, of a tokenizer with a tokenizer.json. Default: that of `pretrained`.
            Without both, the encoder works only after loading a checkpoint.
        revision: branch, tag or commit of `pretrained` and `tokenizer` on the hub. Default: the newest.
        max_tokens: maximal number of tokens per caption, the first and the last included; longer captions lose their
            end.
        lr_scale: factor on the learning rate of this encoder. Default: 0.1 for pretrained weights and 1 for random ones
            (our choice).
        checkpointing: recompute layers in the backward pass instead of keeping their activations.

    Attributes:
        tokenizer: the tokenizer, None until there is one.

    Raises:
        ImportError: transformers is missing or too old.
        OSError: there is no such folder or name on the hub, or no connection to the hub.
        ValueError: neither or both of `pretrained` and `config` are given; an unknown argument or type of model; the
            model is incomplete or reads fewer tokens than `max_tokens`; the tokenizer does not fit.
    """

    MISSING = (
        "the text encoder has no tokenizer: pass `pretrained` or `tokenizer` (a name on the hub or a folder), "
        "or load a checkpoint"
    )

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        max_tokens: int = 128,
        lr_scale: float | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        one_at_most(pretrained=pretrained, config=config)
        if pretrained is None and config is None:
            raise UserError("this encoder has no default model: pass `pretrained` or `config`")
        check_max_tokens(max_tokens)
        require_transformers()
        model = _pretrained(pretrained, revision) if pretrained else _random(config or {})
        self.shape = model.config.get_text_config()
        if self.shape is not model.config:
            raise UserError(f"{model.config.model_type!r} is no text model; pass the name of its text model")
        self.model = model.get_encoder() if self.shape.is_encoder_decoder else model
        if hasattr(self.model, "pooler"):
            self.model.pooler = None
        if checkpointing:
            recompute(self.model)
        most = getattr(self.shape, "max_position_embeddings", None) or max_tokens
        if max_tokens > most:
            raise UserError(f"max_tokens is {max_tokens}, but the model reads {most} at most; lower it")
        self.width: int = self.shape.hidden_size
        self.vocab_size: int = self.shape.vocab_size
        self.max_tokens = max_tokens
        self.bos, self.eos = _ends(self.shape)
        source = tokenizer or pretrained
        self.tokenizer = None if source is None else self._fitting(HFTokenizer.load(source, revision))
        self._lr_scale = scale_of(lr_scale, pretrained)

    def forward(self, tokens: Packed) -> Packed:
        """Encode token ids, (N,), as dense features, (N, D)."""
        length = tokens.max_length
        filling = self.shape.pad_token_id if isinstance(self.shape.pad_token_id, int) else 0
        ids = padded(tokens, length, filling)
        seen = torch.arange(length, device=ids.device) < tokens.lengths[:, None]
        if isinstance(self.tokenizer, HFTokenizer) and self.tokenizer.foreign:
            seen = seen & (torch.arange(length, device=ids.device) > 0)
        features = self.model(input_ids=ids, attention_mask=seen.long()).last_hidden_state
        return tokens.replace(features[tokens.item, tokens.index])

    def _config(self) -> dict[str, Any]:
        return {"model_type": self.shape.model_type, **describe_config(self.shape)}

    def _fitting(self, tokenizer: Tokenizer) -> Tokenizer:
        self._check_vocabulary(tokenizer)
        # The tokenizer is right; configurations are often copied.
        self.bos, self.eos = tokenizer.bos, tokenizer.eos
        return tokenizer


def _pretrained(source: str, revision: str | None) -> Any:
    from transformers import AutoModel

    return read_model(AutoModel, source, revision, unneeded=("pooler.",))


def _random(config: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoModel

    options = dict(config)
    kind = options.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise UserError(f"config needs the `model_type` of a model in transformers, e.g. 'bert'; got {kind!r}")
    known = CONFIG_MAPPING[kind]().to_dict()
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(f"the configuration of {kind!r} has no {', '.join(unknown)}; it has: {', '.join(known)}")
    check_layers(options)
    return AutoModel.from_config(CONFIG_MAPPING[kind](**options), trust_remote_code=False)


def _ends(config: Any) -> tuple[int, int]:
    """Return the tokens that begin and end captions by a configuration, which hold until there is a tokenizer."""
    names = ("bos_token_id", "pad_token_id"), ("eos_token_id", "sep_token_id")
    first, last = (next((i for n in group if isinstance(i := getattr(config, n, None), int)), 0) for group in names)
    return first, last
