"""Average precision against scikit-learn's."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from slap.metrics.average_precision import average_precision, mean_average_precision


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("distinct", [3, 40, 10_000], ids=["many ties", "some ties", "no ties"])
def test_equals_scikit_learn(scale, distinct):
    generator = torch.Generator().manual_seed(distinct)
    scores = (torch.randint(distinct, (300, 7), generator=generator) - distinct // 2).float() * scale
    truth = torch.rand(300, 7, generator=generator) < torch.linspace(0.01, 0.9, 7)
    truth[0] = True
    expected = [average_precision_score(truth[:, k], scores[:, k]) for k in range(7)]
    assert average_precision(scores, truth).tolist() == pytest.approx(expected, abs=1e-12)
    assert mean_average_precision(scores, truth)[0].value == pytest.approx(100 * sum(expected) / 7, abs=1e-10)


def test_large_logits_are_not_tied():
    logits = torch.tensor([[40.0], [30.0], [20.0], [10.0]])
    truth = torch.tensor([[False], [True], [False], [True]])
    assert average_precision(logits, truth).item() == pytest.approx(0.5)
    assert average_precision(logits * 1e20, truth).item() == pytest.approx(0.5)


def test_a_class_that_no_clip_has_does_not_count():
    scores, truth = torch.rand(5, 3), torch.zeros(5, 3, dtype=torch.bool)
    truth[:, 1] = True
    assert average_precision(scores, truth).isnan().tolist() == [True, False, True]
    assert mean_average_precision(scores, truth)[0].value == 100.0
    with pytest.raises(ValueError, match="no clip has any"):
        mean_average_precision(scores, torch.zeros(5, 3, dtype=torch.bool))


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"\[2\] and \[2, 1\]"):
        average_precision(torch.zeros(2), torch.ones(2, 1, dtype=torch.bool))
