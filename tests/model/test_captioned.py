"""Objectives that need text learn from the captioned clips of a batch alone, the others from all clips."""

import pytest
import torch

from pool import OBJECTIVES, choose, make_model, the_first
from slap import Objective
from slap.core.batch_ops import take_clips, without_captions
from slap.model.captioned import SeenBy
from slap.model.grad_cache import views_of
from slap.model.views import Views
from slap.testing.tiny import tiny_batch, tiny_model
from slap.training import step

TEXT = ["captioning", "contrastive", "sigmoid"]
SILENT = [0, 3, 4, 7]
"""The clips without captions, of eight."""

CAPTIONED = [1, 2, 5, 6]


@pytest.fixture(autouse=True)
def _masks(monkeypatch):
    monkeypatch.setattr("slap.model.views.random_mask", the_first)
    monkeypatch.setattr("slap.model.grad_cache.random_mask", the_first)


def computed(model, views):
    model.zero_grad()
    loss, seen = step.compute(model, views)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, loss.detach(), seen


def assert_equal(found, expected):
    """Compare gradients: one that is absent is 0 where the other pass ran the module on clips that it dropped."""
    for name in found.keys() | expected.keys():
        mine, theirs = found.get(name), expected.get(name)
        mine, theirs = (
            (torch.zeros_like(theirs) if mine is None else mine),
            (torch.zeros_like(mine) if theirs is None else theirs),
        )
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("most", [None, 3, 1])
@pytest.mark.parametrize("view", ["full", "masked"])
@pytest.mark.parametrize("name", TEXT)
def test_uncaptioned_clips_change_nothing_for_objectives_that_need_text(name, view, most):
    """They are no negatives, and count in no mean: loss, logs and gradients are those of the captioned clips."""
    torch.manual_seed(0)
    model = tiny_model({name: {**OBJECTIVES[name], "view": view}}).double()
    batch = choose(model, range(8))
    expected, loss, logs = computed(model, Views(model, choose(model, CAPTIONED)))
    found, again, seen = computed(model, views_of(model, [without_captions(batch, SILENT)], most))
    torch.testing.assert_close(again, loss, rtol=1e-10, atol=0)
    assert_equal(found, expected)
    for key, value in logs.extras[name].items():
        torch.testing.assert_close(seen.extras[name][key], value, rtol=1e-10, atol=0)
    assert torch.allclose(seen.by_clip[name][CAPTIONED], logs.by_clip[name])
    assert seen.by_clip[name][SILENT].isnan().all()


@pytest.mark.parametrize("most", [None, 3])
@pytest.mark.parametrize("name", ["masked_distillation", "classification"])
def test_objectives_of_audio_alone_see_every_clip(name, most):
    model = make_model([name])
    batch = choose(model, range(8))
    expected, loss, _ = computed(model, views_of(model, [batch], most))
    for silent in (SILENT, range(8)):
        found, again, seen = computed(model, views_of(model, [without_captions(batch, silent)], most))
        torch.testing.assert_close(again, loss, rtol=1e-12, atol=0)
        assert_equal(found, expected)
        assert len(seen.ids) == 8


@pytest.mark.parametrize("most", [None, 3])
def test_a_mixed_step_is_the_sum_of_both(most):
    """One step of L_CLAP + L_CAP on the captioned clips, and L_SSL on all."""
    model = make_model(["contrastive", "captioning", "masked_distillation"])
    weights = dict(model.weights)
    batch = choose(model, range(8))

    def alone(clips, *names):
        model.weights = {name: weights[name] * (name in names) for name in weights}
        return computed(model, Views(model, choose(model, clips)))

    parts = [alone(CAPTIONED, "contrastive", "captioning"), alone(range(8), "masked_distillation")]
    model.weights = weights
    found, loss, _ = computed(model, views_of(model, [without_captions(batch, SILENT)], most))
    torch.testing.assert_close(loss, parts[0][1] + parts[1][1], rtol=1e-10, atol=0)
    summed = {name: sum(part[0][name] for part in parts if name in part[0]) for part in parts for name in part[0]}
    assert_equal(found, summed)


@pytest.mark.parametrize("most", [None, 3])
@pytest.mark.parametrize("name", TEXT)
def test_a_batch_without_any_caption_gives_no_loss_and_no_gradient(name, most):
    """All parameters take part all the same: other processes may have captions, and wait for these gradients."""
    model = make_model([name])
    batch = choose(model, range(8))
    usual, _, logs = computed(model, views_of(model, [batch], most))
    found, loss, seen = computed(model, views_of(model, [without_captions(batch, range(8))], most))
    assert loss == 0
    assert found.keys() == usual.keys()
    assert all(not gradient.any() for gradient in found.values())
    assert seen.extras[name].keys() == logs.extras[name].keys()
    assert all(value.isfinite() for value in seen.extras[name].values())


def test_views_of_some_clips():
    """Every view of an objective that reads all of them is that of its clips."""

    class Reader(Objective):
        uses_teacher = True

        def forward(self, views):
            read = [views.full.tokens.values.sum(), views.full.embedding.sum(), views.text.embedding.sum()]
            read += [views.masked.tokens.values[views.hidden].sum(), views.teacher.tokens.values.sum()]
            read += [views.masked.tokens.values[views.hidden_rows].sum(), views.patches.values.sum()]
            return sum(read), {"rows": torch.tensor(float(len(views.hidden))), "clips": torch.tensor(len(views.batch))}

    torch.manual_seed(0)
    model = tiny_model({"reader": Reader()}).double()
    batch = choose(model, range(8))
    expected, loss, logs = computed(model, Views(model, choose(model, CAPTIONED)))
    for most in (None, 3):
        found, again, seen = computed(model, views_of(model, [without_captions(batch, SILENT)], most))
        torch.testing.assert_close(again, loss, rtol=1e-10, atol=0)
        assert_equal(found, expected)
        assert seen.extras == logs.extras


def test_the_view_without_hidden_patches_is_that_of_the_clips_with_captions():
    model = make_model(["contrastive"])
    model.audio.any_patches = True
    batch = without_captions(choose(model, range(8)), SILENT)
    every = Views(model, batch)
    some = SeenBy(every).of(model.objectives["contrastive"])
    captioned = sorted(set(batch.clip_index))
    assert torch.equal(some.visible.tokens.values, every.visible.tokens.take(captioned).values)
    assert torch.equal(some.visible.embedding, every.visible.embedding[captioned])


def test_a_batch_with_all_captions_is_seen_as_it_is():
    model = make_model(["contrastive"])
    views = Views(model, choose(model, range(3)))
    assert SeenBy(views).of(model.objectives["contrastive"]) is views


def test_clips_of_a_batch_are_taken_with_all_that_belongs_to_them():
    model = tiny_model({"contrastive": 1.0})
    batch = without_captions(tiny_batch(model, [0.1, 0.2, 0.3], captions_per_clip=2), [0])
    some = take_clips(batch, [1, 2])
    assert some.ids == batch.ids[1:]
    assert some.clip.tolist() == [0, 0, 1, 1] == list(some.clip_index)
    assert some.captions == batch.captions
    assert some.audio.sizes == batch.audio.sizes[1:]
    assert {task: names[1:] for task, names in batch.labels.items()} == dict(some.labels)
    assert torch.equal(some.clip_key, batch.clip_key[1:])
    assert torch.isin(some.pairs[:, 0], some.clip_key).all()
