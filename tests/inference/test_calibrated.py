"""Calibrated models: thresholds, "none of these", and files that hold for one model, its labels and its prompts."""

import json
import logging

import pytest
import torch
from torch.nn.functional import normalize

import slap
from slap.core.calibration import Calibration
from slap.inference.calibration_file import beside, read_calibration, write_calibration
from slap.inference.model import PROMPTS, Model
from slap.testing.tiny import tiny_checkpoint

LABELS = ["dog", "rain", "wind"]


class Directions:
    """Embeds a recording as its first three samples, and a text as the axis of the label in it."""

    sample_rate, max_seconds, embedding_dim, name = 8000, 10.0, 3, "directions"
    calibration = Calibration("softmax", 50.0)

    def encode_audio(self, clips):
        return torch.stack([normalize(clip[:3], dim=0) for clip in clips])

    def encode_text(self, texts):
        return torch.stack([torch.eye(3)[next(i for i, label in enumerate(LABELS) if label in text)] for text in texts])


def recording(*direction):
    clip = torch.zeros(800)
    clip[:3] = torch.tensor(direction)
    return clip


@pytest.fixture
def model():
    return Model(Directions())


@pytest.fixture
def calibrated(model):
    """A model whose labels fit at cosines near 1, and not at the 0.58 of a recording that is as near to all."""
    heard = [recording(*row) for row in torch.eye(3).tolist() for _ in range(8)]
    others = [recording(1.0, 1.0, 1.0)] * 24
    truth = [[label] for label in LABELS for _ in range(8)] + [[]] * 24
    model.calibrate(heard + others, truth, LABELS, independent=True)
    return model


def test_none_of_these(calibrated):
    sounds = [recording(0.0, 1.0, 0.0), recording(1.0, 1.0, 1.0)]
    rain, none = calibrated.classify(sounds, LABELS, threshold=0.5)
    assert [(score.label, score.share) for score in rain] == [("rain", None)]
    assert none == []
    ranked = calibrated.classify(sounds[1], LABELS)[0]
    assert all(score.probability < 0.2 for score in ranked)
    alone = calibrated.classify(sounds, ["rain"])
    assert (alone[0][0].probability > 0.8, alone[1][0].probability < 0.2) == (True, True)  # a softmax would say 1


def test_a_share_of_the_labels_is_called_no_probability(model):
    """A softmax over the labels given was printed as a probability: 100 % of a single label, whatever was heard."""
    (score,) = model.classify(recording(1.0, 1.0, 1.0), ["rain"])[0]
    assert (score.probability, score.share) == (None, 1.0)
    with pytest.raises(
        ValueError, match=r"a threshold needs a probability of each label by itself: .* `slap calibrate"
    ):
        model.classify(recording(1.0, 0.0, 0.0), LABELS, threshold=0.5)
    with pytest.raises(ValueError, match="a threshold is a probability from 0 to 1, got 50"):
        model.classify(recording(1.0, 0.0, 0.0), LABELS, threshold=50)


def test_a_calibration_holds_for_its_prompts(calibrated):
    assert calibrated.calibration.prompts == PROMPTS
    (score, *_) = calibrated.classify(recording(1.0, 0.0, 0.0), LABELS, "{label}!")[0]
    assert (score.probability, score.share) == (None, None)
    with pytest.raises(ValueError, match=r"the calibration was fitted with the prompts .* not with \['\{label\}!'\]"):
        calibrated.classify(recording(1.0, 0.0, 0.0), LABELS, "{label}!", threshold=0.5)


def test_several_labels_need_independent_probabilities(model):
    with pytest.raises(ValueError, match="need independent=True"):
        model.calibrate([recording(1.0, 0.0, 0.0)], [["dog", "rain"]], LABELS)
    one = model.calibrate([recording(*row) for row in torch.eye(3).tolist()], LABELS, LABELS)
    assert (one.kind, one.fitted) == ("softmax", True)
    scores = model.classify(recording(1.0, 0.0, 0.0), LABELS)[0]
    assert sum(score.probability for score in scores) == pytest.approx(1)
    assert one.of_texts is None


def test_files_are_read_as_written_and_for_their_model_alone(calibrated, tmp_path):
    path = tmp_path / "one.json"
    write_calibration(path, "abc", calibrated.calibration, {"clips": 48})
    assert read_calibration(path, "abc") == calibrated.calibration
    with pytest.raises(ValueError, match="was fitted for the model abc, and this one is def"):
        read_calibration(path, "def")
    with pytest.raises(FileNotFoundError, match="`slap calibrate` writes one"):
        read_calibration(tmp_path / "none.json", "abc")
    content = json.loads(path.read_text())
    for wrong in ({"format": 9}, {"calibration": {"kind": "guess", "scale": 1}}, {"calibration": {"scale": "x"}}):
        path.write_text(json.dumps({**content, **wrong}))
        with pytest.raises(ValueError, match="is no calibration"):
            read_calibration(path, "abc")


def test_the_calibration_beside_a_model_is_loaded_with_it(calibrated, tmp_path, caplog):
    tiny_checkpoint(tmp_path / "best.ckpt")
    model = slap.load(tmp_path / "best.ckpt")
    write_calibration(beside(tmp_path / "best.ckpt"), model.name, calibrated.calibration, {})
    model = slap.load(tmp_path / "best.ckpt")
    assert model.calibration == calibrated.calibration
    model.save_pretrained(tmp_path / "exported", allow_collapsed=True)
    assert slap.load(tmp_path / "exported").calibration == calibrated.calibration
    tiny_checkpoint(tmp_path / "best.ckpt", seed=1)  # trained again
    with caplog.at_level(logging.WARNING):
        assert slap.load(tmp_path / "best.ckpt").calibration.kind == "softmax"
    assert "the model has no calibrated probabilities" in caplog.text
