"""The layout of a scene: events with their counts in steps, placed in time, and mixed.

T samples of a scene, E events.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slap.core.units import Seconds
from slap.datamodules.augment.scene_events import Event, level
from slap.datamodules.augment.scene_plan import APART, Part, Plan
from slap.datamodules.captions.grammar import Length, Named, Step

LENGTHS: dict[Length, tuple[Seconds, Seconds]] = {"short": (0.4, 0.6), "plain": (0.8, 1.6), "long": (2.0, 4.0)}
"""Shortest and longest segment of a lasting sound; wide gaps between them, so that the lengths can be heard."""

GAP: tuple[Seconds, Seconds] = (0.1, 0.8)
"""Silence between two steps."""

PAUSE: tuple[Seconds, Seconds] = (0.3, 0.8)
"""Silence between the repetitions of one event, longer than any pause within it."""

PAD: Seconds = 0.8
"""Longest silence before the first event and after the last one."""

WIDE, OFTEN_WIDE = 4.0, 0.15
"""Factor of all silences in scenes with wide ones, and the probability of such a scene."""

MARGIN: Seconds = 0.1
"""Time by which a sound outlasts another within it, at both ends."""

FADE: Seconds = 0.005
"""Fade-in and fade-out of each event, which avoid clicks."""


@dataclass(frozen=True)
class Placed:
    """An event with its place.

    Attributes:
        part: the part of the plan.
        start: first sample in the event.
        size: samples of the event.
        onsets: first samples in the scene, one for each time that it is heard.
    """

    part: Part
    start: int
    size: int
    onsets: tuple[int, ...]

    def length(self, rate: int) -> Length:
        """Return "short" or "long" if it certainly is, else "plain"."""
        short, long = LENGTHS["short"][1], LENGTHS["long"][0]
        seconds = self.size / rate
        return "short" if seconds <= short else "long" if seconds >= long else "plain"


@dataclass(frozen=True)
class Layout:
    """Events with their places, by step, and the size T of the scene."""

    steps: tuple[tuple[Placed, ...], ...]
    size: int

    def placed(self) -> Iterator[Placed]:
        """Yield all events."""
        for step in self.steps:
            yield from step


def lay_out(
    plan: Plan, events: Sequence[Event], rate: int, rng: random.Random, room: int, tries: int = 6
) -> Layout | None:
    """Draw places for the events of a plan.

    Args:
        plan: the steps.
        events: E.
        rate: sample rate, Hz.
        rng: generator for gaps and segments of events.
        room: largest T.
        tries: number of draws, each with shorter gaps; the last one has none but between repetitions.

    Returns:
        None if the plan does not fit into the room, or two sounds do not fit together.
    """
    most = WIDE if rng.random() < OFTEN_WIDE else 1.0
    for number in range(tries):
        scale = most * (1 - number / (tries - 1))
        layout = _drawn(plan, events, rate, rng, scale)
        if layout is not None and layout.size <= room:
            return layout
    return None


def _drawn(plan: Plan, events: Sequence[Event], rate: int, rng: random.Random, scale: float) -> Layout | None:
    def silence(low: Seconds, high: Seconds) -> int:
        return round(rate * scale * rng.uniform(low, high))

    now = silence(0, PAD) if rng.random() < 0.5 else 0
    steps: list[tuple[Placed, ...]] = []
    for number, step in enumerate(plan):
        now += silence(*GAP) if number else 0
        first = _segment(step[0], events[step[0].event], rate, rng)
        pause = round(rate * (PAUSE[0] + scale * rng.uniform(0, PAUSE[1] - PAUSE[0])))
        placed = replace(first, onsets=tuple(now + time * (first.size + pause) for time in range(step[0].count)))
        steps.append((placed,))
        now = placed.onsets[-1] + placed.size
        if len(step) == 2:
            inner = _segment(step[1], events[step[1].event], rate, rng)
            margin = round(MARGIN * rate)
            free = placed.size - inner.size - 2 * margin
            if free < 0:
                return None
            steps[-1] = (placed, replace(inner, onsets=(placed.onsets[0] + margin + rng.randint(0, free),)))
    return Layout(tuple(steps), now + (silence(0, PAD) if rng.random() < 0.5 else 0))


def _segment(part: Part, event: Event, rate: int, rng: random.Random) -> Placed:
    """Draw a segment of an event that contains its peak."""
    low, high = event.shortest, len(event.samples)
    if event.words.lasting:
        wished = [round(seconds * rate) for seconds in LENGTHS[part.length]]
        low, high = min(max(wished[0], low), high), min(wished[1], high)
    size = rng.randint(low, max(low, high))
    start = min(max(event.peak - rng.randrange(size), 0), len(event.samples) - size)
    return Placed(part, start, size, ())


def render(layout: Layout, events: Sequence[Event], rate: int) -> np.ndarray:
    """Return the audio of a scene, (T,) float32 within -1 to 1, at the level of its first event."""
    mixed = np.zeros(layout.size, dtype=np.float32)
    first = level(events[next(layout.placed()).part.event].samples)
    for placed in layout.placed():
        samples = events[placed.part.event].samples[placed.start : placed.start + placed.size]
        wave = _faded(samples, rate) * 10 ** ((first + placed.part.gain - level(samples)) / 20)
        for onset in placed.onsets:
            mixed[onset : onset + placed.size] += wave
    return mixed / max(1.0, float(np.abs(mixed).max()))


def _faded(samples: np.ndarray, rate: int) -> np.ndarray:
    edge = min(round(FADE * rate), len(samples) // 2)
    ramp = np.ones(len(samples), dtype=np.float32)
    ramp[:edge] = np.linspace(0, 1, edge, dtype=np.float32)
    ramp[len(ramp) - edge :] = ramp[:edge][::-1]
    return samples * ramp


def named(layout: Layout, events: Sequence[Event], rate: int, rng: random.Random, mention: float) -> list[Step]:
    """Return the sounds as a caption names them: nothing that is not so.

    Args:
        layout: the events with their places.
        events: E.
        rate: sample rate, Hz.
        rng: generator for what is mentioned.
        mention: probability that a length, or a difference of levels, is mentioned. A count above 1 always is, and so
            is something about a single event.
    """
    alone = sum(len(step) for step in layout.steps) == 1
    loudness = _loudness(list(layout.placed()), events) if rng.random() < mention else {}
    steps = []
    for step in layout.steps:
        names = []
        for placed in step:
            event, count = events[placed.part.event], placed.part.count
            words = event.words
            measured = words.lasting or (words.plural and event.bursts == 1)
            length = placed.length(rate) if measured and (alone or rng.random() < mention) else "plain"
            if count > 1 or (alone and (length == "plain" or (not words.lasting and rng.random() < 0.5))):
                names.append(Named(words, count=count))
            else:
                names.append(Named(words, length, loudness=loudness.get(placed.part.event, "")))
        steps.append(tuple(names))
    return steps


def _loudness(placed: Sequence[Placed], events: Sequence[Event]) -> dict[int, str]:
    """Return the loudness of two events by their numbers, if their levels are far apart and both have nouns."""
    if len(placed) != 2 or any(one.part.count > 1 or not events[one.part.event].words.nouns for one in placed):
        return {}
    first, second = (one.part for one in placed)
    if abs(first.gain - second.gain) < APART:
        return {}
    louder, softer = (first, second) if first.gain > second.gain else (second, first)
    return {louder.event: "loud", softer.event: "soft"}


def segments(layout: Layout, events: Sequence[Event], rate: int) -> list[dict[str, Any]]:
    """Return start and end of each event in seconds from the beginning of the scene, with a text for it, in order."""
    found = [
        {"start": onset / rate, "end": (onset + placed.size) / rate, "text": events[placed.part.event].words.text}
        for placed in layout.placed()
        for onset in placed.onsets
    ]
    return sorted(found, key=lambda segment: segment["start"])
