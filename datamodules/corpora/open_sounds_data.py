"""Manifests and the data module of `open_sounds`: training and evaluation parts that share no source."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from slap.core.errors import UserError
from slap.datamodules.augment.scenes import Scenes
from slap.datamodules.corpora.open_sounds import Part, present
from slap.datamodules.corpora.open_sounds_words import FAMILIES, PROMPTS, scene_words
from slap.datamodules.datamodule import AudioTextData
from slap.datamodules.dataset import Transform
from slap.datamodules.manifests.clip import Clip, write_manifest
from slap.datamodules.scenes.write import write_scenes

Evaluated = Literal["develop", "final"]

log = logging.getLogger(__name__)


class Manifests(NamedTuple):
    """Manifests of one part.

    Attributes:
        train: training manifests by corpus.
        evaluate: manifest of the clips to evaluate on.
        tasks: zero-shot tasks of those.
    """

    train: dict[str, Path]
    evaluate: Path
    tasks: list[str]


def data_module(
    root: str,
    manifests: str,
    part: Evaluated = "final",
    held_out_speaker: str = "theo",
    corpora: Sequence[str] = (),
    questions: int = 200,
    transforms: Sequence[Transform] | None = None,
    prompts: Mapping[str, str] | None = None,
    **options: Any,
) -> AudioTextData:
    """Write the manifests of the corpora that are there, compose scenes to evaluate on, and read all of it.

    Args:
        root: folder of the corpora, see `slap.datamodules.corpora.open_sounds`.
        manifests: folder to write the manifests and the scenes to.
        part: "develop" trains without the parts for development and the held-out ones, and evaluates on those for
            development; "final" trains on all but the held-out parts and tests on those, without validation, since
            nothing may be selected on them.
        held_out_speaker: speaker of the digits who is held out.
        corpora: names of the corpora to read: esc50, urbansound8k, speechcommands, ravdess, esc10, fsdd; default: all.
        questions: least number of questions of each kind about scenes of the clips to evaluate on, see
            `slap.datamodules.scenes.questions`; 0 has no scenes.
        transforms: transforms of training batches; default: scenes of half of the clips.
        prompts: templates by zero-shot task; default: those of the corpora.
        **options: any other option of `AudioTextData`.
    """
    written = write_manifests(root, manifests, part, held_out_speaker, corpora)
    evaluated = [written.evaluate]
    if questions:
        folder = written.evaluate.parent
        evaluated.append(write_scenes(written.evaluate, folder, scene_words(), questions, families=FAMILIES))
    return AudioTextData(
        train=written.train,
        val=evaluated if part == "develop" else (),
        test=evaluated,
        transforms=(Scenes(words=scene_words()),) if transforms is None else transforms,
        prompts={task: PROMPTS[task] for task in written.tasks} if prompts is None else prompts,
        **options,
    )


def write_manifests(
    root: str | Path,
    folder: str | Path,
    part: Evaluated = "final",
    held_out_speaker: str = "theo",
    corpora: Sequence[str] = (),
) -> Manifests:
    """Write a training manifest for each corpus, and one of all clips to evaluate on.

    A training clip whose origin is that of an evaluation clip of any corpus is left out, also if only the held-out part
    has it.

    Args:
        root: folder of the corpora.
        folder: folder to write to.
        part: see `data_module`.
        held_out_speaker: speaker of the digits who is held out.
        corpora: names of the corpora to read; default: all.

    Raises:
        FileNotFoundError: there is none of the corpora.
        UserError: a corpus is not in its layout, or nothing is left of a part.
    """
    if part not in ("develop", "final"):
        raise UserError(f"part is 'develop' or 'final', got {part!r}")
    found = present(Path(root), held_out_speaker, corpora)
    clips = [pair for pairs in found.values() for pair in pairs]
    wanted: Part = "develop" if part == "develop" else "held_out"
    kept_back: set[Part] = {"develop", "held_out"} if part == "develop" else {"held_out"}
    # What is held out is no source of development either, so that tuning sees nothing of it.
    sealed = set() if wanted == "held_out" else _origins(clip for clip, its in clips if its == "held_out")
    evaluated = [_prompted(clip) for clip, its in clips if its == wanted and not _among(clip, sealed)]
    avoided = sealed | _origins(clip for clip, its in clips if its in kept_back)
    folder = Path(folder) / part
    train = {}
    for name, pairs in found.items():
        rest = [clip for clip, its in pairs if its not in kept_back]
        own = [clip for clip in rest if not _among(clip, avoided)]
        if len(own) < len(rest):
            log.info("%s: %d training clips share a source with evaluation, left out", name, len(rest) - len(own))
        if own:
            train[name] = write_manifest(folder / f"train_{name}.jsonl", own)
    if not train or not evaluated:
        raise UserError(f"{root}: {len(train)} corpora to train on and {len(evaluated)} clips to evaluate on are left")
    tasks = sorted({task for clip in evaluated for task in clip.labels})
    return Manifests(train, write_manifest(folder / "evaluate.jsonl", evaluated), tasks)


def _origins(clips: Iterable[Clip]) -> set[tuple[str, str]]:
    return {pair for clip in clips for pair in clip.origin.items()}


def _among(clip: Clip, origins: set[tuple[str, str]]) -> bool:
    return not origins.isdisjoint(clip.origin.items())


def _prompted(clip: Clip) -> Clip:
    """Return a clip with the prompts of its labels as captions: more would add nothing but time to an evaluation."""
    prompts = list(dict.fromkeys(PROMPTS[task].format(label=label) for task, label in clip.labels.items()))
    return replace(clip, captions=prompts, fields=["prompt"] * len(prompts))
