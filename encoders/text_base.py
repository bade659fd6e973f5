"""What text encoders share whose tokenizer travels with their weights.

N tokens of all captions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from slap.core.packed import Packed
from slap.model.contracts import TextEncoder


class AnyTokenizer(Protocol):
    """A tokenizer that is held as its bytes: `slap.nn.tokenizer.Tokenizer`, or one of the hub.

    Attributes:
        proto: the bytes that it is made from.
        vocab_size: token ids are below it.
        bos: the token that begins every caption.
        eos: the token that ends every caption.
    """

    proto: bytes
    vocab_size: int
    bos: int
    eos: int

    def encode(self, captions: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Token ids of each caption, `bos ... eos`."""

    def decode(self, captions: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of token ids."""


class TokenizedTextEncoder(TextEncoder):
    """A text encoder with a tokenizer that its checkpoint carries.

    A subclass says how to read one and which fit, in `_read`.

    Attributes:
        tokenizer: None until there is one.
        max_tokens: of a caption, those that begin and end it among them; the end of a longer one is cut off.
        MISSING: what to say where there is none.
    """

    MISSING: ClassVar[str]

    tokenizer: AnyTokenizer | None
    max_tokens: int

    @abstractmethod
    def _read(self, proto: bytes) -> AnyTokenizer:
        """The tokenizer of some bytes.

        Raises:
            ValueError: they are none, or one that does not fit this encoder.
        """

    def tokenize(self, captions: Sequence[str]) -> Packed:
        """Captions to token ids, (N,) int64, each `bos ... eos` and at most `max_tokens` long.

        Raises:
            RuntimeError: there is no tokenizer yet.
        """
        ids = self._tokenizer().encode(captions, self.max_tokens)
        return Packed.pack([torch.tensor(item) for item in ids])

    def detokenize(self, tokens: Packed) -> list[str]:
        """Token ids, (N,), back to captions, as the tokenizer normalizes them."""
        return self._tokenizer().decode([item.tolist() for item in tokens.unpack()])

    def get_extra_state(self) -> Tensor:
        """The tokenizer's bytes, none without one; uint8, so that weights-only loading and safetensors take it."""
        proto = b"" if self.tokenizer is None else self.tokenizer.proto
        return torch.frombuffer(bytearray(proto), dtype=torch.uint8) if proto else torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the tokenizer that the weights were trained with; weights that had none leave this one's as it is.

        Raises:
            ValueError: it does not fit this encoder.
        """
        if state.numel():
            self.tokenizer = self._read(state.cpu().numpy().tobytes())

    def _tokenizer(self) -> AnyTokenizer:
        if self.tokenizer is None:
            raise RuntimeError(self.MISSING)
        return self.tokenizer


def check_max_tokens(max_tokens: int) -> None:
    """Refuse a limit that leaves no room for a word.

    Raises:
        ValueError: it is below 3.
    """
    if max_tokens < 3:
        raise ValueError(f"max_tokens must be at least 3, for the beginning, a token and the end; got {max_tokens}")
