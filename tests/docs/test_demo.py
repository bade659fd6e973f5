"""The demo recipe, end to end in a few steps: it writes its corpus, trains all objectives and reports."""

import csv
import json

import pytest

from slap.recipes import demo

CHANCE = {"order": 50.0, "count": 100 / 3, "duration": 50.0, "overlap": 50.0}
"""Chance of the questions, percent."""


def test_the_objectives_and_weights_are_the_papers():
    assert demo.model().weights == {"contrastive": 1.0, "masked_distillation": 1.0, "captioning": 0.5}


def test_arguments_reach_the_model_the_data_and_the_trainer(tmp_path):
    model = demo.model(objectives={"contrastive": 1.0}, embedding_dim=32, lr=1e-4, warmup_steps=7)
    assert list(model.objectives) == ["contrastive"]
    assert model.teacher is None
    assert (model.embedding_dim, model.hparams["lr"], model.hparams["warmup_steps"]) == (32, 1e-4, 7)
    data = demo.data(str(tmp_path), train=5, val=40, test=50, max_duration=20.0, num_buckets=2, seed=3)
    assert (data.clips, data.batching.max_duration, data.batching.num_buckets, data.seed) == ((5, 40, 50), 20.0, 2, 3)
    trainer = demo.trainer(out=str(tmp_path), max_steps=11, precision="bf16-true", accelerator="cpu")
    assert trainer.max_steps == 11


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Make a short run, and return its folder."""
    out = tmp_path_factory.mktemp("demo")
    model = demo.model(warmup_steps=1)
    data = demo.data(str(out / "corpus"), train=60, val=36, test=36, max_duration=30.0)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = demo.trainer(out=str(out), max_steps=4, log_every_n_steps=1, num_sanity_val_steps=0, **quiet)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return out


def test_every_objective_is_trained_and_logged(run):
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert len(rows) == 4
    for row in rows:
        losses = [float(row[f"train/{name}"]) for name in ("contrastive", "masked_distillation", "captioning")]
        assert all(loss > 0 for loss in losses)
        assert float(row["train/loss"]) == pytest.approx(losses[0] + losses[1] + 0.5 * losses[2], rel=1e-4)
    assert float(rows[-1]["train/captioning"]) < float(rows[0]["train/captioning"])


def test_it_is_tested_beside_chance(run):
    (path,) = run.glob("test/*/results.json")
    results = json.loads(path.read_text())["metrics"]
    directions = {f"{way}_R@{k}" for way in ("t2a", "a2t") for k in (1, 5, 10)}
    directions |= {"t2a_mAP@10", "a2t_mAP@10", "a2t_mAP@10_found"}
    questions = {f"choice_{task}": chance for task, chance in CHANCE.items()}
    assert set(results) == directions | {"zeroshot_event"} | set(questions)
    assert results["zeroshot_event"]["chance"] == pytest.approx(100 / 12)
    assert results["zeroshot_event"]["count"] == 36
    for name, chance in questions.items():
        assert results[name]["chance"] == pytest.approx(chance)
        assert results[name]["count"] >= 36
    assert all(result["low"] <= result["value"] <= result["high"] for result in results.values())


def test_the_folder_holds_checkpoints_plots_and_captions(run):
    names = {path.name for path in run.iterdir()}
    plots = {"confusion_event.png", "recall.png", "recall_by_duration.png"}
    assert names >= {"best.ckpt", "last.ckpt", "curves.png", "test", "corpus"}
    (folder,) = (run / "test").iterdir()
    assert {path.name for path in folder.iterdir()} == plots | {"report.md", "results.json"}
    report = (folder / "report.md").read_text()
    assert "written by the model" in report
    assert report.count("| test-000") >= 4
