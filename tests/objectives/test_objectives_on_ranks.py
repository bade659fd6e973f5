"""Every objective on two processes with uneven batches equals one process with the joined batch.

The test starts this file as a program, once per process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import normalize

from fake_views import FakeViews
from launch import launch
from slap.core.batch import Batch
from slap.core.packed import Packed
from slap.model.ema import EMATeacher
from slap.objectives.captioning import Captioning
from slap.objectives.contrastive import Contrastive
from slap.objectives.masked_distillation import MaskedDistillation
from slap.objectives.sigmoid import Sigmoid

pytestmark = pytest.mark.distributed

WIDTH, PROCESSES = 6, 2
PATCHES = (4, 1, 5, 1)  # the last clip has nothing to hide
HIDDEN = (True, False, True, False, False, True, True, False, False, True, False)
CAPTIONS = ([1, 4, 5, 2], [1, 2], [1, 6, 2], [1, 4, 5, 2], [1, 6, 2])
CLIP = (0, 0, 1, 2, 3)
CAPTION_KEY = (10, 11, 12, 10, 12)  # clips 0 and 2 share a caption, and so do 1 and 3, across processes
CLIP_KEY = (20, 21, 22, 23)
SPLITS = {"3 clips and 1": (range(3), range(3, 4)), "1 clip and 3": (range(1), range(1, 4))}


class Model(nn.Module):
    """Linear maps in place of encoders, and all objectives."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.audio, self.masked, self.text = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.objectives = nn.ModuleDict(
            {
                "contrastive": Contrastive(),
                "sigmoid": Sigmoid(),
                "matryoshka": Contrastive(matryoshka=[WIDTH, 3, 2]),
                "sigmoid_matryoshka": Sigmoid(matryoshka=[WIDTH, 3, 2]),
                "masked_distillation": MaskedDistillation(prototypes=5, hidden=8, bottleneck=4),
                "captioning": Captioning(layers=1, heads=2, width=8, hidden=12),
            }
        )
        text = SimpleNamespace(vocab_size=7, bos=1, eos=2)
        self.teacher = EMATeacher()
        model = SimpleNamespace(
            audio=SimpleNamespace(width=WIDTH),
            text=text,
            teacher=self.teacher,
            mask_ratio=0.5,
            embedding_dim=WIDTH,
        )
        for objective in self.objectives.values():
            objective.setup(model)
        self.double()

    def views(self, clips):
        """Return the views of some of the clips."""
        torch.manual_seed(1)
        audio = [torch.randn(patches, WIDTH, dtype=torch.float64) for patches in PATCHES]
        text = torch.randn(len(CLIP), WIDTH, dtype=torch.float64)
        hidden = torch.tensor(HIDDEN).split(PATCHES)
        chosen = [c for c in range(len(CLIP)) if CLIP[c] in clips]
        patches = Packed.pack([audio[i] for i in clips])
        full = patches.replace(self.audio(patches.values))
        pooled = torch.stack([item.mean(0) for item in full.unpack()])
        batch = Batch(
            patches,
            Packed.pack([torch.tensor(CAPTIONS[c]) for c in chosen]),
            torch.tensor([CLIP[c] - clips[0] for c in chosen]),
            torch.tensor([CLIP_KEY[i] for i in clips]),
            torch.tensor([CAPTION_KEY[c] for c in chosen]),
        )
        return FakeViews(
            batch=batch,
            full=SimpleNamespace(tokens=full, embedding=normalize(pooled, dim=1)),
            masked=SimpleNamespace(tokens=patches.replace(self.masked(patches.values))),
            text=SimpleNamespace(embedding=normalize(self.text(text[chosen]), dim=1)),
            teacher=SimpleNamespace(tokens=patches),
            teacher_of=self.teacher.copy_of,
            hidden_rows=torch.cat([hidden[i] for i in clips]).nonzero().squeeze(1),
        )


def run(clips):
    """Compute for each objective the loss, the logged scalars and all gradients, averaged over processes as in DDP."""
    results = {}
    for name in Model().objectives:
        model = Model()
        loss, extras = model.objectives[name](model.views(clips))
        loss.backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        loss = loss.detach()
        if dist.is_initialized():
            for value in (loss, *gradients.values()):
                dist.all_reduce(value)
                value /= PROCESSES
        results[name] = {"loss": loss, "extras": extras, "gradients": gradients}
    return results


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory):
    """Run two processes and return their results."""
    folder = tmp_path_factory.mktemp("ranks")
    launch(__file__, PROCESSES, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    "name",
    ["contrastive", "sigmoid", "matryoshka", "sigmoid_matryoshka", "masked_distillation", "captioning"],
)
def test_uneven_processes_equal_one(by_rank, name, split):
    joined = run(range(len(PATCHES)))[name]
    for results in by_rank:
        mine = results[split][name]
        torch.testing.assert_close(mine["loss"], joined["loss"], rtol=1e-10, atol=0)
        assert mine["extras"].keys() == joined["extras"].keys()
        for key, value in joined["extras"].items():
            torch.testing.assert_close(mine["extras"][key], value, rtol=1e-10, atol=0)
        assert mine["gradients"].keys() == joined["gradients"].keys()
        for key, value in joined["gradients"].items():
            scale = value.abs().max().item()
            assert scale > 0, key
            torch.testing.assert_close(mine["gradients"][key], value, rtol=1e-10, atol=1e-10 * scale)


def main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    torch.save({split: run(parts[rank]) for split, parts in SPLITS.items()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
