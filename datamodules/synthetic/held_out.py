"""Held-out sounds, synthesized anew for each use, and scenes of them with captions and questions.

All captions are full: they name the length of each sound that is short or long. Two clips that show the same have the
same caption, word for word; so a caption is true of the clips that have it, and of no other.

T samples at `RATE`, E events.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from slap.core.errors import UserError
from slap.datamodules.augment.scene_events import Event, loudest_event
from slap.datamodules.augment.scene_layout import Layout, lay_out, named, render, segments
from slap.datamodules.augment.scene_plan import Plan, drawn_plan
from slap.datamodules.captions.grammar import Named, Step, describe
from slap.datamodules.manifests.clip import Clip
from slap.datamodules.scenes.questions import LONGEST, RATE, questions
from slap.datamodules.scenes.write import write_audio, write_sound
from slap.datamodules.synthetic.singles import SINGLES, single, write_single
from slap.datamodules.synthetic.words import WORDS

OVERLAPS, REPEATS = 0.3, 0.3
"""Share of the sounds of captioned scenes that are heard over others, and of those that are heard several times."""


@dataclass
class NewSounds:
    """Sounds that no clip has: each draw synthesizes another one.

    Args:
        name: the part that they are for; ids begin with it.
    """

    name: str
    drawn: int = 0

    def draw(self, rng: random.Random) -> tuple[Event, str]:
        """Draw an event of any kind and length, and an id for it."""
        kind, length = rng.choice(SINGLES)
        self.drawn += 1
        return loudest_event(single(kind, length, rng), RATE, WORDS[kind]), f"{self.name}-sound-{self.drawn}"


def held_out_clips(folder: Path, size: int, rng: random.Random) -> Iterator[Clip]:
    """Write held-out audio, and yield its clips: single sounds, captioned scenes, and scenes with questions.

    Args:
        folder: folder to write to; ids begin with its name.
        size: number of single sounds, and of captioned scenes, and least number of questions of each kind.
        rng: generator of all that is drawn.

    Raises:
        UserError: `size` is below the number of kinds and lengths.
    """
    if size < len(SINGLES):
        raise UserError(f"a held-out split needs at least {len(SINGLES)} clips, one per kind and length; got {size}")
    folder.mkdir(parents=True)
    for number in range(size):
        kind, length = SINGLES[number % len(SINGLES)]
        text = caption([(Named(WORDS[kind], length),)])
        yield write_single(folder / f"{number:05d}.wav", kind, length, [text], rng)
    sounds = NewSounds(folder.name)
    for number, (layout, events, text) in enumerate(islice(_distinct_scenes(sounds, rng), size)):
        path = folder / f"scene-{number:04d}.wav"
        write_sound(path, render(layout, events, RATE))
        known, seconds = segments(layout, events, RATE), layout.size / RATE
        yield Clip(f"{folder.name}-{path.stem}", path, [text], duration=seconds, segments=known)
    for question, number, path in write_audio(questions(sounds, size, rng), folder, ".wav"):
        text = caption(steps_of(question.layouts[number], question.events))
        yield replace(question.clip(number, f"{folder.name}-{path.stem}", path), captions=[text])


def _distinct_scenes(sounds: NewSounds, rng: random.Random) -> Iterator[tuple[Layout, Sequence[Event], str]]:
    """Yield scenes of two to four sounds of different kinds, no two of which mean the same; mirror images in a row."""
    seen: set[str] = set()
    while True:
        found: dict[str, Event] = {}
        (count,) = rng.choices((2, 3, 4), (12, 6, 2))
        while len(found) < count:
            event, _ = sounds.draw(rng)
            found.setdefault(event.words.text, event)
        events = list(found.values())
        plan: Plan = drawn_plan(events, RATE, rng, OVERLAPS, REPEATS)
        for way in {plan: None, plan[::-1]: None}:
            layout = lay_out(way, events, RATE, rng, LONGEST)
            text = caption(steps_of(layout, events)) if layout else ""
            if layout and text not in seen:
                seen.add(text)
                yield layout, events, text


def steps_of(layout: Layout, events: Sequence[Event]) -> list[Step]:
    """Return all that a full caption says of a scene; of two sounds at once it does not say which one is the longer."""
    steps = named(layout, events, RATE, random.Random(0), 1.0)
    if len(steps) == len(steps[0]) == 1 and steps[0][0].count == 1:
        return [(Named(steps[0][0].words, next(layout.placed()).length(RATE)),)]
    return [tuple(sorted(step, key=lambda one: one.words.text)) for step in steps]


def caption(steps: Sequence[Step]) -> str:
    """Return a caption, always the same for the same steps.

    Example:
        >>> caption([(Named(WORDS["bell"], "long"),), (Named(WORDS["siren"]),)])
        'a long chime, then a siren wails'
    """
    return describe(steps, random.Random(repr(steps)))
