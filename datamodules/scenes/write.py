"""Scenes to evaluate on, composed of held-out clips, with questions about them, in a manifest."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile

from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.datamodules.audio.load import is_silent, load, mono
from slap.datamodules.augment.scene_events import Event, loudest_event
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.grammar import Words
from slap.datamodules.manifests.clip import write_manifest
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import Clips
from slap.datamodules.scenes.questions import RATE, Question, questions

VERSION = 1
"""Version of the scenes; raise it when the same clips give others, so that older ones are not read."""

log = logging.getLogger(__name__)


def write_scenes(
    manifest: Path,
    folder: Path,
    words: Mapping[str, Words],
    least: int = 200,
    seed: int = 0,
    families: Mapping[tuple[str, ...], float] | None = None,
) -> Path:
    """Write scenes of the clips of a manifest, unless they exist already.

    The same clips, number and seed give the same scenes. Beside the manifest, its folder holds the audio, FLAC of 16
    bits. The manifest is written last, so that it exists only when it is complete.

    Args:
        manifest: the clips; those without words are not used.
        folder: folder to write to.
        words: words for the sounds by task and label, "esc50: dog".
        least: least number of questions of each kind: order, count, duration, overlap.
        seed: seed of the scenes.
        families: share of the events for each family of tasks, see `HeldOut`.

    Returns:
        Path of the manifest of the scenes.

    Raises:
        UserError: there are not enough clips for a kind of question.
    """
    settings = f"{VERSION} {least} {seed} {sorted(words.items())} {sorted((families or {}).items())}"
    out = folder / f"scenes-{hashlib.sha1(settings.encode() + manifest.read_bytes()).hexdigest()[:10]}.jsonl"
    if out.is_file():
        return out
    asked = questions(HeldOut(read_manifest(manifest), words, families), least, random.Random(f"scenes {seed}"))
    written = write_audio(asked, out.with_suffix(""), ".flac")
    return write_manifest(
        out, (question.clip(number, f"scenes/{path.stem}", path) for question, number, path in written)
    )


def write_audio(asked: Iterable[Question], folder: Path, suffix: str) -> Iterator[tuple[Question, int, Path]]:
    """Write the scenes of questions one after the other, and yield each with its number in the question, and its path.

    Args:
        asked: the questions.
        folder: folder to write to.
        suffix: .flac or .wav, of 16 bits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    for question in asked:
        for number in range(len(question.layouts)):
            path = folder / f"{question.task}-{counts[question.task]:04d}{suffix}"
            counts[question.task] += 1
            write_sound(path, question.render(number))
            yield question, number, path
    log.info("%s: %s", folder, ", ".join(f"{count} scenes of {task}" for task, count in counts.items()))


def write_sound(path: Path, samples: np.ndarray) -> None:
    """Write samples at `RATE`, (T,) within -1 to 1, as .flac or .wav of 16 bits."""
    with atomic_write(path, "wb", sync=False) as file:
        soundfile.write(file, samples, RATE, format=path.suffix[1:], subtype="PCM_16")


class HeldOut:
    """Held-out clips to draw events from, the kinds of sounds equally often, whatever their numbers of clips.

    Args:
        clips: the clips; those without words are left out.
        words: words for the sounds by task and label.
        families: share of the events for each family of tasks, since one may have many more kinds of sounds than
            another; default: all tasks are one family.
    """

    def __init__(
        self, clips: Clips, words: Mapping[str, Words], families: Mapping[tuple[str, ...], float] | None = None
    ) -> None:
        self.clips = clips
        self._families = families or {tuple(sorted({name.partition(": ")[0] for name in words})): 1.0}
        self.kinds: dict[tuple[str, ...], dict[str, list[int]]] = {}
        self._words: dict[int, Words] = {}
        for number, custom in enumerate(clips.customs()):
            for task, label in (custom.get("labels") or {}).items():
                known = words.get(f"{task}: {label}")
                if known is not None and number not in self._words:
                    self._words[number] = known
                    self.kinds.setdefault(self._family(task), {}).setdefault(known.text, []).append(number)

    def draw(self, rng: random.Random) -> tuple[Event, str]:
        """Draw an event, and the id of its clip; clips that cannot be read, or are silent, are left out.

        Raises:
            UserError: no clip is left.
        """
        while self.kinds:
            (family,) = rng.choices(list(self.kinds), [self._families[family] for family in self.kinds])
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

    def _family(self, task: str) -> tuple[str, ...]:
        for family in self._families:
            if task in family:
                return family
        raise UserError(f"there are words for the task {task!r}, but no share for it in {dict(self._families)}")
