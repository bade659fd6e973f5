"""Score pairs of a sound and a caption: the cosine of their embeddings, e.g. to rate generated audio by its prompt.

    slap score runs/demo/best.ckpt pairs.csv
    slap score exported pairs.csv --out scores.csv
    slap score exported generated.jsonl --json

The manifest has a row per clip, with its audio and its captions. Each caption of a clip is scored by itself, in the
order of the manifest. A line is the clip's id, the cosine and the caption; for models trained with the sigmoid
objective, and for those with a calibration (`slap calibrate`), --out and --json add the probability that the caption
belongs to the sound. A softmax over one pair says nothing, so other models have none. C of two models cannot be
compared.

A silent file (below -70 dBFS) has no score: `-` is printed in its place (empty in --out, null with --json), and stderr
says so. The mean is over the other pairs.

Exit status: 0 done; 3 done, but for clips that are listed on stderr; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import (
    add_batch,
    add_columns,
    add_common,
    add_dtype,
    add_model,
    add_overwrite,
    add_weights,
    as_records,
    check_free,
    load,
    tell,
)
from slap.core.errors import UserError, printable

if TYPE_CHECKING:
    from torch import Tensor

    from slap.audio.recordings import Audio
    from slap.core.calibration import Calibration

SUFFIXES = (".csv", ".jsonl")
"""Endings of the file that --out names."""


@dataclass(frozen=True)
class PairScore:
    """The score of one pair.

    Attributes:
        id: of the clip.
        caption: the caption.
        cosine: between the sound and the caption, -1 to 1; None for a silent sound.
        probability: that the caption belongs to the sound; None for a silent sound, and for models that learned none.
    """

    id: str
    caption: str
    cosine: float | None
    probability: float | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument(
        "manifest",
        metavar="MANIFEST",
        type=Path,
        help="the pairs: a .csv, .tsv or .jsonl with the columns audio and caption, or any other manifest that "
        "training takes",
    )
    add_columns(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write the scores to instead of printing them, a .csv or a .jsonl (JSON lines)",
    )
    add_overwrite(parser, "the file of --out")
    add_batch(parser)
    add_dtype(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score and print."""
    from tqdm import tqdm

    out: Path | None = arguments.out
    if out is not None and out.suffix not in SUFFIXES:
        raise UserError(f"--out names a file that ends in {' or '.join(SUFFIXES)}, got {out}")
    if out is not None:
        check_free(out, arguments.overwrite)
    failed: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    clips = _clips(arguments, failed)
    model = load(arguments)
    texts = {text: row for row, text in enumerate(dict.fromkeys(text for _, _, own in clips for text in own))}
    embedded = model.encode_texts(list(texts))
    scores: dict[int, list[PairScore]] = {}
    rule = None if model.calibration is None else model.calibration.of_texts
    found = model.stream([audio for _, audio, _ in clips], arguments.batch_seconds)
    for done in tqdm(found, total=len(clips), unit=" clips", disable=None, file=sys.stderr):
        name, _, captions = clips[done.index]
        if done.result is None:
            failed.append((name, str(done.error)))
            continue
        if done.note:
            notes.append((name, done.note))
        rows = embedded[[texts[text] for text in captions]]
        cosines = None if done.silent else rows @ done.result
        scores[done.index] = _scored(name, captions, cosines, rule, failed)
    return _report(arguments, [one for index in sorted(scores) for one in scores[index]], failed, notes)


def _clips(arguments: argparse.Namespace, failed: list[tuple[str, str]]) -> list[tuple[str, Audio, list[str]]]:
    """Read the manifest: id, audio and captions of each clip; rows that cannot be used are added to `failed`."""
    from slap.core.bad_clip import BadClip
    from slap.datamodules.manifests.read import read_manifest
    from slap.evaluation.data import audio_of

    bad: list[BadClip] = []
    cuts = read_manifest(arguments.manifest, max_bad=1.0, bad=bad, columns=arguments.columns)
    failed += [(clip.id, f"{clip.where}: {clip.detail}") for clip in bad]
    return [(cut.id, audio_of(cut, arguments.manifest), [one.text for one in cut.supervisions]) for cut in cuts]


def _scored(
    name: str,
    captions: list[str],
    cosines: Tensor | None,
    calibration: Calibration | None,
    failed: list[tuple[str, str]],
) -> list[PairScore]:
    """Make the scores of a clip from the cosines of its captions, (captions,), None if it is silent.

    A caption whose cosine is not finite is added to `failed`.
    """
    if cosines is None:
        return [PairScore(name, caption, None, None) for caption in captions]
    found = None if calibration is None else calibration.probabilities(cosines[None])
    chances = [None] * len(captions) if found is None else found[0].tolist()
    finite = cosines.isfinite().tolist()
    for caption, good in zip(captions, finite, strict=True):
        if not good:
            failed.append((name, f"{name}: the cosine of {caption!r} is not finite; are the model's weights whole?"))
    pairs = zip(captions, cosines.tolist(), chances, finite, strict=True)
    return [PairScore(name, caption, cosine, chance) for caption, cosine, chance, good in pairs if good]


def _report(
    arguments: argparse.Namespace,
    scores: list[PairScore],
    failed: list[tuple[str, str]],
    notes: list[tuple[str, str]],
) -> int:
    """Write or print the scores; return the exit status."""
    cosines = [score.cosine for score in scores if score.cosine is not None]
    mean = sum(cosines) / len(cosines) if cosines else None
    if arguments.out is not None:
        _write(arguments.out, scores)
    if arguments.json:
        rows = {"scores": [asdict(score) for score in scores]} if arguments.out is None else {"out": str(arguments.out)}
        told = {"failed": as_records(failed, "error"), "notes": as_records(notes, "note")}
        print(json.dumps({**rows, "pairs": len(scores), "mean": mean, **told}, indent=2, ensure_ascii=False))
    elif arguments.out is not None:
        text = "no mean, as all are silent" if mean is None else f"mean cosine {mean:.4f}"
        print(f"{arguments.out}: {len(scores)} pairs, {text}")
    else:
        for score in scores:
            cosine = "-" if score.cosine is None else f"{score.cosine:.4f}"
            print(f"{printable(score.id)}\t{cosine}\t{printable(score.caption)}")
    return tell(failed, notes)


def _write(path: Path, scores: Iterable[PairScore]) -> None:
    from slap.core.files import atomic_write

    with atomic_write(path) as file:
        if path.suffix == ".csv":
            table = csv.writer(file, lineterminator="\n")
            table.writerow([field.name for field in fields(PairScore)])
            table.writerows(map(astuple, scores))
        else:
            file.writelines(json.dumps(asdict(score), ensure_ascii=False) + "\n" for score in scores)
