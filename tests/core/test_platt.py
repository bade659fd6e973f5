"""Probabilities of labels by themselves: the fitted numbers are those that made the data, and a minimum of the loss."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from slap.core.calibration import Calibration
from slap.core.platt import SPREAD, _smoothed, fit_labels, fit_pairs
from slap.metrics.reliability import calibration_error, reliability

NAMES = [f"label {number}" for number in range(20)]


@pytest.fixture
def drawn():
    """Cosines of 3,000 clips and 20 labels, biases of the labels, and truths drawn by sigmoid(15 x cosine + bias)."""
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(3000, 20, generator=generator) * 0.9 - 0.2
    biases = -7 + torch.randn(20, generator=generator)
    truth = torch.rand(3000, 20, generator=generator) < (15 * cosines + biases).sigmoid()
    return cosines, biases, truth


def test_the_numbers_that_made_the_data_are_found(drawn):
    cosines, biases, truth = drawn
    fitted = fit_labels(cosines, truth, NAMES)
    assert fitted.scale == pytest.approx(15, abs=0.5)
    assert list(fitted.labels.values()) == pytest.approx(biases.tolist(), abs=0.4)
    same = torch.rand(3000, 20, generator=torch.Generator().manual_seed(1)) < (15 * cosines - 7).sigmoid()
    fitted = fit_pairs(cosines, same)
    assert (fitted.kind, fitted.fitted, fitted.labels) == ("sigmoid", True, {})
    assert (fitted.scale, fitted.bias) == (pytest.approx(15, abs=0.5), pytest.approx(-7, abs=0.25))


def test_probabilities_are_those_that_drew_new_data(drawn):
    """Of the pairs with a probability of 0.8, four in five are right; of the model's own share that does not hold."""
    cosines, biases, truth = drawn
    fitted = fit_labels(cosines[:1500], truth[:1500], NAMES)
    found, right = fitted.probabilities(cosines[1500:], NAMES), truth[1500:]
    torch.testing.assert_close(found, (15 * cosines[1500:] + biases).sigmoid(), atol=0.08, rtol=0)
    assert calibration_error(reliability(found, right)) < 0.01
    common = fit_pairs(cosines[:1500], truth[:1500])
    assert calibration_error(reliability(common.probabilities(cosines[1500:]), right)) < 0.02
    share = Calibration("softmax", 100.0).shares(cosines[1500:])
    assert calibration_error(reliability(share, right)) > 0.05


def test_it_is_the_minimum_of_the_loss(drawn):
    cosines, _, truth = drawn[0][:200, :4].double(), drawn[1], drawn[2][:200, :4]
    fitted = fit_labels(cosines, truth, NAMES[:4])

    def loss(scale, common, biases):
        logits = scale * cosines + torch.tensor(biases)
        prior = sum(((bias - common) / SPREAD) ** 2 / 2 for bias in biases)
        return float(binary_cross_entropy_with_logits(logits, _smoothed(truth), reduction="sum") + prior)

    found = [fitted.scale, fitted.bias, *fitted.labels.values()]
    best = loss(found[0], found[1], found[2:])
    for place in range(len(found)):
        for change in (-0.05, 0.05):
            other = [*found]
            other[place] += change
            assert loss(other[0], other[1], other[2:]) > best


def test_a_label_with_few_clips_has_the_common_bias(drawn):
    cosines, _, truth = drawn
    rare = truth.clone()
    rare[:, 3] = False
    rare[:4, 3] = True
    fitted = fit_labels(cosines, rare, NAMES)
    assert set(NAMES) - set(fitted.labels) == {NAMES[3]}
    row = fitted.probabilities(cosines[:1, 3:4], [NAMES[3]])
    assert float(row) == pytest.approx(float((fitted.scale * cosines[0, 3] + fitted.bias).sigmoid()), rel=1e-5)
    assert float(fitted.probabilities(cosines[:1, 3:4], ["unheard of"])) == float(row)


def test_cosines_that_separate_right_from_wrong_have_a_finite_scale():
    truth = torch.eye(20, dtype=torch.bool)
    fitted = fit_pairs(truth.float() * 0.5, truth)
    assert 0 < fitted.scale < 100
    low, high = fitted.probabilities(torch.tensor([[0.0, 0.5]]))[0].tolist()
    assert (low, high) == (pytest.approx(1 / 382, rel=1e-3), pytest.approx(21 / 22, rel=1e-3))  # Platt's targets


def test_what_no_probability_fits():
    truth = torch.eye(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="0 of 9 pairs of a clip and a label are right"):
        fit_pairs(torch.rand(3, 3), truth & False)
    with pytest.raises(ValueError, match="no nearer to the clips that have them than to others"):
        fit_pairs(-truth.float(), truth)
    with pytest.raises(ValueError, match="1 of 3 clips have cosines that are not finite"):
        fit_pairs(torch.tensor([[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]]), truth)


def test_reliability_by_loops():
    generator = torch.Generator().manual_seed(0)
    chances, truth = torch.rand(500, generator=generator), torch.rand(500, generator=generator) < 0.3
    bins = reliability(chances, truth, bins=7)
    error = 0.0
    for number, one in enumerate(bins):
        members = [row for row, chance in enumerate(chances.tolist()) if number / 7 <= chance < (number + 1) / 7]
        mean = sum(chances[row].item() for row in members) / len(members)
        right = sum(truth[row].item() for row in members) / len(members)
        assert (one.count, one.probability, one.right) == (len(members), pytest.approx(mean), pytest.approx(right))
        error += len(members) / 500 * abs(mean - right)
    assert calibration_error(bins) == pytest.approx(error)
    assert all(first.high == second.low for first, second in pairwise(bins))
    assert reliability(torch.ones(2), torch.ones(2))[-1].count == 2
    with pytest.raises(ValueError, match="not finite or not from 0 to 1"):
        reliability(torch.tensor([1.5]), torch.ones(1))
    with pytest.raises(ValueError, match="got 0 and 0"):
        reliability(torch.empty(0), torch.empty(0))
