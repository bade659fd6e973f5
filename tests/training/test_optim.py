from itertools import pairwise

import pytest
import torch
from torch import nn

from slap.model.contracts import Encoder, Objective
from slap.training.optim import parameter_groups, warmup_cosine


class Half(Encoder):
    def __init__(self):
        super().__init__()
        self.width = 4
        self.embedding = nn.Embedding(3, 4)
        self.old, self.new = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)

    def lr_scale(self, name):
        return 0.1 if name.startswith("old") else 1.0


def test_groups_by_decay_and_learning_rate():
    model = nn.ModuleDict({"encoder": Half(), "norm": nn.RMSNorm(4), "out": nn.Linear(4, 3, bias=False)})
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    model["out"].weight = model["encoder"].embedding.weight  # tied: an embedding, so it does not decay
    groups = {(g["lr"], g["weight_decay"]): g["params"] for g in parameter_groups(model, 1.0, 0.05)}
    encoder = model["encoder"]
    expected = {
        (1.0, 0.05): [encoder.new.weight],
        (1.0, 0.0): [encoder.embedding.weight, model["norm"].weight],
        (0.1, 0.05): [encoder.old.weight],
        (0.1, 0.0): [encoder.old.bias],
    }
    assert {key: [id(p) for p in params] for key, params in groups.items()} == {
        key: [id(p) for p in params] for key, params in expected.items()
    }


class Head(Objective):
    def __init__(self):
        super().__init__()
        self.out, self.scale = nn.Linear(4, 2, bias=False), nn.Parameter(torch.ones(()))

    def lr_scale(self, name):
        return 10.0 if name.startswith("out") else 1.0

    def forward(self, views):
        return self.scale * self.out.weight.sum()


def test_an_objective_has_learning_rates_of_its_own():
    model = nn.ModuleDict({"encoder": Half(), "objective": Head()})
    rates = {id(p): group["lr"] for group in parameter_groups(model, 0.1, 0.0, 0.5) for p in group["params"]}
    assert rates[id(model["objective"].out.weight)] == pytest.approx(1.0)
    assert rates[id(model["objective"].scale)] == pytest.approx(0.1)


def test_the_learning_rate_rises_linearly_and_ends_at_zero():
    factors = [warmup_cosine(step, 10, 110) for step in range(111)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(factors[9:]))
    assert warmup_cosine(0, 0, 10) == 1.0


def test_nothing_is_trained_twice():
    model = Half()
    params = [p for group in parameter_groups(model, 1.0, 0.1) for p in group["params"]]
    assert len(params) == len({id(p) for p in params}) == len(list(model.parameters()))
    torch.optim.AdamW(parameter_groups(model, 1.0, 0.1))
