"""`contrastive` and `sigmoid` against their formulas, written with loops."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import normalize

from pair_views import CASES, make_views
from slap.objectives.contrastive import Contrastive
from slap.objectives.contrastive import cross_entropy as multi_positive_cross_entropy
from slap.objectives.positive_pairs import positives
from slap.objectives.sigmoid import Sigmoid


def are_positives(batch, i, j):
    return any(clip == batch.clip_key[i] and caption == batch.caption_key[j] for clip, caption in batch.pairs.tolist())


def slow_contrastive(views, log_scale):
    audio, text, batch = views.full.embedding, views.text.embedding, views.batch
    scale = log_scale.exp()
    logits = torch.stack([torch.stack([scale * (a * t).sum() for t in text]) for a in audio])

    def side(logits, positive):
        total = 0
        for i in range(len(logits)):
            chosen = [j for j in range(logits.shape[1]) if positive(i, j)]
            for j in chosen:
                total = total - (logits[i, j].exp() / logits[i].exp().sum()).log() / len(chosen)
        return total / len(logits)

    to_text = side(logits, lambda i, j: are_positives(batch, i, j))
    to_audio = side(logits.T, lambda j, i: are_positives(batch, i, j))
    return (to_text + to_audio) / 2


def slow_sigmoid(views, log_scale, bias):
    audio, text, batch = views.full.embedding, views.text.embedding, views.batch
    total = 0
    for i in range(len(audio)):
        for j in range(len(text)):
            z = 1 if are_positives(batch, i, j) else -1
            logit = log_scale.exp() * (audio[i] * text[j]).sum() + bias
            total = total - (1 / (1 + (-z * logit).exp())).log()
    return total / len(audio)


def assert_same(loss, slow, leaves):
    torch.testing.assert_close(loss, slow, rtol=1e-10, atol=1e-12)
    for mine, oracle in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(mine, oracle, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_positives_are_what_the_definition_says(case):
    batch = make_views(*case).batch
    expected = [[are_positives(batch, i, j) for j in range(len(batch.clip))] for i in range(len(batch.clip_key))]
    assert positives(batch.clip_key, batch.caption_key, batch.pairs).tolist() == expected


def test_positives_see_pairs_of_other_processes():
    # Nothing here says that clip 1 and caption 5 belong together; a pair from elsewhere does.
    elsewhere = torch.tensor([[1, 5], [3, 6]])
    assert positives(torch.tensor([1, 2]), torch.tensor([5, 6]), elsewhere).tolist() == [[True, False], [False, False]]
    assert positives(torch.tensor([], dtype=torch.int64), torch.tensor([5]), elsewhere).shape == (0, 1)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_contrastive_is_its_formula(case):
    views = make_views(*case)
    objective = Contrastive().double()
    loss, extras = objective(views)
    assert_same(
        loss,
        slow_contrastive(views, objective.log_scale),
        [views.full.embedding, views.text.embedding, objective.log_scale],
    )
    assert extras["scale"].item() == pytest.approx(1 / 0.07)
    batch = views.batch
    wrong = [not are_positives(batch, i, j) for i in range(len(batch)) for j in range(len(batch.caption_key))]
    assert extras["negatives"].item() == pytest.approx(sum(wrong) / len(batch))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sigmoid_is_its_formula(case):
    views = make_views(*case)
    objective = Sigmoid().double()
    loss, extras = objective(views)
    leaves = [views.full.embedding, views.text.embedding, objective.log_scale, objective.bias]
    assert_same(loss, slow_sigmoid(views, objective.log_scale, objective.bias), leaves)
    assert (extras["scale"].item(), extras["bias"].item()) == pytest.approx((10.0, -10.0))


def test_one_positive_a_row_is_the_loss_of_clip():
    logits = torch.randn(6, 6, dtype=torch.float64)
    ours = multi_positive_cross_entropy(logits, torch.eye(6, dtype=torch.bool)).mean()
    torch.testing.assert_close(ours, torch_cross_entropy(logits, torch.arange(6)))


def test_scale_begins_at_the_inverse_temperature_and_comes_back_to_its_cap():
    views = make_views(*CASES["nothing shared"])
    objective = Contrastive()
    assert objective.log_scale.item() == pytest.approx(log(1 / 0.07))
    objective.double()
    for beyond in (log(100) + 0.01, 10.0):
        state = {"log_scale": torch.tensor(beyond)}
        objective.load_state_dict(state)  # as of a run that stepped over the cap
        assert objective(views)[1]["scale"].item() == pytest.approx(100)
        assert objective.calibration().scale == pytest.approx(100)
        objective(views)[0].backward()
        assert objective.log_scale.grad.item() != 0


def test_the_scale_comes_down_from_its_cap_when_half_of_the_pairs_are_wrong():
    """It stayed at its cap for ever: `clamp` in the loss has no gradient there."""
    same = normalize(torch.randn(64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
    views = make_views(range(64), range(64), range(64), width=16)
    views.full.embedding, views.text.embedding = same, torch.cat([same[:32], same[32:].roll(1, 0)])
    objective = Contrastive(0.01).double()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=0.02, weight_decay=0.0)
    scales = []
    with torch.no_grad():
        objective.log_scale += 0.001  # one overshoot
    for _ in range(20):
        loss, extras = objective(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            objective.constrain()
        scales.append(extras["scale"].item())
    assert scales[-1] < 80 < scales[0]


def test_no_step_ends_above_the_cap():
    objective = Contrastive(0.01)
    with torch.no_grad():
        objective.log_scale += 1
        objective.constrain()
    assert objective.log_scale.item() == pytest.approx(log(100))


@pytest.mark.parametrize("objective", [Contrastive(0.01), Sigmoid(100.0)])
def test_autocast_does_not_touch_the_logits(objective):
    views = make_views(*CASES["nothing shared"])
    views.full.embedding = views.full.embedding.detach().float()
    views.text.embedding = views.text.embedding.detach().float()
    exact = objective(views)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert objective(views)[0].item() == exact.item()


def test_perfect_embeddings_reach_the_bounds():
    """Check the bound for two captions of one clip: the best that `contrastive` can do is to give each half."""
    views = make_views([0, 0, 1], [1, 2], [3, 4, 5])
    audio, text = torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[[0, 0, 1]]
    views.full.embedding, views.text.embedding = audio, text
    objective = Contrastive(0.01).double()
    assert objective(views)[0].item() == pytest.approx(log(2) / 4, abs=1e-9)
    sigmoid = Sigmoid(40.0, -20.0).double()
    assert sigmoid(views)[0].item() == pytest.approx(6 / 2 * log(1 + exp(-20)), rel=1e-6)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"at least 0\.01.*got 0\.001"):
        Contrastive(temperature=0.001)
    with pytest.raises(ValueError, match="scale must be positive"):
        Sigmoid(scale=0)
