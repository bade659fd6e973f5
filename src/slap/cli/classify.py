"""Rank labels for each sound, without training on them.

    slap classify runs/demo/best.ckpt sounds --labels dog rain "door knock"
    slap classify runs/labels/best.ckpt sounds
    slap classify exported clip.wav --labels labels.txt --prompts "the sound of {label}" "{label} can be heard" --top 3

The columns are the file, the label, its probability and its cosine. Models trained with the sigmoid objective, and
those that `slap calibrate` fitted to labeled clips, have the probability of each label by itself: with --threshold,
files for which no label is so probable are printed with `none of these`. Other models have no such probability: the
column is `share`, the label's part among the labels given (a softmax with the scale that the model learned), which says
nothing of sounds that are none of them.

Without --labels, the classification head of a fine-tuned model ranks its own classes.

A silent file (below -70 dBFS) has no label: `-` is printed in its place, and stderr says so.

Exit status: 0 done; 3 done, but for files that are listed on stderr; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slap.cli.options import (
    PATHS,
    add_batch,
    add_calibration,
    add_columns,
    add_common,
    add_dtype,
    add_model,
    add_weights,
    as_records,
    load,
    plain,
    tell,
)
from slap.core.errors import UserError, printable

if TYPE_CHECKING:
    from slap.audio.sources import Input
    from slap.inference.stream import StreamItem


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help=PATHS)
    add_columns(parser)
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="labels to rank, or a .txt file with a label per line (default: the classes of the model's head)",
    )
    parser.add_argument(
        "--head",
        metavar="NAME",
        help="without --labels: name of the classification head to use, if the model has several",
    )
    parser.add_argument(
        "--prompts",
        nargs="+",
        metavar="TEXT",
        help="texts with {label} in which labels are embedded, or a .txt file with a text per line "
        "(default: This is a sound of {label}.)",
    )
    parser.add_argument("--top", type=int, default=1, metavar="N", help="labels to show per file (default: 1)")
    add_calibration(parser)
    add_batch(parser)
    add_dtype(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify and print."""
    from slap.cli.inputs import inputs

    if arguments.top < 1:
        raise UserError(f"--top must be at least 1, got {arguments.top}")
    if arguments.labels and arguments.head:
        raise UserError("--head classifies by what the model was fine-tuned on, --labels by texts; give one of them")
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold is a probability from 0 to 1, got {arguments.threshold:g}")
    if arguments.calibration and not arguments.labels:
        raise UserError("--calibration makes probabilities of --labels, which are missing")
    if arguments.prompts and not arguments.labels:
        raise UserError("--prompts stand around --labels, which are missing")
    failed: list[tuple[str, str]] = []
    items = inputs(arguments.paths, failed, arguments.columns)
    return (_by_labels if arguments.labels else _by_head)(arguments, items, failed)


def _by_labels(arguments: argparse.Namespace, items: list[Input], failed: list[tuple[str, str]]) -> int:
    """Rank the labels that were given."""
    import torch

    from slap.inference.scores import PROMPTS

    labels = plain(arguments.labels, "labels")
    prompts = plain(arguments.prompts, "prompts") if arguments.prompts else PROMPTS
    model = load(arguments)
    threshold = arguments.threshold
    empty = torch.empty(0, model.embedding_dim)
    model.scores(empty, labels, prompts, threshold)  # what is wrong with them shows before any audio is read

    def line(score: Any) -> str:
        chance = "-" if score.share is None else f"share {100 * score.share:.1f} %"
        chance = chance if score.probability is None else f"{100 * score.probability:.1f} %"
        return f"{printable(score.label)}\t{chance}\t{score.cosine:.3f}"

    found = model.stream([item.audio for item in items], arguments.batch_seconds)
    return _show(
        arguments, items, failed, found, lambda row: model.scores(row[None], labels, prompts, threshold)[0], line
    )


def _by_head(arguments: argparse.Namespace, items: list[Input], failed: list[tuple[str, str]]) -> int:
    """Rank the classes of a head."""
    from slap.inference.jobs import chosen_head

    model = load(arguments)
    if arguments.threshold is not None and not chosen_head(model.backend, arguments.head).multi_label:
        raise UserError(
            "--threshold: this head learned that exactly one of its classes is right, so its probabilities sum to 1 "
            "even if none of them is heard; give --labels, or fine-tune with several labels per clip (tags)"
        )

    def rank(labels: list[Any]) -> list[Any]:
        return [label for label in labels if label.probability >= (arguments.threshold or 0.0)]

    found = model.stream_labels([item.audio for item in items], arguments.head, arguments.batch_seconds)

    def line(label: Any) -> str:
        return f"{printable(label.label)}\t{100 * label.probability:.1f} %"

    return _show(arguments, items, failed, found, rank, line)


def _show(
    arguments: argparse.Namespace,
    items: list[Input],
    failed: list[tuple[str, str]],
    results: Iterable[StreamItem[Any]],
    rank: Callable[[Any], list[Any]],
    line: Callable[[Any], str],
) -> int:
    """Print the best labels of each file; return the exit status.

    Args:
        arguments: of the command.
        items: the files.
        failed: those that cannot be used already, with reasons.
        results: of the files.
        rank: makes labels, the best first, of a result.
        line: a label as text.
    """
    rows: dict[int, list[Any]] = {}
    silent: set[int] = set()
    failed, notes = [*failed], []
    for done in results:
        if done.result is None:
            failed.append((items[done.index].id, str(done.error)))
        else:
            rows[done.index] = [] if done.silent else rank(done.result)[: arguments.top]
            silent |= {done.index} if done.silent else set()
        if done.note:
            notes.append((items[done.index].id, done.note))
    found = [(items[i].id, rows[i], i in silent) for i in sorted(rows)]
    if arguments.json:
        clips = [
            {"id": name, "labels": [asdict(label) for label in labels], "silent": still}
            for name, labels, still in found
        ]
        told = {"failed": as_records(failed, "error"), "notes": as_records(notes, "note")}
        print(json.dumps({"clips": clips, **told}, indent=2, ensure_ascii=False))
    else:
        for name, labels, still in found:
            for text in map(line, labels) if labels else ["-" if still else "none of these"]:
                print(f"{printable(name)}\t{text}")
    return tell(failed, notes)
