"""Tokenizers for captions: sub-word units, as a sentencepiece model, and training one.

A tokenizer is held as its bytes. They are few (some hundred kilobytes), so it travels inside checkpoints and to the
data loader's workers.
"""

from __future__ import annotations

import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import sentencepiece

from slap.core.errors import UserError

UNKNOWN, BOS, EOS = 0, 1, 2
"""The ids of the special tokens of every tokenizer that `train_tokenizer` makes; sentencepiece's own defaults."""

MOST_CAPTIONS = 1_000_000
"""Maximal number of captions to learn a tokenizer from: more change its pieces little, and cost memory and minutes."""

LONGEST_CAPTION = 16_384
"""Maximal length of a caption to learn from, in UTF-8 bytes. Sentencepiece aborts the process at 65,536 characters."""


class Tokenizer(ABC):
    """Base of tokenizers: captions to token ids and back. A tokenizer is rebuilt from its bytes.

    Args:
        proto: the bytes.

    Attributes:
        proto: the same bytes.
        vocab_size: token ids are below it.
        bos: the token that begins every caption.
        eos: the token that ends every caption.
    """

    vocab_size: int
    bos: int
    eos: int
    _model: Any

    def __init__(self, proto: bytes) -> None:
        self.proto = proto

    def encode(self, captions: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Turn each caption into token ids, `bos ... eos`; a caption without text becomes these two alone.

        Args:
            captions: any unicode.
            max_tokens: maximal number of tokens per caption, `bos` and `eos` included. Longer captions lose their end;
                `eos` stays.

        Raises:
            UnicodeEncodeError: a caption holds half of a surrogate pair, which is no unicode text.
        """
        room = None if max_tokens is None else max_tokens - 2
        return [[self.bos, *ids[:room], self.eos] for ids in self._encode(captions)]

    def decode(self, captions: Sequence[Sequence[int]]) -> list[str]:
        """Turn each list of token ids into text, as the tokenizer normalizes it.

        Special tokens are left out. So are ids beyond the vocabulary, since a decoder may have a larger one.
        """
        return [self._model.decode([piece for piece in ids if self._is_text(piece)]) for ids in captions]

    @abstractmethod
    def _encode(self, captions: Sequence[str]) -> Iterable[list[int]]:
        """Return the token ids of each caption, without `bos` and `eos`."""

    def _is_text(self, piece: int) -> bool:
        return 0 <= piece < self.vocab_size

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        return type(self), (self.proto,)


class SentencePieceTokenizer(Tokenizer):
    """The tokenizer of a sentencepiece model.

    Args:
        proto: a serialized sentencepiece model, i.e. the content of its `.model` file.

    Raises:
        ValueError: the bytes are no sentencepiece model, or it has no tokens for the beginning and the end.

    Example:
        >>> tokenizer = train_tokenizer(["a dog barks", "a dog and a cat"], vocab_size=300)
        >>> tokenizer.decode(tokenizer.encode(["A cat barks 😀", ""]))
        ['a cat barks 😀', '']
        >>> tokenizer.encode([""]) == [[tokenizer.bos, tokenizer.eos]]
        True
    """

    def __init__(self, proto: bytes) -> None:
        super().__init__(proto)
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(proto)
        except RuntimeError as error:
            raise UserError(f"these {len(proto)} bytes are no sentencepiece model") from error
        self.vocab_size = self._model.vocab_size()
        if not self.vocab_size:  # sentencepiece takes an empty file for a model without pieces
            raise UserError(f"these {len(proto)} bytes are no sentencepiece model: it has no pieces")
        self.bos, self.eos = self._model.bos_id(), self._model.eos_id()
        if self.bos < 0 or self.eos < 0:
            raise UserError("the sentencepiece model lacks <s> or </s>; train it with both, as `slap tokenizer` does")

    def _encode(self, captions: Sequence[str]) -> Iterable[list[int]]:
        # What no piece covers becomes bytes. One thread: this runs in the data loader's workers, which share the cores.
        pieces: list[list[int]]
        pieces = self._model.encode([caption.encode() for caption in captions], out_type=int, num_threads=1)
        return pieces

    def _is_text(self, piece: int) -> bool:
        return super()._is_text(piece) and not self._model.is_control(piece) and not self._model.is_unknown(piece)

    def save(self, path: str | Path) -> None:
        """Write the sentencepiece model to a file, which appears as a whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(self.proto)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> SentencePieceTokenizer:
        """Read a sentencepiece model.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no sentencepiece model.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no tokenizer {path}; make one with `slap tokenizer MANIFEST {path}`")
        try:
            return cls(Path(path).read_bytes())
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error


def train_tokenizer(
    captions: Iterable[str], vocab_size: int = 8000, most: int = MOST_CAPTIONS
) -> SentencePieceTokenizer:
    """Learn a tokenizer: byte-pair encoding of text in lower case, with bytes for rare characters.

    The same captions in the same order give the same bytes, on every process and machine, so that the processes of a
    distributed run need not exchange it. The paper takes ModernBERT's tokenizer; this one is our choice. The case
    of letters says little in captions, so they are normalized by NFKC and case folding (sentencepiece's `nmt_nfkc_cf`),
    and decoding gives lower case.

    Args:
        captions: the captions to learn from. Those without text, and those above 16,384 bytes, are skipped.
        vocab_size: maximal number of pieces; a few captions may yield fewer.
        most: number of captions to read; the rest is not read.

    Raises:
        ValueError: no caption has any text, or `vocab_size` is too small; the message gives the smallest valid one.
    """
    texts = [text for text in (caption.encode() for caption in islice(captions, most)) if text.strip()]
    texts = [text for text in texts if len(text) <= LONGEST_CAPTION]
    if not texts:
        raise UserError(
            f"there is nothing to learn a tokenizer from: no caption has text of 1 to {LONGEST_CAPTION} bytes"
        )
    proto = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=proto,
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc_cf",
            max_sentence_length=LONGEST_CAPTION,
            num_threads=1,  # with more, ties could be broken differently
            unk_id=UNKNOWN,
            bos_id=BOS,
            eos_id=EOS,
            pad_id=-1,  # nothing is ever padded
            minloglevel=3,
        )
    except RuntimeError as error:
        raise UserError(_readable(str(error), vocab_size, len(texts))) from error
    return SentencePieceTokenizer(proto.getvalue())


def _readable(message: str, vocab_size: int, captions: int) -> str:
    """Turn a message of sentencepiece, which names its source lines, into one that says what to change."""
    needed = re.search(r"Vocabulary size is smaller than required_chars. \d+ vs (\d+)", message)
    if needed:
        return (
            f"vocab_size {vocab_size} is too small: these captions need at least {needed[1]}, "
            f"for 3 special tokens, 256 bytes and their characters"
        )
    return f"sentencepiece cannot learn from these {captions} captions: {message}"
