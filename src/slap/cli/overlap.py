"""Find clips of evaluation manifests that are in a training manifest too.

Looks for the same id, for the same YouTube video or Freesound recording, for the same samples, and for audio that
sounds the same, be it re-encoded, resampled, louder or a part of the other:

    slap overlap train.jsonl.gz val.jsonl.gz test.jsonl.gz
    slap overlap train.jsonl.gz test.jsonl.gz --out train_clean.jsonl.gz
    slap overlap train.jsonl.gz test.jsonl.gz --by id origin

The last one reads no audio. --out writes the training manifest without the clips that were found. The exit status is 0
when nothing overlaps, 1 when something does, and 2 when the command could not do its work.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slap.datamodules.overlap.search import Overlap

WAYS = ("id", "origin", "content", "fingerprint")
SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("train", metavar="TRAIN", type=Path, help="a training manifest")
    parser.add_argument("evaluation", metavar="EVAL", type=Path, nargs="+", help="evaluation manifests")
    parser.add_argument(
        "--by",
        nargs="+",
        choices=WAYS,
        default=list(WAYS),
        metavar="WAY",
        help="what to compare: id; origin (YouTube, Freesound, ...); content (the samples, exactly); fingerprint (what "
        "it sounds like); default: all",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write TRAIN without what overlaps, as .jsonl.gz")
    parser.add_argument("--json", action="store_true", help="print JSON, with all pairs")
    parser.add_argument(
        "--pairs", type=int, default=SHOWN, metavar="N", help="pairs to print at most (default: %(default)s)"
    )
    workers = min(os.cpu_count() or 1, 16)
    parser.add_argument("--workers", type=int, default=workers, metavar="N", help="processes that decode audio")


def run(arguments: argparse.Namespace) -> int:
    """Compare the manifests and print what they share.

    Returns:
        0 when they share nothing, else 1.

    Raises:
        ManifestError: a manifest cannot be used.
        ValueError: OUT does not end in .jsonl.gz, or is one of the manifests.
    """
    out: Path | None = arguments.out
    if out is not None and not out.name.endswith(".jsonl.gz"):
        raise ValueError(f"--out writes a manifest of cuts, which ends in .jsonl.gz, got {out}")
    if out is not None and out.resolve() in {path.resolve() for path in (arguments.train, *arguments.evaluation)}:
        raise ValueError(f"--out {out} is one of the manifests that are compared; name another file")

    from slap.datamodules.overlap.report import as_text, record
    from slap.datamodules.overlap.search import search

    found = search(arguments.train, arguments.evaluation, set(arguments.by), arguments.workers, show=True)
    kept = None if out is None else _write_rest(found, out)
    result = record(found, out, kept)
    print(json.dumps(result, indent=2) if arguments.json else as_text(result, arguments.pairs))
    return 1 if found.pairs else 0


def _write_rest(found: Overlap, out: Path) -> int:
    """Write the training clips that overlap with none of evaluation, and say how many there are."""
    from slap.datamodules.manifests.read import write_cuts

    gone = {train for train, _ in found.pairs}
    rest = (cut for number, cut in enumerate(found.train) if number not in gone)
    if len(gone) == len(found.train):
        raise ValueError(f"all {len(gone)} training clips overlap, so nothing is left to write to {out}")
    write_cuts(out, rest)
    return len(found.train) - len(gone)
