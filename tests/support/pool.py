"""A few clips with captions, any of which make a batch; and a trainer that takes given batches."""

from dataclasses import replace
from typing import ClassVar

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch.utils.data import DataLoader

from slap import Batch, Packed
from slap.core.batch import fingerprint
from slap.model.masks import hidden_sizes
from slap.testing.tiny import tiny_batch, tiny_model

SECONDS = (0.31, 0.05, 0.5, 0.12, 0.2, 0.33, 0.011, 0.27)
UNLABELLED = 3
"""The clip without a label."""

OBJECTIVES = {
    "contrastive": {"weight": 1.0},
    "sigmoid": {"weight": 0.5},
    "masked_distillation": {"weight": 1.0, "prototypes": 5, "hidden": 8, "bottleneck": 4},
    "captioning": {"weight": 0.5, "layers": 1, "heads": 2, "width": 8, "hidden": 12},
    "classification": {"weight": 0.5, "task": "parity", "classes": ["even", "odd"]},
}


def make_model(names=tuple(OBJECTIVES), dtype=torch.float64, **options):
    torch.manual_seed(0)
    model = tiny_model({name: dict(OBJECTIVES[name]) for name in names})
    for name, value in options.items():
        setattr(model, name, value)
    return model.to(dtype)


def choose(model, clips):
    """A batch of some of the clips, in double precision if the model is."""
    dtype = next(model.parameters()).dtype
    if not len(clips):
        empty = Batch.without_clips([])
        return replace(empty, audio=empty.audio.replace(empty.audio.values.to(dtype)))
    pool = tiny_batch(model, SECONDS, captions_per_clip=2)
    audio, text = pool.audio.unpack(), pool.text.unpack()
    captions = [2 * clip + i for i in range(2) for clip in clips]  # those of a clip do not stand together
    parity = [None if clip == UNLABELLED else pool.labels["parity"][clip] for clip in clips]
    return Batch(
        audio=Packed.pack([audio[clip].to(dtype) for clip in clips]),
        text=Packed.pack([text[caption] for caption in captions]),
        clip=torch.arange(len(clips)).repeat(2),
        clip_key=pool.clip_key[list(clips)],
        caption_key=fingerprint([pool.captions[caption] for caption in captions]),
        ids=tuple(pool.ids[clip] for clip in clips),
        captions=tuple(pool.captions[caption] for caption in captions),
        labels={"parity": tuple(parity)},
    )


def the_first(patches, ratio, block=0):
    """In place of a random mask, one that does not depend on the batch."""
    return patches.index < hidden_sizes(patches.lengths, ratio)[patches.item]


class Given(LightningDataModule):
    """Training batches of the clips that are listed."""

    prompts: ClassVar = {}

    def __init__(self, steps, spoil=None):
        super().__init__()
        self.steps = steps
        self.spoil = spoil

    def captions(self):
        return iter(())

    def val_dataloader(self):
        return []

    def train_dataloader(self):
        batches = [choose(self.trainer.lightning_module, clips) for clips in self.steps]
        if self.spoil is not None:
            batches[self.spoil].audio.values[3] = float("nan")
        return DataLoader(batches, batch_size=None)


class Gradients(Callback):
    """Keeps the gradients of every step as the optimizer gets them, the weights after it, and the loss."""

    def __init__(self):
        self.gradients = []
        self.weights = []
        self.losses = []

    def on_train_start(self, trainer, module):
        self.first = trainer.global_step

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})

    def on_train_batch_end(self, trainer, module, *args):
        if len(self.losses) < trainer.global_step - self.first:
            self.weights.append({name: value.clone() for name, value in module.state_dict().items()})
            self.losses.append(module.last_step.loss.clone())


def train(model, steps, folder, spoil=None, callbacks=(), ckpt_path=None, max_epochs=1, max_steps=None, **options):
    """Train on batches of the listed clips; the gradients and losses, and the weights after each step."""
    kept = Gradients()
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=max_epochs,
        max_steps=max_steps or len(steps),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        limit_val_batches=0,
        use_distributed_sampler=False,  # the batches are dealt out already
        callbacks=[kept, *callbacks],
        **options,
    )
    trainer.fit(model, datamodule=Given(steps, spoil), ckpt_path=ckpt_path, weights_only=True)
    return {
        "gradients": kept.gradients,
        "weights": kept.weights,
        "losses": kept.losses,
        "loss": trainer.callback_metrics["train/loss"],
    }
