"""A clip and what is written about it, and the file that lists clips: the manifest.

A manifest is read by `slap.datamodules.manifests.read`; this file writes one, for recipes that make their own corpus.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slap.core.units import Seconds


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
        tags: for each task where a clip may have several labels, those it has.
        corpus: the name of the corpus that it is from.
        split: of which of the corpus' splits it is part.
        fold: of which of the corpus' folds for cross-validation, where it has folds.
        origin: where the audio was taken from, e.g. {"youtube": id} or {"freesound": id}: finds overlaps of corpora.
        fields: for each caption what it is: "caption", "template", "tags", ...; or nothing.

    Raises:
        TypeError: captions, or the tags of a task, are a single text instead of a sequence of texts.
        ValueError: a value is empty or out of range.

    Example:
        >>> clip = Clip("dog", "dog.wav", ["a dog barks"], {"animal": "dog"}, start=1.5)
        >>> clip.captions, clip.start, clip.duration
        (['a dog barks'], 1.5, None)
    """

    id: str
    audio: str | Path
    captions: Sequence[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    start: Seconds = 0.0
    duration: Seconds | None = None
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    corpus: str = ""
    split: str = ""
    fold: int | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.captions, str):
            raise TypeError(f"captions must be a sequence of texts, got the text {self.captions!r}")
        if not self.id or not str(self.audio):
            raise ValueError(f"id and audio may not be empty, got id={self.id!r}, audio={str(self.audio)!r}")
        if not self.captions or not all(caption.strip() for caption in self.captions):
            raise ValueError(f"a clip needs captions, none of them empty; got {list(self.captions)!r}")
        if isinstance(self.fields, str) or any(isinstance(tags, str) for tags in self.tags.values()):
            raise TypeError(f"fields and tags must be sequences of texts, got {self.fields!r} and {self.tags!r}")
        if self.fields and len(self.fields) != len(self.captions):
            raise ValueError(f"{len(self.captions)} captions need as many fields, got {list(self.fields)!r}")
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
    if clip.tags:
        record["tags"] = {task: list(tags) for task, tags in clip.tags.items()}
    if clip.fold is not None:
        record["fold"] = clip.fold
    rest = {"corpus": clip.corpus, "split": clip.split, "origin": dict(clip.origin), "fields": list(clip.fields)}
    return record | {name: value for name, value in rest.items() if value}
