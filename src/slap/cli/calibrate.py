"""Fit probabilities of labels to labeled clips, for thresholds and for "none of these".

    slap calibrate runs/mine/best.ckpt val.csv
    slap classify runs/mine/best.ckpt sounds --labels dog rain --threshold 0.5
    slap calibrate exported val.csv --task animal --out animals.json

Models of the contrastive objective learn how near a text is to a sound among others, and no probability of a text by
itself. This command fits one to clips whose labels are known, none of which the model was trained on: a scale for all
labels and a bias for each label with five clips or more (Platt scaling). Probabilities hold for clips, labels and
prompts like those of the manifest: where a sound is rarer than there, it is less probable than they say.

The calibration is written beside the model, where every command finds it, or to the file that --out names. Printed is
the expected calibration error (ECE) of clips that it was not fitted to, by cross-validation in five parts, of labels
and of texts that are no label of the manifest, such as queries of a search.

Exit status: 0 done; 3 done, but for clips that are listed on stderr; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import (
    add_batch,
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
from slap.core.errors import UserError

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from slap.audio.recordings import Audio
    from slap.inference.calibrate import Reliable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument(
        "manifest",
        metavar="MANIFEST",
        type=Path,
        help="labeled clips: a .csv, .tsv or .jsonl with the columns audio and label (or tags, where a clip may have "
        "several labels), or any other manifest that training takes",
    )
    add_columns(parser)
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="the labels to use, NAME of a column label_NAME or tags_NAME; `label` and `tags` are the columns of these "
        "names (default: those of the only such column)",
    )
    parser.add_argument(
        "--prompts",
        nargs="+",
        metavar="TEXT",
        help="texts with {label} in which labels are embedded, or a .txt file with a text per line; probabilities hold "
        "for these alone (default: This is a sound of {label}.)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="JSON file to write the calibration to, for --calibration of other commands (default: beside the model, "
        "where they find it by themselves)",
    )
    add_batch(parser)
    add_dtype(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Fit, evaluate, write and print."""
    import torch
    from tqdm import tqdm

    from slap.inference.calibrate import BARE, cross_validated, fitted
    from slap.inference.calibration_file import beside, write_calibration
    from slap.inference.scores import PROMPTS
    from slap.metrics.bootstrap import units_of

    failed: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    clips = _clips(arguments, failed)
    labels = sorted({name for clip in clips for name in clip[2]})
    if len(labels) < 2:
        raise UserError(f"{arguments.manifest} has {len(labels)} different labels, and 2 or more are needed")
    prompts = plain(arguments.prompts, "prompts") if arguments.prompts else PROMPTS
    model = load(arguments)
    rows: dict[int, Tensor] = {}
    found = model.stream([audio for _, audio, *_ in clips], arguments.batch_seconds)
    for done in tqdm(found, total=len(clips), unit=" clips", disable=None, file=sys.stderr):
        name = clips[done.index][0]
        if done.result is None:
            failed.append((name, str(done.error)))
        elif done.silent:
            notes.append((name, "it is silent, and not used"))
        else:
            rows[done.index] = done.result
    kept = sorted(rows)
    if not kept:
        raise UserError("none of the clips can be used:\n" + "\n".join(reason for _, reason in failed))
    embeddings = torch.stack([rows[index] for index in kept])
    truth = torch.tensor([[label in clips[index][2] for label in labels] for index in kept])
    cosines, bare = (embeddings @ model.embed_labels(labels, some).T for some in (prompts, BARE))
    unit = units_of([clips[index][3] for index in kept], torch.arange(len(kept)))
    rule = fitted(cosines, bare, truth, labels, prompts)
    of_labels, of_texts = cross_validated(cosines, bare, truth, labels, unit)
    out = arguments.out or beside(arguments.model)
    about = {"clips": len(kept), "labels": of_labels, "texts": of_texts}
    write_calibration(out, model.name, rule, _plain(about))
    if arguments.json:
        told = {"failed": as_records(failed, "error"), "notes": as_records(notes, "note")}
        print(json.dumps({"out": str(out), **_plain(about), **told}, indent=2))
    else:
        print(as_text(out, len(kept), len(labels), len(rule.labels), of_labels, of_texts))
    return tell(failed, notes)


def _clips(
    arguments: argparse.Namespace, failed: list[tuple[str, str]]
) -> list[tuple[str, Audio, tuple[str, ...], str]]:
    """Read the manifest: id, audio, labels and origin of each labeled clip; unusable rows are added to `failed`."""
    from slap.core.bad_clip import BadClip
    from slap.datamodules.dataset import custom_of, origin_of
    from slap.datamodules.labels import labels_of
    from slap.datamodules.manifests.read import read_manifest
    from slap.evaluation.data import audio_of

    bad: list[BadClip] = []
    cuts = read_manifest(arguments.manifest, max_bad=1.0, bad=bad, columns=arguments.columns)
    failed += [(clip.id, f"{clip.where}: {clip.detail}") for clip in bad]
    known = [(cut, custom_of(cut)) for cut in cuts]
    there = {task for _, custom in known for part in ("labels", "tags") for task in custom.get(part) or ()}
    task = _task(arguments.manifest, arguments.task, sorted(there))
    return [
        (cut.id, audio_of(cut, arguments.manifest), labels_of(custom, task), origin_of(custom))
        for cut, custom in known
        if any((custom.get(part) or {}).get(task) is not None for part in ("labels", "tags"))
    ]


def _task(manifest: Path, named: str | None, there: list[str]) -> str:
    """Return the name of the labels to use, of those that are there.

    Raises:
        ValueError: there are none of this name, or several and none is named.
    """
    if named in there or (named is None and len(there) == 1):
        return named or there[0]
    if not there:
        raise UserError(f"{manifest} has no labels: it needs a column label, or tags")
    missing = "" if named is None else f"none of the task {named!r}, but "
    raise UserError(f"{manifest} has {missing}labels of {', '.join(there)}; name one with --task")


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    """Return facts as plain data, where bins without clips are left out."""
    return {name: value if isinstance(value, int) else _reliable(value) for name, value in about.items()}


def _reliable(found: Reliable) -> dict[str, Any]:
    return {"ece": found.error, "bins": [asdict(one) for one in found.bins if one.count]}


def as_text(out: Path, clips: int, labels: int, own: int, of_labels: Reliable, of_texts: Reliable) -> str:
    """Return the report for a terminal."""
    lines = [f"{out}: fitted to {clips} clips with {labels} labels, {own} of which have a bias of their own"]
    for name, found in (("labels", of_labels), ("other texts", of_texts)):
        lines.append(f"{name}: expected calibration error {100 * found.error:.1f} points on held-out clips")
        lines.append("  probability   pairs   mean     right")
        lines += [
            f"  {one.low:4.0%} - {one.high:4.0%} {one.count:7}  {one.probability:6.1%}  {one.right:6.1%}"
            for one in found.bins
            if one.count
        ]
    return "\n".join(lines)
