"""`slap score` and `Model.score_pairs`: the cosine of each row's audio and caption."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

import slap
from slap.cli.main import main
from slap.core.calibration import Calibration
from slap.inference.model import Model

RATE = 16_000


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Two clips, one with two captions, a silent one, NaN, and one that is not there."""
    rng = np.random.default_rng(0)
    for name, seconds in (("a.wav", 0.5), ("b.wav", 1.5)):
        soundfile.write(tmp_path / name, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan, dtype=np.float32), RATE, subtype="FLOAT")
    rows = [
        "id,audio,caption",
        'one,b.wav,"a dog, barking"',
        "two,a.wav,rain",
        "one,b.wav,wind",
        "three,silent.wav,rain",
        "four,nan.wav,rain",
        "five,gone.wav,rain",
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scores_are_the_cosines_of_the_pairs(pairs, tiny_checkpoint, capsys):
    assert main(["score", str(tiny_checkpoint), "pairs.csv", "--json"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    scores = {(row["id"], row["caption"]): row["cosine"] for row in found["scores"]}
    model = slap.load(tiny_checkpoint)
    for (name, caption), path in {
        ("one", "a dog, barking"): "b.wav", ("one", "wind"): "b.wav", ("two", "rain"): "a.wav",
    }.items():  # fmt: skip
        assert scores[name, caption] == pytest.approx(float(model.similarity(path, caption)), abs=1e-5)
    assert scores["three", "rain"] is None
    known = [value for value in scores.values() if value is not None]
    assert found["mean"] == pytest.approx(sum(known) / 3)
    assert {row["id"] for row in found["failed"]} == {"four", "five"}
    assert [row["id"] for row in found["notes"]] == ["three"]
    assert "nan.wav" in captured.err
    assert "gone.wav" in captured.err


def test_scores_in_files_and_on_the_terminal(pairs, tiny_checkpoint, capsys):
    assert main(["score", str(tiny_checkpoint), "pairs.csv"]) == 3
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(name, caption) for name, _, caption in lines][-1] == ("three", "rain")
    assert lines[-1][1] == "-"
    for name in ("out.csv", "out.jsonl"):
        assert main(["score", str(tiny_checkpoint), "pairs.csv", "--out", name]) == 3
        assert capsys.readouterr().out.startswith(f"{name}: 4 pairs, mean cosine ")
    table = list(csv.DictReader((pairs / "out.csv").read_text().splitlines()))
    records = [json.loads(line) for line in (pairs / "out.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in table] == [row["caption"] for row in records]
    assert [row["cosine"] for row in table] == ["" if row["cosine"] is None else str(row["cosine"]) for row in records]
    assert all(row["probability"] == "" for row in table)  # a softmax over one pair says nothing
    assert main(["score", str(tiny_checkpoint), "pairs.csv", "--out", "out.txt"]) == 2
    assert "ends in .csv or .jsonl" in capsys.readouterr().err


def test_a_sigmoid_model_gives_probabilities(pairs, tiny_checkpoint, capsys, monkeypatch):
    sigmoid = Calibration("sigmoid", 10.0, -1.0)
    loaded = slap.load(tiny_checkpoint)
    monkeypatch.setattr("slap.cli.score.load", lambda arguments: Model(loaded.backend, sigmoid))
    assert main(["score", "m", "pairs.csv", "--json"]) == 3
    rows = [row for row in json.loads(capsys.readouterr().out)["scores"] if row["cosine"] is not None]
    for row in rows:
        assert row["probability"] == pytest.approx(1 / (1 + np.exp(1 - 10 * row["cosine"])), abs=1e-5)
    assert not replace(sigmoid, kind="softmax").independent


def test_score_pairs_in_python(pairs, tiny_checkpoint):
    model = slap.load(tiny_checkpoint)
    files, texts = ["b.wav", "a.wav", "silent.wav"], ["wind", "rain", "rain"]
    scores = model.score_pairs(files, texts)
    torch.testing.assert_close(scores[:2], model.similarity(files[:2], texts[:2]).diagonal())
    assert scores[2].isnan()
    assert model.score_pairs([], []).shape == (0,)
    with pytest.raises(ValueError, match="got 3 recordings and 1 texts"):
        model.score_pairs(files, "rain")
