"""The text encoder of CLAP (a RoBERTa) of the `transformers` library, on packed captions.

N tokens of all captions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.core.registry import register
from slap.encoders.hf.attention import ATTENTION, use_packed_attention
from slap.encoders.hf.clap_pooling import ClapTextPooling, check_pooling
from slap.encoders.hf.pretrained import describe_config, make_config, recompute
from slap.encoders.hf.text_base import HFTextEncoder
from slap.encoders.text_base import check_max_tokens
from slap.nn.json_tokenizer import HFTokenizer
from slap.nn.pooling import Pooling

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 256},
    "base": {},
}
"""Arguments of `ClapTextConfig` by size. `base` is the published text encoder, by transformers' defaults; `tiny` is
ours."""


@register("hf-clap-text")
class HFCLAPText(HFTextEncoder):
    """The text encoder of CLAP (arXiv 2211.06687), a RoBERTa, of transformers.

    It needs `pip install 'slap-audio[hf]'`. Its pretrained weights come with the whole model: `slap.load(FOLDER)` and
    `--model.start FOLDER` read a folder that `ClapModel` was saved to, with this encoder. Captions are packed, without
    padding. There is no dropout within attention; the other dropouts are as configured.

    Args:
        size: `base` or `tiny`, with random weights. It is `base` when `config` is not given.
        config: arguments of transformers' `ClapTextConfig`, for a model with random weights.
        tokenizer: name on the Hugging Face Hub, or folder, of a tokenizer with a tokenizer.json, e.g.
            `FacebookAI/roberta-base`. Without it, the encoder works only after loading a model.
        revision: branch, tag or commit of `tokenizer` on the hub. Default: the newest.
        max_tokens: maximal number of tokens per caption, the first and the last included; longer captions lose their
            end.
        projection: pool as CLAP does: a layer on the first token, and CLAP's projection. Its dimensions must be those
            of the model. False: by attention, as with other encoders.
        lr_scale: factor on the learning rate of this encoder.
        checkpointing: recompute layers in the backward pass instead of keeping their activations.

    Attributes:
        tokenizer: the tokenizer, None until there is one.

    Raises:
        ImportError: transformers is missing or too old.
        OSError: there is no such folder or name on the hub, or no connection to the hub.
        ValueError: an unknown argument, more `max_tokens` than the model has positions, or a tokenizer that does not
            fit.
    """

    MISSING = (
        "the text encoder has no tokenizer: pass `tokenizer` (a name on the hub or a folder, e.g. "
        "'FacebookAI/roberta-base'), or load a model that has one"
    )

    def __init__(
        self,
        size: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        max_tokens: int = 77,
        projection: bool = False,
        lr_scale: float = 1.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_max_tokens(max_tokens)
        use_packed_attention()
        from transformers import ClapTextConfig
        from transformers.models.clap.modeling_clap import ClapTextModel

        shape = make_config(ClapTextConfig, size, config, SIZES)
        own = None if tokenizer is None else HFTokenizer.load(tokenizer, revision)
        if own is not None:  # the tokenizer is right; configurations are often copied
            shape.bos_token_id, shape.eos_token_id = own.bos, own.eos
        shape._attn_implementation = ATTENTION
        self.model: Any = ClapTextModel(shape, add_pooling_layer=False)
        if checkpointing:
            recompute(self.model)
        most = shape.max_position_embeddings - shape.pad_token_id - 1
        if max_tokens > most:
            raise UserError(f"max_tokens is {max_tokens}, but the model reads {most} at most; lower it")
        self.shape = shape
        self.width: int = shape.hidden_size
        self.vocab_size: int = shape.vocab_size
        self.max_tokens = max_tokens
        self.projection = projection
        self.bos, self.eos = shape.bos_token_id, shape.eos_token_id
        self.tokenizer = None if own is None else self._fitting(own)
        self._lr_scale = lr_scale

    def forward(self, tokens: Packed) -> Packed:
        """Encode token ids, (N,), as dense features, (N, D)."""
        return tokens.replace(self.encode(tokens.values, tokens.index, tokens.layout))

    def encode(self, ids: Tensor, index: Tensor, layout: Layout | None) -> Tensor:
        """Encode token ids, (N,), as dense features, (N, D).

        Args:
            ids: of all captions.
            index: (N,) number of each token within its caption.
            layout: the layout of the captions; None for a single caption in a graph that is traced.
        """
        places = index.long() + self.shape.pad_token_id + 1
        x = self.model.embeddings(input_ids=ids[None], position_ids=places[None])
        for layer in self.model.encoder.layer:
            x = layer(x, None, layout=layout)
        return x[0]

    def pooling(self, embedding_dim: int, duration: bool = False) -> Pooling:
        """Make CLAP's own head where the argument `projection` asks for it, see `Encoder.pooling`."""
        if not self.projection:
            return super().pooling(embedding_dim, duration)
        check_pooling(self.shape, self.width, embedding_dim, duration)
        return ClapTextPooling(self.shape)

    def graph(self) -> nn.Module:
        """Return this encoder for one text, (N,) token ids to (N, D)."""
        return ClapTextGraph(self)

    def _config(self) -> dict[str, Any]:
        return describe_config(self.shape)

    def __setstate__(self, state: dict[str, Any]) -> None:
        use_packed_attention()  # this may be another process than that of the constructor
        super().__setstate__(state)


class ClapTextGraph(nn.Module):
    """An `HFCLAPText` for one text of any length, for torch.export and ONNX, with the same weights."""

    def __init__(self, encoder: HFCLAPText) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode token ids, (N,), as dense features, (N, D)."""
        return self.encoder.encode(tokens, torch.arange(tokens.shape[0], device=tokens.device), None)
