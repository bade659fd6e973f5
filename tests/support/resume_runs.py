"""Runs of `slap fit` on the recipe of resume_recipe.py that are killed and continued, and what must be equal of two."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

RECIPE = Path(__file__).parent / "resume_recipe.py"
QUICK = [
    *("--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false"),
    *("--trainer.num_sanity_val_steps", "0"),
    *("--trainer.accelerator", "cpu"),
]
TIMES = re.compile(r"clips_per_s|audio_s_per_s|data_wait")
"""Columns of the log that are about the machine."""

EVERY = {"trainer.max_steps": 12}
FOURTH = {"trainer.max_steps": 5, "trainer.accumulate_grad_batches": 4}


def options(clips, out, **settings):
    given = {"data.folder": clips, "trainer.out": out, "trainer.val_check_interval": 5, **settings}
    pairs = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    return ["--recipe", str(RECIPE), *QUICK, *pairs]


def in_process(arguments, kill=None, again=False):
    """Run `slap fit` here; return its exit status."""
    from slap.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILL", json.dumps(kill or {}))
        try:
            return main(["--debug", "fit", *arguments, *(["--ckpt_path", "last"] if again else [])])
        except SystemExit as stop:
            return stop.code


def in_processes(arguments, kill=None, again=False, timeout=300):
    """Run `slap fit` as a program."""
    command = [sys.executable, "-m", "slap", "fit", *arguments, *(["--ckpt_path", "last"] if again else [])]
    environment = {**os.environ, "KILL": json.dumps(kill or {}), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


def stream(out, rank=0):
    """The batches of a run in order; those that a continuation made again must be the same."""
    rows = {}
    for line in (out / f"stream{rank}.jsonl").read_text().splitlines():
        row = json.loads(line)
        number = row.pop("batch")
        assert rows.setdefault(number, row) == row, f"batch {number} differs when it is made again"
    assert sorted(rows) == list(range(1, len(rows) + 1))
    return rows


def logged(out):
    with (out / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if v and not TIMES.search(k)} for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: (int(row["step"]), "train/loss" not in row))


def assert_same_run(out, expected, ranks=1):
    for rank in range(ranks):
        assert stream(out, rank) == stream(expected, rank)
    for name in ("last.ckpt", "best.ckpt"):
        found, wanted = (torch.load(path / name, weights_only=True) for path in (out, expected))
        assert found["global_step"] == wanted["global_step"]
        torch.testing.assert_close(found["state_dict"], wanted["state_dict"], rtol=0, atol=0)
        torch.testing.assert_close(found["optimizer_states"], wanted["optimizer_states"], rtol=0, atol=0)
        assert found["lr_schedulers"] == wanted["lr_schedulers"]
        assert found["loops"]["fit_loop"] == wanted["loops"]["fit_loop"]
        assert found["AudioTextData"] == wanted["AudioTextData"]
        assert scores(found) == scores(wanted)
    assert logged(out) == logged(expected)


def scores(checkpoint):
    (state,) = (state for name, state in checkpoint["callbacks"].items() if "BestCheckpoint" in name)
    return float(state["best_model_score"]), {Path(path).name: float(v) for path, v in state["best_k_models"].items()}
