"""Choices of `own_data` by the training clips: the held-out part, sizes and the number of steps. All are ours.

They follow `digits_and_sounds`, whose settings were measured: small encoders, a small batch, many passes.

n clips.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules import captions_of
from slap.datamodules.huggingface.source import Source, is_huggingface
from slap.datamodules.manifests.filters import groups_of, held_out, split_filter
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import Clips, ClipSubset, ConcatClips
from slap.datamodules.sampling.mixture import Manifests, NamedManifests

SUITED = (500, 50_000)
"""Numbers of training clips for which the recipe is made; it trains on others with a word about it."""

HELD_OUT = 0.1
"""Share of the clips that validates where no validation clips are given, ..."""

FEWEST, MOST, LARGEST_SHARE = 50, 2000, 0.2
"""... but this many clips at least and at most, and at most this share."""

SOURCES, HELD_OUT_SOURCES = 20, 4
"""Fewest sources that are split, and fewest that are held out: of fewer, chance decides what validation says."""

READABLE = ("data_root", "columns", "remote_roots", "max_bad")
"""Options of the data module that reading its manifests takes too."""


@dataclass(frozen=True)
class Facts:
    """Facts about training clips.

    Attributes:
        clips: n.
        seconds: of all of them, each as far as it is not cropped.
        vocabulary: number of different words and characters of their captions.
    """

    clips: int
    seconds: Seconds
    vocabulary: int

    @classmethod
    def of(cls, clips: Clips, max_clip: Seconds | None) -> Facts:
        """Look at clips, of which training hears `max_clip` seconds each at most."""
        words: set[str] = set()
        for caption in captions_of(clips):
            words.update(caption.lower().split(), caption.lower())
        durations = np.asarray(clips.durations)
        heard = durations if max_clip is None else np.minimum(durations, max_clip)
        return cls(len(clips), float(heard.sum()), len(words))


@dataclass(frozen=True)
class Choice:
    """Sizes and lengths of a run.

    Attributes:
        size: of both encoders.
        vocab_size: largest number of pieces of the tokenizer.
        max_duration: seconds of audio per batch.
        max_steps: optimizer steps.
    """

    size: str
    vocab_size: int
    max_duration: Seconds
    max_steps: int

    @classmethod
    def by(cls, facts: Facts, gpu: bool, max_duration: Seconds | None = None) -> Choice:
        """Choose for some training clips.

        Sixty passes over 500 clips, and fewer in proportion to the root of their number: so 50,000 clips are heard six
        times. A batch has 32 clips, or 64 on a GPU, within limits of its length.

        Args:
            facts: about the clips.
            gpu: a GPU trains; else the encoders stay at the smallest size, and the run within a night.
            max_duration: seconds of audio per batch, if they are given.
        """
        mean = max(facts.seconds / facts.clips, 0.1)
        shortest, longest, clips = (120.0, 1200.0, 64) if gpu else (60.0, 480.0, 32)
        batch = max_duration or float(np.clip(10 * round(clips * mean / 10), shortest, longest))
        passes = float(np.clip(PASSES * sqrt(SUITED[0] / facts.clips), PASSES / 10, PASSES))
        steps = max(facts.seconds * passes / batch, 300)
        if not gpu:
            steps = min(steps, NIGHT / batch)
        size = "nano" if not gpu or facts.clips < 3000 else "tiny" if facts.clips < 20_000 else "small"
        vocabulary = int(np.clip(100 * -(-(300 + facts.vocabulary) // 100), 400, 8000))
        return cls(size, vocabulary, batch, max(_rounded(steps), 1))


PASSES = 60
"""Passes over the fewest clips that the recipe is made for."""

NIGHT: Seconds = 2.4e6
"""Audio that the smallest encoders hear in some six hours on two CPU cores, at 113 s per second."""


def warmup(max_steps: int) -> int:
    """Return the steps of warm-up: a twentieth of all, and 10 to 500."""
    return int(np.clip(max_steps // 20, min(10, max_steps // 2), 500))


def validations(max_steps: int) -> int:
    """Return the number of validations of a run: twenty, or one per 20 steps if these are fewer."""
    return int(np.clip(max_steps // 20, 1, 20))


def _rounded(steps: float) -> int:
    """Round to two digits.

    Example:
        >>> _rounded(1562.5), _rounded(312.0)
        (1600, 310)
    """
    return int(float(f"{steps:.2g}"))


def on_gpu(options: Mapping[str, Any]) -> bool:
    """Return whether the options of a run have a GPU train it."""
    asked = options.get("trainer.accelerator") or "auto"
    return asked in ("gpu", "cuda") or (asked == "auto" and torch.cuda.is_available())


def read(train: Manifests, options: Mapping[str, Any]) -> ConcatClips:
    """Read the training manifests.

    Raises:
        ValueError: there are none, or one is a stream, whose clips nobody has counted.
    """
    paths = NamedManifests.of(train).paths
    if not paths:
        raise UserError("own_data trains on pairs of audio and caption: give --data.train my.csv")
    for path in paths:
        if is_huggingface(path) and Source.of(path).streaming:
            raise UserError(f"own_data chooses by the clips, and {path} is a stream: use the recipe base for it")
    how = {name: options[f"data.{name}"] for name in READABLE if options.get(f"data.{name}") is not None}
    return ConcatClips([read_manifest(path, **how) for path in paths])


def split(train: Manifests, clips: ConcatClips) -> tuple[Manifests, Manifests, Clips, str]:
    """Hold out a part of the training clips, the same ones each time; clips of one source stay together.

    Args:
        train: the training manifests.
        clips: their clips.

    Returns:
        The manifests to train on and those to validate on, the clips to train on, and a sentence about the split.

    Raises:
        ValueError: there are too few sources, or a manifest has a filter already.
    """
    named = NamedManifests.of(train)
    filtered = [path for path in named.paths if split_filter(path)[1]]
    if filtered:
        raise UserError(f"{filtered[0]} is a part of a manifest; name the clips to validate on too, by --data.val")
    total = len(clips)
    share = min(float(f"{np.clip(HELD_OUT, FEWEST / total, MOST / total):.2g}"), LARGEST_SHARE)
    parts = list(zip(clips.sources, named.paths, strict=True))
    groups = np.concatenate([groups_of(part, path.parent) for part, path in parts])
    out = np.concatenate([held_out(part, share, path.parent) for part, path in parts])
    sources, kept = len(np.unique(groups)), len(np.unique(groups[out]))
    if sources < SOURCES or kept < HELD_OUT_SOURCES:
        raise UserError(
            f"{', '.join(map(str, named.paths))}: {total} clips of {sources} sources are too few to hold some out for "
            f"validation ({kept} sources would be; at least {HELD_OUT_SOURCES} of {SOURCES} are needed): name clips "
            "from elsewhere by --data.val val.csv. A source is a recording (youtube, freesound), or else a file"
        )
    said = (
        f"no --data.val is given, so {int(out.sum())} clips of {kept} of the {sources} sources validate, always the "
        f"same ones (#heldout={share:g}), and are not trained on"
    )
    left = ClipSubset(clips, np.flatnonzero(~out))
    return _each(train, f"#train={share:g}"), _each(train, f"#heldout={share:g}"), left, said


def _each(manifests: Manifests, suffix: str) -> Manifests:
    if isinstance(manifests, Mapping):
        return {name: _each(paths, suffix) for name, paths in manifests.items()}  # type: ignore[misc]
    if isinstance(manifests, str | Path):
        return f"{manifests}{suffix}"
    return [f"{path}{suffix}" for path in manifests]


def is_first_process() -> bool:
    """Return whether this is the first of the processes that a launcher started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def in_words(facts: Facts, choice: Choice, options: Mapping[str, Any], gpu: bool) -> Sequence[str]:
    """Write what was chosen, a sentence per line."""
    steps, batch = options["trainer.max_steps"], options["data.max_duration"]
    passes = steps * batch / facts.seconds
    lines = [
        f"trains on {facts.clips} clips, {facts.seconds / 3600:.2f} h, on {'a GPU' if gpu else 'the CPU'}",
        f"encoders of the size {options['model.size']}, a vocabulary of up to {options['model.vocab_size']} pieces",
        f"{steps} steps of {batch:g} s of audio, about {passes:.0f} passes, {options['model.warmup_steps']} of warm-up",
    ]
    fewest, most = SUITED
    if facts.clips < fewest:
        lines.append(
            f"fewer than {fewest} clips are little to learn from: compare with fine-tuning a trained model, by "
            "`slap fit --recipe finetune --model.start MODEL`"
        )
    elif facts.clips > most:
        lines.append(f"more than {most} clips deserve larger encoders: see the recipe base")
    elif not gpu and choice.max_steps * batch >= 0.97 * NIGHT:
        lines.append("on a GPU it would make more passes")
    return lines
