"""What is not finite ranks last and is named: a model of NaN scored R@1 = 100 %, and one NaN clip made mAP infinite."""

import pytest
import torch

from slap.core.calibration import Calibration
from slap.evaluation.probes.protocol import NeighborProbing, learned
from slap.metrics import ClassifierMetric, RetrievalMetric, ZeroShotMetric
from slap.metrics.average_precision import mean_average_precision
from slap.metrics.classification import classification_metrics
from slap.metrics.retrieval import retrieval_metrics

NAN, INFINITE = float("nan"), float("inf")
COUNT = 50


def perfect():
    return torch.eye(COUNT), torch.eye(COUNT), torch.arange(COUNT)


def test_a_model_of_nan_finds_nothing():
    audio, text, clip = perfect()
    for side in ((audio * NAN, text), (audio, text * NAN), (audio * NAN, text * NAN)):
        found = retrieval_metrics(*side, clip).metrics
        recalls = {found[f"{way}_R@{k}"].value for way in ("t2a", "a2t") for k in (1, 5, 10)}
        assert recalls == {0.0}
        assert found["t2a_mAP@10"].value == found["a2t_mAP@10"].value == 0.0
        assert found["t2a_median_rank"].value == found["a2t_median_rank"].value == COUNT


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
def test_one_clip_that_is_not_finite_is_the_last_of_all(value):
    audio, text, clip = perfect()
    audio[7] = value
    found = retrieval_metrics(audio, text, clip)
    for name in ("t2a_R@10", "a2t_R@10", "t2a_mAP@10", "a2t_mAP@10"):
        assert found.metrics[name].value == pytest.approx(100 * (COUNT - 1) / COUNT)  # mAP@10 was infinite
    assert found.audio_ranks.tolist() == [COUNT - 1 if clip == 7 else 0 for clip in range(COUNT)]


def test_the_metrics_over_clips_name_them():
    audio, text, clip = perfect()
    audio[3], text[5] = NAN, NAN
    retrieval = RetrievalMetric()
    retrieval.update(audio, text, clip, [f"clip {i}" for i in range(COUNT)])
    retrieval.compute()
    assert retrieval.not_finite == {"clip 3", "clip 5"}
    zero_shot = ZeroShotMetric({"kind": "{label}"}, lambda texts: torch.eye(2)[: len(texts)])
    embeddings = torch.tensor([[1.0, 0.0], [NAN, NAN], [NAN, NAN]])
    zero_shot.update(embeddings, {"kind": ["a", "a", "b"]}, ["1", "2", "3"])
    assert zero_shot.compute()["zeroshot_kind"] == pytest.approx(100 / 3)  # was 66.7: argmax takes NaN for the largest
    assert zero_shot.not_finite == {"2", "3"}
    confusion = zero_shot.confusions["kind"]
    assert (confusion.counts.tolist(), confusion.clips.tolist()) == ([[1, 0], [0, 0]], [2, 1])
    classifier = ClassifierMetric(["a", "b"])
    classifier.update(torch.tensor([[NAN, NAN], [0.0, 1.0]]), torch.eye(2), ids=["1", "2"])
    assert classifier.compute()["accuracy"] == 50  # was 100
    assert classifier.not_finite == {"1"}


def test_a_class_without_a_finite_score_is_never_the_best():
    scores = torch.tensor([[NAN, 0.3, 0.1], [INFINITE, 0.1, 0.3]])
    found = classification_metrics(scores, torch.tensor([1, 2]), ["a", "b", "c"])
    assert found.metrics["accuracy"].value == 100.0
    assert found.lost == (0, 1)


def test_map_of_nan_is_that_of_the_last_place():
    """It was an error in validation, so that one clip could end a training."""
    truth = torch.tensor([[True], [False], [False], [True]])
    scores = torch.tensor([[0.9], [0.5], [0.1], [NAN]])
    last = torch.tensor([[0.9], [0.5], [0.1], [-5.0]])
    assert mean_average_precision(scores, truth)[0] == mean_average_precision(last, truth)[0]


def test_probes_learn_nothing_from_nan_and_take_nan_for_no_class():
    """One NaN among the clips to learn from was every query's nearest neighbor."""
    features = torch.tensor([[1.0, 0.0], [NAN, NAN], [0.0, 1.0]])
    truth = torch.eye(2, dtype=torch.bool)[[0, 0, 1]]
    queries = torch.tensor([[0.1, 0.9], [NAN, 0.0]])
    scores = learned(NeighborProbing((1,)), features, truth, queries, [1], multilabel=False)[1]
    assert scores[0].argmax() == 1
    assert scores[1].isnan().all()
    with pytest.raises(ValueError, match="none of the 3 clips to learn from has finite features"):
        learned(NeighborProbing((1,)), features * NAN, truth, queries, [1], multilabel=False)


def test_no_scale_is_fitted_to_nan():
    with pytest.raises(ValueError, match="1 of 2 clips have cosines that are not finite"):
        Calibration("softmax", 1.0).fit(torch.tensor([[0.1, 0.2], [NAN, 0.1]]), torch.tensor([0, 1]))
