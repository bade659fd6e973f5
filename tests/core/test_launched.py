"""Processes that a launcher started are those of the trainer, or the run is refused: never two runs into one folder."""

import subprocess
import sys

import pytest

from slap.core.launched import Launched

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
SLURM = {"SLURM_NTASKS": "16", "SLURM_NTASKS_PER_NODE": "8", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize("variables", [TORCHRUN, SLURM], ids=["torchrun", "slurm"])
def test_the_trainer_takes_what_was_started(variables):
    for given in ({}, {"devices": "auto"}, {"devices": -1, "num_nodes": 1}, {"devices": 8}, {"devices": "8"}):
        options = dict(given)
        Launched.found(variables).adopt(options)
        assert (int(options["devices"]), options["num_nodes"]) == (8, 2)


@pytest.mark.parametrize("variables", [TORCHRUN, SLURM], ids=["torchrun", "slurm"])
@pytest.mark.parametrize("devices", [1, 4, "1", [0], "0,1"])
def test_another_number_is_refused(variables, devices):
    with pytest.raises(ValueError, match=r"started 16 processes, but the trainer has devices=\d and num_nodes=2"):
        Launched.found(variables).adopt({"devices": devices})


def test_a_batch_script_is_no_task_of_its_job():
    """Beside srun, nobody would start the other tasks that it would wait for."""
    beside = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}
    options = {}
    Launched.found(beside).adopt(options)
    assert options == {}
    with pytest.raises(ValueError, match="SLURM started 16 processes"):
        Launched.found(beside).adopt({"devices": 2})


def test_tasks_need_a_number_per_node():
    with pytest.raises(ValueError, match="16 tasks without --ntasks-per-node"):
        Launched.found({"SLURM_NTASKS": "16"})


def test_nothing_is_launched_by_hand_or_in_a_shell_of_slurm():
    assert Launched.found({}) is None
    assert Launched.found({"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "interactive"}) is None
    assert Launched.found({"RANK": "0", "WORLD_SIZE": "1"}) is None
    found = Launched.found({"RANK": "0", "WORLD_SIZE": "2"})
    with pytest.raises(ValueError, match="RANK, WORLD_SIZE"):
        found.check(1, 1)


@pytest.mark.parametrize("command", ["evaluate", "search", "prepare"])
def test_commands_of_one_process_are_refused_under_torchrun(command, monkeypatch, capsys):
    from slap.cli.main import main

    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    words = {"evaluate": ["--list"], "search": ["index", "words"], "prepare": ["csv", "a", "b"]}[command]
    assert main([command, *words]) == 2
    assert f"`slap {command}` is the work of one process, and torchrun started 16" in capsys.readouterr().err


def test_asking_costs_no_import_of_torch():
    words = "import sys, slap.core.launched; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
