"""Parameters spread over processes by FSDP2 train as whole ones, and their checkpoints load anywhere.

The test starts this file as a program, once per process.
"""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

sys.path.insert(0, str(Path(__file__).parent / "toys"))
from launch import launch
from pool import make_model, the_first, train

import slap.joined_views
import slap.views
from slap.sharding import FSDP2

STEPS = {2: [([0, 1, 2], [3]), ([4, 5], [6])], 4: [([0], [1], [2], [3]), ([4], [5], [6], [])]}


class Save(Callback):
    """Saves a checkpoint, and notes how much of the parameters this process has."""

    def __init__(self, path):
        self.path = path

    def on_train_end(self, trainer, module):
        whole = sum(p.numel() for p in module.parameters())
        parts = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in module.parameters())
        self.share = parts / whole
        trainer.save_checkpoint(self.path)


def state(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two processes have trained and saved; four went on from there."""
    made = tmp_path_factory.mktemp("sharding")
    launch(__file__, 2, made, 2)
    launch(__file__, 4, made, 4, made / "2.ckpt")
    return made


def joined(processes):
    return [[clip for part in parts for clip in part] for parts in STEPS[processes]]


def test_parts_train_as_the_whole(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(slap.views, "random_mask", the_first)
    one = train(make_model(), joined(2), tmp_path)["weights"][-1]
    found = state(folder / "2.ckpt")["state_dict"]
    assert found.keys() == one.keys()
    for name, value in one.items():  # the teacher's too
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-8 * value.abs().max().item(), msg=name)
    assert float((folder / "2-1.share").read_text()) < 0.6


def test_a_checkpoint_of_two_processes_goes_on_in_four_and_in_one(folder):
    two, four = state(folder / "2.ckpt"), state(folder / "4.ckpt")
    assert (two["global_step"], four["global_step"]) == (2, 4)
    make_model().load_state_dict(two["state_dict"])  # whole, on one
    make_model().load_state_dict(four["state_dict"])
    moments = [
        {name: value.shape for name, value in one.items()} for one in two["optimizer_states"][0]["state"].values()
    ]
    again = [
        {name: value.shape for name, value in one.items()} for one in four["optimizer_states"][0]["state"].values()
    ]
    assert moments == again
    assert all(one["step"] == 4 for one in four["optimizer_states"][0]["state"].values())  # went on from 2


def test_parts_of_a_batch_are_refused_since_processes_may_have_unequal_numbers_of_them():
    model = make_model(micro_clips=2)
    model._device_mesh = {"data_parallel": None}  # as the strategy sets it
    with pytest.raises(ValueError, match="micro_clips=2 cannot be used with the strategy fsdp2"):
        model.configure_model()


def main(rank, folder, processes, path=None):
    warnings.filterwarnings("ignore")
    slap.views.random_mask = slap.joined_views.random_mask = the_first
    steps = [parts[rank] for parts in STEPS[processes]]
    save = Save(folder / f"{processes}.ckpt")
    options = {"strategy": FSDP2, "devices": processes, "callbacks": [save]}
    if path is not None:
        steps, options = [*([[]] * len(STEPS[2])), *steps], options | {"ckpt_path": path, "max_epochs": 2}
    train(make_model(), steps, folder, **options)
    (folder / f"{processes}-{rank}.share").write_text(str(save.share))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
