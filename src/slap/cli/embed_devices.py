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

from slap.audio.sources import Input
from slap.cli.dropped import check_dropped
from slap.core.registry import load_plugins
from slap.inference.embedding_table import EmbeddingTable, embed_plan
from slap.inference.load import load
from slap.inference.model import Model

PORTION = 256
"""Inputs per step."""


class Portions(IterableDataset[tuple[int, int]]):
    """The steps of a process: the first of its inputs in each, and the end. The model reads the audio itself."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        yield from ((start, min(start + PORTION, self.count)) for start in range(0, self.count, PORTION))


class PortionEmbedder(LightningModule):
    """Embeds portions on the device that Lightning gave this process."""

    def __init__(self, arguments: argparse.Namespace, items: list[Input], table: EmbeddingTable, bar: tqdm) -> None:
        super().__init__()
        self.arguments, self.items, self.table, self.bar = arguments, items, table, bar
        self.model: Model | None = None

    def on_predict_start(self) -> None:
        """Load the model onto the device."""
        self.model = load(
            self.arguments.model, self.device, self.arguments.trust, self.arguments.dtype, self.arguments.weights
        )

    def predict_step(self, batch: tuple[int, int], batch_idx: int) -> int:
        """Embed one portion; rows go to the disk, and only their number back to the trainer."""
        del batch_idx
        assert self.model is not None
        portion = self.items[slice(*batch)]
        audio, table = [item.audio for item in portion], self.table
        found = self.model.stream(audio, self.arguments.batch_seconds, dim=table.dim, dtype=table.dtype)
        table.add_all(portion, found, self.bar.update)
        return len(portion)

    def on_predict_end(self) -> None:
        """Write the rest, and wait for the other processes."""
        self.table.flush()
        self.trainer.strategy.barrier("embedded")


def embed_on_devices(arguments: argparse.Namespace, items: list[Input]) -> tuple[EmbeddingTable, int]:
    """Embed this process's share of the new inputs; return the table, and the number of inputs that it had before."""
    load_plugins(arguments.plugins)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning's own use of torch, once a run; nothing that its user could mend.
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", module="lightning")
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
    model = load(arguments.model, "cpu", arguments.trust, arguments.dtype, arguments.weights)
    rank, world = trainer.global_rank, trainer.world_size
    dim = model.short_dim(arguments.dim)
    table = EmbeddingTable(arguments.out, model.name, dim, rank, arguments.embedding_dtype)
    if trainer.is_global_zero:
        table.prepare(arguments.overwrite)
    mine = items[rank::world]  # before looking what is done: all processes must split alike
    before = {} if arguments.overwrite else table.done()
    check_dropped(arguments, items, before)
    plan, known = embed_plan(mine, before), embed_plan(items, before).done
    with tqdm(total=len(plan.todo), unit=" files", disable=None if rank == 0 else True, file=sys.stderr) as bar:
        loader: Any = DataLoader(Portions(len(plan.todo)), batch_size=None)
        trainer.predict(PortionEmbedder(arguments, plan.todo, table, bar), loader, return_predictions=False)
    return table, known
