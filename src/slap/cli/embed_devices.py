"""`slap embed` on several devices and nodes: Lightning starts the processes, each embeds its share of the inputs."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

import slap
from slap.audio.sources import Input
from slap.cli.embed import finish, prepare
from slap.cli.inputs import inputs
from slap.core.registry import load_plugins
from slap.inference.embedding_table import EmbeddingTable, embed_plan

PORTION = 256
"""Inputs of a step."""


class Portions(IterableDataset[tuple[int, int]]):
    """The steps of a process: from which of its inputs to which. The model reads the audio itself."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        yield from ((start, min(start + PORTION, self.count)) for start in range(0, self.count, PORTION))


class Embedder(LightningModule):
    """Embeds portions on the device that Lightning gave this process."""

    def __init__(self, arguments: argparse.Namespace, items: list[Input], parts: EmbeddingTable, bar: tqdm) -> None:
        super().__init__()
        self.arguments, self.items, self.parts, self.bar = arguments, items, parts, bar
        self.model: slap.Model | None = None

    def on_predict_start(self) -> None:
        """Load the model onto the device."""
        self.model = slap.load(self.arguments.model, self.device, self.arguments.trust, self.arguments.dtype)

    def predict_step(self, batch: tuple[int, int], batch_idx: int) -> int:
        """Embed one portion; rows go to the disk, and only their number back to the trainer."""
        del batch_idx
        assert self.model is not None
        portion = self.items[slice(*batch)]
        for done in self.model.stream([item.audio for item in portion], self.arguments.batch_seconds):
            item = portion[done.index]
            if done.embedding is None:
                self.parts.fail(item.id, str(done.error))
            else:
                self.parts.add(item, done.seconds, done.embedding)
            self.bar.update()
        return len(portion)

    def on_predict_end(self) -> None:
        """Write the rest, and wait for the others."""
        self.parts.flush()
        self.trainer.strategy.barrier("embedded")


def run_on_devices(arguments: argparse.Namespace) -> int:
    """Embed this process's share; the first process puts the table together."""
    load_plugins(arguments.plugins)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning's own use of torch, once a run; nothing that its user could mend.
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", module="lightning")
    items = inputs(arguments.paths)
    trainer = Trainer(
        accelerator=arguments.accelerator,
        devices=arguments.devices,
        num_nodes=arguments.num_nodes,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if trainer.is_global_zero:
        prepare(arguments.out, arguments.overwrite)
    model = slap.load(arguments.model, "cpu", arguments.trust, arguments.dtype)
    rank, world = trainer.global_rank, trainer.world_size
    parts = EmbeddingTable(arguments.out, model.name, model.embedding_dim, rank)
    mine = items[rank::world]  # before looking what is done: all processes must split alike
    before = {} if arguments.overwrite else parts.done()
    work, known = embed_plan(mine, before), embed_plan(items, before).done
    with tqdm(total=len(work.todo), unit=" files", disable=None if rank == 0 else True, file=sys.stderr) as bar:
        loader: Any = DataLoader(Portions(len(work.todo)), batch_size=None)
        trainer.predict(Embedder(arguments, work.todo, parts, bar), loader, return_predictions=False)
    if not trainer.is_global_zero:
        return 0
    return finish(arguments, parts, items, known)
