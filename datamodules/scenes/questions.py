"""Questions about scenes: a few captions of which one is true, about order, count, length and overlap.

All candidates of a question are made of the same words but for those that are asked about. They come with as many
scenes, of the same sounds and equally long, of which each has another right one. So neither the words, nor which sounds
are heard, nor the duration of a scene answers a question.

T samples of a scene, E events.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from slap.core.errors import UserError
from slap.datamodules.augment.scene_events import Event
from slap.datamodules.augment.scene_layout import LENGTHS, Layout, lay_out, render, segments
from slap.datamodules.augment.scene_plan import COUNTS, Part, Plan, countable, overlap
from slap.datamodules.captions.grammar import AT_ONCE, FOLLOWED, SEQUENCES, TOGETHER, Length, Named
from slap.datamodules.manifests.clip import Clip

RATE = 16_000
"""Sample rate of the scenes, Hz."""

LONGEST = 10 * RATE
"""Largest size of a scene, samples."""

QUESTIONS = ("order", "count", "duration", "overlap")

TRIES = 200
"""Draws per question before it is given up that there are enough sounds."""


class Sounds(Protocol):
    """Sounds that training never has."""

    def draw(self, rng: random.Random) -> tuple[Event, str]:
        """Draw an event, and the id of the clip that it is from."""


@dataclass(frozen=True)
class Question:
    """Scenes of the same clips, and a caption of each; that of another one is a wrong candidate.

    Attributes:
        task: name of the task.
        layouts: a layout for each scene.
        captions: a caption for each scene.
        events: E.
        clips: ids of the clips of the events.
    """

    task: str
    layouts: Sequence[Layout]
    captions: Sequence[str]
    events: Sequence[Event]
    clips: Sequence[str]

    def render(self, number: int) -> np.ndarray:
        """Return the audio of a scene, (T,) float32 within -1 to 1."""
        return render(self.layouts[number], self.events, RATE)

    def clip(self, number: int, name: str, path: Path) -> Clip:
        """Return the clip of a scene; scenes of the same clips have the same origin."""
        right = self.captions[number]
        layout = self.layouts[number]
        return Clip(
            name,
            path,
            [right],
            corpus="scenes",
            duration=layout.size / RATE,
            origin={"scene": " ".join(self.clips)},
            choices={self.task: [right, *(text for text in self.captions if text != right)]},
            segments=segments(layout, self.events, RATE),
        )


def questions(sounds: Sounds, least: int, rng: random.Random) -> Iterator[Question]:
    """Yield questions of all kinds; each of their scenes asks one.

    Args:
        sounds: held-out sounds.
        least: least number of scenes of each kind of question.
        rng: generator of all that is drawn.

    Raises:
        UserError: the sounds do not suffice for a kind of question.
    """
    kinds: dict[str, Callable[[Sounds, random.Random], Question | None]] = {
        "order": order,
        "count": count,
        "duration": duration,
        "overlap": overlapping,
    }
    for task, ask in kinds.items():
        asked = failed = 0
        while asked < least:
            question = ask(sounds, rng)
            if question is not None:
                asked, failed = asked + len(question.layouts), 0
                yield question
                continue
            failed += 1
            if failed == TRIES:
                raise UserError(f"the held-out clips do not suffice for {least} questions of {task}; got {asked}")


def order(sounds: Sounds, rng: random.Random) -> Question | None:
    """Compose two sounds in both orders; None if the sounds that were drawn do not suit, as for the others."""
    pair = _pair(sounds, rng)
    if pair is None:
        return None
    events, clips = pair
    one, other = Part(0), Part(1, gain=rng.uniform(-6, 6))
    texts, sequences, _ = _wording(events, rng)
    template = rng.choice(sequences)
    captions = [template.format(*texts), template.format(*texts[::-1])]
    return _question("order", [((one,), (other,)), ((other,), (one,))], captions, events, clips, rng)


def count(sounds: Sounds, rng: random.Random) -> Question | None:
    """Compose a sound once, twice and three times."""
    event, clip = sounds.draw(rng)
    if not countable(event, RATE):
        return None
    names = [Named(event.words, count=number) for number in COUNTS]
    # "one bark" and "a single bark" have no counterparts among "two barks".
    forms = [[*name.nouns()[: len(names[1].nouns())], *name.clauses()] for name in names]
    form = rng.randrange(len(forms[0]))
    plans: list[Plan] = [((Part(0, count=number),),) for number in COUNTS]
    return _question("count", plans, [texts[form] for texts in forms], [event], [clip], rng)


def duration(sounds: Sounds, rng: random.Random) -> Question | None:
    """Compose a short and a long segment of a lasting sound."""
    event, clip = sounds.draw(rng)
    if not event.words.lasting or len(event.samples) < LENGTHS["long"][0] * RATE:
        return None
    lengths: tuple[Length, ...] = ("short", "long")
    forms = [Named(event.words, length).forms() for length in lengths]
    form = rng.randrange(len(forms[0]))
    plans: list[Plan] = [((Part(0, length=length),),) for length in lengths]
    return _question("duration", plans, [texts[form] for texts in forms], [event], [clip], rng)


def overlapping(sounds: Sounds, rng: random.Random) -> Question | None:
    """Compose two sounds together, and one after the other."""
    pair = _pair(sounds, rng)
    if pair is None:
        return None
    events, clips = pair
    base, inner = overlap(Part(0), Part(1), events, rng)
    first, second = rng.sample((base, inner), 2)
    texts, sequences, at_once = _wording(events, rng)
    together = rng.choice(at_once).format(texts[base.event], texts[inner.event])
    apart = rng.choice(sequences).format(texts[first.event], texts[second.event])
    return _question("overlap", [((base, inner),), ((first,), (second,))], [together, apart], events, clips, rng)


def _pair(sounds: Sounds, rng: random.Random) -> tuple[list[Event], list[str]] | None:
    """Draw two events of different kinds."""
    (one, first), (other, second) = sounds.draw(rng), sounds.draw(rng)
    return ([one, other], [first, second]) if one.words != other.words else None


def _wording(events: Sequence[Event], rng: random.Random) -> tuple[list[str], list[str], list[str]]:
    """Draw nouns or clauses for events, and return the templates for sequences and for overlaps that suit them."""
    if rng.random() < 0.5:
        return [rng.choice(event.words.nouns) for event in events], list(SEQUENCES[2]), list(TOGETHER)
    sequences = [template for template in SEQUENCES[2] if FOLLOWED not in template]
    return [rng.choice(event.words.clauses) for event in events], sequences, list(AT_ONCE)


def _question(
    task: str,
    plans: Sequence[Plan],
    captions: Sequence[str],
    events: Sequence[Event],
    clips: Sequence[str],
    rng: random.Random,
) -> Question | None:
    """Lay out the scenes of a question, all of one duration; None if one cannot be."""
    layouts = [lay_out(plan, events, RATE, rng, LONGEST) for plan in plans]
    whole = [layout for layout in layouts if layout is not None]
    if len(whole) < len(plans):
        return None
    size = max(layout.size for layout in whole)
    return Question(task, [_moved(layout, size, rng) for layout in whole], captions, events, clips)


def _moved(layout: Layout, size: int, rng: random.Random) -> Layout:
    """Return a layout of another size, its events moved together to a random place."""
    later = rng.randint(0, size - layout.size)
    steps = tuple(
        tuple(replace(placed, onsets=tuple(onset + later for onset in placed.onsets)) for placed in step)
        for step in layout.steps
    )
    return Layout(steps, size)
