"""Workers go on with the next epoch while the trainer does something else, and begin anew when it asks for another."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from slap.core.batch import Batch
from slap.core.packed import Packed
from slap.datamodules.bad_clips import BadClipLog
from slap.datamodules.loader import Loader
from slap.datamodules.sampling.position import Position
from slap.datamodules.sampling.sampler import BatchRequest, TrainSampler

CLIPS = 24


class Notes(Dataset[Batch]):
    """Batches whose ids are epoch and clip; each that is made leaves a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, request: BatchRequest) -> Batch:
        (self.folder / f"{request.epoch} {request.clips[0]}").touch()
        ids = tuple(f"{request.epoch} {clip}" for clip in request.clips)
        none = torch.zeros(0, dtype=torch.int64)
        return Batch(
            audio=Packed.pack([torch.zeros(10)] * len(ids)),
            text=Packed(none, none.int()),
            clip=none,
            clip_key=torch.arange(len(ids)),
            caption_key=none,
            pairs=none.reshape(0, 2),
            ids=ids,
            captions=(),
            labels={},
            read=len(ids),
        )


def loader(folder: Path, workers: int) -> Loader:
    sampler = TrainSampler(np.full(CLIPS, 10), 40, None, 1, 0)
    return Loader(Notes(folder), sampler, BadClipLog(), "train", num_workers=workers)


def ids(made: Loader, epoch: int) -> list[tuple[str, ...]]:
    made.sampler.set_epoch(epoch)
    return [batch.ids for batch in made]


def expected(epoch: int) -> list[tuple[str, ...]]:
    sampler = TrainSampler(np.full(CLIPS, 10), 40, None, 1, 0, epoch=epoch)
    return [tuple(f"{epoch} {clip}" for clip in request.clips) for request in sampler]


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_in_any_order_and_left_early(workers: int, tmp_path: Path) -> None:
    made = loader(tmp_path, workers)
    try:
        for epoch in (0, 1, 1, 2, 5, 6):
            assert ids(made, epoch) == expected(epoch)
        made.sampler.set_epoch(7)
        assert next(iter(made)).ids == expected(7)[0]
        for epoch in (7, 8, 9):  # begun again after it was left, and on
            assert ids(made, epoch) == expected(epoch)
        made.sampler.begin_at(Position(3, 2))
        assert ids(made, 3) == expected(3)[2:]
        assert ids(made, 4) == expected(4)
        assert made.waited > 0
    finally:
        made.close()


def test_the_workers_begin_the_next_epoch_while_it_is_not_asked_for(tmp_path: Path) -> None:
    made = loader(tmp_path, 2)
    try:
        assert ids(made, 0) == expected(0)
        begin = time.monotonic()
        while not list(tmp_path.glob("1 *")):
            assert time.monotonic() - begin < 60
            time.sleep(0.05)
        assert not list(tmp_path.glob("2 *"))
        assert made.sampler.position(0, len(expected(0))).batches == len(expected(0))
        assert ids(made, 1) == expected(1)
        assert len(list(tmp_path.glob("1 *"))) == len(expected(1))  # none was made twice
    finally:
        made.close()
