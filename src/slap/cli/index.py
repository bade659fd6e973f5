"""Index the sounds of a folder, to search in them by text or by sound.

Run it again whenever files were added, changed, moved or removed, or when it was interrupted: only new files are read.
Files longer than a window are indexed in overlapping windows, so that a hit gives the place in the file.

    slap index runs/demo/best.ckpt sounds sounds.index
    slap search sounds.index "dog barking, then rain"

Silent files (below -70 dBFS), and silent windows of others, are not indexed: they would be near to any query.

Exit status: 0 done; 3 done, but for files that cannot be read, in this run or before, which are listed (silent ones are
listed, too, and count as done); 2 nothing was done; 130 interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from slap.cli.options import DONE, SOME_FAILED, add_allow_collapsed, add_model, add_weights
from slap.core.errors import UserError, printable
from slap.core.units import EmbeddingType

if TYPE_CHECKING:
    from slap.model.network import Weights
    from slap.search.metadata import Metadata
    from slap.search.store import Store
    from slap.search.update import UpdateReport

SHOWN = 10
"""Files that could not be indexed which are printed; --json lists all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="the folder of sounds to index, with its sub-folders"
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="the folder of the index; made if it is not there")
    parser.add_argument(
        "--window", type=float, metavar="S", help="length of a window in seconds (default: 10, or the model's maximum)"
    )
    parser.add_argument("--hop", type=float, metavar="S", help="seconds from window to window (default: half a window)")
    parser.add_argument(
        "--dim",
        type=int,
        metavar="D",
        help="number of leading dimensions that embeddings keep, of a model that was trained with `matryoshka` "
        "(default: all)",
    )
    parser.add_argument(
        "--dtype",
        choices=get_args(EmbeddingType),
        help="number type of the embeddings in the index; int8 takes a quarter of the bytes, and every query is "
        "compared with every window (default: float32)",
    )
    add_weights(parser, kept="those that INDEX was made with, or ")
    parser.add_argument(
        "--device", help="device that the model computes on, e.g. cpu or cuda (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="number of threads that read files (default: %(default)s)"
    )
    parser.add_argument("--retry", action="store_true", help="try files again that could not be indexed before")
    parser.add_argument(
        "--relocate", action="store_true", help="allow FOLDER to differ from the indexed folder, which was moved there"
    )
    parser.add_argument("--rebuild", action="store_true", help="delete the content of INDEX, and index all files anew")
    add_allow_collapsed(parser, "index with")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Make or update the index, and print what was done."""
    from filelock import FileLock, Timeout

    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1, got {arguments.workers}")
    index: Path = arguments.index
    _check_index(index)
    index.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(index / ".lock", timeout=0):
            return _run(arguments)
    except Timeout:
        raise UserError(f"{index} is being updated by another `slap index`; wait for it") from None


def _check_index(index: Path) -> None:
    from slap.search.metadata import FILE

    if index.is_dir() and not (index / FILE).exists() and any(path.name != ".lock" for path in index.iterdir()):
        raise UserError(f"{index} holds other things than an index; name a new or an empty folder")


def _run(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from slap.inference.collapse import refuse_collapsed
    from slap.inference.load import load
    from slap.inference.shipped import is_shipped
    from slap.search.metadata import FILE, Metadata
    from slap.search.store import Store
    from slap.search.update import Update

    index, folder = arguments.index, arguments.folder.resolve()
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {arguments.folder}")
    fresh = arguments.rebuild or not (index / FILE).exists()
    known = None if fresh else Metadata.load(index)
    weights = arguments.weights or _weights(arguments.model, known)
    model = load(arguments.model, device=arguments.device, weights=weights)
    refuse_collapsed(model, "indexed with", arguments.allow_collapsed)
    asked = {name: getattr(arguments, name) for name in ("window", "hop", "dim", "dtype")}
    name = arguments.model if is_shipped(arguments.model) else str(Path(arguments.model).resolve())
    dtype: EmbeddingType = arguments.dtype or "float32"
    metadata = Metadata.of(model, name, folder, arguments.window, arguments.hop, weights, arguments.dim, dtype)
    if known is not None:
        metadata = known.updated(metadata, asked, arguments.relocate)
    store = Store(index, metadata.embedding_dim, anew=fresh, dtype=metadata.dtype)
    metadata.save(index)
    with tqdm(unit=" files", disable=None, file=sys.stderr) as bar:
        update = Update(store, metadata, model, arguments.workers, arguments.retry, bar.update)
        bar.reset(len(update.plan.read))
        try:
            report = update.run()
        except KeyboardInterrupt:
            print(
                f"slap: interrupted; {len(store.files())} files are indexed, the same command goes on", file=sys.stderr
            )
            return 130
    metadata = replace(metadata, trained=store.optimize(metadata.trained))
    metadata.save(index)
    print(json.dumps(as_json(report, store), indent=2) if arguments.json else as_text(index, report, store, metadata))
    return SOME_FAILED if set(report.reasons) - {"silent"} else DONE


def _weights(model: str, known: Metadata | None) -> Weights:
    """Return the weights to load where none are named: those of the index; of a folder, which has one set, raw."""
    from slap.inference.shipped import located

    return "raw" if known is None or located(model).is_dir() else known.weights


def as_json(report: UpdateReport, store: Store) -> dict[str, Any]:
    """Return the report as plain data."""
    numbers = {name: getattr(report, name) for name in ("added", "changed", "moved", "reused", "removed", "unchanged")}
    return {
        **numbers,
        "seconds": report.seconds,
        "files": len(store.files()),
        "windows": len(store),
        "approximate": store.approximate,
        "passed_over": dict(report.passed.counts),
        "bad": [{"path": row.path, "reason": row.reason, "detail": row.detail} for row in report.bad],
        "notes": [{"path": path, "note": note} for path, note in report.notes],
    }


def as_text(index: Path, report: UpdateReport, store: Store, metadata: Metadata) -> str:
    """Return the report for a terminal."""
    kind = "with an approximate index" if store.approximate else "each of which is compared with a query"
    done = {
        f"{report.added} added": report.added,
        f"{report.changed} changed": report.changed,
        f"{report.moved} moved": report.moved,
        f"{report.reused} copied": report.reused,
        f"{report.removed} removed": report.removed,
    }
    changes = ", ".join(text for text, count in done.items() if count) or "nothing new"
    lines = [
        f"{index}: {len(store.files())} files in {len(store)} windows of up to {metadata.window:g} s, {kind}",
        f"{changes}; {report.unchanged} as they were; {report.seconds / 60:.1f} min of audio embedded",
    ]
    if report.passed:
        lines.append(f"passed over: {report.passed}")
    if report.bad:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        lines.append(f"not indexed: {reasons}")
        lines += [printable(f"  {row.path}: {row.detail}") for row in report.bad[:SHOWN]]
        if len(report.bad) > SHOWN:
            lines.append(f"  and {len(report.bad) - SHOWN} more; --json lists all")
    if report.notes:
        lines.append(f"indexed with a note: {len(report.notes)}")
        lines += [printable(f"  {path}: {note}") for path, note in report.notes[:SHOWN]]
        if len(report.notes) > SHOWN:
            lines.append(f"  and {len(report.notes) - SHOWN} more; --json lists all")
    return "\n".join(lines)
