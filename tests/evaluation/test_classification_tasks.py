"""Metrics of zero-shot classification and their intervals, against slow and obvious ways to compute them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from slap.core.progress import silent
from slap.evaluation import EvalClip, EvalSet, EvaluatedModel, ZeroShot
from slap.evaluation.prompts import PromptBook, PromptSet, Wording
from slap.metrics.average_precision import (
    chance_map,
    mean_average_precision,
    samples_of,
    weighted_average_precision,
)
from slap.metrics.classification import classification_metrics
from slap.metrics.median_rank import median_rank
from slap.metrics.runs import mean_over_folds
from table_model import table_model

BARE = PromptBook({"bare": PromptSet("bare", "", Wording(("{label}",)), {})}, "bare")
CLASSES = ("bird", "cat", "dog")


def classified(labels, guesses, folds=(), **options):
    """Clips that a model takes for what `guesses` says."""
    rows = torch.eye(len(CLASSES))
    folds = folds or [None] * len(labels)
    clips = [
        EvalClip(f"{i}", rows[CLASSES.index(guess)], labels=(label,), fold=fold)
        for i, (label, guess, fold) in enumerate(zip(labels, guesses, folds, strict=True))
    ]
    data = EvalSet("mine", "all", clips, classes=CLASSES, folds=bool(folds[0]), **options)
    model = table_model(3, dict(zip(CLASSES, rows, strict=True)))
    return ZeroShot().run(EvaluatedModel(model, BARE), data, silent)


def test_accuracy_and_which_class_was_taken_for_which():
    result = classified(["dog", "dog", "cat", "dog"], ["dog", "cat", "cat", "dog"])
    assert result.metrics["accuracy"].value == 75.0
    assert result.metrics["accuracy"].chance == pytest.approx(100 / 3)
    assert result.per_class == [
        {"class": "bird", "recall": None, "clips": 0},
        {"class": "cat", "recall": 100.0, "clips": 1},
        {"class": "dog", "recall": pytest.approx(200 / 3), "clips": 3, "taken_for": "cat", "times": 1},
    ]
    assert result.settings["prompts"]["templates"] == ["{label}"]
    assert set(result.plots) == {"confusion.png", "score_by_class.png", "score_by_duration.png"}


def test_a_mean_over_folds_is_not_the_pooled_one():
    """Fold 1: 1 of 1; fold 2: 1 of 3. The mean is 66.7, all together 50."""
    result = classified(["dog", "dog", "cat", "cat"], ["dog", "dog", "dog", "bird"], [1, 2, 2, 2])
    assert result.metrics["accuracy"].value == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert result.metrics["accuracy_pooled"].value == 50.0
    # The one clip of fold 1 is right in every draw; of the three of fold 2 none to all are.
    assert result.metrics["accuracy"].low == pytest.approx(50)
    assert result.metrics["accuracy"].high == pytest.approx(100)
    assert result.metrics["accuracy"].over == "clips within folds"
    assert result.settings["folds"] == 2
    with pytest.raises(ValueError, match="1 of the clips have no fold"):
        classification_metrics(torch.eye(2), torch.tensor([0, 0]), ["a", "b"], folds=[1, None])


def test_a_collapsed_model_guesses():
    model = table_model(3, {name: [1.0, 0, 0] for name in CLASSES})
    clips = [EvalClip(f"{i}", torch.eye(3)[0], labels=(CLASSES[i % 3],)) for i in range(9)]
    result = ZeroShot().run(EvaluatedModel(model, BARE), EvalSet("mine", "all", clips, classes=CLASSES), silent)
    assert result.metrics["accuracy"].value == pytest.approx(100 / 3)


def test_map_of_clips_with_several_labels_equals_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores = torch.nn.functional.normalize(torch.randn(40, 4, generator=generator), dim=1)
    truth = torch.rand(40, 4, generator=generator) < 0.3
    truth[:, 3] = False  # a class that no clip has
    names = [f"class {k}" for k in range(4)]
    model = table_model(4, dict(zip(names, torch.eye(4), strict=True)))
    clips = [
        EvalClip(f"{i}", scores[i], labels=tuple(n for n, has in zip(names, truth[i], strict=True) if has))
        for i in range(40)
    ]
    data = EvalSet("mine", "eval", clips, classes=tuple(names), multilabel=True)
    result = ZeroShot().run(EvaluatedModel(model, BARE), data, silent)
    expected = [average_precision_score(truth[:, k], scores[:, k]) for k in range(3)]
    assert result.metrics["mAP"].value == pytest.approx(100 * np.mean(expected))
    assert [row["average_precision"] for row in result.per_class[:3]] == pytest.approx([100 * x for x in expected])
    assert result.per_class[3]["average_precision"] is None
    assert result.warnings == ["1 of the 4 classes have no clip and are left out of the mean"]
    assert result.metrics["mAP"].low < result.metrics["mAP"].value < result.metrics["mAP"].high


def test_clips_that_count_several_times_equal_clips_that_are_repeated():
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(5, (12,), generator=generator).float()  # with ties
    truth = torch.rand(12, generator=generator) < 0.4
    times = torch.randint(3, (6, 12), generator=generator)
    times[:5, truth] += 1
    times[5, truth] = 0  # no clip of the class
    found = weighted_average_precision(scores, truth, times.T.float())
    for row in range(5):
        repeated = torch.arange(12).repeat_interleave(times[row])
        assert found[row].item() == pytest.approx(average_precision_score(truth[repeated], scores[repeated]))
    assert found[5].isnan()


def test_interval_of_map_equals_a_slow_bootstrap():
    generator = torch.Generator().manual_seed(2)
    truth = torch.rand(60, 3, generator=generator) < 0.4
    scores = truth + torch.randn(60, 3, generator=generator)
    result, _ = mean_average_precision(scores, truth)
    rng = np.random.default_rng(0)
    slow = []
    for _ in range(400):
        rows = rng.integers(60, size=60)
        slow.append(100 * np.mean([average_precision_score(truth[rows, k], scores[rows, k]) for k in range(3)]))
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=2)


def test_large_sets_get_fewer_samples():
    assert samples_of(60, 3) == 2000
    assert samples_of(20_371, 527) == 200
    assert samples_of(10_231, 200) == 977


def test_chance_of_map_equals_simulation():
    generator = torch.Generator().manual_seed(3)
    truth = torch.zeros(30, 2, dtype=torch.bool)
    truth[:3, 0] = truth[:12, 1] = True
    simulated = [
        np.mean([average_precision_score(truth[:, k], torch.rand(30, generator=generator)) for k in range(2)])
        for _ in range(700)
    ]
    assert chance_map(truth) == pytest.approx(np.mean(simulated), abs=0.012)


def test_median_rank_draws_clips_with_all_their_captions():
    ranks = torch.tensor([0, 0, 0, 8, 8])
    alone = median_rank(ranks, torch.arange(5), 5.0)
    assert (alone.value, alone.low, alone.high, alone.chance, alone.count) == (1.0, 1.0, 9.0, 5.0, 5)
    even = median_rank(torch.tensor([0, 2]), torch.tensor([0, 1]), 5.0)
    assert even.value == 2.0  # half way, as numpy's
    together = median_rank(torch.tensor([0, 2]), torch.tensor([0, 0]), 5.0)
    assert (together.low, together.high) == (2.0, 2.0)  # one clip: drawn or not, both ranks come


def test_mean_over_folds():
    """Nadeau and Bengio: t(2) x sqrt((1/3 + 1/2) x variance); a bootstrap of these folds went from 50 to 70."""
    result = mean_over_folds(torch.tensor([0.5, 0.6, 0.7]), 10.0, 40)
    half = 100 * 4.302653 * (0.01 * (1 / 3 + 1 / 2)) ** 0.5
    assert (result.value, result.low, result.high) == pytest.approx((60, 60 - half, 60 + half))
    assert (result.over, result.count) == ("folds", 40)
    with pytest.raises(ValueError, match="takes two or more; got 1"):
        mean_over_folds(torch.tensor([0.5]), 10.0, 0)
