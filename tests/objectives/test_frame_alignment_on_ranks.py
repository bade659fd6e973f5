"""Frames and phrases that are spread unevenly over two processes give the step of one process with the joined batch.

The test starts this file as a program, once per process.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from launch import launch
from pool import SECONDS, choose
from slap.core.segments import Segment, phrases_of
from slap.model.grad_cache import views_of
from slap.testing.tiny import tiny_model
from slap.training import step

pytestmark = pytest.mark.distributed

PROCESSES = 2
SEGMENTS = (
    (Segment(0.05, 0.2, "dog"), Segment(0.1, 0.25, "dog")),
    None,
    (Segment(0.0, 0.5, "hum"), Segment(0.31, 0.32, "dog")),
    (),
    (Segment(0.0, 0.02, "rain"),),
    None,
    (Segment(0.0, 0.011, "hum"),),
    (Segment(0.1, 0.27, "dog"), Segment(0.0, 0.2, "siren")),
)
CASES = {
    "equal phrases on both": (range(3), range(3, 8)),
    "one process without segments": (range(1, 2), [0, 2, 3, 4, 5, 6, 7]),
    "one process without clips": (range(0), range(8)),
}


def run(clips, most):
    """Compute the loss, logged scalars and all gradients, averaged over processes as in DDP."""
    torch.manual_seed(0)
    model = tiny_model({"frame_alignment": {"scale": 5.0, "bias": -1.0}}).double()
    batch = choose(model, clips)
    segments = tuple(SEGMENTS[clip] for clip in clips)
    names = phrases_of(segments)
    if names:
        batch = replace(batch, segments=segments, phrases=model.text.tokenize(names))
    loss, seen = step.compute(model, views_of(model, [batch], most))
    loss.backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    if dist.is_initialized():
        for value in gradients.values():
            dist.all_reduce(value)
            value /= PROCESSES
    return {"loss": seen.losses["frame_alignment"], "extras": seen.extras["frame_alignment"], "gradients": gradients}


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    launch(__file__, PROCESSES, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("case", CASES)
def test_uneven_processes_equal_one(by_rank, case, most):
    assert len(SEGMENTS) == len(SECONDS)
    joined = run(range(8), most)
    assert joined["extras"]["phrases"] == 4
    assert all(value.abs().sum() > 0 for name, value in joined["gradients"].items() if "text.embed" in name)
    for results in by_rank:
        mine = results[case, most]
        torch.testing.assert_close(mine["loss"], joined["loss"], rtol=1e-9, atol=1e-12)
        for key, value in joined["extras"].items():
            torch.testing.assert_close(mine["extras"][key], value, rtol=1e-9, atol=1e-12)
        for name, value in joined["gradients"].items():
            torch.testing.assert_close(mine["gradients"][name], value, rtol=1e-8, atol=1e-11, msg=name)


def main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    torch.save(
        {(case, most): run(parts[rank], most) for case, parts in CASES.items() for most in (None, 2)},
        folder / f"{rank}.pt",
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
