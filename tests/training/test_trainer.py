"""The trainer that recipes build on: what it writes, where, and what it refuses."""

import csv
import inspect

import pytest
import torch
from lightning.pytorch import Callback, Trainer

import toy_recipe as recipe
from slap.testing import TinyAudio, TinyText
from slap.training.callbacks.learning_curves import draw, panels, read_metrics
from slap.training.module import SLAP
from slap.training.trainer import trainer

pytestmark = pytest.mark.usefixtures("fast_reports")


QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def fit(out, **options):
    torch.manual_seed(0)
    made = recipe.trainer(str(out), **{**QUIET, **options})
    made.fit(recipe.model(), datamodule=recipe.data())
    return made


def steps(out, column):
    with (out / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get(column)]


def test_every_option_of_lightning_is_offered_or_decided(tmp_path):
    ours = set(inspect.signature(trainer).parameters)
    decided = {"default_root_dir", "check_val_every_n_epoch", "use_distributed_sampler"}
    for name in set(inspect.signature(Trainer).parameters) - ours:
        default = inspect.signature(Trainer).parameters[name].default
        if name in decided:
            with pytest.raises(ValueError, match=f"the trainer has no option '{name}'"):
                trainer(str(tmp_path), **{name: default})
        elif name not in ("barebones",):  # which forbids loggers
            trainer(str(tmp_path), **{name: default})


def test_unknown_options_list_the_valid_ones():
    with pytest.raises(ValueError, match=r"no option 'precison'; did you mean 'precision'\? valid are: accelerator, "):
        trainer(precison=16)


def test_what_a_run_logs(tmp_path):
    fit(tmp_path, max_steps=6, val_check_interval=2)
    for column in ("train/loss", "train/contrastive", "train/lr", "train/grad_norm", "train/clips_per_s"):
        assert steps(tmp_path, column) == [0, 1, 2, 3, 4, 5], column
    for column in ("val/t2a_R@1", "val/a2t_R@10", "val/t2a_median_rank", "val/zeroshot_parity"):
        assert steps(tmp_path, column) == [1, 3, 5], column


def test_nothing_is_written_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fit(tmp_path / "out", max_steps=2)
    assert not list((tmp_path / "here").iterdir())
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    events = {name for name in written if name.startswith("tensorboard/events")}
    assert len(events) == 1
    assert written - events == {
        "best.ckpt",
        "curves.png",
        "hparams.yaml",
        "last.ckpt",
        "metrics.csv",
        "run.json",
        "tensorboard/hparams.yaml",
    }


def test_a_short_run_is_validated_at_its_end(tmp_path):
    fit(tmp_path, max_steps=3)
    assert steps(tmp_path, "val/t2a_R@10") == [2]
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 3


class Scores(Callback):
    """Reports the scores that it is given as the validation metric."""

    def __init__(self, scores):
        self.scores = list(scores)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/score", self.scores.pop(0))


@pytest.mark.parametrize(("mode", "best"), [("max", 4), ("min", 6)])
def test_best_is_of_the_best_validation_and_last_of_the_last_step(mode, best, tmp_path):
    options = {"max_steps": 7, "val_check_interval": 2, "monitor": "val/score", "mode": mode}
    fit(tmp_path, callbacks=[Scores([0.2, 0.9, 0.1, 0.5])], **options)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == best
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 7
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True)["global_step"] == 6
    assert len(list(tmp_path.glob("*.ckpt"))) == 3


def test_an_unknown_metric_to_monitor_fails_before_the_first_step(tmp_path):
    with pytest.raises(
        ValueError, match=r"monitor is 'val/t2a_R@3'.* did you mean 'val/t2a_R@\d+'\? valid are: .*val/a2t"
    ):
        fit(tmp_path, max_steps=2, monitor="val/t2a_R@3", num_sanity_val_steps=2)
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("monitor", ["val/t2a_R@10", "val/zeroshot_parity", "train/loss"])
def test_a_metric_that_is_logged_passes_the_check(tmp_path, monitor):
    fit(tmp_path, max_steps=2, monitor=monitor, num_sanity_val_steps=2)
    assert (tmp_path / "best.ckpt").exists()


def test_last_is_saved_whatever_goes_wrong_with_best(tmp_path):
    with pytest.raises(Exception, match=r"monitor='val/nothing'.*could not find.*'val/t2a_R@1'"):
        fit(tmp_path, max_steps=2, monitor="val/nothing")  # no trial validation, which would find it
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_warmup_must_end_before_the_training(tmp_path):
    made = recipe.trainer(str(tmp_path), max_steps=4, **QUIET)
    model = SLAP(TinyAudio(), TinyText(), {"contrastive": 1.0}, warmup_steps=4)
    with pytest.raises(ValueError, match=r"warmup_steps=4 does not end before max_steps=4.*--model.warmup_steps 0"):
        made.fit(model, datamodule=recipe.data())
    trial = recipe.trainer(str(tmp_path), fast_dev_run=True, **QUIET)
    trial.fit(SLAP(TinyAudio(), TinyText(), {"contrastive": 1.0}), datamodule=recipe.data())


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path):
    fit(tmp_path, max_steps=2)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    with pytest.raises(FileExistsError, match="holds a run already"):
        fit(tmp_path, max_steps=2)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_overwriting_leaves_nothing_of_the_old_run(tmp_path):
    fit(tmp_path, max_steps=4)
    (events,) = (tmp_path / "tensorboard").glob("events*")
    fit(tmp_path, max_steps=2, overwrite=True)
    assert steps(tmp_path, "train/loss") == [0, 1]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    (new,) = (tmp_path / "tensorboard").glob("events*")
    assert new != events


def test_a_run_in_an_empty_folder_needs_no_permission(tmp_path):
    (tmp_path / "notes.txt").write_text("of mine")
    fit(tmp_path, max_steps=2)
    assert (tmp_path / "notes.txt").read_text() == "of mine"


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # noise has no position
def test_continuing_adds_to_the_log_and_numbers_it_on(tmp_path):
    fit(tmp_path, max_steps=4, val_check_interval=4)
    more = {"max_steps": 8, "changed_options": "accept", "log_every_n_steps": 2}
    made = recipe.trainer(str(tmp_path), val_check_interval=4, **more, **QUIET)
    made.fit(recipe.model(), datamodule=recipe.data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert steps(tmp_path, "train/loss") == [0, 1, 2, 3, 5, 7]
    assert steps(tmp_path, "train/clips_per_s") == [0, 1, 2, 3, 5, 7]
    assert steps(tmp_path, "val/t2a_R@1") == [3, 7]


def test_a_quick_trial_writes_nothing(tmp_path):
    fit(tmp_path / "out", fast_dev_run=1)
    assert not (tmp_path / "out").exists()


def test_no_checkpoints_if_not_wanted(tmp_path):
    fit(tmp_path, max_steps=2, enable_checkpointing=False)
    assert not list(tmp_path.glob("*.ckpt"))


# -- curves -----------------------------------------------------------------------------------------------------------


def test_a_step_that_was_logged_twice_counts_once(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss,val/t2a_R@1\n0,1,3.0,\n0,2,2.0,\n0,2,1.5,\n0,2,,40\n")
    assert read_metrics(tmp_path / "metrics.csv") == {"train/loss": {1: 3.0, 2: 1.5}, "val/t2a_R@1": {2: 40.0}}


def test_the_picture_has_a_panel_for_everything_that_matters(tmp_path):
    made = fit(tmp_path, max_steps=4)
    results = made.lightning_module.evaluation.results
    chance = {f"val/{name}": result.chance for name, result in results.items()}
    drawn = {panel.title: panel for panel in panels(read_metrics(tmp_path / "metrics.csv"), chance)}
    assert [*drawn] == [
        "weighted sum of losses",
        "contrastive",
        "learning rate",
        "gradient norm before clipping",
        "text to audio, validation",
        "audio to text, validation",
        "zero-shot accuracy, validation",
    ]
    assert [*drawn["text to audio, validation"].curves] == ["R@1", "R@5", "R@10"]
    assert drawn["zero-shot accuracy, validation"].chance == {"parity": 50.0}
    # Of twelve clips three have the same caption, and each of them is right for it.
    assert drawn["text to audio, validation"].chance["R@1"] == pytest.approx(100 * 3 / 12)


def test_the_picture_is_one(tmp_path):
    series = {"train/loss": {step: 1 / step for step in range(1, 60)}, "val/t2a_R@1": {30: 10.0, 60: 20.0}}
    draw(series, tmp_path / "curves.png", {"val/t2a_R@1": 1.0})
    header = (tmp_path / "curves.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20], "big") == 1650  # three panels wide
    draw({}, tmp_path / "nothing.png", {})
    assert not (tmp_path / "nothing.png").exists()
