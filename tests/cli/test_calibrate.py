"""`slap calibrate`, and what `slap classify` and `slap search` make of it, as people type them."""

import csv
import json

import numpy as np
import pytest
import soundfile

import slap
from slap.cli.main import main

RATE = 8000


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_checkpoint):
    """Labeled tones and noises, of two labels and of none, beside a model that is copied there."""
    (tmp_path / "model.ckpt").write_bytes(tiny_checkpoint.read_bytes())
    rng, rows = np.random.default_rng(0), []
    times = np.arange(RATE) / RATE
    for i in range(24):
        noise = rng.uniform(-0.5, 0.5, RATE)
        kind = ("tone", "noise", "")[i % 3]
        sound = {"tone": 0.5 * np.sin(2 * np.pi * 440 * times), "noise": noise, "": noise * (times < 0.2)}[kind]
        soundfile.write(tmp_path / f"{i}.wav", sound + 0.01 * noise, RATE)
        rows.append([f"{i}.wav", kind])
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    rows.append(["silent.wav", "tone"])
    with (tmp_path / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["audio", "tags"], *rows])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_thresholds_after_calibration(folder, capsys):
    command = ["classify", "model.ckpt", "0.wav", "silent.wav", "--labels", "tone", "noise"]
    assert main([*command, "--threshold", "0.5"]) == 2
    assert "fit one to labeled clips with `slap calibrate MODEL MANIFEST`" in capsys.readouterr().err
    assert main(["calibrate", "model.ckpt", "clips.csv", "--json"]) in (0, 2)
    captured = capsys.readouterr()
    if "no nearer to the clips that have them" in captured.err:
        pytest.skip("the random model of this version orders the clips wrongly")
    report = json.loads(captured.out)
    assert (report["out"], report["clips"]) == ("model.calibration.json", 24)
    assert [note["id"] for note in report["notes"]] == ["silent"] or report["notes"]
    for part in ("labels", "texts"):
        assert 0 <= report[part]["ece"] <= 1
        assert sum(one["count"] for one in report[part]["bins"]) == 48
    assert main([*command, "--top", "2", "--json"]) == 0
    labels = json.loads(capsys.readouterr().out)["clips"][0]["labels"]
    (expected,) = slap.load("model.ckpt").classify("0.wav", ["tone", "noise"])
    assert [label["probability"] for label in labels] == pytest.approx([score.probability for score in expected])
    assert main([*command, "--threshold", "1"]) == 0
    assert capsys.readouterr().out == "0.wav\tnone of these\nsilent.wav\t-\n"
    (folder / "model.calibration.json").rename("mine.json")
    assert main([*command, "--threshold", "0", "--calibration", "mine.json"]) == 0
    assert " %\t" in capsys.readouterr().out


def test_manifests_without_labels(folder, capsys):
    assert main(["calibrate", "model.ckpt", "clips.csv", "--task", "animal"]) == 2
    assert (
        "clips.csv has none of the task 'animal', but labels of tags; name one with --task" in capsys.readouterr().err
    )
    assert not (folder / "model.calibration.json").exists()


def test_options_of_classify_that_have_no_effect(capsys):
    assert main(["classify", "m", "a.wav", "--calibration", "c.json"]) == 2
    assert "--calibration makes probabilities of --labels, which are missing" in capsys.readouterr().err
    assert main(["classify", "m", "a.wav", "--labels", "dog", "--threshold", "50"]) == 2
    assert "--threshold is a probability from 0 to 1, got 50" in capsys.readouterr().err
