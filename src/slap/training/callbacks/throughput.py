"""Throughput of training, and the share of its work that is real audio.

B clips, N packed patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from slap.core.batch import Batch
from slap.core.packed import Packed
from slap.model.contracts import AudioEncoder
from slap.training.step import last_step_of

PROBE_SECONDS = 16
"""Seconds of the clips that measure the encoder: many patches, and a whole number of them for most encoders."""


class Throughput(Callback):
    """Logs clips and seconds of audio per second, waiting for data, and packing efficiency, over the steps since a row.

    `train/clips_per_s` and `train/audio_s_per_s` are sums over all processes. Time includes waiting for data and
    leaves out validation. Everything is counted on the host, from sizes that the batches carry, so that nothing waits
    for a GPU.

    `train/data_wait` is the share of that time in which training waited for the next batch, 0 to 1, the mean over
    processes. The loader has to keep count of it, as the attribute `waited` in seconds, as `slap.datamodules` do.

    `train/packing_efficiency` is real tokens / processed tokens. Processed are the patches that the audio encoder made,
    which its passes then take. Real are those that the audio is worth: its seconds times the encoder's patches per
    second, which are measured once, on two long clips. What is missing to 1 went into filling up the last, incomplete
    patch of each clip; an encoder that pads its clips to the longest of the batch shows up here at once.
    """

    def __init__(self) -> None:
        self._clips = self._samples = self._patches = 0
        self._time = self._waited = 0.0
        self._since: float | None = None
        self._waited_before = 0.0  # when the clock started
        self._step = 0
        self._batch_samples = 0
        self._rate = 0.0  # patches per sample

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the encoder's rate."""
        self._step = trainer.global_step
        assert isinstance(pl_module.audio, AudioEncoder)
        self._rate = patches_per_sample(pl_module.audio, pl_module.device)

    def rank_state(self) -> dict[str, Any]:
        """Return the counts since the last row, for a checkpoint."""
        counted = {"clips": self._clips, "samples": self._samples, "patches": self._patches}
        return {**counted, "time": self._time, "waited": self._waited}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """Continue from these counts, so that the next row is about all of its steps."""
        self._clips, self._samples, self._patches = state["clips"], state["samples"], state["patches"]
        self._time, self._waited = state["time"], state["waited"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Note what the batch holds; the first time, start the clock."""
        self._batch_samples = batch.audio.layout.total
        if self._since is None:
            self._start(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add up the batch, and log at the steps that are logged."""
        self._clips += len(batch)
        self._samples += self._batch_samples
        stepped = trainer.global_step > self._step  # a step may take several batches
        self._step = trainer.global_step
        output = last_step_of(pl_module)
        if stepped and output is not None:
            self._patches += output.patches
        if stepped and trainer._logger_connector.should_update_logs:  # its rows may be numbered unlike the steps
            self._stop(trainer)
            self._log(pl_module, hasattr(trainer.train_dataloader, "waited"))
            self._start(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock until the next training batch."""
        self._stop(trainer)

    def _start(self, trainer: Trainer) -> None:
        self._since = perf_counter()
        self._waited_before = _waited(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if self._since is not None:
            self._time += perf_counter() - self._since
            self._waited += _waited(trainer) - self._waited_before
            self._since = None

    def _log(self, pl_module: LightningModule, knows_waiting: bool) -> None:
        assert isinstance(pl_module.audio, AudioEncoder)
        seconds = self._samples / pl_module.audio.sample_rate
        rates = {"clips_per_s": self._clips / self._time, "audio_s_per_s": seconds / self._time}
        for name, value in rates.items():
            pl_module.log(f"train/{name}", value, sync_dist=True, reduce_fx="sum", batch_size=1)
        if knows_waiting:
            pl_module.log("train/data_wait", self._waited / self._time, sync_dist=True, batch_size=1)
        if self._patches:
            efficiency = self._samples * self._rate / self._patches
            pl_module.log("train/packing_efficiency", efficiency, sync_dist=True, batch_size=1)
        self._clips = self._samples = self._patches = 0
        self._time = self._waited = 0.0


def _waited(trainer: Trainer) -> float:
    """Return the seconds that training has waited for its loader so far, as far as the loader counts them."""
    return float(getattr(trainer.train_dataloader, "waited", 0.0))


@torch.no_grad()
def patches_per_sample(encoder: AudioEncoder, device: torch.device | str) -> float:
    """Return the patches that an encoder makes of one more sample of a long clip."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()  # no SpecAugment, so that no random number is drawn
    unit = PROBE_SECONDS * encoder.sample_rate
    first, second = (_rows(encoder, torch.zeros(n * unit, device=device)) for n in (1, 2))
    for module, mode in modes.items():
        module.training = mode
    return (second - first) / unit


def _rows(encoder: AudioEncoder, waveform: Tensor) -> int:
    return encoder.patchify(Packed.pack([waveform])).layout.total
