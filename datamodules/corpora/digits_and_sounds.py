"""Two small public corpora, spoken digits and environmental sounds, with captions from templates.

- Free Spoken Digit Dataset (github.com/Jakobovski/free-spoken-digit-dataset): `{digit}_{speaker}_{index}.wav`. Its own
  test split is index 0 to 4; leaving out one speaker is a harder test.
- ESC-10 (github.com/karolpiczak/ESC-10): `{number} - {class}/{fold}-{Freesound id}-{take}.ogg`; clips of one source
  recording share a fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.augment.basic import Mix, Only, RandomGain, RandomSpeed
from slap.datamodules.augment.event_crop import EventCrop
from slap.datamodules.augment.random_eq import RandomFilter
from slap.datamodules.datamodule import AudioTextData
from slap.datamodules.manifests.clip import Clip, write_manifest

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT_INDICES = range(5)

DIGIT_CAPTIONS = (
    "{speaker} says {digit}",
    "{speaker} says the digit {digit}",
    "the digit {digit} spoken by {speaker}",
    "the digit {digit}",
    "a person says {digit}",
    "the spoken digit {digit}",
)
SOUND_CAPTIONS = (
    "the sound of {sound}",
    "this is a sound of {sound}",
    "a recording of {sound}",
    "{sound} can be heard",
    "{sound}",
)

PROMPTS = {
    "digit": "the digit {label}",
    "speaker_digit": "{label}",
    "sound": "the sound of {label}",
}
"""Prompts of the zero-shot tasks. A label of `speaker_digit` is a whole caption, "george says three": one of 40."""


def data_module(
    root: str,
    manifests: str,
    held_out_fold: int = 4,
    held_out_speaker: str | None = None,
    sound_repeats: int = 4,
    max_clip: Seconds = 4.0,
    **options: Any,
) -> AudioTextData:
    """Write the manifests of both sets, and read them with strong augmentation of the sounds.

    Args:
        root: folder with `fsdd/recordings/*.wav` and `esc10/*/*.ogg`.
        manifests: folder to write the manifests to.
        held_out_fold: the fold of the sounds that is held out, 1 to 5.
        held_out_speaker: hold out all digits of this speaker; default: recordings 0 to 4 of each digit and speaker.
        sound_repeats: number of times that each training sound comes in an epoch.
        max_clip: seconds; training sounds are cropped to 1.5 s up to this, around an event. Held-out ones never are.
        **options: any other option of `AudioTextData`.
    """
    train, held_out = _write_manifests(Path(root), Path(manifests), held_out_fold, held_out_speaker)
    return AudioTextData(
        train=train,
        val=held_out,
        test=held_out,
        max_clip=None,  # a crop before the transforms could lose the event
        repeats=(1, sound_repeats),
        prompts=PROMPTS,
        transforms=(
            # Words would not survive as much variety as 240 sounds need.
            Only("esc10/", EventCrop(shortest=min(1.5, max_clip), longest=max_clip)),
            Only("esc10/", RandomSpeed(factors=(0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25))),
            Only("esc10/", RandomFilter(spread=4.0)),
            RandomGain(low=-6.0, high=6.0),
            Only("esc10/", Mix(probability=0.5)),
        ),
        in_memory=True,
        **options,
    )


def digits(folder: Path, held_out_speaker: str | None = None) -> Iterator[tuple[Clip, bool]]:
    """Yield the clips of the Free Spoken Digit Dataset, each with True if it is held out.

    Args:
        folder: folder of the recordings.
        held_out_speaker: hold out all recordings of this speaker, and no others. No training caption has that name, so
            the clips have no label `speaker_digit` then.

    Raises:
        FileNotFoundError: the folder holds no recording.
        ValueError: a file is not named `{digit}_{speaker}_{index}.wav`, or there is no such speaker.
    """
    paths = _files(folder, "*.wav")
    _check_speaker(paths, held_out_speaker)
    for path in paths:
        parts = path.stem.split("_")
        if len(parts) != 3 or not (parts[0].isdigit() and int(parts[0]) < 10 and parts[2].isdigit()):
            raise UserError(f"{path} is not named like 3_george_12.wav (digit, speaker, index)")
        digit, speaker = DIGITS[int(parts[0])], parts[1]
        captions = [template.format(speaker=speaker, digit=digit) for template in DIGIT_CAPTIONS]
        labels = {"digit": digit}
        if held_out_speaker is None:
            labels["speaker_digit"] = f"{speaker} says {digit}"
        held_out = int(parts[2]) in HELD_OUT_INDICES if held_out_speaker is None else speaker == held_out_speaker
        yield Clip(f"fsdd/{path.stem}", path, captions, labels), held_out


def sounds(folder: Path, held_out_fold: int) -> Iterator[tuple[Clip, bool]]:
    """Yield the clips of ESC-10, each with True if it is held out.

    Raises:
        FileNotFoundError: the folder holds no recording.
        ValueError: a file is not in a folder like `001 - Dog bark` or its name does not begin with a fold.
    """
    for path in _files(folder, "*/*.ogg"):
        _, _, name = path.parent.name.partition(" - ")
        fold, _, _ = path.stem.partition("-")
        if not name or not fold.isdigit():
            raise UserError(f"{path} is not named like '001 - Dog bark/1-100032-A.ogg' (class, fold, source, take)")
        sound = name.lower()
        captions = [template.format(sound=sound) for template in SOUND_CAPTIONS]
        source = {"freesound": path.stem.split("-")[1]} if path.stem.count("-") > 1 else {}
        clip = Clip(f"esc10/{path.stem}", path, captions, {"sound": sound}, origin=source)
        yield clip, int(fold) == held_out_fold


def _write_manifests(root: Path, folder: Path, fold: int, speaker: str | None) -> tuple[list[Path], Path]:
    """Write a training manifest of each set, and one of all held-out clips."""
    clips = {
        "digits": list(digits(root / "fsdd" / "recordings", speaker)),
        "sounds": list(sounds(root / "esc10", fold)),
    }
    train = [
        write_manifest(folder / f"train_{name}.jsonl", [clip for clip, held_out in pairs if not held_out])
        for name, pairs in clips.items()
    ]
    held_out = [clip for pairs in clips.values() for clip, held_out in pairs if held_out]
    return train, write_manifest(folder / "held_out.jsonl", held_out)


def _check_speaker(paths: list[Path], wanted: str | None) -> None:
    speakers = sorted({parts[1] for path in paths if len(parts := path.stem.split("_")) == 3})
    if wanted is not None and wanted not in speakers:
        raise UserError(f"there is no speaker {wanted!r} in {paths[0].parent}; there are: {', '.join(speakers)}")


def _files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(f"there is no {pattern} in {folder}; docs/explanation/results.md names the source")
    return files
