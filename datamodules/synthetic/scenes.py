"""Scenes, sequences of sounds: random ones for training, and ones with distinct captions for evaluation.

T samples at `SAMPLE_RATE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.random import Generator

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.captions.grammar import ADJECTIVES, Length
from slap.datamodules.synthetic.captions import NOUNS, Scene, SceneEvent, Step, noun
from slap.datamodules.synthetic.sounds import SAMPLE_RATE, Sound, synthesize

LENGTHS: dict[Length, tuple[Seconds, Seconds]] = {"short": (0.3, 0.5), "plain": (0.8, 1.1), "long": (1.8, 2.8)}
"""Shortest and longest sound of each length; wide gaps between them, so that the lengths can be heard."""

GAP: tuple[Seconds, Seconds] = (0.05, 0.25)
"""Silence between two steps."""

LONGEST: Seconds = 12.0
"""Largest duration of a scene."""

PAIRS = tuple(zip(list(NOUNS)[:6], list(NOUNS)[6:], strict=True))
"""Each kind with one other: the pairs of the task `order` of held-out clips."""


def render(scene: Scene, rng: Generator) -> Sound:
    """Synthesize the sound of a scene.

    Args:
        scene: the scene.
        rng: generator for durations, gaps and the sound of each event.

    Returns:
        (T,) waveform in -1 to 1 over a faint noise, 0.3 to 12 s.
    """
    steps = [_together([_event(event, rng) for event in step], rng) for step in scene]
    parts = [steps[0]]
    for step in steps[1:]:
        parts += [np.zeros(round(rng.uniform(*GAP) * SAMPLE_RATE), dtype=np.float32), step]
    sound = np.concatenate(parts)[: round(LONGEST * SAMPLE_RATE)]
    sound = sound + np.float32(10 ** rng.uniform(-3.5, -2.5)) * rng.standard_normal(len(sound), dtype=np.float32)
    return sound * min(np.float32(1), 0.95 / np.abs(sound).max())


def random_scene(rng: Generator) -> Scene:
    """Draw one to four events of different kinds, each after the event before or, one in five, over it."""
    kinds = rng.choice(list(NOUNS), size=rng.choice([1, 2, 3, 4], p=[0.25, 0.45, 0.2, 0.1]), replace=False)
    steps: list[Step] = []
    for kind in kinds:
        event = SceneEvent(str(kind), _length(rng))
        if steps and len(steps[-1]) == 1 and rng.random() < 0.2:
            steps[-1] = (*steps[-1], event)
        else:
            steps.append((event,))
    return tuple(steps)


def held_out_scenes(count: int, rng: Generator) -> list[Scene]:
    """Draw scenes with distinct meanings, so that each caption fits one clip: singles, hard pairs, then random ones.

    Singles are all kinds in all lengths. Hard pairs come with their mirror image: the same two sounds with the same
    lengths in reverse order. Half of the remaining scenes are hard pairs with their mirror images, as far as there are
    any; the rest is random.

    Args:
        count: number of scenes, at least one for each kind and length.
        rng: generator for the choice of hard pairs and the random scenes.

    Raises:
        ValueError: `count` is too small.
    """
    scenes: dict[frozenset[tuple[int, SceneEvent]], Scene] = {}
    singles: list[Scene] = [((SceneEvent(kind, length),),) for kind, length in product(NOUNS, LENGTHS)]
    if count < len(singles):
        raise UserError(f"a held-out split needs at least {len(singles)} clips, one per kind and length; got {count}")
    twos = list(_mirrored_pairs())
    chosen = rng.permutation(len(twos))[: (count - len(singles)) // 4]
    for scene in singles + [scene for i in chosen for scene in twos[i]]:
        scenes[meaning(scene)] = scene
    while len(scenes) < count:
        scene = random_scene(rng)
        scenes.setdefault(meaning(scene), scene)
    return list(scenes.values())


def meaning(scene: Scene) -> frozenset[tuple[int, SceneEvent]]:
    """Return the content of a full caption of the scene: its events, each with the number of its step."""
    return frozenset((i, event) for i, step in enumerate(scene) for event in step)


def labels(scene: Scene) -> dict[str, str]:
    """Return the label of a scene for each zero-shot task that it belongs to.

    `event`: the kind of a scene with one event, e.g. "a bell". `duration`: "short" or "long", for such a scene of that
    length. `order`: the order of a hard pair, e.g. "a beep, then a bell"; "a bell, then a beep" is another class.
    """
    kinds = tuple(event.kind for step in scene for event in step)
    if len(kinds) == 1:
        length = scene[0][0].length
        return {"event": _name(kinds[0])} | ({"duration": length} if length != "plain" else {})
    if len(scene) == 2 and (kinds in PAIRS or kinds[::-1] in PAIRS):
        return {"order": f"{_name(kinds[0])}, then {_name(kinds[1])}"}
    return {}


def _mirrored_pairs() -> Iterator[tuple[Scene, Scene]]:
    for (one, other), (first, second) in product(PAIRS, product(LENGTHS, LENGTHS)):
        a, b = (SceneEvent(one, first),), (SceneEvent(other, second),)
        yield (a, b), (b, a)


def _name(kind: str) -> str:
    return noun(SceneEvent(kind))


def _length(rng: Generator) -> Length:
    return list(ADJECTIVES)[rng.choice(3, p=[0.4, 0.4, 0.2])]


def _event(event: SceneEvent, rng: Generator) -> Sound:
    return synthesize(event.kind, rng.uniform(*LENGTHS[event.length]), rng)


def _together(sounds: list[Sound], rng: Generator) -> Sound:
    """Mix sounds: the shorter ones begin at a random place within the longest."""
    mixed = np.zeros(max(len(sound) for sound in sounds), dtype=np.float32)
    for sound in sounds:
        begin = rng.integers(len(mixed) - len(sound) + 1)
        mixed[begin : begin + len(sound)] += sound
    return mixed
