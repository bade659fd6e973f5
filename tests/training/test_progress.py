"""What a training shows: one bar over the steps of the run, and in the end its metrics and the next command."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

import toy_recipe as recipe
from slap.training.callbacks.model_summary import parameter_table
from slap.training.checkpoint.resume import ExactResume
from slap.training.outcome import metrics_table
from slap.training.processes.consensus import Consensus

pytestmark = pytest.mark.usefixtures("fast_reports")

TOY = Path(__file__).parents[1] / "support" / "toy_recipe.py"

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
no_position = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # noise has none


def fit(out, batches=3, ckpt_path=None, **options):
    torch.manual_seed(0)
    made = recipe.trainer(str(out), **{**QUIET, **options})
    made.fit(recipe.model(), datamodule=recipe.data(batches=batches), ckpt_path=ckpt_path, weights_only=True)
    return made


def steps(out, column):
    with (out / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) + 1 for row in csv.DictReader(file) if row.get(column)]


# -- the last step is validated ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "validated"),
    [
        ({"max_steps": 5, "val_check_interval": 3}, [3, 5]),
        ({"max_steps": 6, "val_check_interval": 3}, [3, 6]),
        ({"max_steps": 4, "val_check_interval": 500}, [4]),
        ({"max_steps": 3, "val_check_interval": 3, "accumulate_grad_batches": 2}, [2, 3]),
        ({"max_steps": 100, "max_epochs": 2, "val_check_interval": 4}, [4, 6]),
        ({"max_steps": 100, "max_epochs": 1, "val_check_interval": 3}, [3]),
        ({"max_steps": 3, "val_check_interval": 2, "limit_val_batches": 0, "enable_checkpointing": False}, []),
    ],
)
def test_the_last_step_is_validated_once(options, validated, tmp_path):
    fit(tmp_path, **options)
    assert steps(tmp_path, "val/t2a_R@1") == validated


@no_position
def test_a_run_that_is_prolonged_numbers_its_steps_on(tmp_path):
    fit(tmp_path, max_steps=4, val_check_interval=3)
    fit(tmp_path, max_steps=7, val_check_interval=3, ckpt_path=tmp_path / "last.ckpt", changed_options="accept")
    assert steps(tmp_path, "train/loss") == [1, 2, 3, 4, 5, 6, 7]
    assert steps(tmp_path, "val/t2a_R@1") == [3, 4, 6, 7]


def test_a_run_of_another_version_is_not_continued():
    """Its callbacks had other names, so that their states would be lost without a word."""
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING))
    with pytest.raises(ValueError, match=r"has version 1, and this one reads version 3\. Continue with the version"):
        ExactResume(Consensus(2)).on_load_checkpoint(trainer, None, {"slap_resume": {"version": 1}})


# -- the bar ----------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def counts(shown):
    """The `n/total` of each drawing of the bar of the run."""
    bars = [line for line in shown.replace("\n", "\r").split("\r") if line.startswith("Training:")]
    return [line.split("|")[2].split()[0] for line in bars]


@no_position
def test_the_bar_counts_the_steps_of_the_run_and_goes_on_where_it_was(tmp_path, monkeypatch):
    """Three epochs of three batches, of which a step takes two; an epoch's last step takes what is left."""
    monkeypatch.setattr("slap.training.callbacks.progress_bar.TERMINAL_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stdout", Terminal())
    fit(tmp_path, max_steps=5, accumulate_grad_batches=2, enable_progress_bar=True)
    shown = sys.stdout.getvalue()
    assert [*dict.fromkeys(counts(shown))] == [f"{step}/5" for step in range(6)]
    assert "epoch=2" in shown
    assert "Validation" in shown
    monkeypatch.setattr(sys, "stdout", Terminal())
    last = tmp_path / "last.ckpt"
    fit(tmp_path, max_steps=7, enable_progress_bar=True, ckpt_path=last, changed_options="accept")
    assert [*dict.fromkeys(counts(sys.stdout.getvalue()))] == ["5/7", "6/7", "7/7"]


# -- the program ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """What `slap fit` of five steps writes to its output and to its errors, and its folder."""
    folder = tmp_path_factory.mktemp("program")
    options = ["--trainer.out", "my run", "--trainer.max_steps", "5", "--trainer.val_check_interval", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "slap", "fit", "--recipe", str(TOY), *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr, folder


@pytest.mark.slow
def test_a_log_has_the_first_and_the_last_count_of_the_bar_and_few_between(program):
    found = counts(program[0])
    assert (found[0], found[-1]) == ("0/5", "5/5")
    assert len(found) < 6
    assert "Validation" not in program[0]


def test_nothing_is_recommended_and_nothing_is_counted_wrongly(program):
    said = program[0] + program[1]
    for word in ("Tip", "litlogger", "FLOPs", "train mode", "summary callbacks"):
        assert word not in said, word
    assert [line.split()[0] for line in program[0].splitlines()[:7]] == [
        *("part", "audio", "text", "audio_pool", "text_pool", "contrastive", "all")
    ]


def test_a_run_ends_with_its_metrics_its_files_and_the_next_command(program):
    said, _, folder = program
    lines = said.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("validation ")]
    assert "last, step 5" in lines[start]
    assert "best, step" in lines[start]
    table = {line.split()[0]: line.split()[1:] for line in lines[start + 1 : -3]}
    with (folder / "my run" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/t2a_R@1"]]
    assert set(table) == {name for name in rows[0] if name.startswith("val/")}
    assert [float(values[1]) for values in table.values()] == pytest.approx(
        [float(rows[-1][name]) for name in table], rel=1e-3
    )
    assert float(table["val/t2a_R@10"][0]) == pytest.approx(max(float(row["val/t2a_R@10"]) for row in rows), rel=1e-3)
    assert lines[-3] == "the best step has the highest val/t2a_R@10"
    assert lines[-2] == "my run holds metrics.csv, best.ckpt, last.ckpt, previous.ckpt, curves.png"
    assert lines[-1] == "next: slap test --config 'my run/config.yaml' --ckpt_path best"


def test_the_best_step_is_the_first_with_the_best_value_and_metrics_of_sources_stay_in_the_log():
    series = {
        "val/x": {1: 3.0, 3: 5.0, 5: 5.0},
        "val/other": {1: 0.25, 3: 0.5},
        "val/source/x": {1: 1.0},
        "train/loss": {0: 1.0},
    }
    table = [line.split() for line in metrics_table(series, "val/x", "max")]
    assert table[0] == ["validation", "best,", "step", "4", "last,", "step", "6"]
    assert table[1:3] == [["val/other", "0.5", "-"], ["val/x", "5", "5"]]
    assert metrics_table(series, "val/x", "min")[0].split()[3] == "2"
    assert metrics_table(series, "val/source/x", "max")[2].split() == ["val/source/x", "1", "1"]
    assert metrics_table(series, "val/nothing", "max") == []
    series["val/x"][0] = float("nan")
    assert [line.split() for line in metrics_table(series, "val/x", "max")] == table


def test_metrics_before_training_are_a_column_and_never_the_best_step():
    series = {"val/x": {-1: 4.0, 1: 3.0, 3: 5.0}, "val/other": {1: 0.25, 3: 0.5}}
    head, other, x, best = metrics_table(series, "val/x", "max")
    assert head.split() == ["validation", "before", "training", "best,", "step", "4", "last,", "step", "4"]
    assert (other.split()[1:], x.split()[1:]) == (["-", "0.5", "0.5"], ["4", "5", "5"])
    assert best == "the best step has the highest val/x"
    for before, mode in ((5.0, "max"), (9.0, "max"), (3.0, "min")):
        series["val/x"][-1] = before
        assert metrics_table(series, "val/x", mode)[-1].startswith("no step has a better val/x than the model before")


def test_a_frozen_part_and_a_teacher_have_parameters_that_do_not_train():
    model = recipe.model(objectives={"masked_distillation": {"prototypes": 8, "hidden": 16, "bottleneck": 8}})
    model.text.requires_grad_(False)
    rows = {line.split()[0]: line.split()[-1] for line in parameter_table(model).splitlines()}
    assert rows["text"] == rows["teacher"] == "0"
    assert rows["audio"] != "0"
