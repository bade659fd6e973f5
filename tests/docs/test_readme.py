"""The README works: its CSV, its commands, its Python, its loss and its links."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import pages
import slap
import tree_speech
from slap.cli.main import main
from slap.inference import shipped
from slap.testing.tiny import tiny_checkpoint

README = pages.Page("README.md")


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(README.text.splitlines()) <= 200
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", README.text) if not link.startswith("http")]
    assert len(targets) > 20
    files = [target.partition("#")[0] for target in targets if not target.startswith("#")]
    assert not [file for file in files if not (pages.ROOT / file).exists()]


@pytest.fixture
def fit():
    """The command, on a CSV of two clips, which are too few to be split."""
    (command,) = README.commands("slap fit --recipe own_data")
    return [*command[1:], *pages.SMALL, "--data.val=val.csv"]


def test_training_on_a_csv_and_testing_the_run(folder, capsys, fit):
    rows = (folder / "test.csv").read_text().splitlines()
    (folder / "test.csv").write_text(
        "\n".join(["id," + rows[0], *(f"test{n},{row}" for n, row in enumerate(rows[1:]))])
    )
    assert main([*fit, "--trainer.max_steps=2"]) == 0
    assert (folder / "runs/mine/config.yaml").is_file()
    printed = capsys.readouterr()
    assert "before training" in printed.out
    assert "fewer than 500 clips" in printed.err
    (test,) = README.commands("slap test --config runs/mine/")
    assert main(test[1:]) == 0
    assert "zero-shot, label" in capsys.readouterr().out


def test_the_recipe_in_python(folder):
    (source,) = [block for block in README.blocks("python") if "from slap.recipes" in block]
    made, _, trained = source.partition("trainer.fit(")
    names = {}
    exec(compile(made, "README.md", "exec"), names)
    assert names["model"].hparams["warmup_steps"] == names["trainer"].max_steps // 20
    assert type(names["data"]).__name__ == "AudioTextData"
    assert names["trainer"].default_root_dir == "runs/mine"
    assert trained.startswith("model, datamodule=data)")


def test_three_lines_with_the_model_that_comes_with_the_package(folder, tiny_checkpoint, capsys, monkeypatch):
    slap.load(tiny_checkpoint).save_pretrained(folder / "shipped")
    monkeypatch.setattr(shipped, "FOLDER", folder / "shipped")
    exec(compile(pages.Page("README.md", "Three lines").blocks("python")[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() in ("dog", "rain", "a spoken digit")


def test_using_the_trained_model(folder, capsys, fit):
    """The run of the README, then everything that its section on use shows."""
    assert main([*fit, "--trainer.max_steps=1"]) == 0
    assert torch.load("runs/mine/best.ckpt", weights_only=True)["max_seconds"] == 8.0
    use = pages.Page("README.md", "Use a trained model")
    exec(compile(use.blocks("python")[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.split("\n")[-2].split()[0] in ("dog", "rain")
    commands = use.commands()
    assert {words[1] for words in commands} >= {"classify", "caption", "frames", "embed", "export"}
    for words in commands:
        if words[1] not in ("index", "search", "serve"):
            assert main(words[1:]) == 0, words
    assert (folder / "frames.png").is_file()
    assert (folder / "embeddings.parquet").is_file()
    assert slap.load(folder / "exported").max_seconds == 8.0
    evaluate(folder, capsys)


def evaluate(folder, capsys):
    """The section on evaluation, with the trained model and a corpus of a few clips."""
    tree_speech.cremad(folder / "corpora" / "CREMA-D")
    for command in README.commands("slap evaluate"):
        assert main([*command[1:], *([] if "--list" in command else ["--workers=0"])]) == 0, command
    captured = capsys.readouterr()
    names = {"slap": slap}
    exec(compile(pages.Page("README.md", "Evaluate").blocks("python")[0], "README.md", "exec"), names)
    assert names["results"]["retrieval/mine/t2a_R@10"].count == 2
    assert "zeroshot/esc50: skipped: there is no folder esc50" in captured.err
    assert "the training manifest train.csv holds evaluated clips: 2 by id, of 2" in captured.err
    tasks = {row["task"] for row in json.loads((folder / "mine.json").read_text())["results"]}
    assert tasks == {"retrieval", "zeroshot"}
    assert "| zeroshot | cremad | accuracy |" in (folder / "results.md").read_text()


def test_searching(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("sounds/a.wav", "sounds/b.wav", "query.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        soundfile.write(name, rng.uniform(-0.5, 0.5, 8000), 16_000)
    Path("runs/mine").mkdir(parents=True)
    tiny_checkpoint("runs/mine/best.ckpt")
    commands = [*README.commands("slap index"), *README.commands("slap search")]
    for command in commands:
        assert main(command[1:]) == 0
    printed = capsys.readouterr().out
    assert printed.count("sounds/") == 0
    assert printed.count("a.wav") == len(commands) - 1


def test_the_loss_trains_from_the_command_line(folder, monkeypatch):
    (source,) = [block for block in README.blocks("python") if "@register" in block]
    (folder / "my_losses.py").write_text(source)
    (fit,) = [command for command in README.commands("slap fit") if "my_losses" in command]
    demo = ["--data.train=36", "--data.val=36", "--data.test=36", "--trainer.max_steps=1", "--trainer.accelerator=cpu"]
    demo.append("--model.warmup_steps=0")
    try:
        assert main([*fit[1:], *demo]) == 0
    finally:
        sys.modules.pop("my_losses", None)
