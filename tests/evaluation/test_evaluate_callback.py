"""Evaluation during training: the metrics of `slap evaluate`, and a training that does not notice.

The last tests start this file as a program, once per process.
"""

from __future__ import annotations

import csv
import json
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import slap
from launch import launch
from slap.cli.main import main
from slap.core.registry import register
from slap.evaluation.callback import Evaluate, as_model
from slap.evaluation.evaluated_model import Embeddings
from slap.evaluation.monitor import refuse_published
from slap.evaluation.tasks.base import Task, result_of
from slap.metrics.bootstrap import MetricValue
from slap.metrics.captioning import ptb as java_tools
from slap.recipes import base
from slap.testing.tiny import tiny_model

RATE = 16_000
NANO = {"name": "transformer", "size": "nano"}
OBJECTIVES = {
    "contrastive": 1.0,
    "masked_distillation": {"weight": 1.0, "prototypes": 8, "hidden": 16, "bottleneck": 8},
    "captioning": {"weight": 0.5, "layers": 1, "heads": 2, "width": 16, "hidden": 32},
}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


@register("restless")
class Restless(Task):
    """Draws random numbers of all kinds, and sees that the model is not in training but tasks can learn."""

    uses = ("captions",)

    def __init__(self, fail: str = "") -> None:
        self.fail = fail

    def run(self, subject, data, progress):
        network = subject.model.backend.network
        assert not any(part.training for part in network.modules())
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad  # tasks that learn can
        if self.fail:
            raise ValueError(self.fail)
        drawn = torch.rand(1).item() + float(np.random.rand()) + random.random()
        features = Embeddings([], torch.empty(0, 16), [], [])
        return result_of("restless", subject, data, features, {"drawn": MetricValue(drawn, 0, 3, 1.5, 1)}, {})


def write_manifest(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["audio,caption"]
    for i, what in enumerate(("dog", "cat", "owl", "bee", "cow", "rat")):
        seconds = 0.2 + 0.1 * i
        tone = 0.3 * np.sin(2 * np.pi * 200 * (i + 1) * np.arange(round(seconds * RATE)) / RATE)
        soundfile.write(folder / f"{what}.wav", tone + rng.normal(0, 0.05, len(tone)), RATE)
        rows += [f"{what}.wav,a {what} calls", f"{what}.wav,this is the {what}"]
    path = folder / "clips.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module", autouse=True)
def quick_runs(fast_reports):
    """Spare runs the seconds that Java takes, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java_tools.shutil, "which", lambda name: None)
        for name in ("SLAP_SPICE", "SLAP_FENSE"):
            patch.delenv(name, raising=False)
        yield


def fit(manifest, out, callbacks=(), max_steps=4, test=(), **options):
    torch.manual_seed(0)
    model = base.model(NANO, {**NANO, "vocab_size": 300}, OBJECTIVES, embedding_dim=16, lr=1e-3, warmup_steps=0)
    files = [str(manifest)]
    sizes = {"max_duration": 1.5, "num_buckets": 2, "min_clip": 0.1, "max_clip": 1.0, "window": 1.0}
    data = base.data(train=files, val=files, test=[str(test)] if test else [], num_workers=0, **sizes)
    options = {**QUIET, "log_every_n_steps": 1, "val_check_interval": 2, **options}
    trainer = base.trainer(str(out), max_steps, callbacks=list(callbacks), **options)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*overlap.*|.*same.*|.*also in.*"
        )  # it is evaluated on what it learns
        trainer.fit(model, datamodule=data)
    return trainer, model


def evaluating(manifest, **options):
    rows = ["retrieval/mine", "captioning/mine", "restless/mine"]
    chosen = ["captioning.beam=1", "captioning.max_length=6"]
    return Evaluate(rows, manifest=[f"mine={manifest}"], options=chosen, **options)


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    """A run with the callback: its folder, trainer and model."""
    out = tmp_path_factory.mktemp("run") / "out"
    return out, *fit(manifest, out, [evaluating(manifest)], monitor="eval/retrieval/mine/t2a_mAP@10")


def log(out):
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(out, name):
    return [(int(row["step"]), float(row[name])) for row in log(out) if row.get(name)]


TIMED = ("_per_s", "data_wait", "eval/")


def untimed(out):
    return [
        {name: value for name, value in row.items() if value and not any(part in name for part in TIMED)}
        for row in log(out)
    ]


def test_training_does_not_notice(run, manifest, tmp_path):
    out, _, evaluated = run
    _, alone = fit(manifest, tmp_path / "alone")
    theirs = alone.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in evaluated.state_dict().items())
    with_callback = [row for row in untimed(out) if len(row) > 2]
    without = [row for row in untimed(tmp_path / "alone") if len(row) > 2]
    assert with_callback == without
    assert len(without) > 4


def test_figures_are_logged_after_each_validation(run):
    out, trainer, _ = run
    for name in ("retrieval/mine/t2a_R@1", "retrieval/mine/a2t_median_rank", "captioning/mine/CIDEr-D"):
        assert [step for step, _ in column(out, f"eval/{name}")] == [1, 3], name
    assert (out / "best.ckpt").is_file()
    assert trainer.checkpoint_callback.monitor == "eval/retrieval/mine/t2a_mAP@10"
    best = max(value for _, value in column(out, "eval/retrieval/mine/t2a_mAP@10"))
    assert float(trainer.checkpoint_callback.best_model_score) == pytest.approx(best, rel=1e-5)


def test_figures_and_model_are_those_of_slap_evaluate(run, manifest, tmp_path):
    out, _, _ = run
    during = json.loads((out / "evaluations" / "step4.json").read_text())
    rows = ["--tasks", "retrieval/mine", "captioning/mine", "--set", "captioning.beam=1", "captioning.max_length=6"]
    words = ["--manifest", f"mine={manifest}", "--out", str(tmp_path / "r.json"), "--no-plots", "--workers", "0"]
    assert main(["evaluate", str(out / "last.ckpt"), *rows, *words]) == 0
    after = json.loads((tmp_path / "r.json").read_text())
    assert during["model"]["hash"] == after["model"]["hash"] == slap.load(out / "last.ckpt").name
    for ours, theirs in zip(during["results"], after["results"], strict=False):
        for key in ("metrics", "settings", "definitions", "ids_sha256", "counts"):
            assert ours[key] == theirs[key], key
    captions = "captioning_mine_captions.jsonl"
    written = [(tmp_path / f"r_{captions}").read_text(), (out / "evaluations" / f"step4_{captions}").read_text()]
    assert written[0] == written[1]


def test_every_second_validation_and_the_last(manifest, tmp_path):
    rows, words = ["restless/mine"], [f"mine={manifest}"]
    fit(manifest, tmp_path, [Evaluate(rows, manifest=words, every_n_validations=2)], 6, val_check_interval=1)
    assert [step for step, _ in column(tmp_path, "eval/restless/mine/drawn")] == [0, 2, 4, 5]
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    (mine,) = [content for key, content in state.items() if "Evaluate" in key]
    assert mine == {"validations": 6}


@pytest.mark.parametrize("place", ["same path", "other path"])
def test_clips_of_the_test_may_not_select(manifest, tmp_path, place):
    """The page on captioning taught it: Evaluate on test.csv, whose metric was the monitor."""
    path = manifest
    if place == "other path":
        path = tmp_path / "copy.csv"
        rows = manifest.read_text().replace("\n", f"\n{manifest.parent}/")
        path.write_text(rows)
    with pytest.raises(ValueError, match="would select the checkpoint by clips that the run is tested on: 6 of 6"):
        fit(manifest, tmp_path / "run", [evaluating(path)], test=manifest, monitor="eval/retrieval/mine/t2a_R@1")
    assert not (tmp_path / "run" / "best.ckpt").exists()


def test_a_published_test_may_not_select():
    with pytest.raises(ValueError, match="by the published test of clotho, whose metrics are then too high"):
        refuse_published("eval/retrieval/clotho/t2a_R@1", "clotho")
    refuse_published("eval/retrieval/mine/t2a_R@1", "mine")


def test_modes_come_back_also_after_an_error():
    model = tiny_model()
    model.audio.mix.eval()
    modes = [part.training for part in model.modules()]
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)

    def use_and_fail():
        with as_model(model) as evaluated:
            torch.rand(5)
            assert not model.training
            assert evaluated.embed_audio(torch.rand(800)).shape == (1, 16)
            raise KeyError

    with pytest.raises(KeyError):
        use_and_fail()
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.audio.parameters())
    assert torch.equal(torch.rand(1), expected)


def test_what_is_wrong_is_said_before_training(manifest, tmp_path):
    with pytest.raises(ValueError, match="Evaluate needs tasks"):
        Evaluate([])
    with pytest.raises(ValueError, match="every_n_validations must be at least 1, got 0"):
        Evaluate(["retrieval/clotho"], every_n_validations=0)
    with pytest.raises(ValueError, match="there is no task 'retreival'; did you mean 'retrieval'"):
        Evaluate(["retreival/clotho"])
    with pytest.raises(ValueError, match="has no option 'beams'; did you mean 'beam'"):
        Evaluate(["captioning/clotho"], options=["captioning.beams=3"])
    with pytest.raises(ValueError, match="retrieval/clotho: there is no folder clotho"):
        fit(manifest, tmp_path / "a", [Evaluate(["retrieval/clotho"])])
    with pytest.raises(ValueError, match="no data for any of its tasks: retrieval/audiocaps"):
        fit(manifest, tmp_path / "b", [Evaluate(["retrieval"])])


def test_tasks_that_learn_do_so_beside_the_training(manifest, tmp_path):
    """Of six clips four teach which names come early in the alphabet."""
    clips = {"train": ("dog", "owl", "bee", "rat"), "val": ("dog", "owl"), "test": ("cat", "cow")}
    for part, names in clips.items():
        lines = [f"{manifest.parent / name}.wav,{'early' if name < 'd' else 'late'}" for name in names]
        (tmp_path / f"{part}.csv").write_text("\n".join(["audio,label", *lines]))
    words = [f"mine={tmp_path}/test.csv", f"mine/train={tmp_path}/train.csv", f"mine/val={tmp_path}/val.csv"]
    rows = ["linear_probe/mine", "knn_probe/mine"]
    _, evaluated = fit(manifest, tmp_path / "run", [Evaluate(rows, manifest=words)], 2)
    assert all(column(tmp_path / "run", f"eval/{row}/label/accuracy") for row in rows)
    _, alone = fit(manifest, tmp_path / "alone", (), 2)
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in evaluated.state_dict().items())


def test_a_row_that_fails_stops_the_run(manifest, tmp_path):
    broken = Evaluate(["restless/mine"], manifest=[f"mine={manifest}"], options=["restless.fail=it broke"])
    with pytest.raises(ValueError, match="Evaluate failed: restless/mine: ValueError: it broke"):
        fit(manifest, tmp_path, [broken])


def test_from_the_command_line(manifest, tmp_path, capsys):
    out = tmp_path / "run"
    small = ["--model.audio", json.dumps(NANO), "--model.text", json.dumps({**NANO, "vocab_size": 300})]
    data = [f"--data.train=[{manifest}]", f"--data.val=[{manifest}]", "--data.min_clip=0.1", "--data.num_workers=0"]
    callback = [
        "--trainer.callbacks+=slap.evaluation.callback.Evaluate",
        "--trainer.callbacks.tasks=[retrieval/mine]",
        f"--trainer.callbacks.manifest=[mine={manifest}]",
        "--trainer.monitor=eval/retrieval/mine/t2a_R@1",
    ]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    steps = ["--trainer.max_steps=2", "--model.embedding_dim=16", "--model.warmup_steps=1"]
    objectives = ["--model.objectives={contrastive: 1.0}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = main(
            ["fit", "--recipe", "base", f"--trainer.out={out}", *small, *data, *callback, *quiet, *steps, *objectives]
        )
    assert status == 0, capsys.readouterr().err
    assert column(out, "eval/retrieval/mine/t2a_R@1")
    assert (out / "best.ckpt").is_file()


# -- several processes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes printed, and the folder that they trained in."""
    folder = tmp_path_factory.mktemp("two")
    write_manifest(folder)
    launch(__file__, 2, folder)
    return folder, [(folder / f"2-{rank}.err").read_text() for rank in range(2)]


@pytest.mark.distributed
def test_two_processes_have_the_same_figures(two):
    folder, printed = two
    found = [json.loads(text.split("METRICS ")[1].splitlines()[0]) for text in printed]
    assert found[0] == found[1]
    record = json.loads((folder / "out" / "evaluations" / "step2.json").read_text())
    for result in record["results"]:
        for name, metric in result["metrics"].items():
            if result["task"] != "restless":
                assert found[0][f"eval/{result['task']}/mine/{name}"] == pytest.approx(metric["value"], rel=1e-5)
    words = ["--manifest", f"mine={folder / 'clips.csv'}", "--no-plots", "--workers", "0"]
    out = folder / "after.json"
    assert (
        main(["evaluate", str(folder / "out" / "last.ckpt"), "--tasks", "retrieval/mine", "--out", str(out), *words])
        == 0
    )
    after = json.loads(out.read_text())
    assert after["results"][0]["metrics"].keys() == record["results"][0]["metrics"].keys()
    for name, metric in after["results"][0]["metrics"].items():
        assert metric["value"] == record["results"][0]["metrics"][name]["value"], name


@pytest.mark.distributed
def test_an_error_on_the_first_process_stops_both(two):
    _, printed = two
    assert "STOPPED UserError: Evaluate failed: restless/mine: ValueError: it broke" in printed[0]
    assert "STOPPED RuntimeError: the first process failed to evaluate: UserError: Evaluate failed" in printed[1]


def _program(folder: Path) -> None:
    manifest = folder / "clips.csv"
    options = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    java_tools.shutil.which = lambda name: None
    trainer, _ = fit(manifest, folder / "out", [evaluating(manifest)], 2, **options)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("eval/")}
    print("METRICS " + json.dumps(metrics), flush=True)
    broken = Evaluate(["restless/mine"], manifest=[f"mine={manifest}"], options=["restless.fail=it broke"])
    try:
        broken._first_only(lambda: broken._find_data(folder / "broken", []))
        broken._first_only(lambda: broken._evaluate(trainer.lightning_module, folder / "broken" / "e" / "step0.json"))
    except (ValueError, RuntimeError) as error:
        print(f"STOPPED {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    _program(Path(sys.argv[2]))
