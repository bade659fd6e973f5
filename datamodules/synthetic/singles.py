"""Clips of a single sound, of every kind and length.

T samples at `RATE`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from slap.core.units import Seconds
from slap.datamodules.captions.grammar import Length
from slap.datamodules.manifests.clip import Clip
from slap.datamodules.scenes.questions import RATE
from slap.datamodules.scenes.write import write_sound
from slap.datamodules.synthetic.sounds import Sound, synthesize
from slap.datamodules.synthetic.words import TASK, WORDS

LENGTHS: dict[Length, tuple[Seconds, Seconds]] = {"short": (0.4, 0.58), "plain": (0.8, 1.5), "long": (2.1, 3.5)}
"""Shortest and longest sound of each length, within the lengths that captions of scenes name."""

SILENCE = 0.3, 0.8
"""Silence before a sound, and after it, as shares of its duration. A scene takes the sound alone; the silence of the
clips that it is composed of leaves room in the batch for its twin."""

SINGLES = tuple(product(WORDS, LENGTHS))
"""Every kind in every length."""


def single(kind: str, length: Length, rng: random.Random) -> Sound:
    """Synthesize a sound over a faint noise, (T,) within -1 to 1."""
    draws = np.random.default_rng(rng.getrandbits(64))
    sound = synthesize(kind, draws.uniform(*LENGTHS[length]), draws)
    sound = sound + np.float32(10 ** draws.uniform(-3.5, -2.5)) * draws.standard_normal(len(sound), dtype=np.float32)
    return sound * min(np.float32(1), 0.95 / np.abs(sound).max())


def write_single(path: Path, kind: str, length: Length, captions: Sequence[str], rng: random.Random) -> Clip:
    """Write a sound in silence; return its clip with label and segment, and an id made of split and file."""
    sound, text = single(kind, length, rng), WORDS[kind].text
    before, after = (round(rng.uniform(*SILENCE) * len(sound)) for _ in range(2))
    size = before + len(sound) + after
    write_sound(path, np.pad(sound, (before, after)))
    known = [{"start": before / RATE, "end": (before + len(sound)) / RATE, "text": text}]
    return Clip(f"{path.parent.name}-{path.stem}", path, captions, {TASK: text}, duration=size / RATE, segments=known)
