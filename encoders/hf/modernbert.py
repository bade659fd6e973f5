"""The paper's text encoder: ModernBERT (arXiv 2412.13663) of the `transformers` library, on packed captions.

N tokens of all captions, D width.

`transformers` pads captions to equal length, or needs the flash-attn package. Here its layers run on SLAP's own
attention (attention.py): packed, without padding, on any device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.registry import register
from slap.encoders.hf.attention import ATTENTION, use_packed_attention
from slap.encoders.hf.pretrained import describe_config, make_config, one_at_most, read_model, recompute, scale_of
from slap.encoders.hf.text_base import HFTextEncoder
from slap.encoders.text_base import check_max_tokens
from slap.nn.json_tokenizer import HFTokenizer

SIZES = {
    "tiny": {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 192},
    "base": {"num_hidden_layers": 22, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 1152},
}
"""Arguments of `ModernBertConfig` by size. `base` is the published ModernBERT-base, whose other settings are
transformers' defaults; `tiny` is ours."""


@register("modernbert")
class ModernBERT(HFTextEncoder):
    """ModernBERT (arXiv 2412.13663), pretrained as in the paper, or with random weights.

    It needs `pip install 'slap-audio[hf]'`. Weights and tokenizer that it reads from the hub or a folder are saved in
    checkpoints; `portable` gives the arguments that rebuild it without hub and folder.

    Args:
        pretrained: name of a model on the Hugging Face Hub, e.g. `answerdotai/ModernBERT-base`, or a folder that
            `save_pretrained` wrote.
        size: `base` or `tiny`, with random weights. It is `base` when neither `pretrained` nor `config` is given.
        config: arguments of transformers' `ModernBertConfig`, for a model with random weights.
        tokenizer: name on the hub, or folder, of a tokenizer with [CLS] and [SEP]. Default: that of `pretrained`.
            Without both, the encoder works only after loading a checkpoint.
        revision: branch, tag or commit of `pretrained` and `tokenizer` on the hub. Default: the newest.
        max_tokens: maximal number of tokens per caption, the two special ones included; longer captions lose their end.
        lr_scale: factor on the learning rate of this encoder. Default: 1 for random weights, and 0.1 for pretrained
            ones, which the gradients of the untrained rest could spoil (the paper does not say; our choice).
        checkpointing: recompute layers in the backward pass instead of keeping their activations.

    Attributes:
        tokenizer: the tokenizer, None until there is one.

    Raises:
        ImportError: transformers is missing or too old.
        OSError: there is no such folder or name on the hub, or no connection to the hub.
        ValueError: arguments exclude each other or are unknown; the files are of another model or incomplete; the
            tokenizer does not fit.
    """

    MISSING = (
        "the text encoder has no tokenizer: pass `pretrained` or `tokenizer` (a name on the hub or a folder, "
        "e.g. 'answerdotai/ModernBERT-base'), or load a checkpoint"
    )

    def __init__(
        self,
        pretrained: str | None = None,
        size: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        max_tokens: int = 128,
        lr_scale: float | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        one_at_most(pretrained=pretrained, size=size, config=config)
        check_max_tokens(max_tokens)
        use_packed_attention()
        source = tokenizer or pretrained
        own = None if source is None else HFTokenizer.load(source, revision)
        self.model = _pretrained(pretrained, revision) if pretrained else _random(size, config, own)
        # If transformers ignored the name, captions would attend to each other.
        assert self.model.config._attn_implementation == ATTENTION
        if checkpointing:
            recompute(self.model)
        shape = self.model.config
        if shape.attention_dropout:
            raise UserError(
                f"attention_dropout is {shape.attention_dropout}, but packed attention has none: set it to 0"
            )
        if own is not None:  # the tokenizer is right; configurations are often copied
            shape.cls_token_id, shape.sep_token_id = own.bos, own.eos
        self.width: int = shape.hidden_size
        self.vocab_size: int = shape.vocab_size
        self.bos: int = shape.cls_token_id
        self.eos: int = shape.sep_token_id
        self.max_tokens = max_tokens
        self.tokenizer = None if own is None else self._fitting(own)
        self._lr_scale = scale_of(lr_scale, pretrained)

    def forward(self, tokens: Packed) -> Packed:
        """Encode token ids, (N,), as dense features, (N, D)."""
        features = self.model(
            input_ids=tokens.values[None],
            position_ids=tokens.index[None],
            attention_mask=dict.fromkeys(self.model.config.layer_types),  # no masks: the layout replaces them
            layout=tokens.layout,
        )
        return tokens.replace(features.last_hidden_state[0])

    def graph(self) -> ModernBERTGraph:
        """Return this encoder for one text, (N,) token ids to (N, D)."""
        return ModernBERTGraph(self.model)

    def _config(self) -> dict[str, Any]:
        return describe_config(self.model.config)

    def __setstate__(self, state: dict[str, Any]) -> None:
        use_packed_attention()  # this may be another process than that of the constructor
        super().__setstate__(state)


class ModernBERTGraph(nn.Module):
    """ModernBERT for one text of any length, for torch.export and ONNX, with the same weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode token ids, (N,), as dense features, (N, D)."""
        features = self.model(
            input_ids=tokens[None],
            position_ids=torch.arange(tokens.shape[0], device=tokens.device)[None],
            attention_mask=dict.fromkeys(self.model.config.layer_types),
            layout=None,
        )
        return features.last_hidden_state[0]


def _pretrained(source: str, revision: str | None) -> Any:
    from transformers import ModernBertModel

    return read_model(ModernBertModel, source, revision, attn_implementation=ATTENTION)


def _random(size: str | None, config: Mapping[str, Any] | None, tokenizer: HFTokenizer | None) -> Any:
    from transformers import ModernBertConfig, ModernBertModel

    sizes = {name: {**shape, **_vocabulary(tokenizer)} for name, shape in SIZES.items()}
    made = make_config(ModernBertConfig, size, config, sizes)
    made._attn_implementation = ATTENTION
    return ModernBertModel(made)


def _vocabulary(tokenizer: HFTokenizer | None) -> dict[str, int | None]:
    if tokenizer is None:
        return {}
    special = {"cls_token_id": tokenizer.bos, "sep_token_id": tokenizer.eos}
    special |= {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos}
    return {**special, "vocab_size": tokenizer.vocab_size, "pad_token_id": None}
