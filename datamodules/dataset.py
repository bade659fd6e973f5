"""Data sets: from a request of the sampler to a packed batch, in the data loader's workers.

B clips, C captions, N audio samples of all clips, M text tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lhotse import CutSet, MonoCut, SupervisionSegment
from lhotse.cut import Cut
from lhotse.utils import fastcopy
from torch import Tensor
from torch.utils.data import Dataset

import slap.datamodules.workers  # noqa: F401  # processes that load batches shall end when training does
from slap.core.bad_clip import BadClip
from slap.core.batch import Batch, fingerprint
from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.segments import phrases_of
from slap.core.units import Seconds
from slap.datamodules.audio.decode import LARGEST
from slap.datamodules.audio.load import check_captions, check_not_silent, is_silent, load, with_samples
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.sample import CaptionSampler, captions_to_evaluate, original_text
from slap.datamodules.manifests.safe_cuts import tracks_of
from slap.datamodules.sampling.eval_windows import Segments
from slap.datamodules.sampling.mixture import source_of
from slap.datamodules.sampling.replacement import Replacements
from slap.datamodules.sampling.sampler import BatchRequest
from slap.datamodules.segments import crop, packed_segments, with_segments_moved

Transform = Callable[[CutSet], CutSet]
Tokenize = Callable[[Sequence[str]], Packed]

TRIES = 10
"""Clips that are tried in place of a bad one before its place stays empty."""


@dataclass
class EvaluationDataset(Dataset[Batch]):
    """Whole clips, or the windows of long ones, with all their captions; bad clips are left out.

    Captions that were made of labels count only where a clip has no others.

    Args:
        cuts: mono cuts at the model's sample rate, as `slap.datamodules.audio.load.mono` makes them.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks whose labels every batch has.
        segments: segments of the clips, which a request names by number. The first one of a clip has its captions.
        largest: bytes that decoding a clip may take.
        firsts: the number of the first clip of each source.
    """

    cuts: Sequence[MonoCut]
    tokenize: Tokenize
    tasks: tuple[str, ...]
    segments: Segments
    largest: int = LARGEST
    firsts: Sequence[int] = (0,)

    def __getitem__(self, request: BatchRequest) -> Batch:
        good: list[Loaded] = []
        spans: list[Span] = []
        bad: list[BadClip] = []
        for number in request.clips:
            try:
                good.append(self._segment(number))
                spans.append(self.segments.span(number))
            except ClipError as error:
                bad.append(error.bad)
        return batch_of(good, self.tokenize, self.tasks, bad=bad, spans=spans)

    def numbers(self, request: BatchRequest) -> set[int]:
        """Return the numbers of the clips that a request names."""
        return {int(self.segments.clip[number]) for number in request.clips}

    def _segment(self, number: int) -> Loaded:
        clip = int(self.segments.clip[number])
        whole = self.cuts[clip]
        check_captions(whole)
        start, stop = self.segments.span(number)
        cut = whole
        if stop - start < whole.num_samples:
            rate = whole.sampling_rate
            cut = crop(whole, start / rate, (stop - start) / rate)
        captions = [] if start else captions_to_evaluate(cut)
        custom = {**(cut.custom or {}), "source": source_of(self.firsts, clip)}
        cut = fastcopy(cut, supervisions=captions, custom=custom)
        samples = load(cut, self.largest)
        if is_silent(samples):
            check_not_silent(whole, cut.duration, self.largest)
        return cut, samples


@dataclass
class TrainDataset(Dataset[Batch]):
    """Clips for training: one caption drawn at random, if there is any, long clips cropped at random, then transformed.

    In a batch the clips without captions come last, and are transformed by themselves: the caption of a mixture with
    one of them would describe a part of it.

    All that is random depends on the seed, the epoch and the clip's place in the corpus alone, so it does not change
    with the number of workers, the number of processes or the other clips of a batch. A clip that cannot be used is
    replaced by another one, which is drawn the same way and is not longer.

    Args:
        cuts: mono cuts at the model's sample rate; each occurrence of a clip is drawn for separately.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks whose labels every batch has.
        transforms: applied in order to the cuts of a batch, each with one caption and its audio in memory. The caption
            of a clip without any is empty, and dropped afterwards. Each cut's custom field `draw` is a text that is
            different for each clip and epoch, from which transforms seed their random choices. One that changes times
            must change those in the custom field `segments` alike, see `slap.datamodules.segments`.
        max_clip: longer clips are cropped to this, at a random place.
        seed: seed of all that is random.
        replacements: replacements of bad clips; None replaces none.
        largest: bytes that decoding a clip may take.
        firsts: the number of the first clip of each source.
        captions: sampler of the captions; default: all captions of a clip are equally probable.
    """

    cuts: Sequence[MonoCut]
    tokenize: Tokenize
    tasks: tuple[str, ...] = ()
    transforms: Sequence[Transform] = ()
    max_clip: Seconds | None = None
    seed: int = 0
    replacements: Replacements | None = None
    largest: int = LARGEST
    firsts: Sequence[int] = (0,)
    captions: CaptionSampler = field(default_factory=CaptionSampler)

    def __getitem__(self, request: BatchRequest) -> Batch:
        bad: list[BadClip] = []
        found = [self._usable(request.epoch, index, bad) for index in request.clips]
        good = [clip for clip in found if clip is not None]
        read = len(good)
        known = {cut.id: captions for cut, _, captions in good}
        captioned = self._transformed([(cut, samples) for cut, samples, captions in good if captions], bad)
        others = self._transformed([(cut, samples) for cut, samples, captions in good if not captions], bad)
        return batch_of(captioned + others, self.tokenize, self.tasks, known, bad, read, uncaptioned=len(others))

    def numbers(self, request: BatchRequest) -> set[int]:
        """Return the numbers of the clips that a request names."""
        return {occurrence % len(self.cuts) for occurrence in request.clips}

    def _usable(self, epoch: int, index: int, bad: list[BadClip]) -> tuple[MonoCut, Tensor, list[str]] | None:
        """Draw a clip, with its samples and all its captions; another one if it is bad, None if all are."""
        choice: int | None = index
        for attempt in range(1 + TRIES):
            if choice is None:
                break
            try:
                whole = self.cuts[choice]
                check_captions(whole)
                instead = "" if choice == index else f" for {index}"
                source = source_of(self.firsts, choice % len(self.cuts))
                cut = self._drawn(whole, f"{self.seed} {epoch} {choice}{instead}", source)
                samples = load(cut, self.largest)
                if is_silent(samples):
                    check_not_silent(whole, cut.duration, self.largest)
                return cut, samples, [supervision.text for supervision in whole.supervisions]
            except ClipError as error:
                bad.append(error.bad)
            choice = None if self.replacements is None else self.replacements.of(epoch, index, attempt)
        return None

    def _drawn(self, cut: MonoCut, draw: str, source: int) -> MonoCut:
        rng = random.Random(draw)
        text, about = "", dict[str, str]()
        if cut.supervisions:
            text, about = self.captions.augmented(self.captions.draw(cut, rng), draw)
        if self.max_clip is not None and cut.duration > self.max_clip:
            start = rng.uniform(0, cut.duration - self.max_clip)
            cut = crop(cut, start, self.max_clip)
        # One that spans the whole clip, so that no crop loses it.
        supervision = SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, 0, text, custom=about)
        custom = {**(cut.custom or {}), "draw": draw, "source": source}
        return fastcopy(cut, supervisions=[supervision], custom=custom)

    def _transformed(self, clips: list[Loaded], bad: list[BadClip]) -> list[Loaded]:
        if not self.transforms or not clips:
            return clips
        cuts = CutSet([with_samples(cut, samples) for cut, samples in clips])
        for transform in self.transforms:
            cuts = with_segments_moved(transform, cuts)
        made: list[Loaded] = []
        for cut in cuts:
            try:
                made.append((cut, load(cut, self.largest)))
            except ClipError as error:  # e.g. a noise that cannot be read
                bad.append(error.bad)
        return made


def custom_of(cut: Cut) -> dict[str, Any]:
    """Return the custom fields of a clip; a mix has those of the clip that it began with."""
    first = next(tracks_of(cut), None)
    return (first and first.custom) or {}


def origin_of(custom: Mapping[str, Any]) -> str:
    """Return what a clip was cut from, as one text, from its custom field `origin` {site: id}; "" if it has none.

    Example:
        >>> origin_of({"origin": {"freesound": "100032"}})
        'freesound 100032'
    """
    return ", ".join(f"{site} {name}" for site, name in sorted((custom.get("origin") or {}).items()))


def tags_of(cuts: Sequence[Cut]) -> dict[str, tuple[dict[str, float] | None, ...]]:
    """Return the labels of each clip with their shares, for each task of which any clip has several labels.

    The custom field `tags` holds them, as a list of names, or with shares, as mixing clips makes them.
    """
    tags = [custom_of(cut).get("tags") or {} for cut in cuts]
    tasks = sorted({task for known in tags for task in known})
    return {task: tuple(_with_shares(known[task]) if task in known else None for known in tags) for task in tasks}


def choices_of(cuts: Sequence[Cut]) -> dict[str, tuple[Sequence[str] | None, ...]]:
    """Return the candidate captions of each clip, from the custom field `choices`, for each task of any clip."""
    choices = [custom_of(cut).get("choices") or {} for cut in cuts]
    tasks = sorted({task for known in choices for task in known})
    return {task: tuple(known.get(task) for known in choices) for task in tasks}


def _with_shares(names: Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    return dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, 1.0)


Loaded = tuple[Cut, Tensor]
"""A mono cut with its samples, (T,)."""

Span = tuple[int, int]
"""First sample of a segment in its clip, and the sample after its last one."""


def batch_of(
    clips: Sequence[Loaded],
    tokenize: Tokenize,
    tasks: Sequence[str],
    known: Mapping[str, Sequence[str]] | None = None,
    bad: Sequence[BadClip] = (),
    read: int | None = None,
    spans: Sequence[Span] = (),
    uncaptioned: int = 0,
) -> Batch:
    """Pack clips with all captions that they have.

    Args:
        clips: B mono cuts with their samples; the texts of the cuts' supervisions are the captions, the custom fields
            `labels` and `tags` the labels, `source` the number of the source and `segments` the segments.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks that the batch answers for, None where a clip has no label.
        known: by the clip's id, captions that describe it beside those it has here. They count only while it still
            has one of them: a transform that writes new captions makes another clip of it.
        bad: clips that were left out.
        read: number of clips that were read for the batch, if not B.
        spans: the span of each segment in its clip, in an evaluation. A segment that begins later than its clip needs
            no caption.
        uncaptioned: number of the last clips, which have no captions.

    Raises:
        ValueError: clips were read and none is left, or one has no caption: a transform lost them.
    """
    cuts = [cut for cut, _ in clips]
    supervisions = [cut.supervisions for cut in cuts[: len(cuts) - uncaptioned]] + [[]] * uncaptioned
    captions = [[supervision.text for supervision in group] for group in supervisions]
    if not cuts and (bad or not read):
        return Batch.without_clips(bad)
    needy = [] if spans else cuts[: len(cuts) - uncaptioned]
    lost = [cut.id for cut, texts in zip(needy, captions, strict=False) if not texts]
    if not cuts or lost:
        raise UserError(f"after the transforms {f'clips {lost} have no caption' if lost else 'no clip is left'}")
    texts = [text for group in captions for text in group]
    originals = [[original_text(supervision) for supervision in group] for group in supervisions]
    labels = [(cut.custom or {}).get("labels", {}) for cut in cuts]
    others = [(known or {}).get(cut.id, ()) for cut in cuts]
    pairs = [
        (cut.id, text)
        for cut, group, other in zip(cuts, originals, others, strict=True)
        for text in dict.fromkeys([*group, *(other if set(group) & set(other) else ())])
    ]
    found = [packed_segments(cut) for cut in cuts]
    segments = () if all(known is None for known in found) else tuple(found)
    phrases = phrases_of(segments)
    return Batch(
        audio=Packed.pack([samples for _, samples in clips]),
        text=tokenize(texts) if texts else Packed(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)),
        clip=torch.arange(len(cuts)).repeat_interleave(torch.tensor([len(group) for group in captions])),
        clip_key=fingerprint([cut.id for cut in cuts]),
        caption_key=fingerprint([text for group in originals for text in group]),
        pairs=torch.stack([fingerprint([pair[side] for pair in pairs]) for side in (0, 1)], 1),
        ids=tuple(cut.id for cut in cuts),
        captions=tuple(texts),
        labels={task: tuple(known.get(task) for known in labels) for task in tasks},
        tags=tags_of(cuts),
        choices=choices_of(cuts) if spans else {},
        spans=tuple(spans),
        bad=tuple(bad),
        source=torch.tensor([custom_of(cut).get("source", 0) for cut in cuts]),
        origins=tuple(origin_of(custom_of(cut)) for cut in cuts) if spans else (),
        read=len(cuts) if read is None else read,
        segments=segments,
        phrases=tokenize(phrases) if phrases else None,
    )
