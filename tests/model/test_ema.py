import pytest
import torch
from torch import nn

from slap.model.ema import EMATeacher


def test_momentum_rises_on_a_cosine():
    teacher = EMATeacher((0.994, 1.0))
    assert teacher.momentum(0.0) == pytest.approx(0.994)
    assert teacher.momentum(0.5) == pytest.approx(0.997)
    assert teacher.momentum(1.0) == pytest.approx(1.0)
    assert teacher.momentum(2.0) == pytest.approx(1.0)


def test_update_is_the_exponential_moving_average():
    source, teacher = nn.Linear(2, 2), EMATeacher((0.5, 0.5))
    teacher.track(source)
    old = source.weight.detach().clone()
    with torch.no_grad():
        source.weight += 1
    teacher.update(0.0)
    copy = teacher.copy_of(source)
    torch.testing.assert_close(copy.weight, 0.5 * old + 0.5 * source.weight)
    teacher.update(0.0)
    torch.testing.assert_close(copy.weight, 0.25 * old + 0.75 * source.weight)


def test_copies_are_frozen_stay_in_evaluation_and_are_saved_once():
    source, teacher = nn.Sequential(nn.Linear(2, 2), nn.Dropout()), EMATeacher()
    teacher.track(source)
    teacher.train()
    copy = teacher.copy_of(source)
    assert not any(p.requires_grad for p in copy.parameters())
    assert not copy.training
    assert list(teacher.state_dict()) == ["copies.0.0.weight", "copies.0.0.bias"]


def test_an_untracked_module_is_an_error():
    with pytest.raises(KeyError, match="does not follow this Linear"):
        EMATeacher().copy_of(nn.Linear(1, 1))


def test_momentum_must_rise():
    with pytest.raises(ValueError, match="must rise"):
        EMATeacher((1.0, 0.9))
