"""A clip, and a writer of manifests: the files that list clips.

`slap.datamodules.manifests.read` reads manifests; this file writes one, for recipes that make their own corpus.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.core.units import Seconds


class ManifestError(UserError):
    """A manifest that cannot be used; the message names the file and the line, and what is accepted."""


@dataclass(frozen=True)
class Clip:
    """A segment of an audio file with its captions.

    Args:
        id: name of the clip; clips of equal id are the same clip in every manifest.
        audio: path of the audio file.
        captions: none of them empty. A clip without any trains those objectives only that learn from audio alone.
        labels: label of the clip for each zero-shot task that it belongs to.
        start: begin of the clip in the file, seconds.
        duration: duration of the clip, seconds; None is up to the end of the file.
        tags: labels of the clip for each task where it may have several.
        corpus: name of the corpus that the clip is from.
        split: split of the corpus that the clip belongs to.
        fold: fold for cross-validation that the clip belongs to, in corpora with folds.
        origin: source of the audio, e.g. {"youtube": id} or {"freesound": id}, by which overlaps of corpora are found.
        fields: field of the corpus that each caption is from: "caption", "template", "tags", ...; or nothing.
        choices: for each question about the clip its candidate captions, at least two different ones, the right one
            first, e.g. {"order": ["a dog barks, then rain", "rain, then a dog barks"]}.
        segments: sounds within the clip, each with `start` and `end` in seconds from its begin and with a `text`.

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
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    segments: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.captions, str):
            raise TypeError(f"captions must be a sequence of texts, got the text {self.captions!r}")
        if not self.id or not str(self.audio):
            raise UserError(f"id and audio may not be empty, got id={self.id!r}, audio={str(self.audio)!r}")
        if not all(caption.strip() for caption in self.captions):
            raise UserError(f"captions are texts, none of them empty; got {list(self.captions)!r}")
        if isinstance(self.fields, str) or any(isinstance(tags, str) for tags in self.tags.values()):
            raise TypeError(f"fields and tags must be sequences of texts, got {self.fields!r} and {self.tags!r}")
        if self.fields and len(self.fields) != len(self.captions):
            raise UserError(f"{len(self.captions)} captions need as many fields, got {list(self.fields)!r}")
        if not 0 <= self.start < float("inf"):
            raise UserError(f"start must be 0 or more seconds, got {self.start}")
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise UserError(f"duration must be more than 0 seconds, got {self.duration}")


def write_manifest(path: str | Path, clips: Iterable[Clip]) -> Path:
    """Write clips as JSON lines that `read_manifest` reads.

    Audio below the manifest's folder is written relative to it, so that the folder can move as a whole; other audio
    is written by its absolute path. The file appears complete or not at all, also when several processes write it.

    Args:
        path: ends in .jsonl; its folder is made when it is missing.
        clips: clips to write, any number; iterated once.

    Returns:
        The path.

    Raises:
        ValueError: the path has another suffix.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        raise UserError(f"a manifest of clips is written as .jsonl, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, sync=False) as file:
        for clip in clips:
            file.write(json.dumps(_record(clip, path.parent.resolve()), ensure_ascii=False) + "\n")
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
    if clip.choices:
        record["choices"] = {task: list(captions) for task, captions in clip.choices.items()}
    if clip.segments:
        record["segments"] = [dict(segment) for segment in clip.segments]
    if clip.fold is not None:
        record["fold"] = clip.fold
    rest = {"corpus": clip.corpus, "split": clip.split, "origin": dict(clip.origin), "fields": list(clip.fields)}
    return record | {name: value for name, value in rest.items() if value}
