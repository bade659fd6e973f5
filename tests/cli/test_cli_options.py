"""Every recipe offers every option of its parent that it does not set itself, with the parent's help."""

import inspect
from functools import cache

import pytest
import yaml
from jsonargparse import ArgumentParser

from slap.cli.main import main
from slap.cli.recipe_cli import load
from slap.cli.recipe_source import PARTS, built_in
from slap.datamodules import AudioTextData
from slap.datamodules.corpora import digits_and_sounds as corpus
from slap.datamodules.corpora import open_sounds_data
from slap.datamodules.synthetic import SyntheticData
from slap.recipes import (
    _labeled,
    base,
    captioning,
    classification,
    demo,
    digits_and_sounds,
    finetune,
    open_sounds,
    own_data,
    retrieval,
    wavcaps,
)
from slap.training import trainer as training
from slap.training.module import SLAP

ROOTS = (SLAP, AudioTextData, training.trainer)

PARENTS = {
    base.model: (SLAP, ""),
    base.data: (AudioTextData, ""),
    base.trainer: (training.trainer, ""),
    demo.model: (base.model, ""),
    SyntheticData: (AudioTextData, "max_clip prompts"),
    demo.data: (SyntheticData, ""),
    demo.trainer: (base.trainer, ""),
    digits_and_sounds.model: (demo.model, ""),
    corpus.data_module: (AudioTextData, "train val test repeats prompts transforms in_memory"),
    digits_and_sounds.data: (corpus.data_module, ""),
    digits_and_sounds.trainer: (base.trainer, ""),
    open_sounds.model: (base.model, ""),
    open_sounds_data.data_module: (AudioTextData, "train val test"),
    open_sounds.data: (open_sounds_data.data_module, "transforms"),
    open_sounds.trainer: (base.trainer, ""),
    finetune.model: (base.model, ""),
    finetune.data: (base.data, "disjoint"),
    finetune.trainer: (base.trainer, ""),
    own_data.model: (base.model, ""),
    own_data.data: (base.data, "disjoint"),
    own_data.trainer: (base.trainer, ""),
    retrieval.model: (finetune.model, ""),
    retrieval.data: (finetune.data, "train val test"),
    retrieval.trainer: (finetune.trainer, ""),
    captioning.model: (finetune.model, ""),
    captioning.data: (finetune.data, ""),
    captioning.trainer: (finetune.trainer, ""),
    wavcaps.model: (finetune.model, ""),
    wavcaps.data: (finetune.data, "train val"),
    wavcaps.trainer: (finetune.trainer, ""),
    _labeled.model: (finetune.model, "objectives"),
    _labeled.data: (finetune.data, ""),
    classification.model: (_labeled.model, ""),
    classification.data: (_labeled.data, ""),
    classification.trainer: (finetune.trainer, "monitor"),
}
"""The parent of each function that a recipe is made of, and the parent's options that the function sets itself."""

REQUIRED = {
    "base": ["--data.train", "[train.csv]"],
    "finetune": ["--data.train", "[train.csv]"],
    "digits_and_sounds": ["--data.root", "root"],
}
UNKNOWN = {"model": ("betass", "betas"), "data": ("max_badd", "max_bad"), "trainer": ("precison", "precision")}
"""A wrong option of each part, and the option of the root that is the nearest one."""


@cache
def help_of(function):
    """Return the options that the command line makes of a function or a class, each with its help."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if inspect.isclass(function) else parser.add_function_arguments
    add(function)
    known = set(parser.get_defaults().keys())
    return {action.dest: action.help for action in parser._actions if action.dest in known}


def signature_of(function):
    """Return the arguments that a function names itself."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}


def title(function):
    return f"{function.__module__}.{function.__name__}".removeprefix("slap.")


@pytest.mark.parametrize("function", PARENTS, ids=title)
def test_every_option_of_the_parent_is_offered(function):
    parent, sets_itself = PARENTS[function]
    offered, inherited = help_of(function), help_of(parent)
    own, hidden = signature_of(function), set(sets_itself.split())
    assert hidden <= set(inherited), "the recipe sets an option that its parent does not have"
    assert set(offered) == own | (set(inherited) - hidden)
    assert [name for name in set(offered) - own if offered[name] != inherited[name]] == []
    assert [name for name, text in offered.items() if not text and name != "plugins"] == []  # Lightning says nothing


def test_every_function_of_a_recipe_descends_from_a_root():
    for name in built_in():
        recipe = load(name)
        for part, root in zip(PARTS, ROOTS, strict=True):
            function = getattr(recipe, part)
            while function in PARENTS:
                function = PARENTS[function][0]
            assert function is root, f"{part} of the recipe {name} is not in PARENTS"
    assert help_of(training.trainer).keys() >= {"out", "max_steps", "precision", "devices"}  # and Lightning's own


@pytest.mark.parametrize("recipe", built_in())
def test_the_command_line_has_these_options(recipe, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--recipe", recipe, *REQUIRED.get(recipe, []), "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    found = load(recipe)
    for part in PARTS:
        linked = {target.removeprefix(f"{part}.") for target in found.links}
        assert set(config[part]) == set(help_of(getattr(found, part))) - linked


@pytest.mark.parametrize("part", UNKNOWN)
@pytest.mark.parametrize("recipe", built_in())
def test_an_unknown_option_is_refused_with_a_suggestion(recipe, part, capsys):
    wrong, nearest = UNKNOWN[part]
    assert main(["fit", "--recipe", recipe, *REQUIRED.get(recipe, []), f"--{part}.{wrong}=1"]) == 2
    assert f"did you mean '--{part}.{nearest}'" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", built_in())
def test_python_refuses_an_unknown_option_too(recipe):
    with pytest.raises(TypeError, match="betass"):
        load(recipe).model(betass=1)
    with pytest.raises(ValueError, match="no option 'precison'; did you mean 'precision'"):
        load(recipe).trainer(precison=1)


def test_transforms_come_from_the_command_line_too(capsys):
    gain = {"class_path": "slap.datamodules.augment.basic.RandomGain", "init_args": {"low": -6.0}}
    options = [*REQUIRED["base"], f"--data.transforms=[{gain}]", "--data.data_root=[/tmp]"]
    with pytest.raises(SystemExit):
        main(["fit", "--recipe", "base", *options, "--print_config"])
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert data["transforms"][0]["class_path"].endswith(".RandomGain")
    assert data["transforms"][0]["init_args"]["low"] == -6.0
    assert data["data_root"] == ["/tmp"]


def test_an_unknown_option_of_any_command_names_the_nearest(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["search", "sounds.index", "dog", "--tops=3"])
    assert "unrecognized arguments: --tops=3; did you mean '--top'? valid are: --help" in capsys.readouterr().err
