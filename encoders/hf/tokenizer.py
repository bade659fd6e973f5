"""The tokenizer of a pretrained text encoder, as the `tokenizers` library has it, held as bytes.

It needs `tokenizers`, which comes with transformers; only reading one by name needs transformers itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence


class HubTokenizer:
    """Captions to token ids and back.

    Args:
        proto: JSON in UTF-8: the content of a `tokenizer.json`, the ids of the tokens that begin and end captions, and
            whether the one that begins them is foreign to the model.

    Attributes:
        proto: the same bytes.
        vocab_size: token ids are below it.
        foreign: the token that begins captions is there for our sake; the model was trained without one.
        bos: the token that begins every caption, [CLS] in ModernBERT's.
        eos: the token that ends every caption, [SEP] in ModernBERT's.
    """

    def __init__(self, proto: bytes) -> None:
        from tokenizers import Tokenizer

        self.proto = proto
        parts = json.loads(proto)
        self._model = Tokenizer.from_str(json.dumps(parts["tokenizer"]))
        self._model.no_truncation()
        self._model.no_padding()
        self._model.encode_special_tokens = True  # "[SEP]" in a caption is text; it must not end the caption
        self.bos: int = parts["bos"]
        self.eos: int = parts["eos"]
        self.foreign: bool = parts.get("foreign", False)
        self.vocab_size = 1 + max(self._model.get_vocab(with_added_tokens=True).values())

    @classmethod
    def load(cls, source: str, revision: str | None = None) -> HubTokenizer:
        """Read a tokenizer by its name on the hub, or from a folder.

        Captions begin with its cls_token, else its bos_token, else its pad_token, and end with its sep_token, else its
        eos_token.

        Raises:
            OSError: there is none.
            ValueError: it is not of the `tokenizers` library, or has no tokens to begin and end a caption.
        """
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision or "main")
        if not tokenizer.is_fast:
            raise ValueError(f"the tokenizer of {source} has no tokenizer.json; save it with the `tokenizers` library")
        own = [tokenizer.cls_token_id, tokenizer.bos_token_id]
        bos = _first(*own, tokenizer.pad_token_id)
        eos = _first(tokenizer.sep_token_id, tokenizer.eos_token_id)
        if bos is None or eos is None:
            raise ValueError(
                f"the tokenizer of {source} must have tokens to begin and end captions: a cls_token, bos_token or "
                f"pad_token, and a sep_token or eos_token; it has {tokenizer.special_tokens_map}"
            )
        parts = {"tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()), "bos": bos, "eos": eos}
        if _first(*own) is None:
            parts["foreign"] = True
        return cls(json.dumps(parts).encode())

    def encode(self, captions: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Token ids of each caption, `bos ... eos`; just these two for a caption without text.

        Args:
            captions: any unicode.
            max_tokens: of a caption, `bos` and `eos` among them. The end of a longer one is cut off; `eos` stays.
        """
        room = None if max_tokens is None else max_tokens - 2
        # One by one: a batch starts threads, which do not survive the fork of the data loader's workers.
        pieces = (self._model.encode(caption, add_special_tokens=False).ids for caption in captions)
        return [[self.bos, *ids[:room], self.eos] for ids in pieces]

    def decode(self, captions: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of token ids, without special tokens and ids that no piece has."""
        return [self._model.decode([i for i in ids if 0 <= i < self.vocab_size]) for ids in captions]

    def __reduce__(self) -> tuple[type[HubTokenizer], tuple[bytes]]:
        return HubTokenizer, (self.proto,)


def _first(*ids: int | None) -> int | None:
    return next((i for i in ids if i is not None), None)
