"""Parameters spread over processes by FSDP2 train as whole ones, and their checkpoints load anywhere.

The test starts this file as a program, once per process.
"""

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

import slap.model.grad_cache
import slap.model.views
from launch import launch
from pool import make_model, the_first, train
from slap.core.checkpoint_file import DamagedCheckpointError
from slap.training.fsdp import FSDP2, _moments_like

pytestmark = pytest.mark.distributed

FIRST = [([0, 1, 2], [3]), ([4, 5], [6])]
"""Of each step, the clips of each of two processes; then come, on any number of processes, the same clips a step:"""

NEXT = {
    1: [([0, 1, 2, 3],), ([4, 5, 6],)],
    2: [([0, 1], [2, 3]), ([4], [5, 6])],
    4: [([0], [1], [2], [3]), ([4], [5], [6], [])],
}
WAYS = ["2-1", "2-2", "2-4", "1-2", "1-4"]
"""On how many processes a run began, and on how many it goes on; on one without FSDP2."""


class Save(Callback):
    """Saves checkpoints after two steps and after four, and notes how much of the parameters this process has."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step % 2 == 0:
            whole = sum(p.numel() for p in module.parameters())
            parts = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in module.parameters())
            self.share = parts / whole
            trainer.save_checkpoint(self.folder / f"{self.name}.{trainer.global_step}.ckpt")


def state(path):
    return torch.load(path, weights_only=True)


def go(folder, name, steps, **options):
    """Train up to the fourth step; keep the losses as `NAME.losses`."""
    save = Save(folder, name)
    found = train(make_model(), steps, folder, callbacks=[save], max_steps=4, **options)
    torch.save(found["losses"], folder / f"{name}.losses")
    return save.share


def go_on(folder, name, rank, **options):
    """Train the last two steps of a run that was saved after the second."""
    began, processes = name.split("-")
    # Lightning counts the two batches of before as seen, but passes over none.
    steps = [*(parts[rank] for parts in NEXT[int(processes)]), [], []]
    go(folder, name, steps, ckpt_path=folder / f"{began}.2.ckpt", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One process and two have trained and saved after two steps; others went on from there."""
    made = tmp_path_factory.mktemp("sharding")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")
        patch.setattr(slap.model.views, "random_mask", the_first)
        go(made, "1", [[clip for part in parts for clip in part] for parts in (*FIRST, *NEXT[1])])
        launch(__file__, 2, made, 2)
        go_on(made, "2-1", 0)
        content = bytearray((made / "2.2.ckpt").read_bytes())
        content[len(content) // 2] ^= 1
        (made / "damaged.2.ckpt").write_bytes(content)
        launch(__file__, 4, made, 4)
    return made


def same_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():  # the teacher's too
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-8 * value.abs().max().item(), msg=name)


def test_parts_train_as_the_whole(folder):
    for step in (2, 4):
        one, two = (state(folder / f"{processes}.{step}.ckpt")["state_dict"] for processes in (1, 2))
        same_weights(two, one)
    assert float((folder / "2-1.share").read_text()) < 0.6


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_goes_on_alike_on_any_number_of_processes(folder, way):
    """Given the same clips: the losses and, by them, the moments of the optimizer and the teacher."""
    losses, expected = (torch.stack(torch.load(folder / f"{name}.losses")) for name in (way, "1"))
    torch.testing.assert_close(losses, expected[2:], rtol=1e-8, atol=0)
    found, wanted = (state(folder / f"{name}.4.ckpt") for name in (way, "1"))
    assert found["global_step"] == wanted["global_step"] == 4
    same_weights(found["state_dict"], wanted["state_dict"])
    for mine, others in zip(by_parameter(found), by_parameter(wanted), strict=True):
        for name, value in others.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-6, atol=1e-8 * value.abs().max().item())


def by_parameter(checkpoint):
    """The moments of the parameters, in the order of the optimizer's groups."""
    (optimizer,) = checkpoint["optimizer_states"]
    return [optimizer["state"][number] for group in optimizer["param_groups"] for number in group["params"]]


def test_a_damaged_checkpoint_is_refused_by_all(folder):
    said = [(folder / f"{rank}.said").read_text() for rank in range(4)]
    assert all(re.search(r"damaged\.2\.ckpt is .*damaged", one) for one in said)


def test_an_optimizer_of_other_groups_is_refused():
    model = torch.nn.Linear(2, 3)
    saved = torch.optim.AdamW(model.parameters()).state_dict()
    apart = torch.optim.AdamW([{"params": [model.weight]}, {"params": [model.bias]}])
    with pytest.raises(ValueError, match="has groups of 2 parameters, and this run's of 1, 1: the model, or what"):
        _moments_like(apart, saved)


def test_parts_of_a_batch_are_refused_since_processes_may_have_unequal_numbers_of_them():
    model = make_model(micro_clips=2)
    model._device_mesh = {"data_parallel": None}  # as the strategy sets it
    with pytest.raises(ValueError, match="micro_clips=2 cannot be used with the strategy fsdp2"):
        model.configure_model()


def main(rank, folder, processes):
    warnings.filterwarnings("ignore")
    slap.model.views.random_mask = slap.model.grad_cache.random_mask = the_first
    options = {"strategy": FSDP2, "devices": processes}
    if processes == 2:
        share = go(folder, "2", [parts[rank] for parts in (*FIRST, *NEXT[2])], **options)
        (folder / f"2-{rank}.share").write_text(str(share))
    for way in WAYS:
        if way.endswith(f"-{processes}"):
            go_on(folder, way, rank, **options)
    if processes == 4:
        with pytest.raises(DamagedCheckpointError) as refused:
            go_on(folder, "damaged-4", rank, **options)
        (folder / f"{rank}.said").write_text(str(refused.value))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
