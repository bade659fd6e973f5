"""Turns the clips that a corpus lists into a manifest of those that are there, and says which are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from lhotse import AudioSource, MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.cut import Cut
from tqdm import tqdm

from slap.audio.decoders import Header
from slap.core.units import Seconds
from slap.datamodules.captions.validate import NO_TEXT, printable, text_error
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.manifests.clip import Clip
from slap.datamodules.manifests.cuts import write_cuts
from slap.datamodules.prepare.headers import Fault, read_headers
from slap.datamodules.prepare.report import Findings, Record

ROUNDING: Seconds = 0.05
"""By how much a clip may overstep its file: published times are rounded, and encoders cut frames off."""


NO_WORDS = "no caption, or one that is no text"
"""Why a clip is left out, see `slap.datamodules.captions.validate`."""


def prepare_split(corpus: Corpus, split: str, manifest: Path, workers: int, show: bool = True) -> Record:
    """Write the manifest of a split.

    Interrupted, it goes on where it was when it is called again: what was read is kept beside the manifest.

    Args:
        corpus: what to prepare.
        split: one of its splits.
        manifest: the .jsonl.gz to write. No file is written when not one clip was found.
        workers: processes that read headers; 0 reads in this one.
        show: whether to show a progress bar.

    Returns:
        What was found, see `slap.datamodules.prepare.report.Findings`.
    """
    corpus.left_out.clear()
    findings = Findings(corpus.official(split))
    journal = manifest.with_name(f"{manifest.name}.headers")
    total = findings.official
    with tqdm(total=total, desc=split, unit=" clips", disable=not show, dynamic_ncols=True) as bar:
        cuts = _cuts(_listed(corpus, split, findings, bar), findings, journal, workers)
        first = next(cuts, None)
        if first is not None:
            write_cuts(manifest, chain([first], cuts))
        bar.total = findings.listed  # the list may be shorter than the published one
        bar.refresh()
    journal.unlink(missing_ok=True)
    return findings.record(corpus.left_out)


def _listed(corpus: Corpus, split: str, findings: Findings, bar: tqdm[Any]) -> Iterator[Clip]:
    """The clips of a split, each id and each stretch of a file once."""
    ids: set[str] = set()
    places: dict[tuple[str, Seconds, Seconds | None], str] = {}
    for clip in corpus.clips(split):
        findings.listed += 1
        bar.update()
        fault = _no_text(clip)
        if fault:
            corpus.skip_step(NO_WORDS, fault)
            continue
        place = (str(Path(clip.audio).absolute()), clip.start, clip.duration)
        if clip.id in ids:
            findings.bad("duplicated", clip, "this id was used before")
        elif place in places:
            findings.bad("duplicated", clip, f"{clip.audio} is {places[place]} already")
        else:
            ids.add(clip.id)
            places[place] = clip.id
            yield clip


def _no_text(clip: Clip) -> str | None:
    """What of a clip is no text, so that no manifest can hold it, or is no caption; None if nothing is."""
    named = [clip.id, str(clip.audio), *(part for about in (clip.labels, clip.origin) for part in about.values())]
    named += [tag for tags in clip.tags.values() for tag in tags]
    for text in named:
        if NO_TEXT.search(text) or "\0" in text:
            return f"{printable(clip.id)}: {printable(text)} is no text"
    fault = next(filter(None, map(text_error, clip.captions)), None)
    return fault and f"{clip.id}: a caption is none: {fault}"


def _cuts(clips: Iterator[Clip], findings: Findings, journal: Path, workers: int) -> Iterator[Cut]:
    for clip, header in read_headers(clips, lambda clip: str(Path(clip.audio).absolute()), journal, workers):
        if isinstance(header, Fault):
            findings.bad(header.kind, clip, header.detail)
            continue
        length = header.duration
        duration = length - clip.start if clip.duration is None else clip.duration
        if duration <= 0 or clip.start + duration > length + ROUNDING:
            detail = (
                f"{clip.start:g} to {clip.start + max(duration, 0):g} s of {clip.audio}, which lasts {length:.3f} s"
            )
            findings.bad("outside", clip, detail)
            continue
        duration = min(duration, length - clip.start)
        if duration <= 0:
            findings.bad("outside", clip, f"begins at the end of {clip.audio}, which lasts {length:.3f} s")
            continue
        findings.good(clip, duration, header.rate, header.channels)
        yield cut_of_clip(clip, header, duration)


def cut_of_clip(clip: Clip, header: Header, duration: Seconds) -> Cut:
    """A clip as Lhotse has it: captions are supervisions, and everything else custom fields."""
    path = str(Path(clip.audio).absolute())
    channels = list(range(header.channels))
    source = AudioSource("file", channels, path)
    recording = Recording(clip.id, [source], header.rate, header.frames, header.duration)
    channel: Any = channels if header.channels > 1 else 0
    kind = MultiCut if header.channels > 1 else MonoCut
    fields: Sequence[str | None] = clip.fields or [None] * len(clip.captions)
    supervisions = [
        SupervisionSegment(
            f"{clip.id}-{n}", clip.id, 0.0, duration, channel, text, custom={"field": field} if field else None
        )
        for n, (text, field) in enumerate(zip(clip.captions, fields, strict=True))
    ]
    custom = {
        "labels": dict(clip.labels),
        "tags": {task: list(tags) for task, tags in clip.tags.items()},
        "corpus": clip.corpus,
        "split": clip.split,
        "fold": clip.fold,
        "origin": dict(clip.origin),
    }
    said = {name: value for name, value in custom.items() if value not in ({}, "", None)}
    return kind(clip.id, clip.start, duration, channel, supervisions, None, recording, said)
