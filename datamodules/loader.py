"""The loader that Lightning iterates: batches of one epoch, from workers that live on between epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

from torch.utils.data import DataLoader, Dataset

from slap.bad_clip import BadClip
from slap.batch import Batch
from slap.datamodules.quarantine import Quarantine
from slap.datamodules.sampler import EvaluationSampler, TrainSampler


class Loader:
    """Batches of the epoch that its sampler is set to; iterating again begins that epoch again.

    Not a torch DataLoader itself, so Lightning leaves its sampler alone; Lightning still sets the sampler's epoch.
    Where an epoch begins is the sampler's affair alone, and the workers know only what each draw tells them. It has no
    length, since epochs may differ by a batch.

    Args:
        dataset: gives a batch for each draw of the sampler.
        sampler: says which clips make which batch.
        quarantine: takes note of bad clips.
        stage: `train`, or `val` or `test`, where batches that are empty for bad clips are passed over.
        before: clips of the manifests that were left out already; evaluations report them.
        num_workers: processes that load; 0 loads in this one.
        pin_memory: put batches into page-locked memory, which makes copies to a GPU faster.

    Attributes:
        waited: seconds that whoever iterates has waited for batches so far.
    """

    batch_sampler = None  # Lightning looks for it on whatever has a `sampler`

    def __init__(
        self,
        dataset: Dataset[Batch],
        sampler: TrainSampler | EvaluationSampler,
        quarantine: Quarantine,
        stage: str,
        before: Sequence[BadClip] = (),
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.quarantine = quarantine
        self.stage = stage
        self.before = before
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.waited = 0.0
        self._loader: DataLoader[Any] | None = None

    def __iter__(self) -> Iterator[Batch]:
        # A generator: Lightning calls iter() once more than it reads, which must not start the workers.
        if self._loader is None:
            self._loader = DataLoader(
                self.dataset,
                batch_size=None,
                sampler=self.sampler,
                num_workers=self.num_workers,
                pin_memory=self.pin_memory,
                persistent_workers=self.num_workers > 0,
            )
        if self.stage == "train":
            batches = self.quarantine.training(self._loader, alone=self.sampler.world_size == 1)
        else:
            batches = self.quarantine.evaluation(self._loader, self.stage, self.before)
        yield from self._timed(iter(batches))

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = perf_counter()
            batch = next(batches, None)
            self.waited += perf_counter() - started
            if batch is None:
                return
            yield batch

    def close(self) -> None:
        """Let the workers end; iterating starts new ones."""
        self._loader = None
