"""The plan of a scene: its sounds in steps, with their counts, lengths and levels.

E events.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from slap.datamodules.augment.base import Decibels
from slap.datamodules.augment.scene_events import KEPT, Event
from slap.datamodules.captions.grammar import Length

COUNTS = (1, 2, 3)

APART: Decibels = 12.0
"""Least difference of levels that a caption may name."""


@dataclass(frozen=True)
class Part:
    """An event of a plan.

    Attributes:
        event: number of the event.
        count: number of times that it is heard.
        length: length of it that is wished for, if it is a lasting sound.
        gain: level relative to the first event, dB.
    """

    event: int
    count: int = 1
    length: Length = "plain"
    gain: Decibels = 0.0


Plan = tuple[tuple[Part, ...], ...]
"""Steps in order, of one part, or of two that sound together; the second lies within the first."""


def drawn_plan(events: Sequence[Event], rate: int, rng: random.Random, overlaps: float, repeats: float) -> Plan:
    """Draw a plan of events, each of which comes in it.

    Args:
        events: E.
        rate: sample rate, Hz.
        rng: generator of all that is drawn.
        overlaps: probability that two that follow each other are heard together instead.
        repeats: probability that one that can be counted is heard two or three times.
    """
    steps: list[tuple[Part, ...]] = []
    alone = len(events) == 1
    for number, event in enumerate(events):
        part = Part(number, gain=_gain(rng, events) if number else 0.0)
        if countable(event, rate) and (rng.random() < repeats or alone):
            part = replace(part, count=rng.choice(COUNTS if alone else COUNTS[1:]))
        elif event.words.lasting:
            part = replace(part, length=rng.choice(_lengths(alone)))
        if steps and len(steps[-1]) == 1 and rng.random() < overlaps:
            steps[-1] = overlap(steps[-1][0], part, events, rng)
        else:
            steps.append((part,))
    return tuple(steps)


def simple(plan: Plan) -> Plan:
    """Return a plan of the same events one after the other, each heard once."""
    return tuple((replace(part, count=1),) for step in plan for part in step)


def countable(event: Event, rate: int) -> bool:
    """Tell if the repetitions of an event can be counted: it is short, and one thing, not four knocks."""
    words = event.words
    once = words.whole or (bool(words.plural) and event.bursts == 1)
    return once and not words.lasting and len(event.samples) <= KEPT * rate


def overlap(one: Part, other: Part, events: Sequence[Event], rng: random.Random) -> tuple[Part, Part]:
    """Return two parts as one step: the shorter sound within the longer one, and not softer.

    Args:
        one: a part.
        other: the other part.
        events: E.
        rng: generator for the level of the inner sound.
    """
    base, inner = sorted((one, other), key=lambda part: len(events[part.event].samples), reverse=True)
    length: Length = "long" if events[base.event].words.lasting else "plain"
    inner = replace(inner, count=1, length="short" if events[inner.event].words.lasting else "plain")
    return replace(base, count=1, length=length), replace(inner, gain=base.gain + abs(_gain(rng, events)))


def twin(plan: Plan, events: Sequence[Event], rate: int, rng: random.Random) -> Plan | None:
    """Return a plan of the same sounds with another caption, if there is one: in another order, number or length.

    Args:
        plan: a plan.
        events: E.
        rate: sample rate, Hz.
        rng: generator for the choice.
    """
    ways: list[Plan] = []
    if len(plan) > 1:
        ways += [plan[::-1]] * 2
    for number, step in enumerate(plan):
        before, after = plan[:number], plan[number + 1 :]
        if len(step) == 2:
            ways.append((*before, (step[0],), (step[1],), *after))
        elif countable(events[step[0].event], rate):
            count = rng.choice([count for count in COUNTS if count != step[0].count])
            ways.append((*before, (replace(step[0], count=count),), *after))
        elif events[step[0].event].words.lasting and step[0].length != "plain":
            length: Length = "short" if step[0].length == "long" else "long"
            ways.append((*before, (replace(step[0], length=length),), *after))
        if len(step) == 1 and after and len(after[0]) == 1:
            ways.append((*before, overlap(step[0], after[0][0], events, rng), *after[1:]))
    return rng.choice(ways) if ways else None


def _gain(rng: random.Random, events: Sequence[Event]) -> Decibels:
    """Draw a difference of levels; between two events, one in five is at least so large as captions name."""
    if len(events) == 2 and rng.random() < 0.2:
        return rng.choice((-1, 1)) * rng.uniform(APART, 1.5 * APART)
    return rng.uniform(-APART / 2, APART / 2)


def _lengths(alone: bool) -> tuple[Length, ...]:
    return ("short", "long") if alone else ("short", "plain", "long")
