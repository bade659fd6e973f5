"""The smallest complete examples of CONTRIBUTING.md work, and what else describes the project is in order."""

import argparse
import sys
import tomllib

import pytest
import soundfile
import yaml

import pages
from slap.cli.main import main
from slap.cli.recipe_cli import load
from slap.core.registry import load_module
from slap.evaluation.benchmarks import Dataset
from slap.testing import check_audio_encoder, check_objective
from slap.testing.tiny import tiny_checkpoint

PAGE = pages.Page("CONTRIBUTING.md")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The examples, each in the file that its first line names; the working directory."""
    for block in PAGE.blocks("python"):
        path = tmp_path / block.splitlines()[0].removeprefix("# ")
        assert path.suffix == ".py"
        path.write_text(block)
        monkeypatch.delitem(sys.modules, path.stem, raising=False)  # another test of this process may have one
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if _lies_in(module, tmp_path)]:
        del sys.modules[name]


def _lies_in(module, folder):
    return str(getattr(module, "__file__", None) or "").startswith(str(folder))


def test_the_loss(files):
    check_objective(load_module(str(files / "my_losses.py")).Spread())


def test_the_encoder(files):
    check_audio_encoder(load_module(str(files / "my_encoder.py")).Frames())


def test_the_corpus(files, capsys):
    (files / "birds/audio").mkdir(parents=True)
    (files / "birds/captions.txt").write_text("a\tan owl\nb\ta robin\n")
    soundfile.write(files / "birds/audio/a.wav", [0.1, -0.1] * 4000, 16_000)
    assert main(["prepare", "birds", "birds", "out", "--workers", "0", "--plugins", "my_corpus.py"]) == 0
    printed = capsys.readouterr().out
    assert "found               1" in printed
    assert "missing             1" in printed


def test_the_benchmark():
    (table,) = PAGE.blocks("toml")
    for name, values in tomllib.loads(table).items():
        assert Dataset(name=name, **values).test == ["all"]


def test_the_command(files, capsys):
    module = load_module(str(files / "seconds.py"))
    tiny_checkpoint("model.ckpt")
    parser = argparse.ArgumentParser()
    module.configure(parser)
    assert module.run(parser.parse_args(["model.ckpt"])) == 0
    assert float(capsys.readouterr().out) > 0


def test_the_recipe(files):
    recipe = load("my_recipe.py")
    assert recipe.model(warmup_steps=7).hparams["warmup_steps"] == 7
    assert recipe.model().hparams["lr"] == 3e-4


def test_the_citation_names_the_version_and_the_paper():
    citation = yaml.safe_load((pages.ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert "2601.12594" in citation["references"][0]["url"]


@pytest.mark.parametrize("name", ["ci", "release"])
def test_workflows_call_targets_that_exist(name):
    workflow = yaml.safe_load((pages.ROOT / f".github/workflows/{name}.yml").read_text())
    makefile = (pages.ROOT / "Makefile").read_text()
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = [target for command in commands if command.startswith("make ") for target in command.split()[1:]]
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
