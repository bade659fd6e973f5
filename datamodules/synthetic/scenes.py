"""Scenes: which sounds, how long, in what order; drawn at random for training, laid out to be told apart for testing.

T samples at `SAMPLE_RATE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.random import Generator

from slap.core.units import Seconds
from slap.datamodules.synthetic.captions import ADJECTIVES, NOUNS, Length, Scene, SceneEvent, Step, noun
from slap.datamodules.synthetic.sounds import SAMPLE_RATE, Sound, synthesize

LENGTHS: dict[Length, tuple[Seconds, Seconds]] = {"short": (0.3, 0.5), "plain": (0.8, 1.1), "long": (1.8, 2.8)}
"""Shortest and longest sound of each length; wide gaps between, so that the words mean something."""

GAP: tuple[Seconds, Seconds] = (0.05, 0.25)
"""Silence between two steps."""

LONGEST: Seconds = 12.0
"""No scene lasts longer."""

PAIRS = tuple(zip(list(NOUNS)[:6], list(NOUNS)[6:], strict=True))
"""Each kind with one other: the pairs whose order held-out clips ask for."""


def render(scene: Scene, rng: Generator) -> Sound:
    """The sound of a scene.

    Args:
        scene: what is heard.
        rng: chooses durations, gaps and how each event sounds.

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
    """One to four events of different kinds, each at the end of what came before or, one in five, over it."""
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
    """Scenes that all mean something else, so that each caption fits one clip: singles, hard pairs, then random ones.

    Singles are all kinds in all lengths. Hard pairs come with their mirror image: the same two sounds, each as long as
    before, the other way round. Half of what is left of `count` are such pairs as far as there are any, in whole
    twos; the rest is random.

    Args:
        count: scenes, at least one for each kind and length.
        rng: of the choice of hard pairs and of the random scenes.
    """
    scenes: dict[frozenset[tuple[int, SceneEvent]], Scene] = {}
    singles: list[Scene] = [((SceneEvent(kind, length),),) for kind, length in product(NOUNS, LENGTHS)]
    if count < len(singles):
        raise ValueError(f"a held-out split needs at least {len(singles)} clips, one a kind and length; got {count}")
    twos = list(_mirrored_pairs())
    chosen = rng.permutation(len(twos))[: (count - len(singles)) // 4]
    for scene in singles + [scene for i in chosen for scene in twos[i]]:
        scenes[meaning(scene)] = scene
    while len(scenes) < count:
        scene = random_scene(rng)
        scenes.setdefault(meaning(scene), scene)
    return list(scenes.values())


def meaning(scene: Scene) -> frozenset[tuple[int, SceneEvent]]:
    """What a caption of the scene can say of it: its events, each with the step that it belongs to."""
    return frozenset((i, event) for i, step in enumerate(scene) for event in step)


def labels(scene: Scene) -> dict[str, str]:
    """What zero-shot tasks ask of a scene.

    `event`: the kind of a scene with one event, e.g. "a bell". `duration`: "short" or "long", where such an event is
    one. `order`: of a hard pair, e.g. "a beep, then a bell"; "a bell, then a beep" is a class too.
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
    """The sounds at once: the shorter ones begin anywhere within the longest."""
    mixed = np.zeros(max(len(sound) for sound in sounds), dtype=np.float32)
    for sound in sounds:
        begin = rng.integers(len(mixed) - len(sound) + 1)
        mixed[begin : begin + len(sound)] += sound
    return mixed
