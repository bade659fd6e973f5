"""Scenes of the clips of a batch: sounds in order, together, or several times, with captions that say so.

T samples of a scene, E events.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
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
from slap.datamodules.augment.scene_events import Event, loudest_event, whole_event
from slap.datamodules.augment.scene_layout import Layout, lay_out, named, render, segments
from slap.datamodules.augment.scene_plan import Plan, countable, drawn_plan, simple, twin
from slap.datamodules.captions.grammar import Words, describe, random_captions
from slap.datamodules.segments import with_field

MENTION = 0.6
"""Probability that the caption of a scene without a twin mentions a length, or a difference of levels."""

EXAMPLES = 2000
"""Captions for a tokenizer, which learns the connecting words and each sound's from them (our choice)."""


@dataclass(frozen=True)
class Scenes(RandomTransform):
    """Scenes of clips of the batch: one after the other, one over the other, or one up to three times.

    "A dog barks twice, then rain", "rain while somebody says yes", "a loud siren over soft rain". Lengths, counts and
    differences of levels are mentioned where they are so; levels differ by at least 12 dB then. Each clip is in one
    scene at most, or in a scene and its twin, and the batch gets neither more clips nor more audio. A scene has an id
    of its own and no labels; its custom field `segments` lists its events, each with `start`, `end` and `text`.

    Of a clip with a label among `words`, the loudest event is taken, and lasting sounds may be cut. Any other clip is
    taken as a whole, without the silence around it, and its caption names it.

    Many scenes come with a twin of the same sounds in another order, number or length. While no other clip of the batch
    has the same sounds, a model can pass over the words that say these.

    Args:
        probability: probability that a clip that is in no scene yet begins one.
        most: largest number of clips in a scene; the number is drawn, from `least` on.
        least: least number of clips in a scene; 1 has scenes of one sound, which is heard once or several times.
        overlaps: probability that two sounds that follow each other are heard together instead.
        repeats: probability that a short sound is heard two or three times.
        twins: probability that a scene comes with a twin.
        longest: largest duration of a scene, seconds.
        words: words for the sounds of clips by their labels: {label: {nouns: [a dog bark], clauses: [a dog barks],
            plural: dog barks}}, see `slap.datamodules.captions.grammar.Words`. A label may have its task before it:
            "animal: dog".
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
        samples = clips = 0  # that scenes made so far have left over
        while waiting:
            first = waiting.pop(0)
            rng = self.draw(first)
            if rng is None:
                made.append(first)
                continue
            chosen = [first, *self._partners(first, rng, waiting)]
            room, places = samples + sum(cut.num_samples for cut in chosen), clips + len(chosen)
            scenes = self._scenes(chosen, rng, room, places)
            if not scenes:
                made.append(first)
                continue
            samples, clips = room - sum(scene.num_samples for scene in scenes), places - len(scenes)
            waiting = [cut for cut in waiting if not any(cut is other for other in chosen)]
            made += scenes
        return CutSet(made)

    def captions(self) -> Iterator[str]:
        """Yield captions of random sounds among `words`, with the words for order, number, length and overlap."""
        if self.words:
            yield from random_captions(list(self.words.values()), EXAMPLES, random.Random(self.seed))  # type: ignore[arg-type]

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

    def _scenes(self, chosen: Sequence[Cut], rng: random.Random, room: int, places: int) -> list[MonoCut]:
        """Compose a scene, or a scene and its twin, of at most `room` samples together; nothing where none fits.

        Args:
            chosen: the clips.
            rng: generator of all that is drawn.
            room: samples that the scenes may have together.
            places: number of scenes that there may be.
        """
        rate = chosen[0].sampling_rate
        if len(chosen) < self.least:
            return []
        events = [self._event(cut) for cut in chosen]
        rng.shuffle(events)
        plan = drawn_plan(events, rate, rng, self.overlaps, self.repeats)
        most = round(self.longest * rate)
        if rng.random() < self.twins and places > 1:
            other = twin(plan, events, rate, rng)
            first = _laid(plan, events, rate, rng, min(room // 2, most))
            second = first and other and _laid(other, events, rate, rng, min(room - first.size, most))
            if first and second:
                return [_scene(layout, events, chosen, rng, n, 1.0) for n, layout in enumerate((first, second))]
        # Without repetitions and overlaps a plan needs no more room than its clips have.
        ways = plan, simple(plan)
        layout = next(filter(None, (_laid(way, events, rate, rng, min(room, most)) for way in ways)), None)
        return [] if layout is None else [_scene(layout, events, chosen, rng)]

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
        return self._known(cut) or Words((), (cut.supervisions[0].text.rstrip(" ."),), whole=True)


def _laid(plan: Plan, events: Sequence[Event], rate: int, rng: random.Random, room: int) -> Layout | None:
    """Return the layout of a plan; None if it does not fit, or nothing can be said of its single sound."""
    layout = lay_out(plan, events, rate, rng, room)
    if layout is None:
        return None
    first, *others = layout.placed()
    event = events[first.part.event]
    said = bool(others) or countable(event, rate) or (event.words.lasting and first.length(rate) != "plain")
    return layout if said else None


def _scene(
    layout: Layout,
    events: Sequence[Event],
    cuts: Sequence[Cut],
    rng: random.Random,
    number: int = 0,
    mention: float = MENTION,
) -> MonoCut:
    """Return a scene as a cut with its caption and its segments."""
    rate, draw = cuts[0].sampling_rate, (cuts[0].custom or {}).get("draw", "").replace(" ", "-")
    # Twins, and scenes of the same clips in other epochs, are clips of their own.
    name = f"{'>'.join(cut.id for cut in cuts)}#{draw}.{number}"
    text = describe(named(layout, events, rate, rng, mention), rng)
    captioned = all(cut.supervisions[0].text for cut in cuts)
    # An empty list would say that nothing is heard.
    custom = with_field(unlabeled(cuts[0]), segments(layout, events, rate) if captioned else None)
    samples = torch.from_numpy(render(layout, events, rate))
    cut = MonoCut(name, 0.0, layout.size / rate, 0, [], None, cuts[0].recording, custom)
    supervision = SupervisionSegment(name, name, 0.0, layout.size / rate, 0, text if captioned else "")
    return fastcopy(with_samples(cut, samples), supervisions=[supervision])


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
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in words.items()
        }
        words = Words(**{"nouns": (), **given})
    if isinstance(words.nouns, str) or isinstance(words.clauses, str) or not (words.nouns or words.clauses):
        raise UserError(f"the words of {label!r} need lists of nouns and clauses, at least one of either; got {words}")
    return words
