"""A step in parts has the gradient of the step at once, with the activations of a part."""

from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from pool import OBJECTIVES, choose, make_model, the_first, train
from slap import SLAP, Batch, Objective
from slap.core.batch_ops import concat, even_sizes, sort_captions, split
from slap.model.grad_cache import CachedViews, views_of
from slap.model.views import Views
from slap.nn.chunking import checkpointed_chunks
from slap.objectives.sinkhorn import assign, balance, sinkhorn
from slap.testing.tiny import TinyAudio, tiny_batch, tiny_model
from slap.training import step

ALL = range(8)


class Third(Objective):
    """An objective without `per_clip`, which reads every view."""

    uses_teacher = True

    def forward(self, views):
        spread = torch.cdist(views.full.embedding, views.text.embedding).mean()
        hidden = views.masked.tokens.values[views.hidden] - views.teacher.tokens.values[views.hidden]
        by_clip = torch.stack([item.mean() for item in views.full.tokens.unpack()])
        assert views.patches.layout.total == len(views.hidden) == len(views.full.tokens.positions)
        assert torch.equal(views.full.tokens.positions, views.patches.positions)
        return spread + hidden.square().mean() + by_clip.var() + views.text.tokens.values.square().mean()


def gradients(model, views):
    """Compute all gradients, the loss, and the logged scalars."""
    model.zero_grad()
    torch.manual_seed(3)
    loss, seen = step.compute(model, views)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found, loss.detach(), seen


def compare(model, batch, views, rtol):
    expected, loss, seen = gradients(model, Views(model, sort_captions(batch)))
    found, again, seen_again = gradients(model, views)
    torch.testing.assert_close(again, loss, rtol=rtol, atol=0)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=rtol * value.abs().max().item())
    for name, extras in seen.extras.items():
        for extra, value in extras.items():
            torch.testing.assert_close(seen_again.extras[name][extra], value, rtol=10 * rtol, atol=0)
    for name, losses in seen.by_clip.items():
        torch.testing.assert_close(seen_again.by_clip[name], losses, rtol=rtol, atol=rtol, equal_nan=True)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", [*OBJECTIVES, "all"])
@pytest.mark.parametrize("most", [1, 3])
def test_gradients_and_logs_are_those_of_the_whole(name, most, dtype, rtol):
    """Random masks are drawn from the same numbers too."""
    model = make_model(OBJECTIVES if name == "all" else [name], dtype)
    batch = choose(model, ALL)
    views = views_of(model, [batch], most)
    assert views.chunks == -(-8 // most)
    compare(model, batch, views, rtol)


def test_masked_views_and_objectives_of_others_too():
    torch.manual_seed(0)
    model = tiny_model({"contrastive": {"view": "masked"}, "third": Third()}).double()
    batch = choose(model, ALL)
    compare(model, batch, views_of(model, [batch], 3), 1e-10)


@pytest.mark.parametrize("name", ["contrastive", "sigmoid"])
def test_leading_dimensions_too(name):
    torch.manual_seed(0)
    model = tiny_model({name: {"matryoshka": [16, 8, 4]}}).double()
    batch = choose(model, ALL)
    compare(model, batch, views_of(model, [batch], 3), 1e-10)


def test_dropped_patches_and_blocks_of_them():
    torch.manual_seed(0)
    nano = {"name": "transformer", "size": "nano"}
    objectives = {
        "contrastive": {"view": "visible"},
        "masked_distillation": {"drop": True, "prototypes": 8, "hidden": 16, "bottleneck": 8, "predictor_layers": 1},
    }
    model = SLAP(nano, {**nano, "vocab_size": 300}, objectives, embedding_dim=16, mask_block=2, pool_duration=True)
    model.text.prepare(["a dog barks", "rain falls", "two birds sing", "an owl hoots"])
    batch = tiny_batch(model, [0.5, 1.2, 0.1, 2.0])
    model = model.double().eval()
    compare(model, batch, views_of(model, [batch], 3), 1e-6)
    found, _, _ = gradients(model, views_of(model, [batch], 3))
    assert found["objectives.masked_distillation.predictor.token"].abs().sum() > 0


def test_several_batches_are_one():
    """Also where one of them has no clips, and the captions of a clip do not stand together."""
    model = make_model()
    batches = [choose(model, clips) for clips in ([0, 1, 2], [], [3, 4], [5, 6, 7])]
    views = views_of(model, batches, None)
    assert [len(part.batch) for part in views.parts] == [3, 0, 2, 3]
    compare(model, choose(model, ALL), views, 1e-10)
    assert [len(part.batch) for part in views_of(model, batches, 2).parts] == [2, 1, 0, 2, 2, 1]


@pytest.mark.parametrize("micro_clips", [None, 2])
def test_accumulated_batches_train_as_one(tmp_path, monkeypatch, micro_clips):
    """Check that means are over the clips of the step, not over batches, and that all of its captions are negatives."""
    monkeypatch.setattr("slap.model.views.random_mask", the_first)
    monkeypatch.setattr("slap.model.grad_cache.random_mask", the_first)
    model = make_model(micro_clips=micro_clips)
    found = train(model, [[0, 1, 2], [3], [4, 5], [6, 7]], tmp_path, accumulate_grad_batches=3)
    one = train(make_model(), [[0, 1, 2, 3, 4, 5], [6, 7]], tmp_path)
    assert len(found["gradients"]) == len(one["gradients"]) == 2  # the last step has one batch only
    for mine, expected in zip(found["gradients"], one["gradients"], strict=True):
        for name, value in expected.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-9, atol=1e-10 * value.abs().max().item())
    torch.testing.assert_close(found["loss"], one["loss"], rtol=1e-10, atol=0)


class Dropping(TinyAudio):
    """Draws random numbers in its forward pass, and in training mode in its features."""

    def patchify(self, audio):
        patches = super().patchify(audio)
        return patches.replace(patches.values * (torch.rand(len(patches.values), 1) > 0.3))

    def forward(self, patches, hidden=None):
        features = super().forward(patches, hidden)
        return features.replace(torch.nn.functional.dropout(features.values, 0.5))


def test_random_numbers_are_the_same_when_a_part_is_computed_again():
    """Check by differences that the gradient is that of the computed loss."""
    torch.manual_seed(0)
    model = tiny_model(
        {"contrastive": 1.0, "masked_distillation": OBJECTIVES["masked_distillation"]}, Dropping()
    ).double()
    batch = choose(model, ALL)
    found, _, _ = gradients(model, views_of(model, [batch], 3))
    weight, gradient = model.audio.mix.own.weight, found["audio.mix.own.weight"]
    direction = torch.randn_like(weight)
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-6 * direction
        losses.append(gradients(model, views_of(model, [batch], 3))[1])
        with torch.no_grad():
            weight -= sign * 1e-6 * direction
    torch.testing.assert_close((losses[0] - losses[1]) / 2e-6, (gradient * direction).sum(), rtol=1e-5, atol=1e-8)


def kept_bytes(model, batch, most):
    """Measure the peak of what autograd keeps for the backward pass, in bytes."""
    alive, peak = 0, 0

    class Handle:
        def __init__(self, tensor):
            nonlocal alive, peak
            self.tensor = tensor
            self.bytes = tensor.numel() * tensor.element_size()
            alive += self.bytes
            peak = max(peak, alive)

        def __del__(self):
            nonlocal alive
            alive -= self.bytes

    with saved_tensors_hooks(Handle, lambda handle: handle.tensor):
        loss, _ = step.compute(model, views_of(model, [batch], most))
        loss.backward()
    return peak


def test_activations_are_those_of_a_part():
    torch.manual_seed(0)
    names = ("contrastive", "sigmoid", "captioning")
    model = tiny_model({name: dict(OBJECTIVES[name]) for name in names})
    few, many = (tiny_batch(model, [0.5] * clips) for clips in (8, 256))
    part, whole = kept_bytes(model, few, None), kept_bytes(model, many, None)
    assert whole > 20 * part
    assert kept_bytes(model, many, 8) < 3 * part


def test_no_matrix_of_all_clips_and_captions_is_made():
    """Check that no intermediate result of a loss has B x C entries."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        entries = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                Largest.entries = max(Largest.entries, out.numel())
            return out

    torch.manual_seed(0)
    model = tiny_model({"contrastive": 1.0, "sigmoid": 1.0})
    batch = tiny_batch(model, [0.0125] * 512)
    sizes = []
    for most in (None, 16):
        Largest.entries = 0
        with Largest():
            step.compute(model, views_of(model, [batch], most))[0].backward()
        sizes.append(Largest.entries)
    assert sizes[0] >= 512 * 512
    assert sizes[1] <= 512 * 512 // 8


def test_sinkhorn_in_chunks_is_sinkhorn():
    torch.manual_seed(0)
    scores = torch.randn(50, 7, dtype=torch.float64) * 30
    whole = sinkhorn(scores, 3)
    pieces = [scores[:20], scores[20:20], scores[20:]]
    columns = balance(lambda: pieces, 3)
    torch.testing.assert_close(torch.cat([assign(piece, columns) for piece in pieces]), whole, rtol=1e-12, atol=1e-14)


def test_a_function_in_chunks():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    whole = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def run(pieces):
        out = checkpointed_chunks(lambda row: (row @ whole).exp(), [x], pieces)
        return out, *torch.autograd.grad(out.square().sum(), [x, whole])

    for pieces in (2, 5, 9):
        for found, expected in zip(run(pieces), run(1), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_parts_and_back():
    model = tiny_model()
    batch = sort_captions(choose(model.double(), ALL))
    parts = split(batch, [3, 0, 5])
    assert [part.ids for part in parts] == [batch.ids[:3], (), batch.ids[3:]]
    assert parts[2].audio.values.data_ptr() == batch.audio.values[sum(batch.audio.sizes[:3]) :].data_ptr()  # no copy
    again = concat(parts)
    for name in ("clip", "clip_key", "caption_key", "source"):
        assert torch.equal(getattr(again, name), getattr(batch, name)), name
    assert torch.equal(again.audio.values, batch.audio.values)
    assert torch.equal(again.text.values, batch.text.values)
    assert (again.audio.sizes, again.text.sizes) == (batch.audio.sizes, batch.text.sizes)
    assert (again.ids, again.captions, again.read) == (batch.ids, batch.captions, batch.read)
    assert {tuple(pair) for pair in again.pairs.tolist()} == {tuple(pair) for pair in batch.pairs.tolist()}
    assert even_sizes(7, 3) == [3, 2, 2]


def test_labels_and_tags_are_concatenated():
    model = tiny_model()
    one, two = tiny_batch(model, [0.1, 0.2]), tiny_batch(model, [0.1], seed=1)
    one = replace(one, tags={"animal": ({"dog": 1.0}, None)}, labels={"parity": ("even", None)})
    both = concat([one, replace(two, labels={})])
    assert both.labels == {"parity": ("even", None, None)}
    assert both.tags == {"animal": ({"dog": 1.0}, None, None)}
    assert both.shares("animal") == [{"dog": 1.0}, None, None]


def test_options_that_make_no_sense():
    with pytest.raises(ValueError, match=r"micro_clips .* at least 1; got 0"):
        SLAP({"name": "transformer", "size": "nano"}, {"name": "transformer", "size": "nano"}, micro_clips=0)


def test_a_batch_that_fits_is_computed_at_once():
    model = tiny_model()
    batch = tiny_batch(model)
    assert type(views_of(model, [batch], 4)) is type(views_of(model, [batch], None)) is Views
    assert type(views_of(model, [batch], 3)) is CachedViews
    assert type(views_of(model, [Batch.without_clips([])], 3)) is Views
