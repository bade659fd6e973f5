"""One engine: `slap test`, `slap evaluate` and Python give the same metrics and intervals, whatever the order of clips."""

import json
import random

import numpy as np
import pytest
import soundfile
from lightning.pytorch import Trainer

from slap.cli.main import main
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.metrics.bootstrap import MetricValue
from slap.testing.tiny import tiny_checkpoint
from slap.training.callbacks import test_report

RATE = 16_000
COUNT = 40
WINDOW = 1.0
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
PITCHES = ("low", "middle", "high")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, and a manifest of 40 clips in an order that is not that of their ids.

    Clips last 0.2 to 2.6 s, so that some take several windows, and have one to three captions, some of them shared.
    """
    folder = tmp_path_factory.mktemp("twins")
    rng = np.random.default_rng(0)
    clips = []
    for i in rng.permutation(COUNT):
        seconds = 0.2 + 2.4 * i / COUNT
        tone = np.sin(2 * np.pi * 90 * 1.13**i * np.arange(round(seconds * RATE)) / RATE)
        soundfile.write(folder / f"{i}.wav", 0.3 * tone + rng.normal(0, 0.05, len(tone)), RATE)
        captions = [f"sound {i // 2}", f"tone number {i}", f"{PITCHES[i % 3]} {i}"][: 1 + i % 3]
        labels = {"pitch": PITCHES[i % 3]} if i % 5 else {}
        clips.append(Clip(f"clip {i}", folder / f"{i}.wav", captions, labels))
    write_manifest(folder / "clips.jsonl", clips)
    tiny_checkpoint(folder / "model.ckpt", max_seconds=WINDOW)
    return folder


def in_another_order(folder, seed):
    """The same manifest with its lines in another order."""
    lines = (folder / "clips.jsonl").read_text().splitlines()
    random.Random(seed).shuffle(lines)
    path = folder / f"shuffled{seed}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def by_test(folder, manifest, out, max_duration):
    """The metrics of `slap test`, those of its report included."""
    model = tiny_checkpoint(folder / "model.ckpt", max_seconds=WINDOW)
    data = AudioTextData(test=manifest, max_duration=max_duration, window=WINDOW, max_clip=None, num_workers=0)
    Trainer(default_root_dir=out, callbacks=[test_report.TestReport()], **QUIET).test(
        model, datamodule=data, verbose=False
    )
    written = json.loads((out / "results.json").read_text())
    assert {name: MetricValue(**metric) for name, metric in written.items()} == model.evaluation.results
    return model.evaluation.results | model.evaluation.median_ranks


def by_evaluate(folder, manifest, out, batch_seconds):
    """The metrics of `slap evaluate`, under the names that `slap test` gives them."""
    words = ["evaluate", str(folder / "model.ckpt"), "--tasks", "retrieval/mine", "zeroshot/mine/pitch"]
    words += ["--manifest", f"mine={manifest}", "--out", str(out / "r.json"), "--no-plots", "--workers", "0"]
    assert main([*words, "--batch-seconds", str(batch_seconds)]) == 0
    retrieval, zero_shot = json.loads((out / "r.json").read_text())["results"]
    metrics = retrieval["metrics"] | {"zeroshot_pitch": zero_shot["metrics"]["accuracy"]}
    return {name: MetricValue(**metric) for name, metric in metrics.items()}


@pytest.mark.parametrize(("seed", "seconds"), [(None, 8.0), (1, 3.0), (2, 30.0)])
def test_slap_test_and_slap_evaluate_agree(folder, tmp_path, seed, seconds):
    manifest = folder / "clips.jsonl" if seed is None else in_another_order(folder, seed)
    ours = by_test(folder, manifest, tmp_path, seconds)
    assert ours == by_evaluate(folder, manifest, tmp_path, seconds)
    assert ours == by_test(folder, folder / "clips.jsonl", tmp_path, 5.0)
    assert ours["t2a_R@10"].low < ours["t2a_R@10"].value < ours["t2a_R@10"].high
    assert ours["zeroshot_pitch"].count == 32
