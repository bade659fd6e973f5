"""Steps whose numbers go wrong are left out as if they had not been, counted, listed, and at last end the run."""

import csv
import json
import logging
from itertools import pairwise
from math import inf, nan

import pytest
import torch
from lightning.pytorch import Callback
from torch.optim import SGD, Adam, AdamW

import toy_recipe as recipe
from slap import Objective
from slap.model.ema import EMATeacher
from slap.training.callbacks.collapse_monitor import CollapseError, CollapseMonitor
from slap.training.callbacks.loss_monitor import LossMonitor, NotFiniteError, spiked
from slap.training.nonfinite import BufferSnapshot, nan_unless_finite, skip_step

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
SSL = {"prototypes": 8, "hidden": 16, "bottleneck": 8}


class Troubled(Objective):
    """Distance to a running center, times a number that each step brings: 1 in good times."""

    def __init__(self, factors):
        super().__init__()
        self.factors = list(factors)
        self.register_buffer("center", torch.zeros(16))
        self.calls = 0

    def forward(self, views):
        factor = self.factors[self.calls % len(self.factors)]
        self.calls += 1
        means = views.full.embedding.detach().mean(0)
        self.center.lerp_(means * factor, 0.1)
        losses = (views.full.embedding - self.center).square().sum(1)
        views.note(losses * factor)
        return losses.mean() * factor


class Silent(Troubled):
    """Its loss is infinite, but the gradient of its loss is sound."""

    def forward(self, views):
        loss = super().forward(views)
        return loss if loss.isfinite() else views.full.embedding.square().sum() + factor_of(self)


def factor_of(objective):
    return objective.factors[(objective.calls - 1) % len(objective.factors)]


class Record(Callback):
    """The state of everything that training moves, before training and after each step."""

    def __init__(self):
        self.states = []

    def on_train_start(self, trainer, module):
        self.states.append(state(trainer, module))

    def on_train_batch_end(self, trainer, module, *args):
        self.states.append(state(trainer, module))


def state(trainer, module):
    found = {name: value.clone() for name, value in module.state_dict().items()}
    for index, moments in trainer.optimizers[0].state_dict()["state"].items():
        found |= {f"{index}.{name}": value.clone() for name, value in moments.items()}
    return found


def fit(out, factors, steps, kind=Troubled, **options):
    torch.manual_seed(0)
    record = Record()
    objectives = {"contrastive": 1.0, "masked_distillation": SSL, "mine": kind(factors)}
    model = recipe.model(objectives=objectives)
    trainer = recipe.trainer(str(out), max_steps=steps, callbacks=[record], **{**QUIET, **options})
    trainer.fit(model, datamodule=recipe.data(batches=100))
    return record.states


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", [Troubled, Silent])
@pytest.mark.parametrize("factor", [nan, inf])
def test_a_step_that_is_not_finite_changes_nothing(tmp_path, factor, kind):
    states = fit(tmp_path, [1.0, factor, 1.0, factor, factor, 1.0], 6, kind)
    changed = [not same(*pair) for pair in pairwise(states)]
    assert changed == [True, False, True, False, False, True]
    assert all(value.isfinite().all() for value in states[-1].values())
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [float(row["train/skipped"]) for row in csv.DictReader(file)] == [0, 1, 1, 2, 3, 3]
    lines = [json.loads(line) for line in (tmp_path / "skipped_steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 3, 4]
    assert {clip["id"] for clip in lines[0]["clips"]} == {f"clip1-{i}" for i in range(4)}
    assert lines[0]["losses"]["mine"] == lines[0]["loss"] == str(factor)
    assert isinstance(lines[0]["losses"]["contrastive"], float)
    assert not (tmp_path / "loss_spikes.jsonl").exists()


def test_after_some_in_a_row_the_run_stops(tmp_path):
    with pytest.raises(NotFiniteError, match=r"step 3: 3 steps in a row .*mine nan.*skipped_steps.jsonl"):
        fit(tmp_path / "three", [1.0, nan, nan, nan], 6)
    fit(tmp_path / "four", [1.0, nan, nan, nan], 6, max_skipped=4)
    with pytest.raises(NotFiniteError, match="step 0: 1 steps"):
        fit(tmp_path / "one", [nan], 6, max_skipped=1)


def test_counts_and_losses_travel_with_a_checkpoint():
    watch, again = LossMonitor("nowhere"), LossMonitor("nowhere")
    watch.skipped, watch.in_a_row = 5, 2
    watch.recent.extend([1.0, 2.0])
    again.load_state_dict(watch.state_dict())
    assert (again.skipped, again.in_a_row, list(again.recent)) == (5, 2, [1.0, 2.0])
    collapse = CollapseMonitor()
    collapse.rows["a"] = 3
    again = CollapseMonitor()
    again.load_state_dict(collapse.state_dict())
    assert again.rows["a"] == 3


def test_spikes_keep_the_clips_the_worst_first(tmp_path):
    fit(tmp_path, [1.0] * 25 + [1e4] + [1.0] * 4, 30)
    line, *_ = [json.loads(line) for line in (tmp_path / "loss_spikes.jsonl").read_text().splitlines()]
    assert line["step"] == 25
    assert line["loss"] > 10 * line["typical"] > 0
    losses = [clip["mine"] for clip in line["clips"]]
    assert {clip["id"] for clip in line["clips"]} == {f"clip25-{i}" for i in range(4)}
    assert len(losses) == 4
    clips = line["clips"]
    assert clips == sorted(clips, key=lambda c: (c["contrastive"], c["masked_distillation"], c["mine"]), reverse=True)


def test_a_spike_is_far_above_what_came_before():
    calm = [2.0 + 0.01 * (i % 5) for i in range(50)]
    assert spiked(2.3, calm, 8.0) is None  # below a fifth more, however calm it was
    assert spiked(2.5, calm, 8.0) == pytest.approx(2.02)
    assert spiked(1.0, calm, 8.0) is None  # to fall is no spike
    wild = [2.0 + (i % 5) for i in range(50)]
    assert spiked(12.0, wild, 8.0) is None
    assert spiked(99.0, calm[:19], 8.0) is None  # too few to compare with


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, momentum=0.9), Adam, AdamW, lambda p: AdamW(p, fused=True)])
def test_no_optimizer_moves_where_it_is_left_out(make):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = make([weight])

    def step(gradient, bad):
        weight.grad = torch.full((3,), gradient)
        skip_step(optimizer, torch.tensor(bad))
        optimizer.step()
        kept = [v.clone() for v in optimizer.state[weight].values() if isinstance(v, torch.Tensor)]
        return [weight.detach().clone(), *kept]

    first = step(1.0, bad=False)
    assert not torch.equal(first[0], torch.ones(3))
    second = step(nan, bad=True)
    assert all(map(torch.equal, first, second))
    third = step(1.0, bad=False)
    assert not torch.equal(second[0], third[0])
    assert all(value.isfinite().all() for value in third)


def test_a_loss_that_is_not_finite_poisons_its_gradient_and_no_other():
    for value in (inf, -inf, nan):
        weight = torch.ones((), requires_grad=True)
        nan_unless_finite(weight * 2 + value).backward()
        assert weight.grad.isnan()
    weight = torch.tensor(3.7, dtype=torch.float64, requires_grad=True)
    loss = nan_unless_finite(weight.exp())
    loss.backward()
    assert loss.item() == weight.grad.item() == weight.detach().exp().item()


def test_buffers_come_back_only_when_asked():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    kept = BufferSnapshot(model, but=("1",))
    before = [buffer.clone() for buffer in model[0].buffers()]
    model(torch.randn(5, 2))
    moved = [buffer.clone() for buffer in model.buffers()]
    kept.restore(torch.tensor(False))
    assert all(map(torch.equal, moved, model.buffers()))
    kept.restore(torch.tensor(True))
    assert all(map(torch.equal, before, model[0].buffers()))
    assert all(map(torch.equal, moved[3:], model[1].buffers()))


def test_a_teacher_stays_where_it_is():
    source = torch.nn.Linear(2, 2)
    teacher = EMATeacher((0.5, 0.5))
    teacher.track(source)
    before = [p.clone() for p in teacher.parameters()]
    torch.nn.init.zeros_(source.weight)
    teacher.update(0.0, torch.tensor(True))
    assert all(map(torch.equal, before, teacher.parameters()))
    teacher.update(0.0, torch.tensor(False))
    torch.testing.assert_close(teacher.copy_of(source).weight, before[0] / 2)


class Collapsing(Objective):
    """Complains while its parameter is below 1, or the step is among those it is told."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.calls = 0

    def forward(self, views):
        del views
        self.calls += 1
        return self.weight.square(), {"health": torch.tensor(float(self.calls not in self.bad))}

    def health_check(self, logged):
        return None if logged["health"] else "no health"


def watch(out, bad, **options):
    torch.manual_seed(0)
    model = recipe.model(objectives={"mine": Collapsing(bad)})
    trainer = recipe.trainer(str(out), max_steps=30, **QUIET, **options)
    trainer.fit(model, datamodule=recipe.data(batches=100))
    return trainer.global_step


def test_a_collapse_that_lasts_is_warned_of_or_ends_the_run(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    assert watch(tmp_path / "short", range(3, 12)) == 30
    assert "collapsed" not in caplog.text
    assert watch(tmp_path / "long", range(3, 20)) == 30
    assert caplog.text.count("mine has collapsed, as of step 11, for 10 rows of the logs: no health") == 1
    assert "mine recovered at step 19" in caplog.text
    with pytest.raises(CollapseError, match=r"as of step 11.*no health"):
        watch(tmp_path / "stop", range(3, 20), stop_on_collapse=True)
