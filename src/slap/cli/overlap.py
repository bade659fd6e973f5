"""Find clips of evaluation manifests that are in a training manifest too.

Clips match by the same id, the same YouTube video or Freesound recording, the same samples, or the same audio
fingerprint, also if one of them is re-encoded, resampled, louder or a part of the other:

    slap overlap train.jsonl.gz val.jsonl.gz test.jsonl.gz
    slap overlap train.jsonl.gz test.jsonl.gz --out train_clean.jsonl.gz
    slap overlap train.jsonl.gz test.jsonl.gz --by id origin

The last command reads no audio. --out writes the training manifest without the clips that were found.

The tasks of an array job compare a part of the training clips each, with all evaluation clips, and one command puts the
parts together, which lie beside the file of --out:

    slap overlap train.jsonl.gz test.jsonl.gz --out train_clean.jsonl.gz --part 3/64
    slap overlap train.jsonl.gz test.jsonl.gz --out train_clean.jsonl.gz --merge

Exit status: 0 nothing overlaps; 1 something does; 3 nothing that was compared does, but some clips cannot be read, as
listed (under `unread` of --json); 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import DONE, SOME_FAILED, add_columns, add_overwrite, check_free
from slap.cli.parts import add_parts, refuse_beside_parts, say_done
from slap.core.errors import UserError
from slap.datamodules.overlap import WAYS

if TYPE_CHECKING:
    from slap.datamodules.overlap.search import Overlap

OVERLAP = 1
"""Exit status where something overlaps."""

SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("train", metavar="TRAIN", type=Path, help="training manifest")
    parser.add_argument("evaluation", metavar="EVAL", type=Path, nargs="+", help="evaluation manifests")
    parser.add_argument(
        "--by",
        nargs="+",
        choices=WAYS,
        default=list(WAYS),
        metavar="WAY",
        help="ways to compare clips: id; origin (YouTube, Freesound, ...); content (equal samples); fingerprint "
        "(similar audio) (default: all)",
    )
    help_ = "write the clips of TRAIN that do not overlap to this .jsonl.gz"
    parser.add_argument("--out", type=Path, metavar="FILE", help=help_)
    add_overwrite(parser, "the file of --out")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, with all pairs")
    parser.add_argument(
        "--pairs", type=int, default=SHOWN, metavar="N", help="largest number of pairs to print (default: %(default)s)"
    )
    add_columns(parser)
    add_parts(parser)
    workers = min(os.cpu_count() or 1, 16)
    parser.add_argument(
        "--workers",
        type=int,
        default=workers,
        metavar="N",
        help="number of processes that decode audio (default: one per core, at most 16)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare the manifests and print the clips that they share.

    Returns:
        0 if they share nothing, 1 if they share something, 3 if not all clips could be compared; 0 after a part.

    Raises:
        ManifestError: a manifest cannot be used.
        ValueError: OUT does not end in .jsonl.gz, exists, or is one of the manifests.
    """
    out: Path | None = arguments.out
    if out is not None and not out.name.endswith(".jsonl.gz"):
        raise UserError(f"--out writes a manifest of cuts, whose name ends in .jsonl.gz; got {out}")
    if out is not None and out.resolve() in {path.resolve() for path in (arguments.train, *arguments.evaluation)}:
        raise UserError(f"--out {out} is one of the manifests to compare; name another file")
    if out is not None:
        check_free(out, arguments.overwrite)

    if (arguments.part or arguments.merge) and out is None:
        raise UserError("--part and --merge keep the parts beside the file of --out; give --out FILE")

    from slap.datamodules.overlap.search import search

    asked = (arguments.train, arguments.evaluation, set(arguments.by))
    if out is None or not (arguments.part or arguments.merge):
        if out is not None:
            refuse_beside_parts(out)
        return _finish(arguments, search(*asked, arguments.workers, True, arguments.columns))

    from slap.datamodules.overlap.parts import Comparison, merge_search, search_part

    comparison = Comparison(*asked, out, arguments.columns)
    if arguments.part:
        say_done(arguments.part, out, before=not search_part(comparison, arguments.part, arguments.workers, True))
        return DONE
    found, parts = merge_search(comparison)
    status = _finish(arguments, found)
    parts.remove()
    return status


def _finish(arguments: argparse.Namespace, found: Overlap) -> int:
    """Write the manifest if that is asked for, and report; return the exit status."""
    from slap.datamodules.overlap.report import as_text, record

    out: Path | None = arguments.out
    kept = None if out is None else _write_rest(found, out)
    result = record(found, out, kept)
    print(json.dumps(result, indent=2) if arguments.json else as_text(result, arguments.pairs))
    return OVERLAP if found.pairs else SOME_FAILED if found.unread else DONE


def _write_rest(found: Overlap, out: Path) -> int:
    """Write the training clips that overlap with no evaluation clip, and return their number."""
    from slap.datamodules.manifests.read import write_cuts

    gone = {train for train, _ in found.pairs}
    rest = (cut for number, cut in enumerate(found.train) if number not in gone)
    if len(gone) == len(found.train):
        raise UserError(f"all {len(gone)} training clips overlap, so nothing is left to write to {out}")
    write_cuts(out, rest)
    return len(found.train) - len(gone)
