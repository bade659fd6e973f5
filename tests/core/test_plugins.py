"""Every registered plug-in keeps its promises, and one from outside the package needs nothing but its own file."""

import json
from pathlib import Path

import pytest
import torch

from slap.cli.main import main
from slap.core.registry import kinds, load_module, plugins
from slap.model.views import Views
from slap.testing import check_audio_encoder, check_objective, check_text_encoder, tiny_batch, tiny_model
from small_plugins import BUILT_IN, small

pytestmark = pytest.mark.usefixtures("fast_reports")

TOYS = Path(__file__).parents[1] / "support"


@pytest.mark.parametrize("name", BUILT_IN["audio encoder"])
def test_audio_encoders(name, tmp_path):
    check_audio_encoder(small("audio encoder", name, tmp_path))


@pytest.mark.parametrize("name", BUILT_IN["text encoder"])
def test_text_encoders(name, tmp_path):
    check_text_encoder(small("text encoder", name, tmp_path))


@pytest.mark.parametrize("name", BUILT_IN["objective"])
def test_objectives(name, tmp_path):
    check_objective(small("objective", name, tmp_path))


def test_the_built_in_plugins_are_registered():
    assert {"transformer", "hf-ast", "hf-clap", "hf-wav2vec2", "hf-whisper"} <= set(BUILT_IN["audio encoder"])
    assert {"transformer", "modernbert", "hf-clap-text", "hf-text"} <= set(BUILT_IN["text encoder"])
    assert {"contrastive", "sigmoid", "masked_distillation", "captioning"} <= set(BUILT_IN["objective"])


# -- from outside the package -----------------------------------------------------------------------------------------


@pytest.fixture
def outside():
    return load_module(str(TOYS / "my_plugins.py"))


def test_outside_plugins_keep_their_promises(outside):
    check_objective(outside.Spread())
    check_audio_encoder(outside.Spectrum())


def test_outside_plugins_train_from_python(outside, tmp_path):
    recipe = load_module(str(TOYS / "toy_recipe.py"))
    torch.manual_seed(0)
    model = recipe.model(
        audio={"name": "toy_spectrum", "hidden": 4},
        objectives={"contrastive": 1.0, "toy_spread": {"weight": 0.5, "temperature": 3.0}},
    )
    batch = tiny_batch(model)
    before = model.objectives["toy_spread"](Views(model, batch)).item()
    weights = model.audio.mlp[0].weight.clone()
    trainer = recipe.trainer(str(tmp_path), max_steps=20, num_sanity_val_steps=0)
    trainer.fit(model, datamodule=recipe.data())
    assert isinstance(model.audio, outside.Spectrum)
    assert not torch.equal(model.audio.mlp[0].weight, weights)
    assert model.objectives["toy_spread"](Views(model, batch)).item() < before


def test_outside_plugins_train_from_the_command_line(outside, tmp_path, capsys):
    options = ["--trainer.out", str(tmp_path), "--trainer.num_sanity_val_steps", "0", "--model.audio", "toy_spectrum"]
    objectives = ["--model.objectives", "{contrastive: 1.0, toy_spread: {weight: 0.1, temperature: 3.0}}"]
    command = ["fit", "--recipe", str(TOYS / "toy_recipe.py"), "--plugins", str(TOYS / "my_plugins.py")]
    assert main([*command, *options, *objectives]) == 0
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    assert checkpoint["state_dict"]["audio.mlp.0.weight"].shape == (8, 12)
    assert checkpoint["hyper_parameters"]["objectives"]["toy_spread"] == {"weight": 0.1, "temperature": 3.0}


def test_a_module_on_the_path_works_as_plugins_too(tmp_path, monkeypatch, capsys):
    tmp_path.joinpath("somebodys_losses.py").write_text(
        "from slap import Objective, register\n"
        "@register('toy_constant')\n"
        "class Constant(Objective):\n"
        "    '''Nothing to learn.'''\n"
        "    def forward(self, views):\n"
        "        return views.full.embedding.sum() * 0\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "--json", "--plugins", "somebodys_losses"]) == 0
    about = json.loads(capsys.readouterr().out)["objective"]["toy_constant"]
    assert about == {"about": "Nothing to learn.", "class": "somebodys_losses.Constant", "arguments": {}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.objectives", "{toy_sprad: 1.0}"],
            "did you mean 'toy_spread'? valid are: captioning, classification",
        ),
        (
            ["--model.objectives", "{toy_spread: {temprature: 1}}"],
            "objective 'toy_spread' has no argument 'temprature'; did you mean 'temperature'?",
        ),
        (["--model.audio", "toy_spectrm"], "there is no audio encoder 'toy_spectrm'; did you mean 'toy_spectrum'?"),
        (
            ["--model.audio", "{name: toy_spectrum, widht: 3}"],
            "has no argument 'widht'; did you mean 'width'? valid are: width, hidden",
        ),
    ],
)
def test_unknown_names_and_arguments_list_the_valid_ones(outside, options, message, capsys):
    command = ["fit", "--recipe", str(TOYS / "toy_recipe.py"), "--plugins", str(TOYS / "my_plugins.py")]
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err


# -- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_shows_arguments_and_defaults(capsys):
    assert main(["plugins"]) == 0
    text = capsys.readouterr().out
    assert "  contrastive: Symmetric contrastive loss" in text
    assert "      temperature: float = 0.07\n" in text
    assert "      size: str = 'base'\n" in text


def test_the_list_as_json_is_complete(outside, capsys):
    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {kind: [*names] for kind, names in listed.items()} == {kind: [*plugins(kind)] for kind in kinds()}
    assert listed["objective"]["toy_spread"] == {
        "about": "Pushes the clips of a batch apart (uniformity, arXiv 2005.10242).",
        "class": "my_plugins.Spread",
        "arguments": {"temperature": {"type": "float", "required": False, "default": 2.0}},
    }


class TwoLabels:
    """Training clips as an objective sees them that learns which labels there are."""

    def labels(self, task):
        return [("bark",), ("rain",)]


def test_a_model_of_any_registered_objectives_has_a_loss_for_each(tmp_path):
    names = BUILT_IN["objective"]
    model = tiny_model({name: {"objective": small("objective", name, tmp_path)} for name in names})
    views = Views(model, tiny_batch(model))
    for name in names:
        model.objectives[name].prepare(TwoLabels())
        output = model.objectives[name](views)
        assert (output[0] if isinstance(output, tuple) else output).isfinite()
