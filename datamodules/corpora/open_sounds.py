"""Six public corpora at once: environmental and urban sounds, spoken words, digits and emotions.

Each is read where it is present in the root folder or in its sub-folder `corpora`, in the official layout, as WAV or
under the same names as Vorbis (.ogg):

    esc50/          ESC-50, folds              speechcommands/  Speech Commands V2, speakers
    urbansound8k/   UrbanSound8K, folds        ravdess/         RAVDESS, actors
    esc10/          ESC-10, folds              fsdd/recordings/ Free Spoken Digit Dataset, speakers

Folds, speakers and actors are held out as a whole, and training has no clip of a source that evaluation has, whichever
corpus either is from.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from slap.core.errors import UserError, suggest
from slap.datamodules.corpora.digits_and_sounds import digits, sounds
from slap.datamodules.corpora.esc50 import ESC50
from slap.datamodules.corpora.open_sounds_words import (
    Captions,
    emotion_captions,
    sound_captions,
    word_captions,
)
from slap.datamodules.corpora.ravdess import RAVDESS
from slap.datamodules.corpora.speechcommands import WORDS
from slap.datamodules.corpora.urbansound8k import UrbanSound8K
from slap.datamodules.manifests.clip import Clip

Part = Literal["train", "develop", "held_out"]

MAIN_WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
"""The words of the task `words10`."""

FOLDS: dict[str, dict[int | None, Part]] = {
    "esc50": {4: "held_out", 3: "develop"},
    "esc10": {4: "held_out", 3: "develop"},
    "urbansound8k": {3: "held_out", 2: "develop"},
}
"""Folds that are not trained on."""

ACTORS: dict[range, Part] = {range(16, 19): "held_out", range(13, 16): "develop"}
"""Actors of RAVDESS who are not trained on."""

OF_FIVE: dict[int, Part] = {0: "held_out", 1: "develop"}
"""Remainders of SHA-1 of a speaker's name by 5: those speakers of Speech Commands are not trained on."""

Found = Iterator[tuple[Clip, Part]]

log = logging.getLogger(__name__)


def present(root: Path, speaker: str = "theo", names: Sequence[str] = ()) -> dict[str, list[tuple[Clip, Part]]]:
    """Return the clips of each corpus that is there, each with the part that it belongs to.

    Those that are not there are named in the log.

    Args:
        root: folder of the corpora.
        speaker: speaker of the digits who is held out; the next one by name is for development.
        names: corpora to read, default: all.

    Raises:
        FileNotFoundError: there is none of the corpora.
        UserError: there is no corpus of a name, a corpus is not in its layout, or there is no such speaker.
    """
    unknown = next((name for name in names if name not in CORPORA), None)
    if unknown is not None:
        raise UserError(f"open_sounds has no corpus {unknown!r}; {suggest(unknown, CORPORA)}")
    folders = {name: _folder(Path(root), name) for name in CORPORA if not names or name in names}
    missing = [name for name, folder in folders.items() if folder is None]
    if len(missing) == len(folders):
        raise FileNotFoundError(
            f"there is none of the corpora {', '.join(folders)} in {root} or {Path(root) / 'corpora'}; each is a "
            "folder of that name; `slap prepare CORPUS --help` and docs/explanation/results.md name the sources"
        )
    if missing:
        log.warning("%s: going on without %s, of which there is no folder", root, ", ".join(missing))
    found = {}
    for name, folder in folders.items():
        if folder is not None:
            clips = list(_digits(folder, speaker) if name == "fsdd" else CORPORA[name](folder))
            found[name] = clips
            log.info("%s: %d clips, %s", name, len(clips), _counts(clips))
    return found


def _folder(root: Path, name: str) -> Path | None:
    return next((folder for folder in (root / name, root / "corpora" / name) if folder.is_dir()), None)


def _esc50(folder: Path) -> Found:
    for clip in _existing(ESC50(folder).clips("all"), "esc50"):
        yield _captioned(clip, sound_captions(clip.labels["esc50"])), FOLDS["esc50"].get(clip.fold, "train")


def _urbansound8k(folder: Path) -> Found:
    for clip in _existing(UrbanSound8K(folder).clips("all"), "urbansound8k"):
        captions = sound_captions(clip.labels["urbansound8k"])
        yield _captioned(clip, captions), FOLDS["urbansound8k"].get(clip.fold, "train")


def _esc10(folder: Path) -> Found:
    for clip, _ in sounds(folder, held_out_fold=0):
        label = clip.labels["sound"]
        fold = int(Path(clip.audio).name.partition("-")[0])
        named = replace(clip, labels={"esc10": label}, corpus="esc10", fold=fold)
        yield _captioned(named, sound_captions(label)), FOLDS["esc10"].get(fold, "train")


def _ravdess(folder: Path) -> Found:
    for clip in _existing(RAVDESS(folder, labels="all").clips("speech"), "ravdess"):
        actor = int(clip.labels["ravdess_actor"])
        part: Part = next((part for actors, part in ACTORS.items() if actor in actors), "train")
        emotion = {"ravdess": clip.labels["ravdess"]}
        yield replace(_captioned(clip, emotion_captions(clip.labels)), labels=emotion), part


def _speechcommands(folder: Path) -> Found:
    """Yield all recordings, whether or not there are the official lists: the split is by speaker."""
    for path in _audio(folder, "*/[!.]*_nohash_*"):
        word, speaker = path.parent.name, path.name.partition("_")[0]
        if word not in WORDS:
            continue  # the folder of background noise
        labels = {"speechcommands": word} | ({"words10": word} if word in MAIN_WORDS else {})
        origin = {"speaker": f"speechcommands {speaker}"}
        clip = Clip(f"speechcommands/{word}/{path.stem}", path, [word], labels, corpus="speechcommands", origin=origin)
        remainder = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 5
        yield _captioned(clip, word_captions(word)), OF_FIVE.get(remainder, "train")


def _digits(folder: Path, held_out: str = "theo") -> Found:
    clips = [clip for clip, _ in digits(folder / "recordings", held_out)]
    names = sorted({_speaker(clip) for clip in clips})
    parts: dict[str, Part] = {names[(names.index(held_out) + 1) % len(names)]: "develop", held_out: "held_out"}
    for clip in clips:
        speaker, digit = _speaker(clip), clip.labels["digit"]
        own = [(f"{speaker} says {digit}", "detail"), (f"the digit {digit} spoken by {speaker}", "detail")]
        origin = {"speaker": f"fsdd {speaker}"}
        named = replace(clip, labels={"fsdd": digit}, corpus="fsdd", origin=origin)
        yield _captioned(named, word_captions(digit) + own), parts.get(speaker, "train")


def _speaker(clip: Clip) -> str:
    return Path(clip.audio).stem.split("_")[1]


CORPORA: dict[str, Callable[[Path], Found]] = {
    "esc50": _esc50,
    "urbansound8k": _urbansound8k,
    "speechcommands": _speechcommands,
    "ravdess": _ravdess,
    "esc10": _esc10,
    "fsdd": _digits,
}
"""Readers of the corpora, by the names of their folders."""


def _captioned(clip: Clip, captions: Captions) -> Clip:
    return replace(clip, captions=[text for text, _ in captions], fields=[field for _, field in captions])


def _existing(clips: Iterator[Clip], name: str) -> Iterator[Clip]:
    """Yield the clips of a list whose file is there, as WAV or as Vorbis; the log says how many are not."""
    absent = 0
    for clip in clips:
        wav = Path(clip.audio)
        path = next((path for path in (wav, wav.with_suffix(".ogg")) if path.is_file()), None)
        if path is None:
            absent += 1
        else:
            yield replace(clip, audio=path)
    if absent:
        log.warning("%s: %d clips of its list are not there", name, absent)


def _audio(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for suffix in (".wav", ".ogg") for path in folder.glob(pattern + suffix))


def _counts(clips: Sequence[tuple[Clip, Part]]) -> str:
    parts = [part for _, part in clips]
    return ", ".join(f"{parts.count(part)} {part}" for part in sorted(set(parts)))
