"""Paired changes: against a slow bootstrap, over origins and folds, where nothing changes, and of mAP."""

import numpy as np
import pytest
import torch

from slap.metrics.average_precision import MacroPrecision, average_precision, mean_average_precision
from slap.metrics.bootstrap import mean_over_clips
from slap.metrics.classification import classification_metrics
from slap.metrics.paired import Answers
from slap.metrics.retrieval import retrieval_metrics


def pair(generator, count=60):
    before = torch.rand(count, generator=generator) < 0.7
    return before, before & (torch.rand(count, generator=generator) < 0.8)


def test_equals_a_slow_bootstrap_and_is_narrower_than_two_intervals():
    before, after = pair(torch.Generator().manual_seed(0))
    unit = torch.arange(60) // 2
    change = Answers(before, unit, "origins").change_to(Answers(after, unit, "origins"))
    assert change.value == pytest.approx(100 * (after.double().mean() - before.double().mean()))
    rng = np.random.default_rng(0)
    slow = []
    for _ in range(2000):
        rows = np.concatenate([[2 * u, 2 * u + 1] for u in rng.integers(30, size=30)])
        slow.append(100 * float(after[rows].double().mean() - before[rows].double().mean()))
    assert (change.low, change.high) == pytest.approx(
        tuple(np.quantile(slow, [0.025, 0.975])), abs=100 / 60
    )  # one answer of 60
    assert (change.over, change.count, change.chance, change.best) == ("origins", 60, 0.0, None)
    one, other = (mean_over_clips(values, unit, 0) for values in (before, after))
    assert change.high - change.low < max(one.high - one.low, other.high - other.low)


def test_of_folds_it_is_the_mean_of_the_folds_changes():
    fold = torch.tensor([1, 2, 2, 2])
    before, after = torch.tensor([1, 1, 1, 1]), torch.tensor([0, 1, 1, 0])
    own = [Answers(values, torch.arange(4), "clips within folds", fold) for values in (before, after)]
    assert own[0].change_to(own[1]).value == pytest.approx(100 * (-1 - 1 / 3) / 2)


def test_no_change_is_no_certainty():
    """Of ten unchanged clips, a change of up to 1 - 0.025 ** 0.1 is not excluded."""
    answers = Answers(torch.ones(10), torch.arange(10))
    change = answers.change_to(answers)
    assert change.value == 0
    assert (change.low, change.high) == pytest.approx((-30.85, 30.85), abs=0.01)
    lost = answers.change_to(Answers(torch.zeros(10), torch.arange(10)))
    assert (lost.low, lost.value) == (-100, -100)
    assert lost.high == pytest.approx(-69.15, abs=0.01)


def test_other_queries_are_refused():
    with pytest.raises(ValueError, match="of the same queries; got 2 and 3"):
        Answers(torch.ones(2), torch.arange(2)).change_to(Answers(torch.ones(3), torch.arange(3)))


def test_map_changes_by_the_difference_of_both():
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(40, 3, generator=generator) < 0.4
    scores = truth + torch.rand(40, 3, generator=generator)
    worse = scores + torch.randn(40, 3, generator=generator)
    before, after = (MacroPrecision.of(values, truth) for values in (scores, worse))
    change = before.change_to(after)
    means = [float(average_precision(values, truth).mean()) for values in (scores, worse)]
    assert change.value == pytest.approx(100 * (means[1] - means[0]))
    assert change.low < change.value < change.high < 0
    assert before.change_to(before).value == 0
    assert mean_average_precision(scores, truth)[0].value == pytest.approx(100 * means[0])


def test_answers_are_behind_the_metrics():
    generator = torch.Generator().manual_seed(2)
    audio, text = (torch.nn.functional.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (12, 30))
    clip = torch.arange(30) % 11
    found = retrieval_metrics(audio, text, clip, [f"{11 - i:02}" for i in range(12)])
    means = {name: 100 * answers.values.double().mean().item() for name, answers in found.answers.items()}
    assert means == {name: pytest.approx(value.value) for name, value in found.metrics.items() if "median" not in name}
    scores, truth = torch.rand(12, 3, generator=generator), torch.arange(12) % 3
    folded = classification_metrics(scores, truth, "abc", folds=[i % 4 for i in range(12)])
    assert set(folded.answers) == {"accuracy", "accuracy_pooled"}
    assert folded.answers["accuracy"].fold is not None
