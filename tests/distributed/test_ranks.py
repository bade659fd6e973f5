"""Processes with batches of different sizes train as one process with the joined batch, whatever befalls one of them.

The test starts this file as a program, once per process.
"""

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch

import slap.model.grad_cache
import slap.model.views
from launch import launch
from pool import OBJECTIVES, make_model, the_first, train
from slap.training.callbacks.loss_monitor import LossMonitor, NotFiniteError

pytestmark = pytest.mark.distributed

PARTS = {  # of each step, the clips of each process; at times a process has none
    2: [([0, 1, 2], [3]), ([4, 5], []), ([6], [7, 0, 3])],
    4: [([0, 1], [2], [], [3]), ([4], [5], [], []), ([6], [7], [0], [3])],
}

OTHERWISE = {"cached": (2, 1), "accumulated": (None, 2), "cached and accumulated": (2, 2)}
"""Clips to compute at once, and batches a step."""


def joined(processes):
    return [[clip for part in parts for clip in part] for parts in PARTS[processes]]


def mine(processes, rank):
    return [parts[rank] for parts in PARTS[processes]]


def by_objective(steps, folder, **options):
    return {name: train(make_model([name]), steps, folder, **options) for name in OBJECTIVES}


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    """What each of several processes got."""
    folder = tmp_path_factory.mktemp("ranks")
    launch(__file__, request.param, folder, request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def same(one, other, rtol):
    assert one.keys() == other.keys()
    for name, value in one.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(other[name], value, rtol=rtol, atol=rtol * scale, msg=lambda text, n=name: n + text)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_uneven_and_empty_batches_train_as_one(ranks, name, tmp_path, monkeypatch):
    monkeypatch.setattr(slap.model.views, "random_mask", the_first)
    one = train(make_model([name]), joined(len(ranks)), tmp_path)
    for rank in ranks:
        found = rank["equal"][name]
        assert len(found["gradients"]) == len(one["gradients"]) == 3  # equally many steps
        for mine, expected in zip(found["gradients"], one["gradients"], strict=True):
            same({n: g for n, g in expected.items() if g.any()}, {n: g for n, g in mine.items() if g.any()}, 1e-10)
        torch.testing.assert_close(found["loss"], one["loss"], rtol=1e-10, atol=0)
        same(one["weights"][-1], found["weights"][-1], 1e-8)


@pytest.mark.parametrize("how", OTHERWISE)
def test_cached_gradients_and_accumulated_batches_too(ranks, how, tmp_path, monkeypatch):
    """All objectives in one model; none hides another, for each has parameters of its own."""
    monkeypatch.setattr(slap.model.views, "random_mask", the_first)
    first, second, third = joined(len(ranks))
    one = train(make_model(), [first, second, third] if how == "cached" else [first + second, third], tmp_path)
    for rank in ranks:
        found = rank[how]
        assert len(found["gradients"]) == len(one["gradients"])
        for mine, expected in zip(found["gradients"], one["gradients"], strict=True):
            same(expected, mine, 1e-9)
        torch.testing.assert_close(found["loss"], one["loss"], rtol=1e-10, atol=0)


def test_single_precision_too(ranks, tmp_path, monkeypatch):
    monkeypatch.setattr(slap.model.views, "random_mask", the_first)
    one = train(make_model(dtype=torch.float32), joined(len(ranks)), tmp_path)
    for rank in ranks:
        for mine, expected in zip(rank["single"]["gradients"][:1], one["gradients"][:1], strict=True):
            same(expected, mine, 1e-5)


def test_what_is_not_finite_on_one_process_is_left_out_on_all(ranks):
    for rank, found in enumerate(ranks):
        first, second, third = found["spoilt"]["weights"]
        assert all(torch.equal(first[name], second[name]) for name in first)  # the teacher is among them
        assert not all(torch.equal(second[name], third[name]) for name in first)
        assert all(torch.equal(third[name], ranks[0]["spoilt"]["weights"][2][name]) for name in third)
        assert all(value.isfinite().all() for value in third.values())
        assert found["skipped"] == 1
        (line,) = found["lines"][rank]
        assert line["step"] == 1
        assert len(line["clips"]) == len(PARTS[len(ranks)][1][rank])


def test_all_processes_stop_at_the_same_step(ranks):
    for found in ranks:
        assert found["stopped"].startswith("training stopped at step 2: 3 steps in a row")


def main(rank, folder, processes):
    warnings.filterwarnings("ignore")
    slap.model.views.random_mask = slap.model.grad_cache.random_mask = the_first
    options = {"strategy": "ddp", "devices": processes}
    steps, results = mine(processes, rank), {}
    results["equal"] = by_objective(steps, folder, **options)
    results["single"] = train(make_model(dtype=torch.float32), steps, folder, **options)
    for how, (most, batches) in OTHERWISE.items():
        made = make_model(micro_clips=most)
        results[how] = train(made, steps, folder, accumulate_grad_batches=batches, **options)
    watch = LossMonitor(folder / "run")
    spoil = 1 if rank == 0 else None
    results["spoilt"] = train(make_model(), steps, folder, spoil, [watch], **options)
    results["skipped"] = watch.skipped
    torch.distributed.barrier()
    lines = [json.loads(line) for line in (folder / "run" / "skipped_steps.jsonl").read_text().splitlines()]
    results["lines"] = {r: [line for line in lines if line["rank"] == r] for r in range(processes)}
    broken = make_model()
    with torch.no_grad():
        broken.audio.embed.weight.fill_(torch.nan if rank == 0 else 0.0)  # the strategy sends them to all
    try:
        train(broken, steps, folder, None, [LossMonitor(folder / "stop")], **options)
    except NotFiniteError as error:
        results["stopped"] = str(error)
    torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
