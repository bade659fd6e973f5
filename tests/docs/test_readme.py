"""What the README shows works: its CSV, its commands, its Python and its loss."""

import csv
import gzip
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import slap
from slap.cli.main import main
from slap.core.registry import load_module
from slap.datamodules import read_manifest
from slap.testing.tiny import tiny_checkpoint

README = (Path(__file__).parents[2] / "README.md").read_text()

SMALL = ["--data.num_workers=0", "--data.max_duration=8", "--data.max_clip=8", "--trainer.accelerator=cpu"]
"""Appended to commands of the README, so that they run here in seconds; later options win."""

TINY = ["--model.audio={name: transformer, size: nano}", "--model.text={name: transformer, size: nano}"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(start):
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(start)]
    assert found, f"the README has no command that starts with {start!r}"
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The README's CSV, with audio for it, three times over."""
    (table,) = blocks("csv")
    rng = np.random.default_rng(0)
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text(table)
    for row in csv.DictReader(table.splitlines()):
        (tmp_path / row["audio"]).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / row["audio"], rng.uniform(-0.5, 0.5, 8000), 16_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_training_on_a_csv_and_testing_the_run(folder, capsys):
    (fit,) = [command for command in commands("slap fit --recipe base") if "--data.train" in command]
    objectives = "--model.objectives={contrastive: 1.0}"
    assert main([*fit[1:], *SMALL, *TINY, objectives, "--trainer.max_steps=2", "--trainer.precision=32-true"]) == 0
    assert (folder / "runs/mine/config.yaml").is_file()
    (test,) = commands("slap test --config runs/mine/")
    assert main(test[1:]) == 0
    assert "zero-shot, label" in capsys.readouterr().out


def test_fine_tuning_on_pairs_and_on_labels(folder, capsys):
    """What chooses and what judges are other clips than in the README's one CSV."""
    for name in ("val", "test"):
        rows = (folder / "train.csv").read_text().splitlines()
        with_ids = [f"id,{rows[0]}", *(f"{name}{n},{row}" for n, row in enumerate(rows[1:]))]
        (folder / f"{name}.csv").write_text("\n".join(with_ids) + "\n")
    (folder / "runs/mine").mkdir(parents=True)
    tiny_checkpoint(folder / "runs/mine/best.ckpt")
    recipes = ("finetune", "classification")
    (pairs,), (labels,) = (commands(f"slap fit --recipe {recipe}") for recipe in recipes)
    short = ["--trainer.max_steps=1", "--trainer.accelerator=cpu", "--data.num_workers=0"]
    for command in (pairs, labels):
        assert main([*command[1:], *short]) == 0
    (test,) = commands("slap test --config runs/labels")
    assert main(test[1:]) == 0
    assert "classification, accuracy" in capsys.readouterr().out


def test_the_mixture_trains(folder):
    (fit,) = [command for command in commands("slap fit --config") if "--data.temperature" in command]
    for name in ("wavcaps", "audiocaps", "clotho", "audiocaps_val", "clotho_val"):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            for row in csv.DictReader((folder / "train.csv").read_text().splitlines()):
                file.write(
                    json.dumps({"audio": row["audio"], "caption": row["caption"], "caption_tags": "tags"}) + "\n"
                )
    options = [*SMALL, *TINY, "--model.objectives={contrastive: 1.0}", "--trainer.max_steps=2"]
    assert main(["fit", "--recipe", "base", *options, "--trainer.log_every_n_steps=1", *fit[4:]]) == 0
    with (folder / "runs/mixture/metrics.csv").open() as file:
        logged = set(csv.DictReader(file).fieldnames or ())
    assert {f"train/contrastive/{name}" for name in ("wavcaps", "audiocaps", "clotho")} <= logged
    assert {"val/audiocaps/t2a_R@10", "val/clotho/t2a_R@10", "val/t2a_R@10"} <= logged


def test_using_the_trained_model(folder, capsys):
    """The run of the README with a captioning objective, then all that its section on use shows."""
    (fit,) = [command for command in commands("slap fit --recipe base") if "--data.train" in command]
    decoder = "{weight: 0.5, layers: 1, heads: 2, width: 32, hidden: 64}"
    objectives = f"--model.objectives={{contrastive: 1.0, captioning: {decoder}}}"
    short = ["--trainer.max_steps=1", "--trainer.precision=32-true"]
    assert main([*fit[1:], *SMALL, *TINY, objectives, *short]) == 0
    assert torch.load("runs/mine/best.ckpt", weights_only=True)["max_seconds"] == 8.0
    (source,) = [block for block in blocks("python") if 'slap.load("runs/mine' in block]
    exec(compile(source, "README.md", "exec"), {})
    assert capsys.readouterr().out.split("\n")[-2].split()[0] in ("dog", "rain")
    section = README[README.index("## Use a trained model") : README.index("## Search your sounds")]
    shown = [line for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    assert {line.split()[1] for line in shown} == {"classify", "caption", "frames", "embed", "export"}
    for line in shown:
        command = [word for word in shlex.split(line)[1:] if word not in ("--onnx", "--torch")]  # see test_graphs.py
        assert main(command) == 0, line
    assert (folder / "frames.png").is_file()
    assert (folder / "embeddings.parquet").is_file()
    assert slap.load(folder / "with_graphs").max_seconds == 8.0
    judge(folder, capsys)


def judge(folder, capsys):
    """The section on judging, with the trained model and a corpus of a few clips."""
    speech = load_module(str(Path(__file__).parents[1] / "support" / "tree_speech.py"))
    speech.cremad(folder / "corpora" / "CREMA-D")
    for command in commands("slap evaluate"):
        assert main([*command[1:], *([] if "--list" in command else ["--workers=0"])]) == 0, command
    captured = capsys.readouterr()
    assert "zeroshot/esc50: skipped: there is no folder esc50" in captured.err
    assert "the training manifest train.csv holds evaluated clips: 2 by id, of 2" in captured.err
    assert {row["task"] for row in json.loads((folder / "mine.json").read_text())["results"]} == {
        "retrieval",
        "zeroshot",
    }
    assert "| zeroshot | cremad | accuracy |" in (folder / "results.md").read_text()


def test_the_loss_of_the_readme_trains_from_the_command_line(folder, monkeypatch):
    (source,) = [block for block in blocks("python") if "@register" in block]
    (folder / "my_losses.py").write_text(source)
    (fit,) = [command for command in commands("slap fit") if "my_losses" in command]
    demo = ["--data.train=36", "--data.val=36", "--data.test=36", "--trainer.max_steps=1", "--trainer.accelerator=cpu"]
    try:
        assert main([*fit[1:], *demo]) == 0
    finally:
        sys.modules.pop("my_losses", None)


def test_preparing_a_corpus(folder, capsys):
    (prepare,) = commands("slap prepare csv")
    assert main(prepare[1:]) == 0
    assert "found               2" in capsys.readouterr().out
    assert {path.name for path in (folder / "manifests/mine").glob("*.jsonl.gz")} >= {"train.jsonl.gz", "val.jsonl.gz"}


def test_the_shards_stand_for_the_manifest(folder):
    (pack,) = commands("slap pack")
    assert main(pack[1:]) == 0
    assert [cut.id for cut in read_manifest("train_shards")] == [cut.id for cut in read_manifest("train.csv")]


def test_the_overlap_commands(folder, capsys):
    with (folder / "train.csv").open("a") as file:
        file.write("clips/own.wav,a cat purrs,cat\n")
    soundfile.write(folder / "clips/own.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 8000), 16_000)
    for command in commands("slap overlap"):
        assert main(command[1:]) == 1
        assert "clips/0001.wav" in capsys.readouterr().out
    assert [cut.id for cut in read_manifest(folder / "train_clean.jsonl.gz")] == ["clips/own.wav"]


def test_the_tokenizer_command(folder):
    (found,) = re.findall(r"`(slap\s+tokenizer [^`]+)`", README)
    assert main([*found.split()[1:], "--vocab-size", "300"]) == 0
    assert (folder / "words.model").is_file()
