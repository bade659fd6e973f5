"""The losses of objectives by source: what objectives tell, what the logs show, and processes that do not wait.

The test of processes starts this file as a program, once per process.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist

from launch import launch
from slap import Objective
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.model.masks import hidden_sizes
from slap.model.views import Views
from slap.testing import tiny_batch, tiny_model
from slap.training.callbacks.learning_curves import read_metrics
from slap.training.callbacks.loss_logger import LossLogger
from slap.training.trainer import trainer

NAN = float("nan")
OBJECTIVES = {
    "contrastive": {},
    "sigmoid": {},
    "captioning": {"layers": 1, "heads": 2, "width": 16, "hidden": 16},
    "masked_distillation": {"prototypes": 8, "hidden": 8, "bottleneck": 4},
}


def test_means_by_objective_and_source():
    kept = LossLogger(["x", "y"], ["a", "b", "c"])
    kept.add("x", torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 1, 1]))
    kept.add("x", torch.tensor([5.0, NAN]), torch.tensor([0, 2]))
    assert kept.take(torch.device("cpu")) == {"x/a": 3.0, "x/b": 4.0}
    assert kept.take(torch.device("cpu")) == {}
    kept.add("y", torch.tensor([7.0]), torch.tensor([2]))
    assert kept.take(torch.device("cpu")) == {"y/c": 7.0}


def test_nothing_is_kept_where_there_are_no_sources():
    kept = LossLogger(["x"], [])
    kept.add("x", torch.tensor([1.0]), torch.tensor([0]))
    assert kept.take(torch.device("cpu")) == {}


def test_losses_that_are_not_of_clips_are_refused():
    kept = LossLogger(["x"], ["a"])
    with pytest.raises(ValueError, match="it must be one for each clip"):
        kept.add("x", torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0]))


# -- what objectives tell ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_tell_the_loss_of_each_clip(name):
    """With one caption and equally many patches and tokens a clip, the losses of clips average to the objective's."""
    torch.manual_seed(0)
    model = tiny_model({name: OBJECTIVES[name]})
    batch = tiny_batch(model, [0.3, 0.3, 0.3])
    captions = ("one dog", "two cat", "six owl")
    batch = replace(
        batch, text=model.text.tokenize(captions), captions=captions, caption_key=torch.arange(3), pairs=None
    )
    views = Views(model, batch)
    loss, _ = model.objectives[name](views)
    noted = views.noted()
    assert noted.shape == (3,)
    assert not noted.requires_grad
    torch.testing.assert_close(noted.mean(), loss.detach())
    assert noted.std() > 0
    assert views.noted() is None  # asking forgets it


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_of_a_clip_is_its_own(name):
    """Losses move with their clips when the batch is turned round."""
    losses = []
    for order in ([0, 1, 2], [2, 0, 1]):
        torch.manual_seed(0)
        model = tiny_model({name: OBJECTIVES[name]})
        batch = tiny_batch(model, [0.05, 0.3, 0.5])
        turned = replace(
            batch,
            audio=batch.audio.take(torch.tensor(order)),
            text=batch.text.take(torch.tensor(order)),
            clip_key=batch.clip_key[order],
            caption_key=batch.caption_key[order],
            pairs=None,
        )
        views = Views(model, turned)
        if name == "masked_distillation":  # the same patches are hidden, and Sinkhorn sees the same set of them
            patches = views.patches
            views.__dict__["hidden"] = patches.index < hidden_sizes(patches.lengths, model.mask_ratio)[patches.item]
        model.objectives[name](views)
        losses.append(views.noted()[torch.tensor(order).argsort()])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)


# -- in training ------------------------------------------------------------------------------------------------------


class Quiet(Objective):
    """Tells nothing of clips."""

    def forward(self, views):
        return views.full.embedding.square().mean()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    for name, size in {"big": 10, "tiny": 2}.items():
        clips = []
        for i in range(size):
            soundfile.write(folder / f"{name}{i}.wav", rng.uniform(-0.5, 0.5, 1600), 8000)
            clips.append(Clip(f"{name}{i}", folder / f"{name}{i}.wav", [f"{name} {i}"], {"size": name}))
        write_manifest(folder / f"{name}.jsonl", clips)
    return folder


@pytest.fixture(scope="module")
def metrics(folder, tmp_path_factory, fast_reports):
    """Three steps of two batches each, logged every two steps."""
    with pytest.MonkeyPatch.context() as patch:
        out = tmp_path_factory.mktemp("run")
        lightning.seed_everything(0, verbose=False)
        model = tiny_model({"contrastive": 1.0, "quiet": {"objective": Quiet()}})
        named = {name: folder / f"{name}.jsonl" for name in ("big", "tiny")}
        data = AudioTextData(named, named, max_duration=0.61, max_clip=None, temperature=1e9, epoch_clips=12)
        noted = []
        add = LossLogger.add
        patch.setattr(
            LossLogger,
            "add",
            lambda self, name, losses, source: (noted.append((name, losses, source)), add(self, name, losses, source))[
                1
            ],
        )
        options = {"max_steps": 4, "log_every_n_steps": 2, "accumulate_grad_batches": 2, "num_sanity_val_steps": 0}
        trainer(out=str(out), accelerator="cpu", enable_progress_bar=False, monitor="val/big/t2a_R@10", **options).fit(
            model, datamodule=data
        )
        return read_metrics(out / "metrics.csv"), noted


def test_logs_show_the_mean_of_a_source_since_the_last_row(metrics):
    series, noted = metrics
    contrastive = [(losses, source) for name, losses, source in noted if name == "contrastive"]
    assert len(contrastive) == 4  # once a step, for its two batches together
    for number, name in enumerate(("big", "tiny")):
        rows = series[f"train/contrastive/{name}"]
        assert len(rows) == 2
        for (_, value), part in zip(sorted(rows.items()), (contrastive[:2], contrastive[2:]), strict=True):
            losses = torch.cat([losses[source == number] for losses, source in part])
            assert value == pytest.approx(losses.mean().item(), rel=1e-5)
    assert not any(name.startswith("train/quiet/") for name in series)


def test_validation_shows_each_source_by_itself(metrics):
    series, _ = metrics
    assert {"val/t2a_R@1", "val/big/t2a_R@1", "val/tiny/t2a_R@1", "val/tiny/zeroshot_size"} <= set(series)
    assert set(series["val/tiny/t2a_R@5"].values()) == {100.0}  # there are only two clips
    assert set(series["val/tiny/zeroshot_size"].values()) == {100.0}  # and one class


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.distributed
def test_processes_whose_batches_hold_other_sources_agree(tmp_path):
    """The first process has no clip of "b", the second none at all in its last batch."""
    launch(__file__, 2, tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found == [{"x/a": 3.0, "x/b": 8.0}, {"x/a": 1.0}]


def main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    kept = LossLogger(["x", "y"], ["a", "b"])
    if rank == 0:
        kept.add("x", torch.tensor([1.0, 2.0]), torch.tensor([0, 0]))
    else:
        kept.add("x", torch.tensor([6.0, 8.0]), torch.tensor([0, 1]))
    found = [kept.take(torch.device("cpu"))]
    if rank == 0:
        kept.add("x", torch.tensor([1.0]), torch.tensor([0]))
    found.append(kept.take(torch.device("cpu")))
    torch.save([{name: value.item() for name, value in means.items()} for means in found], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
