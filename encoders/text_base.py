"""Base of text encoders whose tokenizer is saved with their weights.

N tokens of all captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.model.contracts import TextEncoder
from slap.nn.tokenizer import Tokenizer


class TokenizedTextEncoder(TextEncoder):
    """A text encoder with a tokenizer, which its checkpoint holds.

    Attributes:
        tokenizer: the tokenizer, None until there is one.
        max_tokens: maximal number of tokens per caption, `bos` and `eos` included; longer captions lose their end.
        TOKENIZER: the class of the tokenizer.
        MISSING: the message for an encoder without tokenizer.
        ADVICE: the advice in messages about a tokenizer that does not fit.
    """

    TOKENIZER: ClassVar[type[Tokenizer]]
    MISSING: ClassVar[str]
    ADVICE: ClassVar[str]

    tokenizer: Tokenizer | None
    max_tokens: int

    def tokenize(self, captions: Sequence[str]) -> Packed:
        """Turn captions into token ids, (N,) int64, each `bos ... eos` and at most `max_tokens` long.

        Raises:
            RuntimeError: there is no tokenizer yet.
        """
        ids = self._tokenizer().encode(captions, self.max_tokens)
        return Packed.pack([torch.tensor(item) for item in ids])

    def detokenize(self, tokens: Packed) -> list[str]:
        """Turn token ids, (N,), back into captions, as the tokenizer normalizes them."""
        return self._tokenizer().decode([item.tolist() for item in tokens.unpack()])

    def get_extra_state(self) -> Tensor:
        """Return the tokenizer's bytes, as uint8, which weights-only loading and safetensors accept."""
        proto = b"" if self.tokenizer is None else self.tokenizer.proto
        return torch.frombuffer(bytearray(proto), dtype=torch.uint8) if proto else torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the tokenizer that the weights were trained with. Weights without one leave the present tokenizer.

        Raises:
            ValueError: the tokenizer does not fit this encoder.
        """
        if state.numel():
            self.tokenizer = self._fitting(self.TOKENIZER(state.cpu().numpy().tobytes()))

    def _fitting(self, tokenizer: Tokenizer) -> Tokenizer:
        """Return a tokenizer if it fits this encoder.

        Raises:
            ValueError: it has too many tokens, or other ones for the beginning and the end of a caption.
        """
        self._check_vocabulary(tokenizer)
        if (tokenizer.bos, tokenizer.eos) != (self.bos, self.eos):
            raise UserError(
                f"the tokenizer begins captions with token {tokenizer.bos} and ends them with {tokenizer.eos}, "
                f"the text encoder with {self.bos} and {self.eos}: {self.ADVICE}"
            )
        return tokenizer

    def _check_vocabulary(self, tokenizer: Tokenizer) -> None:
        if tokenizer.vocab_size > self.vocab_size:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the text encoder room for {self.vocab_size}: "
                f"{self.ADVICE}"
            )

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise RuntimeError(self.MISSING)
        return self.tokenizer


def check_max_tokens(max_tokens: int) -> None:
    """Refuse a limit that leaves no room for a word.

    Raises:
        ValueError: the limit is below 3.
    """
    if max_tokens < 3:
        raise UserError(f"max_tokens must be at least 3, for the beginning, a token and the end; got {max_tokens}")
