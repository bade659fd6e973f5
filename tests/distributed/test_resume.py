"""A run that is interrupted and continued is the run that was not: clips, losses, weights, logs, bit for bit."""

import json
import resource
import signal
import sys
from pathlib import Path

import pytest

import resume_recipe
from launch import launch
from resume_runs import EVERY, FOURTH, assert_same_run, in_process, in_processes, logged, options, stream
from slap.datamodules.sampling.position import Position, position_in, state
from slap.inference.load import read_checkpoint
from slap.training.checkpoint.metrics_log import forget_after

pytestmark = pytest.mark.usefixtures("fast_reports")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    resume_recipe.data(str(folder))
    return folder


def whole_run(clips, out, **settings):
    assert in_process(options(clips, out, **settings)) == 0
    assert {row["epoch"] for row in stream(out).values()} >= {0, 1}
    return out


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    """A run without interruption: 11 batches an epoch, a step each."""
    return whole_run(clips, tmp_path_factory.mktemp("whole"), **EVERY)


@pytest.fixture(scope="module")
def whole_of_fours(clips, tmp_path_factory):
    """The same with four batches a step, and fewer at the end of an epoch."""
    return whole_run(clips, tmp_path_factory.mktemp("whole"), **FOURTH)


# batch 5 is followed by a validation, batch 11 is the last of its epoch
@pytest.mark.parametrize("batch", [3, 5, 11])
def test_sigterm_between_steps(batch, whole, clips, tmp_path, capsys):
    arguments = options(clips, tmp_path, **EVERY)
    assert in_process(arguments, {"batch": batch, "signal": signal.SIGTERM}) == 143
    assert f"stopped by SIGTERM after step {batch}; `--ckpt_path last` continues" in capsys.readouterr().err
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == batch
    assert in_process(arguments, again=True) == 0
    assert_same_run(tmp_path, whole)


def test_a_validation_that_is_owed_at_the_end_of_an_epoch_counts_as_of_that_epoch(clips, tmp_path):
    settings = {**EVERY, "trainer.val_check_interval": 11}
    whole = whole_run(clips, tmp_path / "whole", **settings)
    arguments = options(clips, tmp_path / "out", **settings)
    assert in_process(arguments, {"batch": 11, "signal": signal.SIGTERM}) == 143
    assert len(logged(tmp_path / "out")) == 11
    assert in_process(arguments, again=True) == 0
    assert [row["epoch"] for row in logged(whole)[-4:]] == ["0", "0", "1", "1"]
    assert_same_run(tmp_path / "out", whole)


@pytest.mark.parametrize("batch", [2, 13])
def test_sigterm_within_an_accumulation_waits_for_its_step(batch, whole_of_fours, clips, tmp_path):
    arguments = options(clips, tmp_path, **FOURTH)
    assert in_process(arguments, {"batch": batch, "signal": signal.SIGTERM}) == 143
    assert in_process(arguments, again=True) == 0
    assert_same_run(tmp_path, whole_of_fours)


def test_ctrl_c_stops_as_sigterm_does(whole, clips, tmp_path):
    arguments = options(clips, tmp_path, **EVERY)
    before = signal.getsignal(signal.SIGINT)
    assert in_process(arguments, {"batch": 7, "signal": signal.SIGINT}) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert in_process(arguments, again=True) == 0
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
def test_killed_by_force_and_stopped_with_workers(whole, clips, tmp_path):
    """Programs, and other workers than the run without interruption: the stream does not depend on them."""
    settings = {**EVERY, "data.num_workers": 2, "trainer.save_every": 2, "trainer.async_save": "true"}
    arguments = options(clips, tmp_path, **settings)
    assert in_processes(arguments, {"batch": 4, "signal": signal.SIGKILL}).returncode == -signal.SIGKILL
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 2
    assert in_process(arguments, {"batch": 11, "signal": signal.SIGTERM}, again=True) == 143
    assert in_process(arguments, again=True) == 0
    assert_same_run(tmp_path, whole)


def test_a_damaged_last_checkpoint_is_passed_over(whole, clips, tmp_path, caplog):
    arguments = options(clips, tmp_path, **EVERY, **{"trainer.save_every": 3})
    assert in_process(arguments, {"batch": 7, "signal": signal.SIGTERM}) == 143
    content = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(content[: len(content) // 2])
    assert in_process(arguments, again=True) == 0
    assert "is cut off or damaged; taken instead is" in caplog.text
    assert_same_run(tmp_path, whole)


def test_a_full_disk_ends_the_run_and_keeps_the_last_good_one(clips, tmp_path, capsys):
    arguments = options(clips, tmp_path, **EVERY, **{"trainer.save_every": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert in_process(arguments, {"batch": 2, "signal": signal.SIGTERM}) == 143
    size = (tmp_path / "last.ckpt").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"the checkpoint was not saved: File too large; .* still holds last.ckpt"):
            in_process(arguments, again=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 2


def test_other_data_are_refused_by_name_or_begin_the_epoch_anew(clips, tmp_path):
    arguments = options(clips, tmp_path, **EVERY)
    assert in_process(arguments, {"batch": 3, "signal": signal.SIGTERM}) == 143
    changed = {"data.clips": 50, "data.num_buckets": 1, "data.max_duration": 1.2, "data.seed": 1}
    names = ["clips was 60 and is 50", "num_buckets was 2 and is 1", "seed was 0 and is 1"]
    names.append("max_duration, in samples was 12800 and is 9600")
    given = options(clips, tmp_path, **{**changed, "trainer.max_steps": 16, "trainer.changed_options": "accept"})
    with pytest.raises(ValueError, match="interrupted in epoch 0 after 3 batches") as refused:
        in_process(given, again=True)
    assert all(name in str(refused.value) for name in names)
    given += ["--trainer.changed_data", "restart_epoch"]
    (tmp_path / "stream0.jsonl").unlink()
    assert in_process(given, again=True) == 0
    rows = [json.loads(line) for line in (tmp_path / "stream0.jsonl").read_text().splitlines()]
    assert rows[0]["batch"] == 4  # steps go on
    first = [name for row in rows if row["epoch"] == 0 for name in row["ids"]]
    assert len(first) == len(set(first)) == 50  # and the epoch is whole


@pytest.mark.slow
def test_one_command_begins_and_continues(clips, tmp_path, capsys):
    arguments = options(clips, tmp_path, **EVERY, **{"trainer.enable_checkpointing": "false"})
    assert in_process(arguments, {"batch": 2, "signal": signal.SIGTERM}, again=True) == 143
    said = capsys.readouterr().err
    assert "holds no checkpoint to continue from, so training begins" in said
    assert "stopped by SIGTERM after step 2, without a checkpoint" in said
    arguments = options(clips, tmp_path, **{"trainer.max_steps": 3})
    assert in_process(arguments, again=True) == 0  # in the folder that holds the log of the first
    assert len(logged(tmp_path)) == 4


def test_on_slurm_the_job_is_requeued(clips, tmp_path, monkeypatch):
    for name, value in {"NTASKS": 1, "JOB_ID": 77, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_NAME": "run"}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    asked = []
    monkeypatch.setattr(
        "lightning.pytorch.trainer.connectors.signal_connector.call", lambda cmd: asked.append(cmd) or 0
    )
    arguments = options(clips, tmp_path, **EVERY)
    assert in_process(arguments, {"batch": 2, "signal": signal.SIGUSR1}) == 128 + signal.SIGUSR1
    assert asked == [["scontrol", "requeue", "77"]]
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 2
    assert read_checkpoint(tmp_path / "hpc_ckpt_1.ckpt")["global_step"] == 2


def test_rows_after_the_checkpoint_are_forgotten(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss\n0,0,3.0\n0,1,2.0\n0,2,1.0\n0,3,0.")
    forget_after(path, 2)
    assert path.read_text() == "epoch,step,train/loss\n0,0,3.0\n0,1,2.0\n"
    path.write_text("epoch,step,train/loss\n0,0,3.0\n0,1")  # killed while it wrote
    forget_after(path, 2)
    assert path.read_text() == "epoch,step,train/loss\n0,0,3.0\n"


def test_a_place_in_other_data_has_no_meaning():
    saved = state(Position(2, 5), {"count": 2, "seed": 0})
    assert position_in(saved, {"count": 2, "seed": 0}) == Position(2, 5)
    with pytest.raises(ValueError, match="the number of training clips was 2 and is 4"):
        position_in(saved, {"count": 4, "seed": 0})
    assert position_in(saved, {"count": 4, "seed": 0}, restart_changed=True) == Position(2, 0)
    with pytest.raises(ValueError, match="has version 7, and this version of slap-audio reads 2"):
        position_in({**saved, "version": 7}, {})


# -- several processes ------------------------------------------------------------------------------------------------

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.max_steps": 7, "trainer.val_check_interval": 3}


@pytest.mark.distributed
def test_two_processes_stop_together_and_go_on(clips, tmp_path):
    """Stopped as a program with loading processes; going on and the run without interruption share two processes."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    stopping = options(clips, out, **TWO, **{"data.num_workers": 2})
    stopped = in_processes(stopping, {"batch": 3, "signal": signal.SIGTERM, "rank": 1})
    assert stopped.returncode == 143, stopped.stderr
    assert stopped.stderr.count("stopped by SIGTERM after step 4") == 1  # agreed on one step later
    launch(__file__, 2, tmp_path, clips)
    assert_same_run(out, whole, ranks=2)
    for epoch in (0, 1):
        rows = [row for rank in (0, 1) for row in stream(whole, rank).values() if row["epoch"] == epoch]
        seen = [name for row in rows for name in row["ids"]]
        assert len(seen) == len(set(seen))  # nothing twice
        assert epoch > 0 or len(seen) == 60  # and in a whole epoch everything


@pytest.mark.distributed
@pytest.mark.parametrize("kill", [{"error": "no luck"}, {"signal": signal.SIGKILL}], ids=["exception", "kill -9"])
def test_one_that_fails_ends_the_other(kill, clips, tmp_path):
    failed = in_processes(options(clips, tmp_path, **TWO), {"batch": 2, "rank": 1, **kill}, timeout=200)
    if "error" in kill:
        assert failed.returncode == 1, failed.stderr
        first = failed.stderr.index("[rank 1] failed, so all 2 processes end:\nTraceback")
        assert "RuntimeError: no luck" in failed.stderr[first:]
        assert failed.stderr.count("Traceback") == 1
        assert failed.stderr.index("[rank 0] ends, because rank 1 failed: RuntimeError: no luck") > first
    else:  # it says so, unless the launcher, which looks every 5 s, was quicker
        assert failed.returncode in (1, -signal.SIGKILL), failed.stderr
        assert failed.returncode < 0 or "rank 1 has ended without a word: it was killed" in failed.stderr


def main(rank, folder, clips):
    """One of two processes: the run without interruption, and the rest of the one that was stopped."""
    del rank  # torchrun's variables say it
    assert in_process(options(clips, folder / "whole", **TWO)) == 0
    assert in_process(options(clips, folder / "out", **TWO), again=True) == 0


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
