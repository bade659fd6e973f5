"""Scenes to evaluate on, composed of held-out clips, with questions about order, count, length and overlap.

A question has candidate captions of which one is true. All candidates of a question are made of the same words but for
those that are asked about, they come with as many scenes, of the same clips and equally long, of which each has another
right one. So neither the words, nor which sounds are heard, nor the duration of a scene answers a question.

T samples of a scene, E events.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.datamodules.audio.load import is_silent, load, mono
from slap.datamodules.augment.scene_events import Event, loudest_event
from slap.datamodules.augment.scene_layout import LENGTHS, Layout, lay_out, render, segments
from slap.datamodules.augment.scene_plan import COUNTS, Part, Plan, countable, overlap
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.grammar import AT_ONCE, FOLLOWED, SEQUENCES, TOGETHER, Length, Named, Words
from slap.datamodules.manifests.clip import Clip, write_manifest
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import Clips

VERSION = 1
"""Version of the scenes; raise it when the same clips give others, so that older ones are not read."""

RATE = 16_000
"""Sample rate of the scenes, Hz."""

LONGEST = 10 * RATE
"""Largest size of a scene, samples."""

QUESTIONS = ("order", "count", "duration", "overlap")

TRIES = 50
"""Draws per question before it is given up that there are enough clips."""

log = logging.getLogger(__name__)


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


def write_scenes(manifest: Path, folder: Path, words: Mapping[str, Words], questions: int = 200, seed: int = 0) -> Path:
    """Write scenes of the clips of a manifest, unless they exist already.

    The same clips, number and seed give the same scenes. Beside the manifest, its folder holds the audio, FLAC of 16
    bits. The manifest is written last, so that it exists only when it is complete.

    Args:
        manifest: the clips; those without words are not used.
        folder: folder to write to.
        words: words for the sounds by task and label, "esc50: dog".
        questions: least number of questions of each kind: order, count, duration, overlap.
        seed: seed of the scenes.

    Returns:
        Path of the manifest of the scenes.

    Raises:
        UserError: there are not enough clips for a kind of question.
    """
    key = f"{VERSION} {questions} {seed} {sorted(words.items())}".encode() + manifest.read_bytes()
    out = folder / f"scenes-{hashlib.sha1(key).hexdigest()[:10]}.jsonl"
    if out.is_file():
        return out
    audio = out.with_suffix("")
    audio.mkdir(parents=True, exist_ok=True)
    sounds = Sounds(read_manifest(manifest), words)
    return write_manifest(out, _written(_questions(sounds, questions, random.Random(f"scenes {seed}")), audio))


def _written(questions: Iterator[Question], folder: Path) -> Iterator[Clip]:
    """Write the audio of scenes one after the other, and yield the clip of each."""
    counts = dict.fromkeys(QUESTIONS, 0)
    for question in questions:
        for number, layout in enumerate(question.layouts):
            path = folder / f"{question.task}-{counts[question.task]:04d}.flac"
            counts[question.task] += 1
            with atomic_write(path, "wb", sync=False) as file:
                soundfile.write(file, render(layout, question.events, RATE), RATE, format="FLAC", subtype="PCM_16")
            yield question.clip(number, f"scenes/{path.stem}", path)
    log.info("%s: %s", folder, ", ".join(f"{count} scenes of {task}" for task, count in counts.items()))


class Sounds:
    """Held-out clips to draw events from, the kinds of sounds equally often, whatever their numbers of clips.

    Args:
        clips: the clips; those without words are left out.
        words: words for the sounds by task and label.
    """

    def __init__(self, clips: Clips, words: Mapping[str, Words]) -> None:
        self.clips = clips
        self.kinds: dict[str, dict[str, list[int]]] = {}
        self._words: dict[int, Words] = {}
        for number, custom in enumerate(clips.customs()):
            for task, label in (custom.get("labels") or {}).items():
                known = words.get(f"{task}: {label}")
                if known is not None and number not in self._words:
                    self._words[number] = known
                    self.kinds.setdefault(_family(task), {}).setdefault(known.text, []).append(number)

    def draw(self, rng: random.Random) -> tuple[Event, str]:
        """Draw an event, and the id of its clip; clips that cannot be read, or are silent, are left out.

        Raises:
            UserError: no clip is left.
        """
        while self.kinds:
            (family,) = rng.choices(list(self.kinds), [FAMILIES[family] for family in self.kinds])
            kinds = self.kinds[family]
            kind = rng.choice(sorted(kinds))
            number = rng.choice(kinds[kind])
            cut = mono(self.clips[number], RATE)
            try:
                samples = load(cut)
                if not is_silent(samples):
                    return loudest_event(samples.numpy(), RATE, self._words[number]), cut.id
                log.warning("clip %r is silent; it is left out of the scenes", cut.id)
            except ClipError as error:
                log.warning("left out of the scenes: %s", error)
            kinds[kind].remove(number)
            if not kinds[kind]:
                del kinds[kind]
            if not kinds:
                del self.kinds[family]
        raise UserError("scenes need clips that can be read, with labels whose words are known; there is none")


FAMILIES = {"sounds": 0.6, "words": 0.3, "voices": 0.1}
"""Shares of events by the family of their kind; without them, most would be words, of which there are many."""


def _family(task: str) -> str:
    return {"speechcommands": "words", "fsdd": "words", "ravdess": "voices"}.get(task, "sounds")


def _questions(sounds: Sounds, least: int, rng: random.Random) -> Iterator[Question]:
    """Yield at least so many questions of each kind; each scene asks one."""
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
