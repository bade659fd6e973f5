"""Scenes of the clips of a batch: sounds in order, together, or several times, with captions that say so.

T samples of a scene, E events.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from lhotse import CutSet, MonoCut, SupervisionSegment
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from slap.core.errors import UserError, suggest
from slap.core.units import Seconds
from slap.datamodules.audio.load import load, with_samples
from slap.datamodules.augment.base import RandomTransform
from slap.datamodules.augment.basic import unlabeled
from slap.datamodules.augment.scene_events import KEPT, Event, loudest_event, whole_event
from slap.datamodules.augment.scene_layout import APART, Layout, Part, Plan, lay_out, named, render, segments
from slap.datamodules.captions.grammar import Length, Words, describe
from slap.datamodules.segments import with_field

COUNTS = (1, 2, 3)


@dataclass(frozen=True)
class Scenes(RandomTransform):
    """Scenes of clips of the batch: one after the other, one over the other, or one up to three times.

    "A dog barks twice, then rain", "rain while somebody says yes", "a loud siren over soft rain". Lengths, counts and
    differences of levels are mentioned where they are so; levels differ by at least 12 dB then. Each clip is in one
    scene at most, the batch gets fewer clips and never more audio. A scene has an id of its own and no labels; its
    custom field `segments` lists its events, each with `start`, `end` and `text`.

    Of a clip with a label among `words`, the loudest event is taken, and lasting sounds may be cut. Any other clip is
    taken as a whole, without the silence around it, and its caption names it.

    Half of the scenes come with a twin of the same sounds in another order, number or length, since a model may pass
    over such words as long as no other clip of the batch has the same sounds.

    Args:
        probability: probability that a clip that is in no scene yet begins one.
        most: largest number of clips in a scene; the number is drawn, from `least` on.
        least: least number of clips in a scene; 1 has scenes of one sound, which is heard once or several times.
        overlaps: probability that two sounds that follow each other are heard together instead.
        repeats: probability that a short sound is heard two or three times.
        twins: probability that a scene comes with a twin.
        longest: largest duration of a scene, seconds.
        words: words for the sounds of clips by their labels: {label: {nouns: [a dog bark], clauses: [a dog barks],
            plural: dog barks, lasting: false}}. A label may have its task before it: "animal: dog".
        seed: seed of the random draws.
    """

    probability: float = 0.5
    most: int = 4
    least: int = 1
    overlaps: float = 0.3
    repeats: float = 0.35
    twins: float = 0.5
    longest: Seconds = 30.0
    words: Mapping[str, Words | Mapping[str, Any]] | None = None
    seed: int = 0
    before_mix = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(1 <= self.least <= self.most <= 4, "1 <= least <= most <= 4 clips", "least", "most")
        self._require(self.longest > 0, "longest > 0 s", "longest")
        for name in ("overlaps", "repeats", "twins"):
            self._require(0 <= getattr(self, name) <= 1, f"{name} within 0 to 1", name)
        read = {label: _as_words(label, words) for label, words in (self.words or {}).items()}
        object.__setattr__(self, "words", read)

    def __call__(self, cuts: CutSet) -> CutSet:
        """Return the scenes, and the cuts that are in none, in the order of their first clips."""
        waiting = list(cuts)
        made: list[Cut] = []
        spare = 0
        while waiting:
            first = waiting.pop(0)
            rng = self.draw(first)
            if rng is None:
                made.append(first)
                continue
            chosen = [first, *self._partners(first, rng, waiting)]
            room = sum(cut.num_samples for cut in chosen) + spare
            scenes = self._scenes(chosen, rng, room)
            if not scenes:
                made.append(first)
                continue
            spare = room - sum(scene.num_samples for scene in scenes)
            waiting = [cut for cut in waiting if not any(cut is other for other in chosen)]
            made += scenes
        return CutSet(made)

    def _partners(self, first: Cut, rng: random.Random, waiting: Sequence[Cut]) -> list[Cut]:
        """Draw other clips for a scene, each with a text of its own."""
        count = rng.choices(range(self.least, self.most + 1), [8, 12, 6, 2][self.least - 1 : self.most])[0]
        partners: list[Cut] = []
        texts = {self._words(first).text}
        for cut in rng.sample(waiting, len(waiting)) if count > 1 else ():
            text = self._words(cut).text
            if not text or text not in texts:  # clips without captions have none
                partners.append(cut)
                texts.add(text)
            if len(partners) == count - 1:
                break
        return partners

    def _scenes(self, chosen: Sequence[Cut], rng: random.Random, room: int) -> list[MonoCut]:
        """Compose a scene, or a scene and its twin, of at most `room` samples together; nothing where none fits."""
        rate = chosen[0].sampling_rate
        if len(chosen) < self.least:
            return []
        events = [self._event(cut) for cut in chosen]
        rng.shuffle(events)
        plan = self._plan(events, rate, rng)
        most = round(self.longest * rate)
        if rng.random() < self.twins:
            other = twin(plan, events, rate, rng)
            first = _laid(plan, events, rate, rng, min(room // 2, most))
            second = first and other and _laid(other, events, rate, rng, min(room - first.size, most))
            if first and second:
                return [_scene(layout, events, chosen, rng, n) for n, layout in enumerate((first, second))]
        layout = _laid(plan, events, rate, rng, min(room, most))
        return [] if layout is None else [_scene(layout, events, chosen, rng, 0)]

    def _plan(self, events: Sequence[Event], rate: int, rng: random.Random) -> Plan:
        steps: list[tuple[Part, ...]] = []
        for number, event in enumerate(events):
            part = Part(number, gain=_gain(rng, APART / 2) if number else 0.0)
            if countable(event, rate) and (rng.random() < self.repeats or len(events) == 1):
                part = replace(part, count=rng.choice(COUNTS if len(events) == 1 else COUNTS[1:]))
            elif event.words.lasting:
                part = replace(part, length=rng.choice(_lengths(alone=len(events) == 1)))
            if steps and len(steps[-1]) == 1 and rng.random() < self.overlaps:
                steps[-1] = overlap(steps[-1][0], part, events, rng)
            else:
                steps.append((part,))
        return tuple(steps)

    def _event(self, cut: Cut) -> Event:
        words = self._words(cut)
        samples = load(cut).numpy()
        find = loudest_event if self._known(cut) else whole_event
        return find(samples, cut.sampling_rate, words)

    def _known(self, cut: Cut) -> Words | None:
        for task, label in ((cut.custom or {}).get("labels") or {}).items():
            for name in (f"{task}: {label}", label):
                words = (self.words or {}).get(name)
                if isinstance(words, Words):
                    return words
        return None

    def _words(self, cut: Cut) -> Words:
        return self._known(cut) or Words((), (cut.supervisions[0].text.rstrip(" ."),))


def countable(event: Event, rate: int) -> bool:
    """Tell if the repetitions of an event can be counted.

    It is short and has an end of its own. A sound with a plural is heard once in it: one knock, not four. Any other is
    counted as a whole: "somebody says seven twice".
    """
    once = event.bursts == 1 or not event.words.plural
    return once and not event.words.lasting and len(event.samples) <= KEPT * rate


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
    return replace(base, count=1, length=length), replace(inner, gain=base.gain + abs(_gain(rng, APART * 0.75)))


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


def _laid(plan: Plan, events: Sequence[Event], rate: int, rng: random.Random, room: int) -> Layout | None:
    """Return the layout of a plan; None if it does not fit, or nothing can be said of its single sound."""
    layout = lay_out(plan, events, rate, rng, room)
    if layout is None:
        return None
    first, *others = layout.placed()
    event = events[first.part.event]
    said = bool(others) or countable(event, rate) or (event.words.lasting and first.length(rate) != "plain")
    return layout if said else None


def _scene(layout: Layout, events: Sequence[Event], cuts: Sequence[Cut], rng: random.Random, number: int) -> MonoCut:
    """Return a scene as a cut with its caption and its segments."""
    rate, draw = cuts[0].sampling_rate, (cuts[0].custom or {}).get("draw", "")
    # Twins, and scenes of the same clips in other epochs, are clips of their own.
    name = f"{'>'.join(cut.id for cut in cuts)}#{draw}.{number}"
    text = describe(named(layout, events, rate, rng), rng)
    captioned = all(cut.supervisions[0].text for cut in cuts)
    # An empty list would say that nothing is heard.
    custom = with_field(unlabeled(cuts[0]), segments(layout, events, rate) if captioned else None)
    samples = torch.from_numpy(render(layout, events, rate))
    cut = MonoCut(name, 0.0, layout.size / rate, 0, [], None, cuts[0].recording, custom)
    supervision = SupervisionSegment(name, name, 0.0, layout.size / rate, 0, text if captioned else "")
    return fastcopy(with_samples(cut, samples), supervisions=[supervision])


def _gain(rng: random.Random, usual: float) -> float:
    """Draw a difference of levels, dB: within the usual ones, or one in five at least so large as captions name."""
    if rng.random() < 0.2:
        return rng.choice((-1, 1)) * rng.uniform(APART, 1.5 * APART)
    return rng.uniform(-usual, usual)


def _lengths(alone: bool) -> tuple[Length, ...]:
    return ("short", "long") if alone else ("short", "plain", "long")


def _as_words(label: str, words: Words | Mapping[str, Any]) -> Words:
    """Return words that may be given as a mapping, as on the command line.

    Raises:
        UserError: they have another field, or neither noun nor clause.
    """
    if not isinstance(words, Words):
        valid = [field.name for field in fields(Words)]
        for name in words:
            if name not in valid:
                raise UserError(f"the words of {label!r} have no field {name!r}; {suggest(name, valid)}")
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in words.items()}
        words = Words(**{"nouns": (), **given})
    if isinstance(words.nouns, str) or isinstance(words.clauses, str) or not (words.nouns or words.clauses):
        raise UserError(f"the words of {label!r} need lists of nouns and clauses, at least one of either; got {words}")
    return words
