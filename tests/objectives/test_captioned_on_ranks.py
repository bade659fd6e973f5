"""Clips without captions, spread unevenly over two processes, give the step of one process with the joined batch.

The test starts this file as a program, once per process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from launch import launch
from pool import choose, make_model, the_first
from slap.core.batch_ops import without_captions
from slap.model import grad_cache, views
from slap.model.grad_cache import views_of
from slap.training import step

pytestmark = pytest.mark.distributed

PROCESSES = 2
NAMES = ("contrastive", "sigmoid", "captioning", "masked_distillation", "classification")
CASES = {
    "one process without captions": ((range(4), range(4, 8)), [0, 1, 2, 3, 6]),
    "some captions on both": ((range(5), range(5, 8)), [1, 2, 6]),
    "no captions": ((range(3), range(3, 8)), [*range(8)]),
    "one process without clips": ((range(0), range(8)), [0, 5]),
}
"""Clips of each process, and the clips without captions."""


def run(clips, silent, most):
    """Compute losses, logged scalars and all gradients, averaged over processes as in DDP."""
    model = make_model(NAMES)
    batch = choose(model, clips)
    if len(batch):
        batch = without_captions(batch, [place for place, clip in enumerate(clips) if clip in silent])
    loss, seen = step.compute(model, views_of(model, [batch], most))
    loss.backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    if dist.is_initialized():
        for value in gradients.values():
            dist.all_reduce(value)
            value /= PROCESSES
    return {"losses": seen.losses, "extras": seen.extras, "gradients": gradients}


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    launch(__file__, PROCESSES, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("case", CASES)
def test_uneven_processes_equal_one(by_rank, case, most, monkeypatch):
    monkeypatch.setattr(views, "random_mask", the_first)
    monkeypatch.setattr(grad_cache, "random_mask", the_first)
    joined = run(range(8), CASES[case][1], most)
    for results in by_rank:
        mine = results[case, most]
        for name, loss in joined["losses"].items():
            torch.testing.assert_close(mine["losses"][name], loss, rtol=1e-9, atol=1e-12)
            assert mine["extras"][name].keys() == joined["extras"][name].keys()
            for key, value in joined["extras"][name].items():
                torch.testing.assert_close(mine["extras"][name][key], value, rtol=1e-9, atol=1e-12)
        for name, value in joined["gradients"].items():
            torch.testing.assert_close(mine["gradients"][name], value, rtol=1e-8, atol=1e-11, msg=name)


def main(rank, folder):
    views.random_mask = grad_cache.random_mask = the_first
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    results = {
        (case, most): run(parts[rank], silent, most) for case, (parts, silent) in CASES.items() for most in (None, 2)
    }
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
