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
from torch.utils.data import Dataset

from slap.batch import Batch, fingerprint
from slap.datamodules.clip import Seconds
from slap.datamodules.sampler import Draw
from slap.datamodules.waveform import load
from slap.packed import Packed

Transform = Callable[[CutSet], CutSet]
Tokenize = Callable[[Sequence[str]], Packed]


@dataclass
class EvaluationDataset(Dataset[Batch]):
    """Whole clips with all their captions.

    Args:
        cuts: mono, at the model's sample rate, as `slap.datamodules.waveform.mono` makes them.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks that every batch answers for.
    """

    cuts: Sequence[MonoCut]
    tokenize: Tokenize
    tasks: tuple[str, ...] = ()

    def __getitem__(self, draw: Draw) -> Batch:
        return batch_of([self.cuts[i] for i in draw.clips], self.tokenize, self.tasks)


@dataclass
class TrainDataset(Dataset[Batch]):
    """Clips as training sees them: one caption drawn at random, long ones cropped at random, then transformed.

    What is drawn depends on the seed, the epoch and the clip's place in the corpus alone, so it does not change with
    the number of workers, the number of processes or the other clips of a batch.

    Args:
        cuts: mono, at the model's sample rate; a clip that stands here twice is drawn for separately.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks that every batch answers for.
        transforms: applied in order to the cuts of a batch, each with one caption. Each cut's custom field `draw` is a
            text that is different for each clip and epoch, for transforms to seed their random choices with.
        max_clip: what is longer is cropped to this, at a random place.
        seed: of everything random.
    """

    cuts: Sequence[MonoCut]
    tokenize: Tokenize
    tasks: tuple[str, ...] = ()
    transforms: Sequence[Transform] = ()
    max_clip: Seconds | None = None
    seed: int = 0

    def __getitem__(self, draw: Draw) -> Batch:
        cuts = CutSet([self._drawn(draw.epoch, i) for i in draw.clips])
        for transform in self.transforms:
            cuts = transform(cuts)
        known = {self.cuts[i].id: [supervision.text for supervision in self.cuts[i].supervisions] for i in draw.clips}
        return batch_of(list(cuts), self.tokenize, self.tasks, known)

    def _drawn(self, epoch: int, index: int) -> MonoCut:
        cut = self.cuts[index]
        draw = f"{self.seed} {epoch} {index}"
        rng = random.Random(draw)
        caption = rng.choice(cut.supervisions).text
        if self.max_clip is not None and cut.duration > self.max_clip:
            start = rng.uniform(0, cut.duration - self.max_clip)
            cut = cut.truncate(offset=start, duration=self.max_clip, preserve_id=True)
        # One that spans the whole clip, so that no crop loses it.
        supervision = SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, 0, caption)
        return fastcopy(cut, supervisions=[supervision], custom={**(cut.custom or {}), "draw": draw})


def batch_of(
    cuts: Sequence[Cut], tokenize: Tokenize, tasks: Sequence[str], known: Mapping[str, Sequence[str]] | None = None
) -> Batch:
    """Load clips and pack them with all captions that they have.

    Args:
        cuts: B mono cuts; the texts of their supervisions are the captions, the custom field `labels` the labels.
        tokenize: captions to token ids, (M,).
        tasks: the zero-shot tasks that the batch answers for, None where a clip has no label.
        known: by the clip's id, captions that describe it beside those it has here. They count only while it still
            has one of them: a transform that writes new captions makes another clip of it.

    Raises:
        ValueError: there are no clips, or one without a caption: a transform lost them.
        DecodeError: a clip's audio cannot be read.
    """
    captions = [[supervision.text for supervision in cut.supervisions] for cut in cuts]
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
        audio=Packed.pack([load(cut) for cut in cuts]),
        text=tokenize(texts),
        clip=torch.arange(len(cuts)).repeat_interleave(torch.tensor([len(group) for group in captions])),
        clip_key=fingerprint([cut.id for cut in cuts]),
        caption_key=fingerprint(texts),
        pairs=torch.stack([fingerprint(part) for part in zip(*pairs, strict=True)], 1),
        ids=tuple(cut.id for cut in cuts),
        captions=tuple(texts),
        labels={task: tuple(known.get(task) for known in labels) for task in tasks},
    )
