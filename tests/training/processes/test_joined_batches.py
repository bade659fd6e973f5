"""Several processes train and evaluate as one, from the files to the weights, where it gets the same clips per step.

The test starts this file as a program, once per process.
"""

import json
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import slap.model.grad_cache
import slap.model.views
from launch import launch
from pool import OBJECTIVES, the_first
from resume_recipe import write_clips
from slap.datamodules import AudioTextData
from slap.datamodules.sampling.sampler import BatchRequest, TrainSampler
from slap.testing.tiny import tiny_model
from slap.training.trainer import trainer

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),  # the runs have none
    pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`"),
    pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers"),
]

LEARNED = {"contrastive": ["contrastive"], "ssl": ["masked_distillation"], "captioning": ["captioning"]}
LEARNED["all"] = ["contrastive", "masked_distillation", "captioning"]
CASES = [(name, batches) for name in LEARNED for batches in (1, 2)]
"""What is learned, and batches per optimizer step."""

SOUNDS = {"animal": ["cat", "dog", "owl"]}


def data(folder):
    """Clips of three classes, of several lengths, some of which share a caption."""
    path = Path(write_clips(folder, "sounds", 40))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for place, row in enumerate(rows):
        row["label_animal"] = SOUNDS["animal"][place % 3]
    labeled = path.with_name("labeled.jsonl")
    if not labeled.exists():
        labeled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"max_duration": 1.2, "max_clip": 0.4, "num_buckets": 2}
    return AudioTextData(labeled, test=labeled, augment={"gain": {"low": -6.0, "high": 6.0}}, **options)


def make(names):
    """A model in double precision, so that only mistakes and no rounding can be seen."""
    torch.manual_seed(0)
    model = tiny_model({name: dict(OBJECTIVES[name]) for name in names}).double()
    model.on_after_batch_transfer = lambda batch, place: replace(
        batch, audio=batch.audio.replace(batch.audio.values.double())
    )
    return model


def make_trainer(folder, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return trainer(str(folder), 3, num_sanity_val_steps=0, accelerator="cpu", **quiet, **options)


def fit(folder, name, batches, **options):
    """The weights after three steps, and the last loss."""
    model = make(LEARNED[name])
    made = make_trainer(folder / f"{name}{batches}", accumulate_grad_batches=batches, **options)
    made.fit(model, datamodule=data(folder))
    assert made.global_step == 3
    return {"weights": model.state_dict(), "loss": made.callback_metrics["train/loss"]}


def evaluate(folder, **options):
    """All metrics with their intervals."""
    classify = {**OBJECTIVES["classification"], "task": "animal", "classes": SOUNDS["animal"]}
    torch.manual_seed(0)
    model = tiny_model({"contrastive": 1.0, "classification": classify})
    made = make_trainer(folder / "test", **options)
    made.test(model, datamodule=data(folder), verbose=False)
    return {metric: asdict(found) for metric, found in model.evaluation.results.items()}


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined")
    data(folder)
    launch(__file__, request.param, folder, request.param)
    return folder, [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize(("name", "batches"), CASES)
def test_processes_train_as_one_with_the_joined_batches(ranks, name, batches, monkeypatch):
    folder, found = ranks
    size = len(found)

    def joined(sampler):
        steps = replace(sampler, world_size=size).steps(sampler.epoch)
        for step in steps:
            yield BatchRequest(sampler.epoch, tuple(np.concatenate(step).tolist()))

    for module in (slap.model.views, slap.model.grad_cache):
        monkeypatch.setattr(module, "random_mask", the_first)
    monkeypatch.setattr(TrainSampler, "__iter__", joined)
    one = fit(folder / "one", name, batches)
    before = make(LEARNED[name]).state_dict()
    assert any(not torch.equal(before[key], value) for key, value in one["weights"].items())
    for rank in found:
        torch.testing.assert_close(rank[name, batches]["weights"], one["weights"], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(rank[name, batches]["loss"], one["loss"], rtol=1e-8, atol=0)


def test_intervals_do_not_depend_on_the_number_of_processes(ranks):
    folder, found = ranks
    one = evaluate(folder / "one")
    assert {"t2a_R@1", "zeroshot_animal", "classification_accuracy"} <= one.keys()
    assert any(metric["low"] < metric["value"] < metric["high"] for metric in one.values())
    for rank in found:
        assert rank["metrics"] == one


def main(rank, folder, processes):
    del rank  # torchrun's variables say it
    warnings.filterwarnings("ignore")
    slap.model.views.random_mask = slap.model.grad_cache.random_mask = the_first
    options = {"strategy": "ddp", "devices": processes}
    results = {case: fit(folder, *case, **options) for case in CASES}
    results["metrics"] = evaluate(folder, **options)
    torch.save(results, folder / f"{torch.distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
