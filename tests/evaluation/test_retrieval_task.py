"""Retrieval as a task: the published reference case, clips with different numbers of captions, bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slap.core.progress import silent
from slap.evaluation import EvalClip, EvalSet, EvaluatedModel, Retrieval
from slap.metrics.median_rank import chance_best_rank
from table_model import table_model


def score(clip, text):
    return round(0.5 * (((clip * 15 + text) * 37) % 101) / 101 - 0.2 + (0.25 if text // 5 == clip else 0), 4)


def test_the_reference_case():
    """3 clips x 15 captions with known scores, exact to the published values."""
    model = table_model(3, {f"{t}": [score(a, t) for a in range(3)] for t in range(15)})
    rows = torch.eye(3)
    clips = [EvalClip(f"{a}", rows[a], tuple(f"{a * 5 + i}" for i in range(5))) for a in range(3)]
    data = EvalSet("reference", "test", clips, official=3)
    result = Retrieval().run(EvaluatedModel(model), data, silent)
    expected = {
        "a2t_R@1": 100,
        "a2t_mAP@10": 74.476190,
        "t2a_R@1": 53.333333,
        "t2a_R@5": 100,
        "t2a_mAP@10": 76.666667,
        "t2a_median_rank": 1.0,  # ranks 1 0 0 0 0 1 0 1 1 0 0 1 1 0 1 from 0
        "a2t_median_rank": 1.0,
    }
    assert {name: result.metrics[name].value for name in expected} == pytest.approx(expected, abs=1e-6)
    assert (result.metrics["t2a_R@1"].count, result.metrics["a2t_R@1"].count) == (15, 3)
    assert result.warnings == []
    assert result.metrics["t2a_mAP@10"].low <= 76.6666 <= result.metrics["t2a_mAP@10"].high


def test_any_number_of_captions_a_clip():
    """One, two and no captions: a clip without any is found among, and asks for none."""
    model = table_model(4, {"a": [1, 0, 0, 0], "b": [0, 0, 1, 0], "c": [0, 1, 0, 0]})
    rows = torch.eye(4)
    own = [("a",), ("b", "c"), ()]
    clips = [EvalClip(f"{i}", rows[i], captions) for i, captions in enumerate(own)]
    result = Retrieval().run(EvaluatedModel(model), EvalSet("mine", "test", clips), silent)
    assert result.metrics["t2a_R@1"].value == pytest.approx(100 * 2 / 3)  # "b" finds the clip without captions
    assert result.metrics["t2a_R@1"].chance == pytest.approx(100 / 3)
    assert result.metrics["a2t_R@1"].count == 2
    assert result.metrics["a2t_R@1"].chance == pytest.approx(100 * (1 / 3 + 2 / 3) / 2)
    assert result.settings["captions_per_clip"] == "0 to 2"


def test_a_clip_that_cannot_be_read_is_counted(tmp_path):
    model = table_model(2, {"a": [1, 0], "b": [0, 1]})
    clips = [EvalClip("a", torch.eye(2)[0], ("a",)), EvalClip("gone", str(tmp_path / "gone.wav"), ("b",))]
    result = Retrieval().run(EvaluatedModel(model), EvalSet("mine", "test", clips, official=2), silent)
    assert result.counts == {"official": 2, "found": 2, "evaluated": 1, "lost": {}, "unusable": 1}
    assert result.failed == [("gone", f"there is no file {tmp_path / 'gone.wav'}")]
    assert result.warnings == ["1 clips were evaluated; the published list has 2"]
    with pytest.raises(ValueError, match="no clip of mine has captions and audio that can be used"):
        Retrieval().run(EvaluatedModel(model), EvalSet("mine", "test", clips[1:]), silent)


def test_chance_of_the_best_rank_equals_simulation():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1, 5, 5, 2, 5])
    best = []
    for size in sizes.tolist():
        order = torch.rand(4000, 18, generator=generator).argsort(1)
        best.append((order < size).int().argmax(1) + 1)
    assert chance_best_rank(18, sizes) == torch.cat(best).median()


def test_memory_is_bounded(tmp_path):
    """5,000 clips x 25,000 captions: the whole matrix of scores, 500 MB, is never there."""
    script = Path(__file__).parents[2] / "benchmarks" / "retrieval.py"
    command = [sys.executable, script, "--width", "32", "--ranks", "--out", tmp_path / "out.json"]
    subprocess.run(command, capture_output=True, check=True)
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["clips"], row["captions"], row["matrix_mb"]) == (5000, 25_000, 500)
    assert row["peak_mb"] < 100


def test_long_clips_go_in_windows():
    """A clip of 2.2 windows of 1 s: three of them, every 2/3 s, weighted by what each stands for."""
    model = table_model(2, {"a": [1, 0], "b": [0, 1]})
    long = torch.zeros(17_600)
    long[0], long[9601] = 1, 1  # what the first window and the last, which begins at sample 9,600, are
    long[5333], long[5334] = 0.6, 0.8
    clips = [EvalClip("short", torch.tensor([0.0, 1.0]), ("b",)), EvalClip("long", long, ("a",))]
    result = Retrieval().run(EvaluatedModel(model), EvalSet("mine", "test", clips), silent)
    assert result.settings["windowing"]["longer_clips"] == 1
    assert result.settings["windowing"]["hop_seconds"] == pytest.approx(2 / 3, abs=1e-3)
    assert sorted(model.backend.seen) == [2, 8000, 8000, 8000]
    assert result.metrics["t2a_R@1"].value == 100.0
