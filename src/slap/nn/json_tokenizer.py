"""Tokenizers of pretrained text encoders, by the `tokenizers` library.

It comes with transformers; only reading a tokenizer by its name needs transformers itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from slap.core.errors import UserError
from slap.nn.tokenizer import Tokenizer


class HFTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library.

    Args:
        proto: JSON in UTF-8: the content of a `tokenizer.json`, the ids of the tokens that begin and end captions, and
            whether the first of them is foreign to the model.

    Attributes:
        foreign: True if the model was trained without a token at the beginning of a text, so that its padding token
            takes that place.
    """

    def __init__(self, proto: bytes) -> None:
        import tokenizers

        super().__init__(proto)
        parts = json.loads(proto)
        self._model = tokenizers.Tokenizer.from_str(json.dumps(parts["tokenizer"]))
        self._model.no_truncation()
        self._model.no_padding()
        self._model.encode_special_tokens = True  # "[SEP]" in a caption is text; it must not end the caption
        self.bos, self.eos = parts["bos"], parts["eos"]
        self.foreign: bool = parts.get("foreign", False)
        self.vocab_size = 1 + max(self._model.get_vocab(with_added_tokens=True).values())

    @classmethod
    def load(cls, source: str, revision: str | None = None) -> HFTokenizer:
        """Read a tokenizer by its name on the hub, or from a folder.

        Captions begin with its cls_token, else its bos_token, else its pad_token, and end with its sep_token, else its
        eos_token.

        Raises:
            OSError: there is no such name or folder, or no connection to the hub.
            ValueError: the tokenizer is not of the `tokenizers` library, or has no tokens to begin and end a caption.
        """
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(source, revision=revision or "main", trust_remote_code=False)
        return cls.of(found, source)

    @classmethod
    def of(cls, tokenizer: Any, source: str) -> HFTokenizer:
        """Make it of a tokenizer of transformers, see `load`.

        Args:
            tokenizer: the tokenizer.
            source: the name or folder that it is of, for messages.

        Raises:
            ValueError: the tokenizer is not of the `tokenizers` library, or has no tokens to begin and end a caption.
        """
        if not tokenizer.is_fast:
            raise UserError(f"the tokenizer of {source} has no tokenizer.json; save it with the `tokenizers` library")
        own = [tokenizer.cls_token_id, tokenizer.bos_token_id]
        bos = _first(*own, tokenizer.pad_token_id)
        eos = _first(tokenizer.sep_token_id, tokenizer.eos_token_id)
        if bos is None or eos is None:
            raise UserError(
                f"the tokenizer of {source} must have tokens to begin and end captions: a cls_token, bos_token or "
                f"pad_token, and a sep_token or eos_token; it has {tokenizer.special_tokens_map}"
            )
        parts = {"tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()), "bos": bos, "eos": eos}
        if _first(*own) is None:
            parts["foreign"] = True
        return cls(json.dumps(parts).encode())

    def word(self, number: int) -> str:
        """Return the token of a number, e.g. "<pad>"."""
        token: str = self._model.id_to_token(number)
        return token

    def backend(self) -> Any:
        """Return a tokenizer of the `tokenizers` library, which adds the special tokens itself."""
        import tokenizers

        return tokenizers.Tokenizer.from_str(json.dumps(json.loads(self.proto)["tokenizer"]))

    def _encode(self, captions: Sequence[str]) -> Iterable[list[int]]:
        # One by one: a batch starts threads, which do not survive the fork of the data loader's workers.
        return (self._model.encode(caption, add_special_tokens=False).ids for caption in captions)


def _first(*ids: int | None) -> int | None:
    return next((i for i in ids if i is not None), None)
