"""`slap test`, `slap evaluate` and Python give the same metrics and intervals, whatever the order of clips."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from lightning.pytorch import Trainer

import slap
from slap.cli.crossval import summary
from slap.cli.main import main
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.metrics.bootstrap import MetricValue
from slap.metrics.captioning import ptb as java_tools
from slap.testing.tiny import tiny_checkpoint
from slap.training.callbacks.test_report import ReportWriter

RATE = 16_000
COUNT = 40
WINDOW = 1.0
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
PITCHES = ("low", "middle", "high")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A manifest of 40 clips in an order that is not that of their ids, and checkpoints.

    Clips last 0.2 to 2.6 s, so that some take several windows. They have one to three captions, some of them shared and
    some made of labels; four fifths have a label, all have tags, and all have a fold in a second manifest.
    """
    folder = tmp_path_factory.mktemp("twins")
    rng = np.random.default_rng(0)
    clips = []
    for i in rng.permutation(COUNT).tolist():
        seconds = 0.2 + 2.4 * i / COUNT
        tone = np.sin(2 * np.pi * 90 * 1.13**i * np.arange(round(seconds * RATE)) / RATE)
        soundfile.write(folder / f"{i}.wav", 0.3 * tone + rng.normal(0, 0.05, len(tone)), RATE)
        captions = [f"sound {i // 2}", f"tone number {i}", f"the sound of {PITCHES[i % 3]}"][: 1 + i % 3]
        fields = ["caption", "caption", "template"][: 1 + i % 3]
        labels = {"pitch": PITCHES[i % 3]} if i % 5 else {}
        tags = {"kinds": [PITCHES[i % 3], PITCHES[i % 2]]}
        clips.append(Clip(f"clip {i}", folder / f"{i}.wav", captions, labels, tags=tags, fields=fields))
    write_manifest(folder / "clips.jsonl", clips)
    write_manifest(folder / "folds.jsonl", [replace(clip, fold=int(clip.id[5:]) % 4) for clip in clips])
    tiny_checkpoint(folder / "model.ckpt", max_seconds=WINDOW)
    return folder


def manifest_of(folder, name, seed):
    """A manifest, with its lines in another order if there is a seed."""
    if seed is None:
        return folder / name
    lines = (folder / name).read_text().splitlines()
    random.Random(seed).shuffle(lines)
    path = folder / f"{seed}{name}"
    path.write_text("\n".join(lines) + "\n")
    return path


def by_test(folder, manifest, out, max_duration, objectives=None):
    """The metrics of `slap test`, which its report and JSON file have too, and the confusion matrices."""
    model = tiny_checkpoint(folder / "tested.ckpt", objectives, max_seconds=WINDOW)
    data = AudioTextData(test=manifest, max_duration=max_duration, window=WINDOW, max_clip=None, num_workers=0)
    Trainer(default_root_dir=out, callbacks=[ReportWriter()], **QUIET).test(model, datamodule=data, verbose=False)
    newest = max(out.glob("test/*/results.json"), key=lambda path: path.stat().st_mtime_ns)
    written = json.loads(newest.read_text())["metrics"]
    assert {name: MetricValue(**metric) for name, metric in written.items()} == model.evaluation.results
    confusions = {name: confusion.counts.tolist() for name, confusion in model.evaluation.confusions.items()}
    return model.evaluation.results | model.evaluation.median_ranks, confusions


def by_evaluate(folder, manifest, out, batch_seconds):
    """The metrics of `slap evaluate`, under the names that `slap test` gives them."""
    words = ["evaluate", str(folder / "model.ckpt"), "--tasks", "retrieval/mine", "zeroshot/mine/pitch"]
    words += ["--manifest", f"mine={manifest}", "--out", str(out / "r.json"), "--no-plots", "--workers", "0"]
    assert main([*words, "--batch-seconds", str(batch_seconds)]) == 0
    retrieval, zero_shot = json.loads((out / "r.json").read_text())["results"]
    metrics = retrieval["metrics"] | {"zeroshot_pitch": zero_shot["metrics"]["accuracy"]}
    by_class = [row["clips"] for row in zero_shot["per_class"]]
    return {name: MetricValue(**metric) for name, metric in metrics.items()}, by_class


@pytest.mark.parametrize(("seed", "seconds"), [(None, 8.0), (1, 3.0), (2, 30.0)])
def test_slap_test_slap_evaluate_and_python_agree(folder, tmp_path, seed, seconds):
    """Intervals depended on the order of clips: audio-to-text R@10 was 25.0 [12.5, 40.0] and 25.0 [12.5, 37.5]."""
    manifest = manifest_of(folder, "clips.jsonl", seed)
    ours, confusions = by_test(folder, manifest, tmp_path, seconds)
    theirs, by_class = by_evaluate(folder, manifest, tmp_path, seconds)
    assert ours == theirs
    assert [sum(row) for row in confusions["pitch"]] == by_class
    assert (ours, confusions) == by_test(folder, folder / "clips.jsonl", tmp_path, 5.0)
    rows = ["retrieval/mine", "zeroshot/mine/pitch"]
    python = slap.evaluate(folder / "model.ckpt", rows, {"mine": manifest}, batch_seconds=7.0)
    python = {name.rpartition("/")[2]: metric for name, metric in python.items()}
    python["zeroshot_pitch"] = python.pop("accuracy")
    assert python == ours
    assert ours["t2a_R@10"].low < ours["t2a_R@10"].value < ours["t2a_R@10"].high
    assert (ours["t2a_R@10"].count, ours["zeroshot_pitch"].count) == (66, 32)  # captions made of labels do not count


@pytest.mark.parametrize("several", [False, True], ids=["labels", "tags"])
def test_classifiers_do_not_depend_on_the_order_of_clips(folder, tmp_path, several):
    task = {"task": "kinds" if several else "pitch", "classes": list(PITCHES), "multi_label": several}
    expected = by_test(folder, folder / "clips.jsonl", tmp_path, 8.0, {"classification": task})
    assert set(expected[0]) == {"classification_mAP" if several else "classification_accuracy"}
    for seed, seconds in ((1, 3.0), (2, 30.0)):
        manifest = manifest_of(folder, "clips.jsonl", seed)
        assert by_test(folder, manifest, tmp_path, seconds, {"classification": task}) == expected


def test_no_task_depends_on_the_order_of_clips(folder, monkeypatch):
    """Folds, tags, probes and captions; the metrics of captions that need Java are left out."""
    monkeypatch.setattr(java_tools.shutil, "which", lambda name: None)
    rows = ["zeroshot/mine/pitch", "zeroshot/mine/kinds", "knn_probe/mine/pitch", "captioning/mine"]
    options = {"captioning": {"beam": 1, "max_length": 6}, "knn_probe": {"neighbours": [3]}}
    found = [
        slap.evaluate(
            folder / "model.ckpt",
            rows,
            {"mine": manifest_of(folder, "folds.jsonl", seed)},
            options=options,
            batch_seconds=seconds,
        )
        for seed, seconds in ((None, 8.0), (1, 3.0))
    ]
    assert {"zeroshot/mine/pitch/accuracy_pooled", "zeroshot/mine/kinds/mAP", "captioning/mine/CIDEr-D"} <= set(
        found[0]
    )
    assert dict(found[0]) == dict(found[1])


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 1, 2]])
def test_the_mean_over_folds_does_not_depend_on_their_order(order):
    values = {1: 50.0, 2: 90.0, 3: 75.0}
    folds = {fold: {"m": {"value": values[fold], "chance": 10.0, "count": 4, "best": 100.0}} for fold in order}
    assert summary(folds)["m"] == summary(dict(sorted(folds.items())))["m"]
