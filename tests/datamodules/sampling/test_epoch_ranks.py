"""Two real processes, each with loading processes, read every clip of an epoch once, in equally many steps.

The test starts this file as a program, once per process.
"""

import json
import sys
import warnings
from collections import Counter
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lightning.pytorch import Callback, Trainer

from launch import launch
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.datamodules.shar import write as packing
from slap.testing.tiny import TinyAudio, tiny_model

pytestmark = pytest.mark.distributed

PROCESSES, WORKERS, EPOCHS, N = 2, 2, 2, 23
KINDS = {"manifest": "m.jsonl", "shar": "shards"}


class Steps(Callback):
    """Contents of each step, with the number of loading processes."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        workers = sum(child.daemon for child in active_children())
        self.steps.append({"epoch": trainer.current_epoch, "ids": batch.ids, "workers": workers})


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory):
    """Return the steps of each of two processes, by what they read."""
    folder = tmp_path_factory.mktemp("epochs")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(N):
        size = round((0.2 + 0.02 * i) * TinyAudio.sample_rate)
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.5, 0.5, size), TinyAudio.sample_rate)
        clips.append(Clip(str(i), folder / f"{i}.wav", [f"sound {i}"]))
    write_manifest(folder / KINDS["manifest"], clips)
    packing.pack(folder / KINDS["manifest"], folder / KINDS["shar"], shard_size=5, workers=0)
    launch(__file__, PROCESSES, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_is_the_data_set_and_all_make_equally_many_steps(by_rank, kind):
    for epoch in range(EPOCHS):
        mine = [[step for step in rank[kind] if step["epoch"] == epoch] for rank in by_rank]
        assert len(mine[0]) == len(mine[1]) > 2
        names = Counter(name for steps in mine for step in steps for name in step["ids"])
        assert names == Counter(map(str, range(N)))
    assert {step["workers"] for rank in by_rank for step in rank[kind]} == {WORKERS}


def main(rank, folder):
    warnings.filterwarnings("ignore")
    read = {}
    for kind, name in KINDS.items():
        made = Steps()
        trainer = Trainer(
            default_root_dir=folder,
            max_epochs=EPOCHS,
            max_steps=1000,
            accelerator="cpu",
            strategy="ddp",
            devices=PROCESSES,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[made],
        )
        data = AudioTextData([folder / name], max_duration=1.0, max_clip=None, num_buckets=2, num_workers=WORKERS)
        trainer.fit(tiny_model({"contrastive": 1.0}), datamodule=data)
        read[kind] = made.steps
    (folder / f"{rank}.json").write_text(json.dumps(read))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
