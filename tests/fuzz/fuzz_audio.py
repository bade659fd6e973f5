"""Audio files of damaged bytes, through the ways of training and of use."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import torch
from fuzz_tools import Rng, damaged, one_of, told
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

from slap.audio.arrays import LOUDEST
from slap.audio.reader import AudioError, AudioFile, header, measure
from slap.datamodules.audio.load import DecodeError, load, mono

RATE = 16000
LARGEST = 1 << 24  # bytes that reading may take
KINDS = {
    "wav": [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")],
    "flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    "ogg": [("OGG", "VORBIS")],
    "opus": [("OGG", "OPUS")],
    "mp3": [("MP3", "MPEG_LAYER_III")],
    "aiff": [("AIFF", "PCM_16")],
}


@cache
def whole() -> list[tuple[str, bytes]]:
    """Short files of every kind, mono and stereo, with their suffixes."""
    rng = np.random.default_rng(0)
    files = []
    for suffix, kinds in KINDS.items():
        for container, coding in kinds:
            for rate, channels in ((16000, 1), (44100, 2)):
                rate = 48000 if coding == "OPUS" and rate == 44100 else rate
                sound = rng.uniform(-0.3, 0.3, (round(0.1 * rate), channels))
                memory = BytesIO()
                soundfile.write(memory, sound, rate, format=container, subtype=coding)
                files.append((suffix, memory.getvalue()))
    return files


def bytes_of_audio(rng: Rng, folder: Path) -> None:
    """Read damaged bytes both ways: samples, all finite and as many as were promised, or an `AudioError`.

    The manifest has the length that `slap prepare` finds.
    """
    suffix, raw = one_of(whole(), rng)
    path = folder / f"a.{suffix}"
    path.write_bytes(damaged(raw, rng))
    used, missing = _in_use(path)
    try:
        found = measure(path)
    except AudioError as error:
        told(error)
        return
    declared, all_channels = rng.random() < 0.7, rng.random() < 0.9
    frames, rate = (found.frames, found.rate) if declared else (round(0.1 * RATE), RATE)
    channels = list(range(found.channels if all_channels else 1))
    source = AudioSource("file", channels, str(path))
    recording = Recording("a", [source], rate, frames, frames / rate)
    whole_clip = recording.to_cut()
    whole_clip.supervisions = [SupervisionSegment("a", "a", 0.0, recording.duration, text="a sound")]
    clip = mono(whole_clip, RATE)
    cropped = rng.random() < 0.3 and clip.duration > 0.02
    if cropped:
        clip = clip.truncate(offset=clip.duration / 3, duration=clip.duration / 3, preserve_id=True)
    trained = _in_training(clip)
    capped = trained in ("too_large", "wrong_rate")  # training alone has a cap
    if declared and not cropped and len(channels) == found.channels and used is not None and not capped:
        same = trained == used if isinstance(trained, str) or isinstance(used, str) else torch.equal(trained, used)
        # What is missing is said in use; in training, where the manifest promises it, it is refused, or a trifle.
        lacking = missing and (trained == "truncated" or isinstance(trained, torch.Tensor))
        assert same or lacking, f"{trained} in training, {used} in use"


def _in_training(clip: MonoCut) -> torch.Tensor | str:
    """Return the samples of a clip, or the reason why it has none."""
    try:
        samples = load(clip, LARGEST)
    except DecodeError as error:
        told(error)
        return error.bad.reason
    assert samples.dtype == torch.float32
    assert len(samples) == clip.num_samples
    assert bool((samples.abs() <= 2 * LOUDEST).all())  # resampling overshoots
    return samples


def _in_use(path: Path) -> tuple[torch.Tensor | str | None, str]:
    """Return the samples of a file, or the reason why it has none, and the note of what is missing.

    In place of the samples of a file of hours, which take their time, there is None.
    """
    if path.stat().st_size and _seconds(path) > 60:
        return None, ""
    try:
        with AudioFile(path) as file:
            samples = torch.from_numpy(file.read(RATE))
    except AudioError as error:
        told(error)
        return error.reason, ""
    assert bool((samples.abs() <= 2 * LOUDEST).all())
    return samples, file.note


def _seconds(path: Path) -> float:
    try:
        found = header(path)
    except AudioError:
        return 0.0
    return found.duration * max(1.0, found.rate / RATE)
