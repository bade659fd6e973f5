"""`slap embed` in parts: each embeds a part of the inputs on one device, and a last command writes the table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from torch import Tensor
from tqdm import tqdm

from slap.audio.sources import Input
from slap.cli.options import load
from slap.cli.part_inputs import PartInputs
from slap.cli.parts import say_done
from slap.core.errors import UserError
from slap.core.parts import Part, Parts
from slap.inference.embedding_parts import embed_part, merge_embedded
from slap.inference.embedding_table import EmbeddingTable
from slap.inference.model import Model
from slap.inference.stream import PORTION, StreamItem


def embed_one_part(arguments: argparse.Namespace) -> int:
    """Embed one part of the inputs; return the exit status."""
    part: Part = arguments.part
    model, items, table, parts = _opened(arguments)

    def embed(group: Sequence[Input]) -> Iterable[StreamItem[Tensor]]:
        audio = [item.audio for item in group]
        return model.stream(audio, arguments.batch_seconds, dim=table.dim, dtype=table.dtype)

    with parts.work(part) as folder:
        if folder is not None:
            span = part.range_of(len(items), PORTION)
            with tqdm(total=len(span), unit=" files", disable=None, file=sys.stderr) as bar:
                for count in embed_part(table, folder, span, items, embed):
                    bar.update(count)
            parts.finish(part, {})
    say_done(part, table.out, before=folder is None)
    return 0


def merge_embedded_parts(
    arguments: argparse.Namespace,
) -> tuple[EmbeddingTable, int, list[tuple[str, str]], list[tuple[str, str]]]:
    """Put the table together and remove the parts.

    Returns:
        The table, the number of its rows, the inputs that failed, and those with a note.
    """
    _, items, table, parts = _opened(arguments)
    rows, unread, notes = merge_embedded(table, parts.complete())
    parts.remove()
    return table, rows, [*items.failed, *unread], notes


def _opened(arguments: argparse.Namespace) -> tuple[Model, PartInputs, EmbeddingTable, Parts]:
    if arguments.devices * arguments.num_nodes > 1:
        raise UserError("a part works on one device; give no --devices or --num-nodes, and make more parts instead")
    if arguments.out.exists() and not arguments.overwrite:
        raise UserError(f"{arguments.out} exists; parts make a table anew: name another file, or --overwrite it")
    items = PartInputs(arguments.paths, arguments.columns)
    model = load(arguments)
    table = EmbeddingTable(arguments.out, model.name, model.short_dim(arguments.dim), dtype=arguments.embedding_dtype)
    options = {"batch seconds": arguments.batch_seconds, "number type": table.dtype, "dimensions": table.dim}
    options |= {"model": model.name, "precision": arguments.dtype, "weights": arguments.weights}
    return model, items, table, Parts(arguments.out, {**items.plan, **options})
