"""Loggers by name: their arguments, their folders, and the pictures that they get."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import slap.training.loggers
import toy_recipe as recipe
from slap.cli.main import main
from slap.core.errors import MissingDependencyError
from slap.training.callbacks.pictures import Pictures, send_captions, send_figure
from slap.training.callbacks.test_report import Sample
from slap.training.checkpoint.metrics_log import AppendingCSVLogger
from slap.training.loggers import KINDS, loggers
from slap.training.trainer import trainer

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def kinds(found):
    return [type(logger) for logger in found]


def test_metrics_csv_is_always_first(tmp_path):
    assert kinds(loggers(str(tmp_path))) == [AppendingCSVLogger, TensorBoardLogger]
    assert kinds(loggers(str(tmp_path), "tensorboard")) == [AppendingCSVLogger, TensorBoardLogger]
    assert kinds(loggers(str(tmp_path), False)) == [AppendingCSVLogger]
    own = CSVLogger(tmp_path / "mine")
    assert loggers(str(tmp_path), own)[1] is own
    both = loggers(str(tmp_path), ["csv", {"tensorboard": {"name": "x"}}, own])
    assert kinds(both) == [AppendingCSVLogger, CSVLogger, TensorBoardLogger, CSVLogger]
    assert both[1].log_dir == str(tmp_path / "csv" / "version_0")
    assert both[2].root_dir == str(tmp_path / "tensorboard" / "x")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("wandbb", "no logger 'wandbb'; did you mean 'wandb'"),
        ({"csv": {"nam": "x"}}, "logger csv has no argument 'nam'; did you mean 'name'"),
        (3, "a logger is a name .csv, mlflow, tensorboard, wandb."),
        ({"csv": "x"}, "a name with arguments"),
    ],
)
def test_what_makes_no_sense_is_refused(chosen, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(str(tmp_path), logger=chosen)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr(slap.training.loggers, "find_spec", lambda package: None)
    with pytest.raises(MissingDependencyError, match=f"needs {name}: pip install {name}"):
        trainer(str(tmp_path), logger=name)


def test_only_loggers_that_are_named_get_pictures(tmp_path):
    """Drawing takes a second for each validation."""
    for chosen, expected in ((None, False), (False, False), ("tensorboard", True)):
        callbacks = trainer(str(tmp_path), logger=chosen).callbacks
        assert any(isinstance(callback, Pictures) for callback in callbacks) is expected


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run that names TensorBoard, trained and tested."""
    out = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slap.metrics.bootstrap.SAMPLES", 20)
        torch.manual_seed(0)
        made = recipe.trainer(str(out), max_steps=1, val_check_interval=1, logger=["tensorboard", "csv"], **QUIET)
        model = recipe.model()
        made.fit(model, datamodule=recipe.data())
        made.test(model, datamodule=recipe.data(), verbose=False)
    return out


@pytest.mark.slow
def test_named_loggers_get_pictures_and_ours_stay(logged):
    events = EventAccumulator(str(logged / "tensorboard")).Reload()
    pictures = events.Tags()["images"]
    assert {"val/recall", "val/confusion_parity", "test/recall"} <= set(pictures)
    assert [event.step for event in events.Images("val/recall")] == [1]
    assert "val/t2a_R@10" in events.Tags()["scalars"]
    assert "train/loss" in (logged / "csv" / "version_0" / "metrics.csv").read_text()
    assert "train/loss" in (logged / "metrics.csv").read_text()
    assert (logged / "curves.png").stat().st_size > 0


def test_captions_reach_tensorboard(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    send_captions(logger, "test/captions", [Sample("a|b", "rain", "rain falls")], 3)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Tensors("test/captions/text_summary")
    assert b"rain falls" in event.tensor_proto.string_val[0]
    csv = CSVLogger(tmp_path / "csv")
    send_captions(csv, "test/captions", [], 3)  # takes none
    send_figure(csv, "val/recall", None, 3)
    assert not (tmp_path / "csv").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed: pip install wandb")
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "sounds"
    chosen = {"wandb": {"project": "sounds", "offline": True}}
    made = recipe.trainer(str(out), max_steps=2, val_check_interval=2, logger=chosen, **QUIET)
    model = recipe.model()
    made.fit(model, datamodule=recipe.data())
    logger = made.loggers[1]
    send_captions(logger, "test/captions", [Sample("a", "rain", "rain falls")], 2)
    summary = dict(logger.experiment.summary)
    folder = logger.experiment.dir
    wandb.finish()
    assert folder.startswith(str(out / "wandb" / "offline-run-"))
    assert {"train/loss", "val/t2a_R@10", "val/recall", "test/captions"} <= set(summary)
    assert list((out / "wandb").glob("offline-run-*/files/media/images/val/recall_*.png"))
    assert list((out / "wandb").glob("offline-run-*/*.wandb"))
    assert (out / "metrics.csv").is_file()


def test_mlflow_keeps_a_run_in_its_folder_unless_a_place_is_given(tmp_path, monkeypatch):
    """MLflow 3 refuses a plain folder, which was our default: no run with this logger began."""
    made = {}
    kind = replace(
        KINDS["mlflow"],
        make=lambda tracking_uri=None, artifact_location=None, **rest: made.update(
            uri=tracking_uri, artifacts=artifact_location, **rest
        ),
    )
    monkeypatch.setitem(KINDS, "mlflow", kind)
    monkeypatch.setattr(slap.training.loggers, "find_spec", lambda package: True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = (tmp_path / "run").resolve()
    loggers(str(place), {"mlflow": {"experiment_name": "x"}})
    expected = {"uri": f"sqlite:///{place}/mlflow.db", "artifacts": str(place / "mlruns")}
    assert made == {**expected, "run_name": "run", "experiment_name": "x"}
    for options in ({"tracking_uri": "http://host"}, {"save_dir": "there"}):
        made.clear()
        loggers(str(place), {"mlflow": options})
        assert (made["uri"], made["artifacts"]) == (options.get("tracking_uri"), None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    made.clear()
    loggers(str(place), "mlflow")
    assert (made["uri"], made["artifacts"]) == (None, None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(slap.training.loggers, "find_spec", lambda package: package != "sqlalchemy" or None)
    with pytest.raises(MissingDependencyError, match="mlflow-skinny cannot: pip install mlflow"):
        loggers(str(place), "mlflow")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
@pytest.mark.filterwarnings("ignore:::pydantic")
@pytest.mark.filterwarnings("ignore:MLFlow only allows:RuntimeWarning")  # no @ in names of metrics
@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed: pip install mlflow")
def test_mlflow_in_a_local_database(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "sounds"
    chosen = {"mlflow": {"experiment_name": "sounds"}}
    made = recipe.trainer(str(out), max_steps=2, val_check_interval=2, logger=chosen, **QUIET)
    model = recipe.model()
    made.fit(model, datamodule=recipe.data())
    logger = made.loggers[1]
    send_captions(logger, "test/captions", [Sample("a|b", "rain", "rain falls")], 2)
    run = logger.experiment.get_run(logger.run_id)
    assert {"train/loss", "val/t2a_R10"} <= set(run.data.metrics)
    assert (out / "mlflow.db").is_file()
    (picture,) = out.glob("mlruns/*/artifacts/val/recall/step_2.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    (captions,) = out.glob("mlruns/*/artifacts/test/captions/step_2.md")
    assert "rain falls" in captions.read_text()
    assert (out / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("wandb", "wandb"),
        ("false", False),
        ("{wandb: {project: sounds, offline: true}}", {"wandb": {"project": "sounds", "offline": True}}),
        ("[tensorboard, {mlflow: {run_name: a}}]", ["tensorboard", {"mlflow": {"run_name": "a"}}]),
    ],
)
def test_from_the_command_line(given, expected, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--recipe", "demo", "--trainer.logger", given, "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"] == expected
