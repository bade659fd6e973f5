"""Embed sounds into a table (parquet), to search, cluster or train on.

    slap embed runs/demo/best.ckpt sounds "more/**/*.flac" --out emb.parquet
    slap embed exported train.csv --out emb.parquet --devices 8 --num-nodes 2

Run it again after an interruption, or when files were added, changed or removed: only new and changed files are
embedded, and the rows of files that are gone from a folder that is named are dropped. If any other row of the table is
of an input that is not named, nothing is done, unless with --prune. Columns: id (of a manifest's clip its own, else
the path), path, start, duration, seconds, size, mtime_ns, embedding. Several devices and nodes work through Lightning's
predict: start it as any Lightning program, e.g. by `srun`; all must see the file OUT.

The tasks of an array job embed a part of the inputs each, and one command puts the parts together:

    slap embed exported train.jsonl.gz --out emb.parquet --part 3/64
    slap embed exported train.jsonl.gz --out emb.parquet --merge

Silent files, and files that were cut short, have rows too; they are listed on stderr when they are embedded.

Exit status: 0 done; 3 done, but for files that are listed on stderr; 2 nothing was done; 130 interrupted, the same
command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from slap.cli.dropped import check_dropped
from slap.cli.options import (
    PATHS,
    add_batch,
    add_columns,
    add_common,
    add_dtype,
    add_model,
    add_weights,
    as_records,
    load,
    tell,
)
from slap.cli.parts import add_parts, refuse_beside_parts
from slap.core.errors import MissingDependencyError, UserError
from slap.core.units import EmbeddingType

if TYPE_CHECKING:
    from slap.audio.sources import Input
    from slap.inference.embedding_table import EmbeddingTable

INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help=PATHS)
    add_columns(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PARQUET", help="the table to write, a file that ends in .parquet"
    )
    parser.add_argument("--overwrite", action="store_true", help="delete the table OUT first, and embed all files anew")
    parser.add_argument("--prune", action="store_true", help="drop the rows of inputs that are not named, too")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="devices per node (default: 1)")
    parser.add_argument("--num-nodes", type=int, default=1, metavar="N", help="number of machines (default: 1)")
    parser.add_argument(
        "--accelerator",
        default="auto",
        help="kind of device, with several devices: cpu, cuda, ... (default: auto); otherwise see --device",
    )
    parser.add_argument(
        "--dim",
        type=int,
        metavar="D",
        help="number of leading dimensions that embeddings keep, of a model that was trained with `matryoshka` "
        "(default: all)",
    )
    parser.add_argument(
        "--embedding-dtype",
        choices=get_args(EmbeddingType),
        default="float32",
        help="number type of the column `embedding`; int8 takes a quarter of the bytes, see docs/howto/export.md "
        "(default: float32)",
    )
    add_parts(parser)
    add_batch(parser)
    add_dtype(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Embed, or go on embedding."""
    out: Path = arguments.out
    if out.suffix != ".parquet" or out.is_dir():
        raise UserError(f"--out names a file that ends in .parquet, got {out}")
    if arguments.devices < 1 or arguments.num_nodes < 1:
        raise UserError(f"--devices and --num-nodes must be 1 or more: {arguments.devices}, {arguments.num_nodes}")
    if find_spec("pyarrow") is None:
        raise MissingDependencyError("tables of embeddings need pyarrow: pip install 'slap-audio[embed]'")
    if arguments.part or arguments.merge:
        return _in_parts(arguments)
    refuse_beside_parts(out)
    from slap.cli.inputs import inputs

    failed: list[tuple[str, str]] = []
    items = inputs(arguments.paths, failed, arguments.columns)
    try:
        if arguments.devices * arguments.num_nodes > 1:
            from slap.cli.embed_devices import embed_on_devices  # imports Lightning

            table, known = embed_on_devices(arguments, items)
        else:
            table, known = _embed(arguments, items)
    except KeyboardInterrupt:
        return _interrupted()
    return _finish(arguments, table, items, known, failed) if table.process == 0 else 0


def _in_parts(arguments: argparse.Namespace) -> int:
    """Do one part, or put the parts together."""
    from slap.cli.embed_parts import embed_one_part, merge_embedded_parts

    try:
        if arguments.part:
            return embed_one_part(arguments)
    except KeyboardInterrupt:
        return _interrupted()
    return _report(arguments, *merge_embedded_parts(arguments))


def _interrupted() -> int:
    print("slap: interrupted; finished embeddings are kept, the same command goes on", file=sys.stderr)
    return INTERRUPTED


def _embed(arguments: argparse.Namespace, items: list[Input]) -> tuple[EmbeddingTable, int]:
    """Embed the new inputs on one device; return the table, and the number of inputs that it had before."""
    from tqdm import tqdm

    from slap.inference.embedding_parts import groups
    from slap.inference.embedding_table import EmbeddingTable, embed_plan

    model = load(arguments)
    table = EmbeddingTable(arguments.out, model.name, model.short_dim(arguments.dim), dtype=arguments.embedding_dtype)
    table.prepare(arguments.overwrite)
    known = table.done()
    check_dropped(arguments, items, known)
    plan = embed_plan(items, known)
    with tqdm(total=len(plan.todo), unit=" files", disable=None, file=sys.stderr) as bar:
        try:
            for _, group in groups(plan.todo):
                audio = [item.audio for item in group]
                found = model.stream(audio, arguments.batch_seconds, dim=table.dim, dtype=table.dtype)
                table.add_all(group, found, bar.update)
        finally:
            table.flush()
    return table, plan.done


def _finish(
    arguments: argparse.Namespace, table: EmbeddingTable, items: list[Input], known: int, failed: list[tuple[str, str]]
) -> int:
    """Put the table together, and report; return the exit status."""
    unread, notes = table.merge(items)
    rows = len(items) - len(unread)
    return _report(arguments, table, rows, [*failed, *unread], notes, known)


def _report(
    arguments: argparse.Namespace,
    table: EmbeddingTable,
    rows: int,
    failed: list[tuple[str, str]],
    notes: list[tuple[str, str]],
    known: int = 0,
) -> int:
    if arguments.json:
        done = {"out": str(table.out), "rows": rows, "embedded": rows - known}
        told = {"failed": as_records(failed, "error"), "notes": as_records(notes, "note")}
        print(json.dumps({**done, **told}, indent=2))
    else:
        print(f"{table.out}: {rows} embeddings, {rows - known} of them new")
    return tell(failed, notes)
