"""Captions of any characters, and configurations of any values."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from fuzz_tools import Rng, changed, damaged, odd_text, odd_value, one_of, told

from slap.core.files import read_yaml
from slap.core.registry import plugins
from slap.datamodules import AudioTextData
from slap.datamodules.captions.validate import LONGEST, text_error
from slap.encoders.text_transformer import TextTransformer
from slap.model.specs import build_objectives
from slap.nn.tokenizer import SentencePieceTokenizer
from slap.testing.tiny import CAPTIONS


@cache
def encoder() -> TextTransformer:
    """A text encoder that knows a few words."""
    made = TextTransformer(size="nano", vocab_size=300)
    made.prepare(iter(CAPTIONS))
    return made


def captions(rng: Rng, folder: Path) -> None:
    """A caption is found to be none, or becomes tokens, no more than the encoder takes, and text again."""
    del folder
    texts = [odd_text(rng) for _ in range(int(rng.integers(1, 5)))]
    faults = [text_error(text) for text in texts]
    for text, fault in zip(texts, faults, strict=True):
        (fault or "").encode()  # a message can be written
        assert fault or (text.strip() and len(text) <= LONGEST)
    good = [text for text, fault in zip(texts, faults, strict=True) if not fault]
    if not good:
        return
    tokens = encoder().tokenize(good)
    assert len(tokens) == len(good)
    assert tokens.max_length <= encoder().max_tokens
    assert 0 <= int(tokens.values.min()) <= int(tokens.values.max()) < encoder().vocab_size
    assert len(encoder().detokenize(tokens)) == len(good)


OPTIONS = [name for name in inspect.signature(AudioTextData).parameters if name not in ("train", "val", "test")]


def options_of_data(rng: Rng, folder: Path) -> None:
    """Options of the data module are taken, or refused with a message."""
    options: dict[str, Any] = {}
    for _ in range(int(rng.integers(1, 4))):
        options[one_of(OPTIONS, rng)] = odd_value(rng)
    manifests = odd_value(rng) if rng.random() < 0.2 else [str(folder / "m.csv")]
    try:
        AudioTextData(manifests, **options)
    except (TypeError, ValueError, OSError, AttributeError, ModuleNotFoundError) as error:
        told(error)


OBJECTIVES = {
    "contrastive": 1.0,
    "masked_distillation": {"weight": 1.0, "prototypes": 8, "hidden": 8, "bottleneck": 4},
    "captioning": {"weight": 0.5, "layers": 1, "heads": 2, "width": 8, "hidden": 8},
}


def options_of_objectives(rng: Rng, folder: Path) -> None:
    """Objectives of odd options are made, or refused with a message."""
    del folder
    specs = changed(OBJECTIVES, rng)
    if not isinstance(specs, dict):
        return
    known = plugins("objective")
    specs = {
        name: spec for name, spec in specs.items() if (isinstance(name, str) and name in known) or rng.random() < 0.2
    }
    try:
        build_objectives(specs)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        told(error)


CONFIG = yaml.safe_dump(
    {"recipe": "base", "plugins": [], "model": {"objectives": OBJECTIVES}, "data": {"max_bad": 0.1}}
)


def configuration(rng: Rng, folder: Path) -> None:
    """YAML of any bytes is read as plain data or refused, and makes no objects."""
    raw = damaged(CONFIG.encode(), rng)
    if rng.random() < 0.3:
        raw += one_of(
            [b"x: !!python/object/apply:os.system ['touch mark']\n", b"x: &a [*a]\n", b"!!python/name:os.system\n"], rng
        )
    path = folder / "config.yaml"
    path.write_bytes(raw)
    try:
        found = read_yaml(path)
    except ValueError as error:
        told(error)
    else:
        assert isinstance(found, dict)


@cache
def proto() -> bytes:
    """The bytes of a tokenizer."""
    tokenizer = encoder().tokenizer
    assert tokenizer is not None
    return tokenizer.proto


def tokenizers(rng: Rng, folder: Path) -> None:
    """A damaged tokenizer is refused with a message, or tokenizes."""
    del folder
    try:
        SentencePieceTokenizer(damaged(proto(), rng)).encode(["a dog barks"])
    except (ValueError, RuntimeError) as error:
        told(error)
