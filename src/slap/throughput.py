"""How fast training goes, and how much of the work is real audio.

B clips, N packed patches.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from slap.batch import Batch
from slap.contracts import AudioEncoder
from slap.packed import Packed

PROBE_SECONDS = 16
"""Long enough that a clip's incomplete last patch is nothing beside the others; a whole number of most patches."""


class Throughput(Callback):
    """Logs clips a second, seconds of audio a second, and packing efficiency, over the steps since the last row.

    `train/clips_per_s` and `train/audio_s_per_s` are sums over all processes. Time includes waiting for data and
    leaves out validation. Everything is counted on the host, from sizes that the batches carry, so that nothing waits
    for a GPU.

    `train/packing_efficiency` is real tokens / processed tokens. Processed are the patches that the audio encoder was
    given in its forward passes. Real are those that the audio is worth: its seconds times the encoder's patches a
    second, which is measured once, on two long clips. What is missing to 1 went into filling up the last, incomplete
    patch of each clip; an encoder that pads its clips to the longest of the batch shows up here at once.
    """

    def __init__(self) -> None:
        self._clips = self._samples = self._rows = 0
        self._worth = 0.0  # patches that the audio of the forward passes is worth
        self._time = 0.0
        self._since: float | None = None
        self._step = 0
        self._batch_samples = 0
        self._rate = 0.0  # patches a sample

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the encoder's rate and listen to its forward passes."""
        del trainer
        encoder = pl_module.audio
        assert isinstance(encoder, AudioEncoder)
        self._rate = patches_per_sample(encoder, pl_module.device)
        handle = encoder.register_forward_pre_hook(self._count)
        self._remove = handle.remove

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop listening."""
        del trainer, pl_module
        self._remove()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Note what the batch holds; the first time, start the clock."""
        del trainer, pl_module, batch_idx
        self._batch_samples = batch.audio.layout.total
        if self._since is None:
            self._since = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add the batch up; at the steps that are logged, log."""
        del outputs, batch_idx
        self._clips += len(batch)
        self._samples += self._batch_samples
        stepped = trainer.global_step > self._step  # a step may take several batches
        self._step = trainer.global_step
        if stepped and trainer._logger_connector.should_update_logs:  # its rows may be numbered unlike the steps
            self._stop()
            self._log(pl_module)
            self._since = perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock until the next training batch."""
        del trainer, pl_module
        self._stop()

    def _count(self, encoder: nn.Module, inputs: tuple[Any, ...]) -> None:
        if encoder.training:  # not in validation
            patches: Packed = inputs[0]
            self._rows += patches.layout.total
            self._worth += self._batch_samples * self._rate

    def _stop(self) -> None:
        if self._since is not None:
            self._time += perf_counter() - self._since
            self._since = None

    def _log(self, pl_module: LightningModule) -> None:
        assert isinstance(pl_module.audio, AudioEncoder)
        seconds = self._samples / pl_module.audio.sample_rate
        rates = {"clips_per_s": self._clips / self._time, "audio_s_per_s": seconds / self._time}
        for name, value in rates.items():
            pl_module.log(f"train/{name}", value, sync_dist=True, reduce_fx="sum", batch_size=1)
        if self._rows:
            pl_module.log("train/packing_efficiency", self._worth / self._rows, sync_dist=True, batch_size=1)
        self._clips = self._samples = self._rows = 0
        self._worth = self._time = 0.0


@torch.no_grad()
def patches_per_sample(encoder: AudioEncoder, device: torch.device | str) -> float:
    """The patches that an encoder makes of one more sample of a long clip."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()  # no SpecAugment, so that no random number is drawn
    unit = PROBE_SECONDS * encoder.sample_rate
    first, second = (_rows(encoder, torch.zeros(n * unit, device=device)) for n in (1, 2))
    for module, mode in modes.items():
        module.training = mode
    return (second - first) / unit


def _rows(encoder: AudioEncoder, waveform: Tensor) -> int:
    return encoder.patchify(Packed.pack([waveform])).layout.total
