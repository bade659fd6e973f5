"""`slap calibrate`, and what `slap classify` and `slap search` make of it, as people type them."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import normalize

import slap
from slap.cli.main import main
from slap.inference.model import Model

RATE = 8000


class Ears:
    """Embeds a sound as the share of its energy at 440 Hz and elsewhere, and a text as one of them."""

    sample_rate, max_seconds, embedding_dim, name, calibration = RATE, 10.0, 2, "ears", None

    def encode_audio(self, clips):
        found = []
        for clip in clips:
            power = torch.fft.rfft(clip).abs()
            found.append(normalize(torch.stack([power[420:460].max(), 10 * power[1000:].mean()]) + 1e-6, dim=0))
        return torch.stack(found)

    def encode_text(self, texts):
        return torch.stack([torch.tensor([1.0, 0.0] if "tone" in text else [0.0, 1.0]) for text in texts])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Labeled tones and noises, and sounds that are half of each and have both labels."""
    monkeypatch.setattr(slap, "load", lambda *arguments: Model(Ears()))
    rng, rows = np.random.default_rng(0), []
    times = np.arange(RATE) / RATE
    for i in range(24):
        noise = rng.uniform(-0.5, 0.5, RATE)
        kind = ("tone", "noise", "tone;noise")[i % 3]
        tone = 0.3 * np.sin(2 * np.pi * 440 * times)
        sound = {"tone": tone + 0.01 * noise, "noise": noise, "tone;noise": 0.17 * tone + noise}[kind]
        soundfile.write(tmp_path / f"{i}.wav", sound, RATE)
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
    assert main(["calibrate", "model.ckpt", "clips.csv", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["out"], report["clips"], len(report["notes"])) == ("model.calibration.json", 24, 1)
    for part in ("labels", "texts"):
        assert 0 <= report[part]["ece"] <= 1
        assert sum(one["count"] for one in report[part]["bins"]) == 48
    command += ["--calibration", report["out"]]
    assert main([*command, "--threshold", "0.5"]) == 0
    name, label, chance, _ = capsys.readouterr().out.splitlines()[0].split("\t")
    assert (name, label, float(chance.removesuffix(" %")) > 50) == ("0.wav", "tone", True)
    assert main([*command, "--threshold", "1"]) == 0
    assert capsys.readouterr().out == "0.wav\tnone of these\nsilent.wav\t-\n"


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
