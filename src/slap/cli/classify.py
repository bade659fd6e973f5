"""Say which of some labels fits each sound best, without training on them.

    slap classify runs/demo/best.ckpt sounds --labels dog rain "door knock"
    slap classify runs/labels/best.ckpt sounds
    slap classify exported clip.wav --labels labels.txt --prompts "the sound of {label}" "{label} can be heard" --top 3

A label's probability is that among the labels given (a softmax with the scale that the model learnt), or, for models
trained with the sigmoid objective, that it fits at all. Cosines stand beside them.

Without labels, the head of a model that was fine-tuned for classification says which of its own classes they are.

Exit status: 0 done; 3 done, but for files that are listed on stderr; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from slap.cli.options import PATHS, add_batch, add_common, add_dtype, add_model, load, plain, tell_failed

COLUMNS = ("file", "label", "probability", "cosine")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help=PATHS)
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="labels, or a .txt with one a line")
    parser.add_argument("--head", metavar="NAME", help="without labels: the head that classifies, if there are several")
    parser.add_argument(
        "--prompts", nargs="+", metavar="TEXT", help="templates with {label}, or a .txt (default: a sound of {label})"
    )
    parser.add_argument("--top", type=int, default=1, metavar="N", help="labels a file that are shown (default: 1)")
    add_batch(parser)
    add_dtype(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify and print."""
    from slap.cli.inputs import inputs
    from slap.inference.model import PROMPTS

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    if not arguments.labels:
        return _by_head(arguments)
    if arguments.head:
        raise ValueError("--head classifies by what the model was fine-tuned on, --labels by texts; give one of them")
    labels = plain(arguments.labels, "labels")
    prompts = plain(arguments.prompts, "prompts") if arguments.prompts else PROMPTS
    items = inputs(arguments.paths)
    model = load(arguments)
    model.embed_labels(labels, prompts)  # what is wrong with them shows before any audio is read
    rows: list[Any] = [None] * len(items)
    failed = []
    for done in model.stream([item.audio for item in items], arguments.batch_seconds):
        if done.embedding is None:
            failed.append((items[done.index].id, str(done.error)))
            continue
        (scores,) = model.scores(done.embedding[None], labels, prompts)
        rows[done.index] = scores[: arguments.top]
    found = [(item.id, scores) for item, scores in zip(items, rows, strict=True) if scores]
    if arguments.json:
        print(as_json(found, failed))
    else:
        for name, scores in found:
            for score in scores:
                chance = "-" if score.probability is None else f"{100 * score.probability:.1f} %"
                print(f"{name}\t{score.label}\t{chance}\t{score.cosine:.3f}")
    return tell_failed(failed)


def _by_head(arguments: argparse.Namespace) -> int:
    """Classify by a head and print."""
    from slap.cli.inputs import inputs
    from slap.inference.labeling import label

    if arguments.prompts:
        raise ValueError("--prompts stand around --labels, which are missing")
    items = inputs(arguments.paths)
    model = load(arguments)
    rows: list[Any] = [None] * len(items)
    failed = []
    for done in label(model, [item.audio for item in items], arguments.head, arguments.batch_seconds):
        if done.result is None:
            failed.append((items[done.index].id, str(done.error)))
        else:
            rows[done.index] = done.result[: arguments.top]
    found = [(item.id, labels) for item, labels in zip(items, rows, strict=True) if labels]
    if arguments.json:
        print(as_json(found, failed))
    else:
        for name, labels in found:
            for one in labels:
                print(f"{name}\t{one.label}\t{100 * one.probability:.1f} %")
    return tell_failed(failed)


def as_json(found: list[tuple[str, Any]], failed: list[tuple[str, str]]) -> str:
    """What --json prints: one object."""
    from dataclasses import asdict

    clips = [{"id": name, "labels": [asdict(score) for score in scores]} for name, scores in found]
    bad = [{"id": name, "error": reason} for name, reason in failed]
    return json.dumps({"clips": clips, "failed": bad}, indent=2, ensure_ascii=False)
