"""Embed sounds into a table (parquet), to search, cluster or train on.

    slap embed runs/demo/best.ckpt sounds "more/**/*.flac" --out emb.parquet
    slap embed exported train.csv --out emb.parquet --devices 8 --num-nodes 2

Run it again after an interruption, or when files were added, changed or removed: only what is new is embedded, and rows
of files that are named no more are dropped. Columns: id (of a manifest's clip its own, else the path), path, start,
duration, seconds, size, mtime_ns, embedding. Several devices and nodes work through Lightning's predict: start it as
any Lightning program, e.g. by `srun`; all must see the file OUT.

Exit status: 0 done; 3 done, but for files that are listed on stderr; 2 nothing was done; 130 interrupted, the same
command goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import PATHS, add_batch, add_common, add_dtype, add_model, load, tell_failed

if TYPE_CHECKING:
    from slap.audio.sources import Input
    from slap.inference.embedding_table import EmbeddingTable

INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help=PATHS)
    parser.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the table")
    parser.add_argument("--overwrite", action="store_true", help="forget what OUT holds, and embed everything anew")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="of each node (default: 1)")
    parser.add_argument("--num-nodes", type=int, default=1, metavar="N", help="machines (default: 1)")
    parser.add_argument("--accelerator", default="auto", help="with several devices: cpu, cuda, ... (default: auto)")
    add_batch(parser)
    add_dtype(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Embed, or go on embedding."""
    out: Path = arguments.out
    if out.suffix != ".parquet" or out.is_dir():
        raise ValueError(f"--out names a file that ends in .parquet, got {out}")
    if arguments.devices < 1 or arguments.num_nodes < 1:
        raise ValueError(f"--devices and --num-nodes must be 1 or more: {arguments.devices}, {arguments.num_nodes}")
    need_pyarrow()
    if arguments.devices * arguments.num_nodes > 1:
        from slap.cli.embed_devices import run_on_devices

        return run_on_devices(arguments)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("slap: interrupted; what was embedded is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED


def need_pyarrow() -> None:
    """Raise an `ImportError` that says what to install."""
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise ImportError("tables of embeddings need pyarrow: pip install 'slap-audio[embed]'")


def _run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from slap.cli.inputs import inputs
    from slap.inference.embedding_table import EmbeddingTable, embed_plan

    items = inputs(arguments.paths)
    model = load(arguments)
    prepare(arguments.out, arguments.overwrite)
    parts = EmbeddingTable(arguments.out, model.name, model.embedding_dim)
    work = embed_plan(items, parts.done())
    try:
        with tqdm(total=len(work.todo), unit=" files", disable=None, file=sys.stderr) as bar:
            for done in model.stream([item.audio for item in work.todo], arguments.batch_seconds):
                item = work.todo[done.index]
                if done.embedding is None:
                    parts.fail(item.id, str(done.error))
                else:
                    parts.add(item, done.seconds, done.embedding)
                bar.update()
    finally:
        parts.flush()
    return finish(arguments, parts, items, work.done)


def prepare(out: Path, overwrite: bool) -> None:
    """Make the table's folder, and forget an older table if that is asked for."""
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = out.with_name(f"{out.name}.parts")
    if overwrite:
        out.unlink(missing_ok=True)
        shutil.rmtree(parts, ignore_errors=True)
    for failed in parts.glob("failed-*.jsonl"):  # they are tried again
        failed.unlink(missing_ok=True)


def finish(arguments: argparse.Namespace, parts: EmbeddingTable, items: list[Input], known: int) -> int:
    """Put the table together and say what was done; the exit status."""
    failed = parts.merge(items)
    rows = len(items) - len(failed)
    if arguments.json:
        bad = [{"id": name, "error": reason} for name, reason in failed]
        print(json.dumps({"out": str(arguments.out), "rows": rows, "embedded": rows - known, "failed": bad}, indent=2))
    else:
        print(f"{arguments.out}: {rows} embeddings, {rows - known} of them new")
    return tell_failed(failed)
