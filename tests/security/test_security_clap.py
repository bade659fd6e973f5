"""Canaries for the promise of SECURITY.md about folders of CLAP models: fixed names, nothing followed, nothing asked.

transformers' own readers followed links, `index.json` and `config.json` to other files, and asked to run code.
"""

import builtins
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import hub_models
import slap
from slap.core.errors import UserError

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")

TEXT = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
TEXTS = ["a dog barks", "rain"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path_factory.mktemp("clap")
    config = transformers.ClapConfig(text_config=TEXT, audio_config=hub_models.CLAP, projection_dim=12)
    transformers.ClapModel(config).save_pretrained(folder)
    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "do", "<mask>"]
    tokenizer = transformers.RobertaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[("d", "o")])
    tokenizer.save_pretrained(folder)
    transformers.ClapFeatureExtractor(**hub_models.CLAP_EXTRACTOR).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nd o\n")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, beside files of somebody; nobody answers questions."""

    def asked(*_: object) -> str:
        raise AssertionError("a question is asked")

    monkeypatch.setattr(builtins, "input", asked)
    shutil.copytree(made, tmp_path / "clap")
    shutil.copytree(made, tmp_path / "elsewhere")
    return tmp_path / "clap"


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


NAMES = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("name", NAMES)
def test_links_out_of_a_clap_folder_are_not_followed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(folder.parent / "elsewhere" / name)
    with pytest.raises(UserError, match="is a link out of its folder"):
        slap.load(folder)


@pytest.mark.parametrize("name", ["../elsewhere/model.safetensors", "{folder}/model.safetensors", "link.safetensors"])
def test_an_index_names_files_of_its_folder(folder: Path, name: str) -> None:
    weights = folder.parent / "elsewhere" / "model.safetensors"
    (folder / "model.safetensors").unlink()
    (folder / "link.safetensors").symlink_to(weights)
    name = name.format(folder=weights.parent)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"logit_scale_a": name}}))
    with pytest.raises(UserError, match=r"it must be the name of a file in this folder|is a link out of its folder"):
        slap.load(folder)


def test_weights_in_several_files(folder: Path, made: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    half = len(state) // 2
    parts = {"a.safetensors": dict([*state.items()][:half]), "b.safetensors": dict([*state.items()][half:])}
    for name, part in parts.items():
        save_file(part, folder / name, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    places = {key: name for name, part in parts.items() for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert slap.load(folder).name == slap.load(made).name


def test_what_the_folder_names_besides_is_not_read(folder: Path, made: Path) -> None:
    """Each of these sends transformers to other files, or to code."""
    elsewhere = str(folder.parent / "elsewhere")
    change(
        folder / "config.json",
        transformers_weights="../elsewhere/model.safetensors",
        quantization_config={"quant_method": "bitsandbytes"},
        attn_implementation="somebody/kernel",
        auto_map={"AutoModel": "evil.Model"},
    )
    change(
        folder / "tokenizer_config.json", tokenizer_file="/etc/passwd", vocab_file="/etc/passwd", auto_map={"a": "b"}
    )
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": elsewhere, "peft_type": "LORA"}))
    (folder / "evil.py").write_text("raise SystemExit")
    model, same = slap.load(folder), slap.load(made)
    assert model.name == same.name
    assert torch.equal(model.embed_text(TEXTS), same.embed_text(TEXTS))


@pytest.mark.parametrize(
    "entry", [{"auto_map": {"AutoFeatureExtractor": "evil.E"}}, {"feature_extractor_type": "Evil"}]
)
def test_a_feature_extractor_of_ones_own_is_refused_unasked(folder: Path, entry: dict) -> None:
    change(folder / "preprocessor_config.json", **entry)
    with pytest.raises(UserError, match="whose code would have to run"):
        slap.load(folder)


HUGE = {
    "a vocabulary": {"text_config": {**TEXT, "vocab_size": 10**9}},
    "layers": {"text_config": {**TEXT, "num_hidden_layers": 10**7}},
    "depths": {"audio_config": {**hub_models.CLAP, "depths": [10**9, 1]}},
    "positions": {"text_config": {**TEXT, "max_position_embeddings": 10**12}},
    "a projection": {"projection_dim": 10**10},
}


@pytest.mark.parametrize("entries", HUGE.values(), ids=HUGE)
def test_a_clap_model_is_weighed_before_it_is_made(folder: Path, entries: dict) -> None:
    change(folder / "config.json", **entries)
    with pytest.raises(UserError, match=r"it is not made|no model can be made|layers are made|describes no CLAP model"):
        slap.load(folder)


def test_a_table_of_filters_is_weighed(folder: Path) -> None:
    change(folder / "preprocessor_config.json", fft_window_size=10**9)
    with pytest.raises(UserError, match=r"fft_window_size is 1000000000; at most|a table of .* mel filters"):
        slap.load(folder)


def test_a_vocabulary_without_tokenizer_json(folder: Path, made: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert torch.equal(slap.load(folder).embed_text(TEXTS), slap.load(made).embed_text(TEXTS))


def test_the_cache_of_the_hub_keeps_links_to_its_blobs(made: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--laion--clap"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shutil.copytree(made, repository / "blobs")
    for file in (repository / "blobs").iterdir():
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / file.name)
    assert slap.load(snapshot).name == slap.load(made).name


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UserError, match="no model that is known here"):
        slap.load(tmp_path)
