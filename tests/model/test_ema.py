import pytest
import torch
from torch import nn

from slap import SLAP
from slap.model.ema import EMATeacher, averaged_state
from slap.model.views import Views
from slap.testing import tiny_batch

NANO = {"name": "transformer", "size": "nano"}
DISTILLATION = {"prototypes": 8, "hidden": 16, "bottleneck": 8}


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


def test_in_bfloat16_the_average_does_not_stand_still():
    """A share of 0.006 of a small distance is below what bfloat16 can add; the copies went half of the way."""
    source, teacher = nn.Linear(8, 8), EMATeacher((0.994, 0.994))
    nn.init.ones_(source.weight)
    teacher.track(source)
    both = nn.ModuleList([source, teacher]).to(torch.bfloat16)
    with torch.no_grad():
        source.weight.fill_(1.5)
    for _ in range(1000):
        both[1].update(0.0)
    copy = teacher.copy_of(source)
    assert source.weight.dtype == torch.bfloat16
    assert copy.weight.dtype == torch.float32
    torch.testing.assert_close(copy.weight, torch.full((8, 8), 1.5 - 0.5 * 0.994**1000), rtol=1e-4, atol=0)
    assert EMATeacher().to(torch.float64).momentum(0) == pytest.approx(0.994)


def test_the_teacher_sees_no_specaugment():
    """It shared the student's patches, of which 68 % were touched."""
    torch.manual_seed(0)
    audio = {**NANO, "mask_bands": 64, "mask_share": 1.0}
    model = SLAP(audio, {**NANO, "vocab_size": 300}, {"masked_distillation": DISTILLATION})
    model.text.prepare(["a dog barks", "rain falls on a roof", "two birds sing", "an owl"])
    batch = tiny_batch(model, [1.0, 2.0])
    clean = model.eval().audio.patchify(batch.audio).values
    views = Views(model.train(), batch)
    assert not torch.equal(views.patches.values, clean)
    seen = []
    copy = model.teacher.copy_of(model.audio)
    copy.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].values))
    assert views.teacher.tokens.sizes == views.patches.sizes
    torch.testing.assert_close(seen[0], clean)


def test_the_averages_are_a_whole_model():
    model = SLAP(NANO, {**NANO, "vocab_size": 300}, {"contrastive": 1.0, "masked_distillation": DISTILLATION})
    names = model.teacher.names(model)
    heads = ("masked_distillation.head", "contrastive")
    first, last = (f"objectives.{name}" for name in heads)
    assert names == ["audio", "audio_pool", first, "text", "text_pool", last]
    model.text.prepare(["a dog barks"] * 3 + ["rain falls"])
    with torch.no_grad():
        for copy in model.teacher.copies.parameters():
            copy += 1
    state = averaged_state(model.state_dict(), names)
    for name, parameter in model.named_parameters():
        if not name.startswith("teacher."):
            assert torch.equal(state[name], parameter + 1), name
    assert torch.equal(state["text._extra_state"], model.state_dict()["text._extra_state"])
    model.teacher.lend()
    assert all(torch.equal(state[name], parameter) for name, parameter in model.named_parameters())


def test_older_checkpoints_begin_the_averages_that_they_lack_at_their_weights():
    model = SLAP(NANO, {**NANO, "vocab_size": 300}, {"contrastive": 1.0, "masked_distillation": DISTILLATION})
    older = {name: value for name, value in model.state_dict().items() if not name.startswith(OLDER_LACK)}
    other = SLAP(NANO, {**NANO, "vocab_size": 300}, {"contrastive": 1.0, "masked_distillation": DISTILLATION})
    other.load_state_dict(older)
    for source, copy in ((other.text, other.teacher.copies[3]), (other.audio, other.teacher.copies[0])):
        assert all(torch.equal(*pair) for pair in zip(source.parameters(), copy.parameters(), strict=True))


OLDER_LACK = ("teacher.copies.3.", "teacher.copies.4.", "teacher.copies.5.")


def test_averages_are_kept_without_an_objective_that_needs_them():
    model = SLAP(NANO, {**NANO, "vocab_size": 300}, ema=True)
    assert model.teacher.names(model) == ["audio", "audio_pool", "text", "text_pool", "objectives.contrastive"]
