"""The built-in plug-ins of every kind, each small enough for a test."""

import pytest

import hub_models
from slap.core.registry import arguments, build, kinds, plugins
from slap.testing.tiny import CAPTIONS

BUILT_IN = {kind: [name for name in plugins(kind) if not name.startswith(("toy_", "doctest_"))] for kind in kinds()}

SMALL = {
    "transformer": {"size": "nano", "vocab_size": 300},
    "modernbert": {"size": "tiny"},
    "hf-ast": {"config": hub_models.AST},
    "hf-whisper": {"config": hub_models.WHISPER},
    "hf-wav2vec2": {"config": hub_models.WAV2VEC2},
    "hf-clap": {"config": hub_models.CLAP, "extractor": hub_models.CLAP_EXTRACTOR},
    "hf-text": {"config": hub_models.BERT},
    "hf-clap-text": {"config": hub_models.CLAP_TEXT, "max_tokens": 30},
    "captioning": {"layers": 2, "heads": 2, "width": 32, "hidden": 32},
    "masked_distillation": {"prototypes": 32, "hidden": 32, "bottleneck": 16},
}
"""Arguments that make plug-ins quick; those that a plug-in of this name does not have are left out."""


def small(kind, name, folder):
    """Build a plug-in with arguments that make it quick; a tokenizer that it needs is saved in `folder`."""
    options = {key: value for key, value in SMALL.get(name, {}).items() if key in arguments(plugins(kind)[name])}
    if name.startswith("hf-"):
        pytest.importorskip("transformers", reason="needs the extra `hf`")
    if name in ("modernbert", "hf-text", "hf-clap-text"):
        options["tokenizer"] = str(word_tokenizer(folder))
    return build(kind, name, options)


def word_tokenizer(folder):
    """Save a tokenizer of transformers with the words of the tiny captions."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", ",", *sorted({word for line in CAPTIONS for word in line.split()})]
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, **names).save_pretrained(folder)
    return folder
