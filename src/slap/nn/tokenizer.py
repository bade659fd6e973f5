"""Sub-word tokens for captions: a sentencepiece model that is held as its bytes, and training one.

A tokenizer is small (a few hundred kilobytes), so it travels inside checkpoints and to the data loader's workers.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import sentencepiece

UNKNOWN, BOS, EOS = 0, 1, 2
"""The ids of the special tokens of every tokenizer that `train_tokenizer` makes; sentencepiece's own defaults."""

MOST_CAPTIONS = 1_000_000
"""Captions that a tokenizer is learnt from: more change its pieces little, and cost memory and minutes."""

LONGEST_CAPTION = 16_384
"""UTF-8 bytes; longer captions are not learnt from. Sentencepiece aborts the process at words of 65,536 characters."""


class Tokenizer:
    """Captions to token ids and back.

    Args:
        proto: a serialized sentencepiece model, i.e. the content of its `.model` file.

    Attributes:
        proto: the same bytes.
        vocab_size: pieces; token ids are below it.
        bos: the token that begins every caption.
        eos: the token that ends every caption.

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
        self.proto = proto
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(proto)
        except RuntimeError as error:
            raise ValueError(f"these {len(proto)} bytes are no sentencepiece model") from error
        self.vocab_size: int = self._model.vocab_size()
        if not self.vocab_size:  # sentencepiece takes an empty file for a model without pieces
            raise ValueError(f"these {len(proto)} bytes are no sentencepiece model: it has no pieces")
        self.bos: int = self._model.bos_id()
        self.eos: int = self._model.eos_id()
        if self.bos < 0 or self.eos < 0:
            raise ValueError("the sentencepiece model lacks <s> or </s>; train it with both, as `slap tokenizer` does")

    def encode(self, captions: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Token ids of each caption, `bos ... eos`; just these two for a caption without text.

        Args:
            captions: any unicode; what no piece covers becomes bytes.
            max_tokens: of a caption, `bos` and `eos` among them. The end of a longer one is cut off; `eos` stays.

        Raises:
            UnicodeEncodeError: a caption holds half of a surrogate pair, which is no unicode text.
        """
        # One thread: this runs in the data loader's workers, which share the cores already.
        pieces = self._model.encode([caption.encode() for caption in captions], out_type=int, num_threads=1)
        room = None if max_tokens is None else max_tokens - 2
        return [[self.bos, *ids[:room], self.eos] for ids in pieces]

    def decode(self, captions: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of token ids, as normalized: lower case, single spaces.

        Special tokens are left out, and ids that no piece has too: a decoder over a larger vocabulary can emit them.
        """
        return [self._model.decode([piece for piece in ids if self._is_text(piece)]) for ids in captions]

    def _is_text(self, piece: int) -> bool:
        known = 0 <= piece < self.vocab_size
        return known and not self._model.is_control(piece) and not self._model.is_unknown(piece)

    def save(self, path: str | Path) -> None:
        """Write the sentencepiece model. The file appears when it is whole, or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(self.proto)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a sentencepiece model.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no sentencepiece model.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no tokenizer {path}; make one with `slap tokenizer MANIFEST {path}`")
        try:
            return cls(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        return Tokenizer, (self.proto,)


def train_tokenizer(captions: Iterable[str], vocab_size: int = 8000, most: int = MOST_CAPTIONS) -> Tokenizer:
    """Learn a tokenizer: byte-pair encoding with bytes for rare characters, over text in lower case.

    The same captions in the same order give the same bytes, on every process and machine, so that the processes of a
    distributed run need not exchange it. The paper takes ModernBERT's tokenizer; this one is ours. Captions carry
    little in their case, so they are normalized by NFKC and case folding (sentencepiece's `nmt_nfkc_cf`) and decoding
    gives lower case.

    Args:
        captions: to learn from. Captions without text, and those above 16,384 bytes, are passed over.
        vocab_size: pieces at most; few captions may not have that many to learn.
        most: the first so many captions are read, and no more.

    Raises:
        ValueError: no caption has any text, or `vocab_size` is too small; says the smallest that would do.
    """
    texts = [text for text in (caption.encode() for caption in islice(captions, most)) if text.strip()]
    texts = [text for text in texts if len(text) <= LONGEST_CAPTION]
    if not texts:
        raise ValueError(
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
        raise ValueError(_complaint(str(error), vocab_size, len(texts))) from error
    return Tokenizer(proto.getvalue())


def _complaint(message: str, vocab_size: int, captions: int) -> str:
    """Sentencepiece names its source lines; what a person can do about it is in the numbers."""
    needed = re.search(r"Vocabulary size is smaller than required_chars. \d+ vs (\d+)", message)
    if needed:
        return (
            f"vocab_size {vocab_size} is too small: these captions need at least {needed[1]}, "
            f"for 3 special tokens, 256 bytes and their characters"
        )
    return f"sentencepiece cannot learn from these {captions} captions: {message}"
