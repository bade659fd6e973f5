"""A text encoder without pretraining: a bidirectional transformer on sentencepiece tokens, packed.

C captions, N tokens of all captions, D width.

The paper (arXiv 2601.12594) takes a pretrained ModernBERT, see `slap.encoders.hf.modernbert`. This one is our choice
for runs that download nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.packed import Packed
from slap.core.registry import register
from slap.encoders.sizes import Size
from slap.encoders.text_base import TokenizedTextEncoder, check_max_tokens
from slap.nn import single_clip
from slap.nn.layers import Block, RMSNorm, rotary
from slap.nn.stack import compile_blocks, run_blocks
from slap.nn.tokenizer import BOS, EOS, SentencePieceTokenizer, train_tokenizer


@register("transformer")
class TextTransformer(TokenizedTextEncoder):
    """A text encoder with random weights (the paper takes ModernBERT, see `modernbert`).

    Its architecture is that of the paper's audio encoder, with rotary positions along the caption. All blocks have
    global attention, since captions are short. It learns its tokenizer from the training captions, and checkpoints hold
    the tokenizer.

    Args:
        size: `tiny` (trains in minutes on a CPU), `small` or `base` (12 blocks, width 768), as for audio.
        vocab_size: rows of the token embedding, and maximal number of pieces of the tokenizer.
        tokenizer: path of a sentencepiece model, e.g. from `slap tokenizer`. Default: training learns one.
        max_tokens: maximal number of tokens per caption, the two special ones included; longer captions lose their
            end.
        absolute_positions: add to each token a learned vector of its place, as CLIP and BERT do, besides rotary
            positions. What comes first is then learned sooner (our choice, see docs/log.md).
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
        compile: compile each block with `torch.compile`, see `slap.nn.stack`. The `compile` of `SLAP` does so for all
            parts of a model.

    Attributes:
        tokenizer: the tokenizer, None until there is one.

    Raises:
        ValueError: an unknown size, `max_tokens` below 3, or a tokenizer that does not fit.
        FileNotFoundError: there is no such tokenizer.
    """

    MISSING = (
        "the text encoder has no tokenizer yet: training learns one by itself; to have one before, make it "
        "with `slap tokenizer MANIFEST words.model` and pass tokenizer='words.model', or load a checkpoint"
    )

    TOKENIZER = SentencePieceTokenizer
    ADVICE = "pass one that `slap tokenizer` made, and a vocab_size of at least its number of tokens"

    sources = ("tokenizer",)
    bos = BOS
    eos = EOS

    def __init__(
        self,
        size: str = "base",
        vocab_size: int = 8000,
        tokenizer: str | None = None,
        max_tokens: int = 128,
        absolute_positions: bool = False,
        checkpointing: bool = False,
        compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
    ) -> None:
        super().__init__()
        check_max_tokens(max_tokens)
        shape = Size.of(size)
        self.width = shape.width
        self.head_width = shape.width // shape.heads
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens
        self.checkpointing = checkpointing
        self.tokenizer = None if tokenizer is None else self._fitting(SentencePieceTokenizer.load(tokenizer))
        self.embed = nn.Embedding(vocab_size, shape.width)
        nn.init.normal_(self.embed.weight, std=0.02)  # our choice; 0.06 and 0.25 learned as fast
        place = nn.Parameter(torch.randn(max_tokens, shape.width) * 0.02) if absolute_positions else None
        self.place_embedding = place
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads, shape.hidden) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width)
        if compile:
            compile_blocks(self)

    def prepare(self, captions: Iterable[str]) -> None:
        """Learn a tokenizer, unless there is one; in this case `captions` is not read."""
        if self.tokenizer is None:
            self.tokenizer = self._fitting(train_tokenizer(captions, self.vocab_size))

    def forward(self, tokens: Packed) -> Packed:
        """Encode token ids, (N,), as dense features, (N, D)."""
        x = self.embed(tokens.values)
        if self.place_embedding is not None:
            x = x + self.place_embedding[tokens.index].to(x.dtype)
        rotation = rotary(tokens.index[:, None], self.head_width)
        x = run_blocks(self.blocks, x, tokens.layout, rotation, self.checkpointing and self.training)
        return tokens.replace(self.norm(x))

    def graph(self) -> TextTransformerGraph:
        """Return this encoder for one text, (N,) token ids to (N, D)."""
        return TextTransformerGraph(self)

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that rebuild this encoder without its files: the tokenizer is saved with the weights."""
        return {name: value for name, value in options.items() if name != "tokenizer"}


class TextTransformerGraph(nn.Module):
    """A `TextTransformer` for one text of any length, for torch.export and ONNX, with the same weights."""

    def __init__(self, encoder: TextTransformer) -> None:
        super().__init__()
        self.embed, self.blocks, self.norm = encoder.embed, encoder.blocks, encoder.norm
        self.place_embedding = encoder.place_embedding
        self.head_width = encoder.head_width

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode token ids, (N,), as dense features, (N, D)."""
        x, place = self.embed(tokens), torch.arange(tokens.shape[0], device=tokens.device)
        if self.place_embedding is not None:
            x = x + self.place_embedding[place]
        rotation = rotary(place[:, None], self.head_width)
        for layer in self.blocks:
            assert isinstance(layer, Block)
            x = single_clip.block(layer, x, rotation)
        return self.norm(x)
