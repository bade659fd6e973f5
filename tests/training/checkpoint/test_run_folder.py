"""A run and its folder belong together: nothing is removed or replaced that the run of the folder has not written."""

import csv

import pytest
import torch
from lightning.pytorch import Callback

import toy_recipe as recipe
from slap.training.checkpoint.metrics_log import AppendingCSVLogger, forget_after
from slap.training.checkpoint.run_folder import RunFolder
from slap.training.checkpoint.run_lock import RunLock
from slap.training.checkpoint.run_record import RunRecord

pytestmark = [
    pytest.mark.usefixtures("fast_reports"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before"),  # noise has no position
]

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "accelerator": "cpu"}
LONGER = {"changed_options": "accept"}  # more steps than before
USERS = ("metrics.csv", "curves.png", "config.yaml", "best.ckpt", "bad_clips.jsonl", "hparams.yaml")


def fit(out, steps=1, checkpoint=None, **options):
    torch.manual_seed(0)
    made = recipe.trainer(str(out), max_steps=steps, **{**QUIET, **LONGER, **options})
    made.fit(recipe.model(), datamodule=recipe.data(), ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return made


class Fails(Callback):
    def on_train_batch_end(self, *args):
        raise RuntimeError("no luck")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make two runs, in the folders A and B."""
    folder = tmp_path_factory.mktemp("runs")
    fit(folder / "A", 2)
    fit(folder / "B", 1)
    return folder


def test_a_run_does_not_continue_in_the_folder_of_another(runs):
    before = content(runs)
    with pytest.raises(ValueError, match="is a checkpoint of another run than the one that") as refused:
        fit(runs / "A", 3, runs / "B" / "last.ckpt")
    for way in (f"--trainer.out {runs / 'B'}", "name a new folder as --trainer.out", "--ckpt_path last"):
        assert way in str(refused.value)
    assert content(runs) == before


def test_a_run_may_branch_off_into_a_new_folder(runs, tmp_path):
    out = tmp_path / "C"
    with pytest.raises(RuntimeError, match="no luck"):
        fit(out, 2, runs / "B" / "last.ckpt", callbacks=[Fails()])
    branch = RunRecord.of(out)
    assert branch.parent == RunRecord.of(runs / "B").run != branch.run
    fit(out, 2, runs / "B" / "last.ckpt")  # again, since it ended before its first checkpoint
    assert RunRecord.of(out).run == branch.run == torch.load(out / "last.ckpt", weights_only=True)["slap_run"]
    fit(out, 3, out / "last.ckpt")
    with pytest.raises(ValueError, match="another run"):  # now it has checkpoints of its own
        fit(out, 3, runs / "B" / "last.ckpt")
    with pytest.raises(ValueError, match="another run"):
        fit(runs / "B", 3, out / "last.ckpt")


def test_the_best_of_a_run_remains_the_best_when_its_folder_is_moved(tmp_path):
    fit(tmp_path / "out", 1)
    (tmp_path / "out").rename(tmp_path / "moved")
    made = fit(tmp_path / "moved", 2, tmp_path / "moved" / "last.ckpt")
    assert made.checkpoint_callback.best_model_path == str(tmp_path / "moved" / "best.ckpt")
    assert torch.load(tmp_path / "moved" / "best.ckpt", weights_only=True)["global_step"] == 1  # the score was 100 %


def test_overwriting_may_begin_with_the_checkpoint_of_another_run(runs, tmp_path):
    fit(tmp_path, 1)
    old = RunRecord.of(tmp_path)
    fit(tmp_path, 2, runs / "B" / "last.ckpt", overwrite=True)
    new = RunRecord.of(tmp_path)
    assert new.run != old.run
    assert not {*new.events} & {*old.events}


@pytest.mark.parametrize("options", [{}, {"overwrite": True}], ids=["plain", "overwrite"])
def test_files_that_no_run_wrote_are_left_alone(options, runs, tmp_path):
    for name in USERS:
        (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds metrics\.csv, .*config\.yaml.*which no run has recorded"):
        fit(tmp_path, **options)
    with pytest.raises(FileExistsError, match=r"and the run of .* would write under these names"):
        fit(tmp_path, 2, runs / "B" / "last.ckpt", **options)
    assert {str(path): text for path, text in content(tmp_path).items()} == dict.fromkeys(USERS, b"mine")


@pytest.mark.parametrize("name", ["metrics.csv", "config.yaml", "hparams.yaml", "run.json", "bad_clips.jsonl"])
def test_a_run_is_written_through_no_link(name, tmp_path):
    """The folder may be one that someone else has made; a link may lead to a file that does not exist yet."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    (out / name).symlink_to(elsewhere)
    with pytest.raises(ValueError, match=f"{name} is a link, to .*elsewhere, and nothing is written through links"):
        fit(out, overwrite=True)
    with pytest.raises(ValueError, match="is a link"):
        recipe.trainer(str(out), **QUIET).validate(recipe.model(), datamodule=recipe.data(), verbose=False)
    assert not elsewhere.exists()
    assert {path.name for path in out.iterdir()} <= {name, "tensorboard"}


@pytest.mark.parametrize("event", ["../mine", "tensorboard/../mine", "tensorboard/events/../../../mine", "/etc/hosts"])
def test_a_record_names_no_file_elsewhere_for_removal(event, tmp_path):
    out = tmp_path / "out"
    RunRecord.new().write(out, "", [event])
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match=r"run\.json is no record of a run"):
        fit(out, overwrite=True)
    assert (tmp_path / "mine").read_text() == "mine"


def test_ckpt_path_last_replaces_no_run_that_has_a_checkpoint_by_now(tmp_path):
    """The command looks for a checkpoint before it has the lock, which another training may give back meanwhile."""
    made = recipe.trainer(str(tmp_path), max_steps=1, **QUIET)
    (folder,) = [callback for callback in made.callbacks if isinstance(callback, RunFolder)]
    folder.begin_anew = True
    fit(tmp_path)
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="holds a run already"):
        made.fit(recipe.model(), datamodule=recipe.data())
    assert (
        content(tmp_path).items() >= {path: text for path, text in before.items() if "events" not in path.name}.items()
    )


def test_ckpt_path_last_begins_only_where_nothing_of_others_is(tmp_path, capsys):
    from slap.cli.main import main

    quiet = [part for name, value in QUIET.items() for part in (f"--trainer.{name}", str(value).lower())]
    command = ["fit", "--recipe", recipe.__file__, *quiet, "--ckpt_path", "last", "--trainer.max_steps", "1"]
    (tmp_path / "metrics.csv").write_text("mine")
    assert main([*command, "--trainer.out", str(tmp_path)]) == 2
    assert "which no run has recorded" in capsys.readouterr().err
    assert content(tmp_path) == {(tmp_path / "metrics.csv").relative_to(tmp_path): b"mine"}


def test_what_killed_processes_left_half_written_goes_when_the_run_continues(tmp_path):
    """On any machine, since the training holds the lock."""
    fit(tmp_path, 1)
    half, mine = tmp_path / "best.ckpt.node7.4711.part", tmp_path / "best.ckpt.part"
    half.write_bytes(b"half")
    mine.write_bytes(b"mine")
    fit(tmp_path, 2, tmp_path / "last.ckpt")
    assert not half.exists()
    assert mine.exists()


def test_overwriting_removes_the_events_of_the_run_alone(tmp_path):
    fit(tmp_path, enable_checkpointing=False)
    (own,) = (tmp_path / "tensorboard").glob("events*")
    kept = own.with_name("events.out.tfevents.1.elsewhere")
    kept.write_bytes(b"of another run, to compare")
    fit(tmp_path, enable_checkpointing=False, overwrite=True)
    assert kept.exists()
    assert not own.exists()


def test_an_evaluation_spares_what_no_run_wrote(tmp_path):
    (tmp_path / "metrics.csv").write_text("price,sold\n1,2\n")
    made = recipe.trainer(str(tmp_path), **QUIET)
    with pytest.raises(FileExistsError, match="and an evaluation would write under these names"):
        made.validate(recipe.model(), datamodule=recipe.data(), verbose=False)
    assert (tmp_path / "metrics.csv").read_text() == "price,sold\n1,2\n"


@pytest.mark.parametrize("host", ["", "node7"], ids=["here", "on another machine"])
def test_an_evaluation_leaves_the_log_to_a_training_that_runs(host, tmp_path, monkeypatch, caplog):
    fit(tmp_path)
    before = (tmp_path / "metrics.csv").read_bytes()
    with monkeypatch.context() as patch:
        if host:
            patch.setattr("socket.gethostname", lambda: host)
        RunLock(tmp_path).acquire()
    monkeypatch.setattr("os.getpid", lambda: 1)  # so that the lock is of another process
    made = recipe.trainer(str(tmp_path), **QUIET)
    made.validate(recipe.model(), datamodule=recipe.data(), verbose=False)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert "is left to the training of process" in caplog.text


def test_a_new_column_rewrites_the_log_whole_or_not_at_all(tmp_path, monkeypatch):
    first = AppendingCSVLogger(str(tmp_path))
    first.log_metrics({"train/loss": 1.0}, 0)
    first.save()
    second = AppendingCSVLogger(str(tmp_path))
    second.log_metrics({"val/score": 2.0}, 0)
    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", lambda *_: 1 / 0)  # as an interruption
        with pytest.raises(ZeroDivisionError):
            second.save()
    assert (tmp_path / "metrics.csv").read_text() == "step,train/loss\n0,1.0\n"


# -- SLURM ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(monkeypatch):
    def submit(number, restarts=0):
        known = {"NTASKS": 1, "JOB_ID": number, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_NAME": "run"}
        for name, value in {**known, "RESTART_COUNT": restarts}.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))

    return submit


def requeued(out, slurm):
    """Make a run of job 77 that was requeued after two steps, and has made a third since."""
    slurm(77)
    made = fit(out, 2)
    made.save_checkpoint(out / "hpc_ckpt_1.ckpt", weights_only=False)
    fit(out, 3, out / "last.ckpt")


def test_a_requeued_job_continues_from_its_newest_checkpoint_even_with_overwrite(slurm, tmp_path):
    requeued(tmp_path, slurm)
    run = RunRecord.of(tmp_path).run
    slurm(77, restarts=1)
    made = fit(tmp_path, 4, overwrite=True)
    assert RunRecord.of(tmp_path).run == run
    assert str(made.ckpt_path) == str(tmp_path / "last.ckpt")


def test_another_job_does_not_take_up_what_it_shall_overwrite(slurm, tmp_path):
    requeued(tmp_path, slurm)
    run = RunRecord.of(tmp_path).run
    slurm(78)
    with pytest.raises(FileExistsError, match="holds a run already"):
        fit(tmp_path, 4)
    made = fit(tmp_path, 1, overwrite=True)
    assert made.ckpt_path is None
    assert RunRecord.of(tmp_path).run != run
    assert not list(tmp_path.glob("hpc_ckpt*"))


def test_rows_of_a_validation_that_is_made_again_are_forgotten(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/score\n0,1,2.0,\n0,1,,0.5\n0,2,1.0,\n0,2,,0.7\n")
    forget_after(path, 3, validated=False)
    assert path.read_text() == "epoch,step,train/loss,val/score\n0,1,2.0,\n0,1,,0.5\n0,2,1.0,\n"
