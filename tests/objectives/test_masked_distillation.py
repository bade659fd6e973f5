"""`masked_distillation` and Sinkhorn-Knopp against their formulas, and what happens on the way to a collapse."""

from __future__ import annotations

from copy import deepcopy
from math import log
from types import SimpleNamespace

import pytest
import torch

from fake_views import FakeViews
from slap import SLAP
from slap.core.packed import Packed
from slap.model.ema import EMATeacher
from slap.objectives.masked_distillation import MaskedDistillation, PrototypeHead, collapse_signs, tally_of
from slap.objectives.sinkhorn import sinkhorn
from slap.testing import check_objective
from slap.testing.tiny import CAPTIONS

WIDTH, PROTOTYPES = 6, 5


def make_objective(**options):
    """Make the objective, set up on a model with only the parts that `setup` reads, and its teacher."""
    torch.manual_seed(0)
    objective = MaskedDistillation(prototypes=PROTOTYPES, hidden=8, bottleneck=4, **options)
    model = SimpleNamespace(audio=SimpleNamespace(width=WIDTH), teacher=EMATeacher(), mask_ratio=0.5)
    objective.setup(model)
    teacher = model.teacher.double()
    with torch.no_grad():  # a teacher that differs from the student, as it does after a step
        for parameter in teacher.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return objective.double(), teacher


def make_views(teacher, lengths=(4, 1, 5), hidden=None, seed=1):
    torch.manual_seed(seed)
    rows = sum(lengths)
    student = torch.randn(rows, WIDTH, dtype=torch.float64, requires_grad=True)
    layout = torch.tensor(lengths, dtype=torch.int32)
    if hidden is None:
        hidden = torch.tensor([True, False, True, False, False, True, True, False, True, False])
    return FakeViews(
        hidden=hidden,
        hidden_rows=hidden.nonzero().squeeze(1),
        masked=SimpleNamespace(tokens=Packed(student, layout)),
        teacher=SimpleNamespace(tokens=Packed(torch.randn(rows, WIDTH, dtype=torch.float64), layout)),
        teacher_of=teacher.copy_of,
    )


def slow_sinkhorn(scores, iterations):
    """Algorithm 1 in SwAV's appendix, with exponentials and loops."""
    q = scores.exp()
    q = q / q.sum()
    n, k = q.shape
    for _ in range(iterations):
        for j in range(k):
            q[:, j] = q[:, j] / q[:, j].sum() / k
        for i in range(n):
            q[i] = q[i] / q[i].sum() / n
    return q * n


def slow_scores(head, x):
    """Compute the head on one token, by loops over its layers and prototypes."""
    x = torch.nn.functional.gelu(head.enter.weight @ x)
    x = torch.nn.functional.gelu(head.middle.weight @ x)
    x = head.leave.weight @ x
    x = x / x.pow(2).sum().sqrt()
    return torch.stack([(x * p / p.pow(2).sum().sqrt()).sum() for p in head.prototypes])


def slow_loss(objective, teacher, views):
    rows = [row for row in range(len(views.hidden)) if views.hidden[row]]
    head = teacher.copy_of(objective.head)
    scores = torch.stack([slow_scores(head, views.teacher.tokens.values[row]) for row in rows]).detach()
    targets = slow_sinkhorn(scores / objective.teacher_temperature, objective.iterations)
    total = 0
    for row, target in zip(rows, targets, strict=True):
        prediction = slow_scores(objective.head, views.masked.tokens.values[row]) / objective.student_temperature
        for k in range(PROTOTYPES):
            total = total - target[k] * (prediction[k].exp() / prediction.exp().sum()).log()
    return total / len(rows)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("shape", [(7, 4), (3, 9), (1, 5)])
def test_sinkhorn_is_its_algorithm(shape, iterations):
    torch.manual_seed(0)
    scores = torch.randn(shape, dtype=torch.float64) * 3
    torch.testing.assert_close(sinkhorn(scores, iterations), slow_sinkhorn(scores, iterations), rtol=1e-10, atol=1e-14)


def test_sinkhorn_gives_all_prototypes_equal_shares():
    torch.manual_seed(0)
    balanced = sinkhorn(torch.randn(200, 10, dtype=torch.float64) * 2 + torch.arange(10), 50)
    torch.testing.assert_close(balanced.sum(1), torch.ones(200, dtype=torch.float64))
    torch.testing.assert_close(balanced.sum(0), torch.full((10,), 20.0, dtype=torch.float64), rtol=1e-6, atol=0)


def test_sinkhorn_is_finite_where_exponentials_are_not():
    """Check scores of standard deviation 1 at a temperature of 0.04, and far larger ones, in float32."""
    torch.manual_seed(0)
    scores = torch.randn(512, 64) / 0.04
    assert not slow_sinkhorn(scores, 1).isfinite().all()  # else this test shows nothing
    for harsh in (scores, scores * 100, scores.bfloat16()):
        targets = sinkhorn(harsh)
        assert targets.dtype == torch.float32
        assert targets.isfinite().all()
        torch.testing.assert_close(targets.sum(1), torch.ones(512), rtol=1e-4, atol=1e-4)
    exact = sinkhorn(scores.double())
    torch.testing.assert_close(sinkhorn(scores).double(), exact, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"student_temperature": 0.3, "teacher_temperature": 0.2, "iterations": 1}])
def test_loss_is_its_formula(options):
    objective, teacher = make_objective(**options)
    views = make_views(teacher)
    loss, _ = objective(views)
    slow = slow_loss(objective, teacher, views)
    torch.testing.assert_close(loss, slow, rtol=1e-10, atol=0)
    leaves = [views.masked.tokens.values, *objective.head.parameters()]
    for mine, oracle in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(mine, oracle, rtol=1e-9, atol=1e-12)
        assert mine.abs().sum() > 0


def test_only_hidden_patches_and_only_the_student_learn():
    objective, teacher = make_objective()
    views = make_views(teacher)
    views.teacher.tokens.values.requires_grad_()
    objective(views)[0].backward()
    learns = views.masked.tokens.values.grad.abs().sum(1) > 0
    assert learns.tolist() == views.hidden.tolist()
    assert views.teacher.tokens.values.grad is None
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1)])
def test_without_hidden_patches_the_loss_is_0_and_the_graph_whole(lengths):
    """Check clips of one patch each: another process may have more, and waits for this one's gradients."""
    objective, teacher = make_objective()
    views = make_views(teacher, lengths, torch.zeros(sum(lengths), dtype=torch.bool))
    loss, extras = objective(views)
    assert loss.item() == 0
    logged = {name: value.item() for name, value in extras.items()}
    assert logged == {"teacher_entropy": 0, "prototype_usage": 0, "effective_rank": 0}
    assert objective.health_check(logged) is None
    loss.backward()
    for parameter in objective.parameters():
        assert parameter.grad is not None
        assert (parameter.grad == 0).all()
    assert (views.masked.tokens.values.grad == 0).all()


def test_logs_are_their_definitions():
    scores = torch.tensor([[9.0, 1, 0, 0], [8, 2, 0, 0], [0, 7, 0, 1], [9, 8, 7, 6]])  # firsts: 0, 0, 1, 0
    targets = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 1]])
    signs = collapse_signs(tally_of(scores, targets))
    entropy_of_shares = -(0.75 * log(0.75) + 0.25 * log(0.25))
    assert signs["prototype_usage"].log().item() == pytest.approx(entropy_of_shares - log(4))
    assert signs["teacher_entropy"].item() == pytest.approx((0 + log(2) + log(4) + 0) / 4 / log(4))


def test_logs_tell_a_collapse_from_health():
    torch.manual_seed(0)
    head = PrototypeHead(WIDTH, 32, 16, 64)
    healthy = head(torch.randn(4000, WIDTH)).detach() / 0.05
    constant = head(torch.randn(1, WIDTH)).detach().expand(4000, -1) / 0.05
    uniform = torch.zeros(4000, 64)
    nearly = constant + 1e-4 * torch.randn(4000, 64)
    for collapsed in (constant, uniform, nearly):
        signs = collapse_signs(tally_of(collapsed, sinkhorn(collapsed)))
        assert signs["teacher_entropy"].item() == pytest.approx(1, abs=1e-3)
        assert signs["prototype_usage"].item() == pytest.approx(1 / 64, rel=1e-3)
    signs = collapse_signs(tally_of(healthy, sinkhorn(healthy)))
    assert signs["teacher_entropy"] < 0.7
    assert signs["prototype_usage"] > 0.3


def test_one_token_is_enough():
    objective, teacher = make_objective()
    views = make_views(teacher, (2,), torch.tensor([False, True]))
    loss, extras = objective(views)
    # Sinkhorn can but give one token to all prototypes equally.
    assert extras["teacher_entropy"].item() == pytest.approx(1)
    torch.testing.assert_close(loss, slow_loss(objective, teacher, views))


def test_teacher_follows_the_head():
    objective, teacher = make_objective()
    copy = teacher.copy_of(objective.head)
    before = deepcopy(copy.prototypes)
    teacher.update(0.0)
    torch.testing.assert_close(copy.prototypes.data, before.lerp(objective.head.prototypes.data, 0.006).data)


def test_distillation_learns_without_collapse():
    """Check that prototypes stay in use and the loss falls, on noisy versions of tokens of 8 kinds."""
    torch.manual_seed(0)
    objective = MaskedDistillation(prototypes=16, hidden=32, bottleneck=8)
    model = SimpleNamespace(audio=SimpleNamespace(width=WIDTH), teacher=EMATeacher((0.9, 1.0)), mask_ratio=0.5)
    objective.setup(model)
    kinds = torch.randn(8, WIDTH) * 2
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(150):
        clean = kinds[torch.randint(8, (256,))]
        layout = torch.tensor([256], dtype=torch.int32)
        views = FakeViews(
            hidden_rows=torch.arange(256),
            masked=SimpleNamespace(tokens=Packed(clean + 0.2 * torch.randn_like(clean), layout)),
            teacher=SimpleNamespace(tokens=Packed(clean + 0.2 * torch.randn_like(clean), layout)),
            teacher_of=model.teacher.copy_of,
        )
        loss, extras = objective(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.teacher.update(0.0)
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    assert extras["prototype_usage"] > 4 / 16
    assert extras["teacher_entropy"] < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototypes": 1}, "prototypes must be at least 2.*got 1"),
        ({"student_temperature": 0.0}, "temperatures must be positive"),
        ({"iterations": 0}, "iterations must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MaskedDistillation(**options)


def test_a_model_that_hides_nothing_is_refused():
    model = SimpleNamespace(audio=SimpleNamespace(width=WIDTH), teacher=EMATeacher(), mask_ratio=0.0)
    with pytest.raises(ValueError, match=r"mask_ratio is 0\.0, set it above 0"):
        MaskedDistillation().setup(model)


def test_dropping_hidden_patches_keeps_the_contract():
    torch.manual_seed(0)
    nano = {"name": "transformer", "size": "nano"}
    model = SLAP(nano, {**nano, "vocab_size": 320})
    model.text.prepare(CAPTIONS)
    check_objective(MaskedDistillation(8, 16, 8, drop=True, predictor_layers=1), model)
    with pytest.raises(AssertionError, match="TinyAudio does not take a part of a clip's patches"):
        check_objective(MaskedDistillation(8, 16, 8, drop=True))
