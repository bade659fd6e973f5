"""A clip and what is written about it, and the file that lists clips: the manifest.

A manifest is read by `slap.datamodules.manifest`; this file writes one, for recipes that make their own corpus.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Seconds = float


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file and the line, and what is accepted."""


@dataclass(frozen=True)
class Clip:
    """A stretch of an audio file with its captions.

    Args:
        id: names the clip; clips of equal id are the same clip wherever they are met.
        audio: the audio file.
        captions: at least one, none of them empty.
        labels: for each zero-shot task that the clip belongs to, its label.
        start: where in the file the clip begins.
        duration: how long it is; None is up to the end of the file.

    Raises:
        TypeError: captions is a single text instead of a sequence of texts.
        ValueError: a value is empty or out of range.

    Example:
        >>> Clip("dog", "dog.wav", ["a dog barks"], {"animal": "dog"})
        Clip(id='dog', audio='dog.wav', captions=['a dog barks'], labels={'animal': 'dog'}, start=0.0, duration=None)
    """

    id: str
    audio: str | Path
    captions: Sequence[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    start: Seconds = 0.0
    duration: Seconds | None = None

    def __post_init__(self) -> None:
        if isinstance(self.captions, str):
            raise TypeError(f"captions must be a sequence of texts, got the text {self.captions!r}")
        if not self.id or not str(self.audio):
            raise ValueError(f"id and audio may not be empty, got id={self.id!r}, audio={str(self.audio)!r}")
        if not self.captions or not all(caption.strip() for caption in self.captions):
            raise ValueError(f"a clip needs captions, none of them empty; got {list(self.captions)!r}")
        if not 0 <= self.start < float("inf"):
            raise ValueError(f"start must be 0 or more seconds, got {self.start}")
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise ValueError(f"duration must be more than 0 seconds, got {self.duration}")


def write_manifest(path: str | Path, clips: Iterable[Clip]) -> Path:
    """Write clips as JSON lines that `read_manifest` reads.

    Audio below the manifest's folder is written relative to it, so that the folder can move as a whole; other audio
    is written by its absolute path. The file appears complete or not at all, also when several processes write it.

    Args:
        path: ends in .jsonl; its folder is made when it is missing.
        clips: any number of them, read once.

    Returns:
        The path.

    Raises:
        ValueError: the path ends otherwise.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        raise ValueError(f"a manifest of clips is written as .jsonl, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        for clip in clips:
            file.write(json.dumps(_record(clip, path.parent.resolve()), ensure_ascii=False) + "\n")
    part.replace(path)
    return path


def _record(clip: Clip, folder: Path) -> dict[str, Any]:
    audio = Path(clip.audio).resolve()
    below = audio.is_relative_to(folder)
    record: dict[str, Any] = {
        "id": clip.id,
        "audio": str(audio.relative_to(folder) if below else audio),
        "caption": list(clip.captions),
    }
    if clip.labels:
        record["labels"] = dict(clip.labels)
    if clip.start:
        record["start"] = clip.start
    if clip.duration is not None:
        record["duration"] = clip.duration
    return record
