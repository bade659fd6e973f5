"""The files of a CLAP model that somebody else made, read as data by fixed names.

The readers of transformers follow what a folder says: names of weights in `index.json` and `config.json`, paths of
vocabularies in `tokenizer_config.json`, adapters, quantizers, kernels, classes to import. Here each file has a fixed
name, lies in the folder, and gives the entries that are listed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from slap.core.errors import UserError
from slap.core.files import file_inside, read_json
from slap.encoders.hf.pretrained import NOT_OF_THE_MODEL, check_layers, extractor_arguments

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PROCESSOR, EXTRACTOR, KIND = "processor_config.json", "preprocessor_config.json", "ClapFeatureExtractor"
TOKENIZER, TOKENS = "tokenizer.json", "tokenizer_config.json"
VOCABULARY, MERGES = "vocab.json", "merges.txt"

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "pad_token", "mask_token")
"""Tokens that `tokenizer_config.json` names."""

ROBERTA = dict(zip(SPECIAL, ("<s>", "</s>", "<unk>", "</s>", "<s>", "<pad>", "<mask>"), strict=True))
"""Their defaults: CLAP's text model is a RoBERTa."""


class ClapFiles:
    """The files of a folder that `ClapModel` and `ClapProcessor` were saved to.

    Args:
        folder: the folder. Links may lead nowhere else; those of the hub's cache lead to the blobs beside the snapshot.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        snapshot = folder.resolve()
        cached = snapshot.parent.name == "snapshots" and snapshot.parent.parent.name.startswith("models--")
        self.root = snapshot.parent.parent if cached else snapshot

    def config(self) -> Any:
        """Read the `ClapConfig`: the entries that it and its two parts have by themselves."""
        from transformers import ClapAudioConfig, ClapConfig, ClapTextConfig

        given = self._json(CONFIG)
        parts = {"text_config": ClapTextConfig, "audio_config": ClapAudioConfig}
        kept = _known(given, ClapConfig)
        kept |= {name: _known(given[name], kind) for name, kind in parts.items() if isinstance(given.get(name), dict)}
        for name in parts:
            check_layers(kept.get(name) or {})
        try:
            return ClapConfig(**kept)
        except Exception as error:  # transformers validates values with errors of its own
            raise UserError(f"{self.folder / CONFIG} describes no CLAP model: {error}") from error

    def weights(self) -> dict[str, Tensor]:
        """Read the weights, from one file of safetensors or from those that an index names.

        Raises:
            UserError: there are none, or a file is damaged or lies elsewhere.
        """
        if not (self.folder / WEIGHTS).is_file() and not (self.folder / INDEX).is_file():
            found = ", ".join(sorted(path.name for path in self.folder.iterdir()))
            raise UserError(
                f"{self.folder} has no weights as safetensors, and other formats are refused, since they can run code; "
                f"it has {found}. Convert them if you trust them: "
                "ClapModel.from_pretrained(FOLDER).save_pretrained(OTHER)"
            )
        names = [WEIGHTS] if (self.folder / WEIGHTS).is_file() else self._shards()
        weights: dict[str, Tensor] = {}
        for path in map(self._file, names):
            try:
                weights |= load_file(path)
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
        return weights

    def extractor(self) -> dict[str, Any]:
        """Read the arguments of the feature extractor.

        Raises:
            UserError: there is none, or it is of another class.
        """
        from transformers import ClapFeatureExtractor

        found = self._json(PROCESSOR).get("feature_extractor") if (self.folder / PROCESSOR).is_file() else None
        settings = found if isinstance(found, dict) else self._json(EXTRACTOR)
        kind = settings.get("feature_extractor_type", KIND)
        if kind != KIND or "auto_map" in settings:
            raise UserError(f"the feature extractor is {kind!r}, whose code would have to run; a {KIND} is read")
        return {name: settings[name] for name in extractor_arguments(ClapFeatureExtractor) if name in settings}

    def tokenizer(self) -> Any:
        """Read the tokenizer: `tokenizer.json`, or a vocabulary of RoBERTa with its merges.

        Raises:
            UserError: there is none, or it is damaged.
        """
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast, RobertaTokenizer

        settings = self._json(TOKENS) if (self.folder / TOKENS).is_file() else {}
        options: dict[str, Any] = {name: _token(settings.get(name), ROBERTA[name]) for name in SPECIAL}
        longest = settings.get("model_max_length")
        if isinstance(longest, int | float) and longest > 0:
            options["model_max_length"] = longest
        if not (self.folder / TOKENIZER).is_file():
            merges = self._file(MERGES).read_text(encoding="utf-8").splitlines()
            pairs = [tuple(line.split()) for line in merges if line and not line.startswith("#version")]
            return RobertaTokenizer(vocab=self._json(VOCABULARY), merges=pairs, **options)
        try:
            model = Tokenizer.from_str(self._file(TOKENIZER).read_text(encoding="utf-8"))
        except Exception as error:  # the library raises no narrower one
            raise UserError(f"{self.folder / TOKENIZER} is no tokenizer: {error}") from error
        return PreTrainedTokenizerFast(tokenizer_object=model, **options)

    def _shards(self) -> list[str]:
        named = self._json(INDEX).get("weight_map")
        values = sorted({*named.values()}, key=str) if isinstance(named, dict) else []
        if not values or not all(isinstance(name, str) and name.endswith(".safetensors") for name in values):
            raise UserError(f"{self.folder / INDEX} must map weights to the names of safetensors files in its folder")
        return values

    def _file(self, name: str) -> Path:
        return file_inside(self.folder, name, self.root)

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self._file(name))


def _known(given: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return the entries that a configuration has by itself, which are plain data."""
    known = {*kind().to_dict()} - NOT_OF_THE_MODEL - {"text_config", "audio_config"}
    return {name: value for name, value in given.items() if name in known}


def _token(given: Any, default: str) -> str:
    text = given.get("content") if isinstance(given, Mapping) else given
    return text if isinstance(text, str) and text else default
