"""Options read from a recipe's source are those that LightningCLI resolves by importing it."""

import subprocess
import sys

import pytest

from slap.cli.recipe_cli import RecipeCLI, load
from slap.cli.recipe_source import COMMON, PARTS, built_in, description, module_of, offered, refuse_unknown


def options_of(recipe):
    with pytest.MonkeyPatch.context() as patch:
        made = []
        patch.setattr(RecipeCLI, "parse_arguments", lambda self, parser, args: made.append(parser) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            RecipeCLI("fit", "Train.", load(recipe), [], [])
    return {option for action in made[0]._actions for option in action.option_strings if option.startswith("--")}


@pytest.mark.parametrize("recipe", built_in())
def test_source_and_parser_agree(recipe):
    real = {option.removesuffix("+") for option in options_of(recipe)}
    told = {f"--{part}.{name}" for part in PARTS for name in offered(module_of(recipe), part)}
    groups = {option for option in real if option.removeprefix("--").split(".")[0] in PARTS}
    assert {option for option in groups if not option.endswith(".help") and "." in option} == told
    assert real - groups <= {*COMMON}


@pytest.mark.parametrize("recipe", built_in())
def test_descriptions_are_the_docstrings(recipe):
    assert description(module_of(recipe)).split("\n")[0] == load(recipe).description.split("\n")[0]


OUTSIDE = """
from lightning.pytorch import Trainer
from slap import SLAP
from slap.datamodules import AudioTextData
from slap.recipes import demo

LINKS = {"trainer.tag": "data.tag"}

def model(width: int = 3, **options) -> SLAP:
    return demo.model(lr=width / 100, **options)

def data(tag: str = "", **rest) -> AudioTextData:
    return AudioTextData([], max_duration=3.0, **rest)

def trainer(tag: str = "", **rest) -> Trainer:
    return elsewhere[0](**rest)
"""


def test_a_recipe_outside_the_package(tmp_path):
    path = tmp_path / "outside_recipe.py"
    path.write_text(OUTSIDE)
    model, data = offered(str(path), "model"), offered(str(path), "data")
    assert "width" in model
    assert "lr" not in model
    assert {"tag", "val", "window"} <= {*data}
    assert not {"train", "max_duration"} & {*data}
    assert offered(str(path), "trainer") is None  # not to be told from the source: the parser decides
    refuse_unknown(str(path), ["--trainer.anything", "1", "--data.window=3", "--model.help"])
    with pytest.raises(ValueError, match=r"--data\.max_duration; did you mean"):
        refuse_unknown(str(path), ["--data.max_duration", "3"])
    with pytest.raises(ValueError, match=r"unrecognized arguments: --modle\.lr; did you mean '--model'"):
        refuse_unknown(str(path), ["--modle.lr", "3"])


def test_nothing_heavy_is_imported_for_help_and_mistakes():
    code = (
        "import sys; from slap.cli.main import main\n"
        "main(['fit', '--help']); main(['fit', '--recipe', 'demo', '--model.lrr', '3'])\n"
        "print([name for name in ('torch', 'lightning', 'lhotse', 'slap.recipes.demo') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
