"""Scenes of a few sounds, and a small grammar that describes the sounds and their order in English."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from slap.datamodules.captions.grammar import ADJECTIVES, ADVERBS, SEQUENCES, Length, qualified, with_article

NOUNS: dict[str, tuple[str, ...]] = {
    "beep": ("beep", "steady tone"),
    "rising": ("rising whistle", "upward sweep"),
    "falling": ("falling whistle", "downward sweep"),
    "hiss": ("hiss", "jet of steam"),
    "rumble": ("rumble", "roll of thunder"),
    "ticking": ("ticking clock", "run of clicks"),
    "bell": ("bell", "chime"),
    "siren": ("siren", "wailing alarm"),
    "bird": ("bird", "chirping call"),
    "buzz": ("buzz", "droning bee"),
    "knock": ("knock", "rap on wood"),
    "bubbles": ("gurgle", "stream of bubbles"),
}
"""Nouns for each kind of sound; the first one is its label."""

CLAUSES: dict[str, str] = {
    "beep": "a machine beeps",
    "rising": "a pitch climbs",
    "falling": "a pitch drops",
    "hiss": "steam hisses",
    "rumble": "thunder rumbles",
    "ticking": "a clock ticks",
    "bell": "a bell rings",
    "siren": "a siren wails",
    "bird": "a bird chirps",
    "buzz": "a bee buzzes",
    "knock": "somebody knocks",
    "bubbles": "water bubbles",
}
"""A short sentence for each kind of sound."""


@dataclass(frozen=True)
class SceneEvent:
    """One sound of a scene: a key of `NOUNS`, and a length."""

    kind: str
    length: Length = "plain"


Step = tuple[SceneEvent, ...]
"""Events that sound together, one or two."""

Scene = tuple[Step, ...]
"""Steps that follow each other."""


def describe(scene: Scene, rng: Generator, mention: float = 1.0) -> str:
    """Draw one of the many captions of a scene.

    Args:
        scene: one to four steps.
        rng: generator for the choice of words.
        mention: probability that the length of a short or long sound is named. Below 1, a caption of a single such
            sound may also consist of the length alone: "a long sound".

    Example:
        >>> import numpy as np
        >>> scene = ((SceneEvent("bell", "long"),), (SceneEvent("siren"),))
        >>> describe(scene, np.random.default_rng(1))
        'a long chime, then a wailing alarm'
    """
    named = tuple(tuple(_maybe_plain(event, rng, mention) for event in step) for step in scene)
    if len(named) > 1:
        caption = _choose(SEQUENCES[len(named)], rng).format(*(_phrase(step, rng) for step in named))
    elif len(named[0]) == 1:
        return _alone(named[0][0], rng, vague=mention < 1)
    else:
        caption = _choose((_phrase(named[0], rng), _while(named[0], rng)), rng)
    return "the sound of " + caption if caption.startswith("a") and rng.random() < 0.2 else caption


def noun(event: SceneEvent, rng: Generator | None = None) -> str:
    """Return an event as a noun with its article, e.g. "a short bell"; without `rng`, the first words of the lists."""
    words = ADJECTIVES[event.length], NOUNS[event.kind]
    adjective, name = (_choose(options, rng) if rng else options[0] for options in words)
    return qualified(with_article(name), adjective)


def clause(event: SceneEvent) -> str:
    """Return an event as a sentence, e.g. "a bell rings briefly"."""
    return CLAUSES[event.kind] + ADVERBS[event.length]


def _alone(event: SceneEvent, rng: Generator, vague: bool) -> str:
    ways = [noun(event, rng), clause(event), f"the sound of {noun(event, rng)}"]
    if event.length != "plain":
        adjective = _choose(ADJECTIVES[event.length], rng)
        ways.append(f"a {adjective} sound of {noun(SceneEvent(event.kind), rng)}")
        if vague:
            ways.append(f"a {adjective} sound")
    return _choose(tuple(ways), rng)


def _phrase(step: Step, rng: Generator) -> str:
    """Return a step as a noun phrase that fits anywhere in a sequence."""
    if len(step) == 1:
        return noun(step[0], rng)
    one, other = (noun(step[i], rng) for i in rng.permutation(2))
    return _choose((f"{one} together with {other}", f"{one} over {other}"), rng)


def _while(step: Step, rng: Generator) -> str:
    one, other = (step[i] for i in rng.permutation(2))
    return f"{noun(one, rng)} while {clause(other)}"


def _maybe_plain(event: SceneEvent, rng: Generator, mention: float) -> SceneEvent:
    return event if rng.random() < mention else SceneEvent(event.kind)


def _choose(options: tuple[str, ...], rng: Generator) -> str:
    return options[rng.integers(len(options))]
