"""Preparation of one split: a manifest of the clips whose audio can be read, and counts of the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from lhotse import AudioSource, Recording
from lhotse.cut import Cut
from tqdm import tqdm

from slap.audio.decoders import Header
from slap.core.parts import Part
from slap.core.segments import outside
from slap.core.units import Seconds
from slap.datamodules.captions.validate import NO_TEXT, quoted, text_error
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.manifests.audio_files import Spellings
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.manifests.clip_cut import cut_of_clip
from slap.datamodules.manifests.read import write_cuts
from slap.datamodules.manifests.safe_cuts import check_cut
from slap.datamodules.prepare.headers import Fault, read_header, read_headers
from slap.datamodules.prepare.parts import PartJournals, read_part
from slap.datamodules.prepare.report import Findings, Record

log = logging.getLogger(__name__)

ROUNDING: Seconds = 0.05
"""Largest time by which a clip may exceed its file: published times are rounded, and encoders cut frames off."""

Places = dict[tuple[str, Seconds, Seconds | None], str]
"""Ids of clips by file, start and duration."""

NO_WORDS = "no caption, or one that is no text"
"""The reason for leaving out a clip, see `slap.datamodules.captions.validate`."""


def prepare_split(
    corpus: Corpus,
    split: str,
    manifest: Path,
    workers: int,
    show: bool = True,
    parts: PartJournals | None = None,
) -> Record:
    """Write the manifest of a split.

    Called again after an interruption, it continues: the headers that were read are kept beside the manifest.

    Args:
        corpus: corpus to prepare.
        split: name of one of its splits.
        manifest: path of the .jsonl.gz to write. No file is written if no clip was found.
        workers: number of processes that read headers; 0 reads in this one.
        show: show a progress bar.
        parts: the headers, from parts.

    Returns:
        Counts of the clips, see `slap.datamodules.prepare.report.Findings`.
    """
    corpus.left_out.clear()
    findings = Findings(corpus.official(split))
    journal = manifest.with_name(f"{manifest.name}.headers")
    total = findings.official
    with tqdm(total=total, desc=split, unit=" clips", disable=not show, dynamic_ncols=True) as bar:
        places: Places = {}
        clips = _listed(corpus, split, findings, bar, places)
        headers = read_headers(clips, path_of, journal, workers) if parts is None else parts.headers(clips, path_of)
        cuts = _cuts(headers, findings, places, corpus.may_be_cut)
        first = next(cuts, None)
        if first is not None:
            write_cuts(manifest, chain([first], cuts))
        bar.total = findings.listed  # the list may be shorter than the published one
        bar.refresh()
    journal.unlink(missing_ok=True)
    return findings.record(corpus.left_out)


def prepare_part(corpus: Corpus, split: str, journal: Path, workers: int, part: Part, show: bool = True) -> int:
    """Read the headers of one part of a split, for `prepare_split` with the journals of all parts.

    Args:
        corpus: corpus to prepare.
        split: name of one of its splits.
        journal: path of the journal; one from an interrupted reading is continued.
        workers: number of processes that read headers; 0 reads in this one.
        part: the part.
        show: show a progress bar of the listing, which all parts do as a whole.

    Returns:
        The number of files of the part.
    """
    corpus.left_out.clear()
    findings = Findings(corpus.official(split))
    with tqdm(total=findings.official, desc=split, unit=" clips", disable=not show, dynamic_ncols=True) as bar:
        return read_part(_listed(corpus, split, findings, bar, {}), path_of, journal, workers, part)


def path_of(clip: Clip) -> str:
    """Return the path of a clip's audio."""
    return str(Path(clip.audio).absolute())


def _listed(corpus: Corpus, split: str, findings: Findings, bar: tqdm[Any], places: Places) -> Iterator[Clip]:
    """Yield the clips of a split, each id and each segment of a file once."""
    ids: set[str] = set()
    for clip in corpus.clips(split):
        findings.listed += 1
        bar.update()
        fault = _no_text(clip)
        if fault:
            corpus.leave_out(NO_WORDS, fault)
            continue
        place = _place(clip)
        if clip.id in ids:
            findings.bad("duplicated", clip, "this id was used before")
        elif place in places:
            findings.bad("duplicated", clip, f"{clip.audio} is {places[place]} already")
        else:
            ids.add(clip.id)
            places[place] = clip.id
            yield clip


def _place(clip: Clip) -> tuple[str, Seconds, Seconds | None]:
    return path_of(clip), clip.start, clip.duration


def _no_text(clip: Clip) -> str | None:
    """Return a message if a field of a clip is no UTF-8 text, which no manifest can hold, or a caption is none."""
    named = [clip.id, str(clip.audio), *(part for about in (clip.labels, clip.origin) for part in about.values())]
    named += [tag for tags in clip.tags.values() for tag in tags]
    for text in named:
        if NO_TEXT.search(text) or "\0" in text:
            return f"{quoted(clip.id)}: {quoted(text)} is no text"
    fault = next(filter(None, map(text_error, clip.captions)), None if clip.captions else "it has none")
    return fault and f"{clip.id}: a caption is none: {fault}"


def _cuts(
    headers: Iterator[tuple[Clip, Header | Fault]], findings: Findings, places: Places, may_be_cut: bool
) -> Iterator[Cut]:
    spellings = Spellings()
    for clip, header in headers:
        if isinstance(header, Fault) and header.kind == "missing":
            clip, header = _respelled(clip, header, spellings, places)
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
        fault = "" if may_be_cut else outside(clip.segments or (), duration)
        if fault:
            findings.bad("outside", clip, fault)
            continue
        source = AudioSource("file", list(range(header.channels)), str(Path(clip.audio).absolute()))
        recording = Recording(clip.id, [source], header.rate, header.frames, header.duration)
        try:
            cut = cut_of_clip(clip, recording, duration)
            check_cut(cut, str(clip.audio))
        except ManifestError as error:
            findings.bad("unreadable", clip, str(error))
            continue
        findings.good(clip, duration, header.rate, header.channels)
        if header.note:
            findings.incomplete(clip, header.note)
        yield cut


def _respelled(clip: Clip, fault: Fault, spellings: Spellings, places: Places) -> tuple[Clip, Header | Fault]:
    """Return a clip whose file is missing with the only one that is spelled otherwise, and the header of that."""
    others = spellings.of(_place(clip)[0])
    if len(others) != 1:
        return clip, replace(fault, detail=f"{fault.detail}, but {' and '.join(others)}") if others else fault
    found = replace(clip, audio=others[0])
    owner = places.setdefault(_place(found), clip.id)
    if owner != clip.id:
        return clip, replace(fault, detail=f"{fault.detail}, but {others[0]}, which is that of {owner}")
    log.warning("%s: %s is spelled otherwise on the disk, %s", clip.id, clip.audio, Path(others[0]).name)
    return found, read_header(others[0])
