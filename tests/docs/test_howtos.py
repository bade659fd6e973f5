"""The commands of the how-to guides work, on the CSV of the README."""

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml

import pages
import slap
from slap.cli.main import main
from slap.datamodules import read_manifest
from slap.datamodules.augment import AUGMENTATIONS, augmentations
from slap.inference import shipped
from slap.testing.tiny import tiny_checkpoint


@pytest.fixture
def checkpoint(folder):
    (folder / "runs/mine").mkdir(parents=True)
    tiny_checkpoint(folder / "runs/mine/best.ckpt", ema=True)
    return folder / "runs/mine/best.ckpt"


@pytest.mark.parametrize("page", ["finetune", "classification"])
def test_fine_tuning_on_pairs_and_on_labels(folder, checkpoint, capsys, page):
    """Validation and test have other clips than the README's one CSV."""
    for name in ("val", "test"):
        rows = (folder / "train.csv").read_text().splitlines()
        with_ids = [f"id,{rows[0]}", *(f"{name}{n},{row}" for n, row in enumerate(rows[1:]))]
        (folder / f"{name}.csv").write_text("\n".join(with_ids) + "\n")
    fit, test = commands_of_first_block(f"docs/howto/{page}.md")
    assert (
        main(
            [
                *fit[1:],
                "--trainer.max_steps=1",
                "--model.warmup_steps=0",
                "--trainer.accelerator=cpu",
                "--data.num_workers=0",
            ]
        )
        == 0
    )
    assert main(test[1:]) == 0
    expected = {"finetune": "text to audio, R@1", "classification": "classification, accuracy"}
    assert expected[page] in capsys.readouterr().out


def commands_of_first_block(page):
    return pages.commands_of(pages.Page(page).blocks("bash")[0])


def test_the_mixture_trains(folder):
    (fit,) = pages.Page("docs/howto/mixtures.md").commands("slap fit --config")
    for name in ("wavcaps", "audiocaps", "clotho", "audiocaps_val", "clotho_val"):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            for row in csv.DictReader((folder / "train.csv").read_text().splitlines()):
                clip = {"audio": row["audio"], "caption": row["caption"], "caption_tags": "tags"}
                file.write(json.dumps(clip) + "\n")
    options = [*pages.SMALL, *pages.TINY, "--model.objectives={contrastive: 1.0}", "--trainer.max_steps=2"]
    options.append("--model.warmup_steps=1")
    assert main(["fit", "--recipe", "base", *options, "--trainer.log_every_n_steps=1", *fit[4:]]) == 0
    with (folder / "runs/mixture/metrics.csv").open() as file:
        logged = set(csv.DictReader(file).fieldnames or ())
    assert {f"train/contrastive/{name}" for name in ("wavcaps", "audiocaps", "clotho")} <= logged
    assert {"val/audiocaps/t2a_R@10", "val/clotho/t2a_R@10", "val/t2a_R@10"} <= logged


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")  # the run on audio alone has none
def test_audio_without_captions(folder):
    """Beside pairs, and alone before them."""
    page = pages.Page("docs/howto/unlabelled.md")
    (folder / "recordings").mkdir()
    for n in range(3):
        sound = np.random.default_rng(n).uniform(-0.5, 0.5, 16_000)
        soundfile.write(folder / "recordings" / f"{n}.wav", sound, 16_000)
        soundfile.write(folder / f"val{n}.wav", sound, 16_000)
    (folder / "val.csv").write_text("audio,caption\n" + "\n".join(f"val{n}.wav,sound {n}" for n in range(3)))
    options = [*pages.TINY, "--trainer.max_steps=1", "--trainer.accelerator=cpu", "--data.num_workers=0"]
    options += ["--data.max_clip=4", "--model.warmup_steps=0"]
    both, alone, tuned = page.commands("slap fit")
    for command in (both, alone):
        assert main([*command[1:], *pages.SMALL, *options]) == 0
    assert (
        main(
            [
                *tuned[1:],
                *(option for option in options if option.startswith(("--trainer", "--data", "--model.warmup"))),
            ]
        )
        == 0
    )


def test_the_augmentations(folder):
    page = pages.Page("docs/howto/augmentation.md")
    (fit,) = page.commands("slap fit")
    (folder / "noises").mkdir()
    soundfile.write(folder / "noises" / "noise.wav", np.zeros(8000), 16_000)
    specification = yaml.safe_load(fit[fit.index("--data.augment") + 1])
    kinds = [type(transform) for transform in augmentations(specification)]
    assert kinds == [AUGMENTATIONS[name] for name in specification]
    assert all(f"`{name}`" in page.text for name in AUGMENTATIONS)


def test_preparing_a_corpus(folder, capsys):
    (prepare,) = pages.Page("docs/howto/corpora.md").commands("slap prepare csv")
    assert main(prepare[1:]) == 0
    assert "found               2" in capsys.readouterr().out
    assert {path.name for path in (folder / "manifests/mine").glob("*.jsonl.gz")} >= {"train.jsonl.gz", "val.jsonl.gz"}


def test_the_shards_stand_for_the_manifest(folder):
    (pack,) = pages.Page("docs/howto/corpora.md").commands("slap pack")
    assert main(pack[1:]) == 0
    ids = [cut.id.lstrip("/") for cut in read_manifest("train.csv")]  # no file in a tar begins with a slash
    assert [cut.id for cut in read_manifest("train_shards")] == ids


def test_packing_in_parts_by_commands_by_ray_and_by_slurm(folder, monkeypatch):
    page = pages.Page("docs/howto/parts.md")
    for command in page.commands("slap pack train.csv")[:3]:
        assert main(command[1:]) == 0
    shards = {path.name: path.read_bytes() for path in (folder / "train_shards").iterdir()}
    shutil.rmtree(folder / "train_shards")
    monkeypatch.setattr(subprocess, "run", lambda command, check: int(check and main(command[1:])))
    remote = SimpleNamespace(remote=lambda **_: lambda task: SimpleNamespace(remote=task), get=list)
    monkeypatch.setitem(sys.modules, "ray", remote)
    (block,) = page.blocks("python")
    exec(compile(block.replace("PARTS = 64", "PARTS = 2").replace('"16"', '"1"'), "parts.md", "exec"), {})
    assert {path.name: path.read_bytes() for path in (folder / "train_shards").iterdir()} == shards


def test_the_script_of_the_array_job_runs_its_part(folder):
    script = Path(__file__).parents[2] / "docs/howto/array.sh"
    (folder / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (folder / "srun").chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "16", "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(["bash", str(script)], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == [
        "slap",
        "pack",
        "train.jsonl.gz",
        "train_shards",
        "--workers",
        "16",
        "--part",
        "3/64",
    ]


def test_the_tokenizer_command(folder):
    (found,) = re.findall(r"`(slap\s+tokenizer [^`]+)`", pages.Page("docs/howto/corpora.md").text)
    assert main([*found.split()[1:], "--vocab-size", "300"]) == 0
    assert (folder / "words.model").is_file()


def test_the_overlap_commands(folder, capsys):
    with (folder / "train.csv").open("a") as file:
        file.write("clips/own.wav,a cat purrs,cat\n")
    soundfile.write(folder / "clips/own.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 8000), 16_000)
    for command in pages.Page("docs/howto/overlap.md").commands("slap overlap"):
        assert main(command[1:]) == 1
        assert "clips/0001.wav" in capsys.readouterr().out
    assert [cut.id for cut in read_manifest(folder / "train_clean.jsonl.gz")] == [f"{folder}/clips/own.wav"]


def test_exporting(folder, checkpoint):
    for command in pages.Page("docs/howto/export.md").commands("slap export"):
        words = [word for word in command[1:] if word not in ("--onnx", "--torch")]  # see test_graphs.py
        assert main(words) == 0, command
    assert slap.load(folder / "with_graphs").max_seconds == slap.load(checkpoint).max_seconds


def test_using_a_model(folder, checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", folder / "shipped")
    slap.load(checkpoint).save_pretrained(folder / "shipped")
    names: dict = {}
    for block in pages.Page("docs/howto/use.md").blocks("python"):
        exec(compile(block, "use.md", "exec"), names)
    first, second = capsys.readouterr().out.splitlines()
    assert first in ("dog", "rain", "a spoken digit")
    assert second == "left out: there is no file clips/nowhere.wav"


COMMANDS = [
    (page, words[words.index("slap") :])
    for page in ("scale", "gpu")
    for language, block in pages.Page(f"docs/howto/{page}.md").all_blocks()
    if language in ("bash", "console")
    for start in ("slap fit", "torchrun")
    for words in pages.commands_of(block, start)
]


@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_large_runs_are_understood_as_they_are_written(folder, capsys, page, words):
    """Each option has its value in the config of the run; `...` stands for the data."""
    if "..." in words:
        words[words.index("...") : words.index("...") + 1] = ["--data.train", "train.csv"]
    with pytest.raises(SystemExit) as ended:
        main([*words[1:], "--print_config"])
    assert ended.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    for option, value in zip(words[2::2], words[3::2], strict=True):
        found = config
        for key in option.removeprefix("--").split("."):
            found = found[key]
        assert found == yaml.safe_load(value) or str(found) == value, option


@pytest.mark.slow
def test_the_slurm_script_can_be_submitted_again(folder, capsys):
    """Also after a kill before the first checkpoint; srun here only writes down how it was called."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text("export ACTIVATED=1\n")
    (folder / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@" > "words$ACTIVATED"\n')
    (folder / "srun").chmod(0o755)
    job = {"SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_CPUS_PER_TASK": "3"}
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    script = pages.ROOT / "docs/howto/slurm.sh"
    subprocess.run(["bash", script], env={**os.environ, **job, "PATH": path}, check=True)
    given, command = (folder / "words1").read_text().split("\nslap\n")
    assert given.splitlines() == ["--cpus-per-task=3", "--kill-on-bad-exit=1"]
    small = [*pages.SMALL, *pages.TINY, "--model.objectives={contrastive: 1.0}", "--model.warmup_steps=0"]
    small += ["--trainer.precision=32-true", "--trainer.changed_options=accept"]
    begun = [*command.splitlines(), *small, "--trainer.max_steps=1", "--trainer.enable_checkpointing=false"]
    assert main(begun) == 0  # a run that is killed before its first checkpoint leaves as much
    for steps in (1, 2):
        assert main([*command.splitlines(), *small, f"--trainer.max_steps={steps}"]) == 0
    assert capsys.readouterr().err.count("holds no checkpoint to continue from, so training begins") == 2
    lines = re.findall(r"^#SBATCH --(\S+)", script.read_text(), re.MULTILINE)
    assert {"requeue", "signal=SIGUSR1@90", "open-mode=append", "mem=0"} <= set(lines)
