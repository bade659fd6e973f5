"""From a draw of the sampler to a packed batch: what the data loader's workers do.

B clips, C captions, N audio samples of all clips, M text tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from lhotse import CutSet, MonoCut, SupervisionSegment
from lhotse.cut import Cut
from lhotse.utils import fastcopy
from torch import Tensor
from torch.utils.data import Dataset

from slap.bad_clip import BadClip
from slap.batch import Batch, fingerprint
from slap.datamodules.clip import Seconds
from slap.datamodules.decode import LARGEST
from slap.datamodules.quarantine import ClipError
from slap.datamodules.replacement import Replacements
from slap.datamodules.sampler import Draw
from slap.datamodules.waveform import complaint, holding, is_silent, load
from slap.packed import Packed

Transform = Callable[[CutSet], CutSet]
Tokenize = Callable[[Sequence[str]], Packed]

TRIES = 10
"""Clips that are tried in place of a bad one before its place stays empty."""


@dataclass
class EvaluationDataset(Dataset[Batch]):
    """Whole clips with all their captions; those that are bad are left out.

    Args:
        cuts: mono, at the model's sample rate, as `slap.datamodules.waveform.mono` makes them.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks that every batch answers for.
        largest: bytes of a clip that may be decoded at once.
    """

    cuts: Sequence[MonoCut]
    tokenize: Tokenize
    tasks: tuple[str, ...] = ()
    largest: int = LARGEST

    def __getitem__(self, draw: Draw) -> Batch:
        good: list[Loaded] = []
        bad: list[BadClip] = []
        for index in draw.clips:
            try:
                cut = self.cuts[index]
                good.append((cut, _audible(cut, load(cut, self.largest))))
            except ClipError as error:
                bad.append(error.bad)
        return batch_of(good, self.tokenize, self.tasks, bad=bad)


@dataclass
class TrainDataset(Dataset[Batch]):
    """Clips as training sees them: one caption drawn at random, long ones cropped at random, then transformed.

    What is drawn depends on the seed, the epoch and the clip's place in the corpus alone, so it does not change with
    the number of workers, the number of processes or the other clips of a batch. A clip that cannot be used is
    replaced by another one, which is drawn the same way and not longer.

    Args:
        cuts: mono, at the model's sample rate; a clip that stands here twice is drawn for separately.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks that every batch answers for.
        transforms: applied in order to the cuts of a batch, each with one caption and its audio in memory. Each cut's
            custom field `draw` is a text that is different for each clip and epoch, for transforms to seed their
            random choices with.
        max_clip: what is longer is cropped to this, at a random place.
        seed: of everything random.
        replacements: says which clip replaces a bad one; None replaces none.
        largest: bytes of a clip that may be decoded at once.
    """

    cuts: Sequence[MonoCut]
    tokenize: Tokenize
    tasks: tuple[str, ...] = ()
    transforms: Sequence[Transform] = ()
    max_clip: Seconds | None = None
    seed: int = 0
    replacements: Replacements | None = None
    largest: int = LARGEST

    def __getitem__(self, draw: Draw) -> Batch:
        bad: list[BadClip] = []
        found = [self._usable(draw.epoch, index, bad) for index in draw.clips]
        good = [clip for clip in found if clip is not None]
        read = len(good)
        known = {cut.id: captions for cut, _, captions in good}
        clips: list[Loaded] = [(cut, samples) for cut, samples, _ in good]
        if self.transforms and good:
            clips = self._transformed(clips, bad)
        return batch_of(clips, self.tokenize, self.tasks, known, bad, read)

    def _usable(self, epoch: int, index: int, bad: list[BadClip]) -> tuple[MonoCut, Tensor, list[str]] | None:
        """A clip as it is drawn, with its samples and all its captions; another one if it is bad, None if all are."""
        choice: int | None = index
        for attempt in range(1 + TRIES):
            if choice is None:
                break
            try:
                whole = self.cuts[choice]
                cut = self._drawn(epoch, choice, "" if choice == index else f" for {index}")
                samples = load(cut, self.largest)
                if is_silent(samples):
                    self._check_rest(whole, cut)
                return cut, samples, [supervision.text for supervision in whole.supervisions]
            except ClipError as error:
                bad.append(error.bad)
            choice = None if self.replacements is None else self.replacements.of(epoch, index, attempt)
        return None

    def _drawn(self, epoch: int, index: int, instead: str) -> MonoCut:
        cut = self.cuts[index]
        draw = f"{self.seed} {epoch} {index}{instead}"
        rng = random.Random(draw)
        caption = rng.choice(cut.supervisions).text
        if self.max_clip is not None and cut.duration > self.max_clip:
            start = rng.uniform(0, cut.duration - self.max_clip)
            cut = cut.truncate(offset=start, duration=self.max_clip, preserve_id=True)
        # One that spans the whole clip, so that no crop loses it.
        supervision = SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, 0, caption)
        return fastcopy(cut, supervisions=[supervision], custom={**(cut.custom or {}), "draw": draw})

    def _check_rest(self, whole: MonoCut, part: MonoCut) -> None:
        """Raise if a clip is silent of which a part is; block by block, so that a long one is never held whole."""
        start = 0.0
        while start < whole.duration:
            size = min(part.duration, whole.duration - start)
            block = whole if size == whole.duration else whole.truncate(offset=start, duration=size)
            if not is_silent(load(block, self.largest)):
                return
            start += part.duration
        raise complaint(whole, SILENCE, "silent")

    def _transformed(self, clips: Sequence[Loaded], bad: list[BadClip]) -> list[Loaded]:
        cuts = CutSet([holding(cut, samples) for cut, samples in clips])
        for transform in self.transforms:
            cuts = transform(cuts)
        made: list[Loaded] = []
        for cut in cuts:
            try:
                made.append((cut, load(cut, self.largest)))
            except ClipError as error:  # e.g. a noise that cannot be read
                bad.append(error.bad)
        return made


SILENCE = "every sample is zero"

Loaded = tuple[Cut, Tensor]
"""A mono cut with its samples, (T,)."""


def _audible(cut: Cut, samples: Tensor) -> Tensor:
    if is_silent(samples):
        raise complaint(cut, SILENCE, "silent")
    return samples


def batch_of(
    clips: Sequence[Loaded],
    tokenize: Tokenize,
    tasks: Sequence[str],
    known: Mapping[str, Sequence[str]] | None = None,
    bad: Sequence[BadClip] = (),
    read: int | None = None,
) -> Batch:
    """Pack clips with all captions that they have.

    Args:
        clips: B mono cuts with their samples; the texts of the cuts' supervisions are the captions, the custom field
            `labels` the labels.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks that the batch answers for, None where a clip has no label.
        known: by the clip's id, captions that describe it beside those it has here. They count only while it still
            has one of them: a transform that writes new captions makes another clip of it.
        bad: clips that were left out.
        read: clips that were read for the batch, if not B.

    Raises:
        ValueError: clips were read and none is left, or one has no caption: a transform lost them.
    """
    cuts = [cut for cut, _ in clips]
    captions = [[supervision.text for supervision in cut.supervisions] for cut in cuts]
    if not cuts and (bad or not read):
        return Batch.without_clips(bad)
    if not cuts or not all(captions):
        lost = [cut.id for cut, texts in zip(cuts, captions, strict=True) if not texts]
        raise ValueError(f"after the transforms {f'clips {lost} have no caption' if lost else 'no clip is left'}")
    texts = [text for group in captions for text in group]
    labels = [(cut.custom or {}).get("labels", {}) for cut in cuts]
    others = [(known or {}).get(cut.id, ()) for cut in cuts]
    pairs = [
        (cut.id, text)
        for cut, group, other in zip(cuts, captions, others, strict=True)
        for text in dict.fromkeys([*group, *(other if set(group) & set(other) else ())])
    ]
    return Batch(
        audio=Packed.pack([samples for _, samples in clips]),
        text=tokenize(texts),
        clip=torch.arange(len(cuts)).repeat_interleave(torch.tensor([len(group) for group in captions])),
        clip_key=fingerprint([cut.id for cut in cuts]),
        caption_key=fingerprint(texts),
        pairs=torch.stack([fingerprint(part) for part in zip(*pairs, strict=True)], 1),
        ids=tuple(cut.id for cut in cuts),
        captions=tuple(texts),
        labels={task: tuple(known.get(task) for known in labels) for task in tasks},
        bad=tuple(bad),
        read=len(cuts) if read is None else read,
    )
