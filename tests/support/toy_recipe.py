"""A recipe outside the package, on noise: training takes a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.testing.tiny import CAPTIONS, WIDTH, TinyAudio, TinyText, tiny_batch
from slap.training import trainer as training
from slap.training.module import SLAP

OBJECTIVES: Mapping[str, ObjectiveSpec] = {"contrastive": 1.0}


def model(
    audio: EncoderSpec | None = None,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    embedding_dim: int = WIDTH,
    lr: float = 1e-3,
) -> SLAP:
    """A toy model.

    Args:
        audio: the audio encoder; default: the tiny one.
        objectives: what is minimized.
        embedding_dim: the dimension that audio and text share.
        lr: the learning rate after warm-up.
    """
    audio = TinyAudio() if audio is None else audio
    return SLAP(audio, TinyText(), objectives, embedding_dim=embedding_dim, lr=lr, warmup_steps=0)


def data(batches: int = 3, max_duration: float = 1.0) -> LightningDataModule:
    """Clips of noise.

    Args:
        batches: how many.
        max_duration: seconds of audio in a batch.
    """
    return Noise(batches, max_duration)


def trainer(out: str = "runs/toy", max_steps: int = 4, log_every_n_steps: int = 1, **options: Any) -> Trainer:
    """A few steps.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        log_every_n_steps: steps between rows.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    return training.trainer(out=out, max_steps=max_steps, log_every_n_steps=log_every_n_steps, **options)


class Noise(LightningDataModule):
    prompts: Mapping[str, str] = {"parity": "an {label} clip"}

    def __init__(self, batches: int, max_duration: float) -> None:
        super().__init__()
        self.batches = batches
        self.durations = [max_duration * share for share in (0.4, 0.1, 0.3, 0.2)]

    def captions(self) -> Iterator[str]:
        return iter(CAPTIONS)

    def train_dataloader(self) -> DataLoader:
        model = self.trainer.lightning_module
        made = [tiny_batch(model, self.durations, seed=seed) for seed in range(self.batches)]
        return DataLoader(made, batch_size=None, num_workers=0)

    def val_dataloader(self) -> DataLoader:
        return self.train_dataloader()

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader
