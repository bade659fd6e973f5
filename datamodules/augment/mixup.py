"""Mixup of waveforms: a weighted sum of two clips of a batch, with the labels of both weighted alike.

T samples of a clip.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lhotse.cut import Cut
from lhotse.utils import fastcopy
from torch import Tensor

from slap.core.segments import Rows, cropped
from slap.datamodules.audio.load import load, mixed_down, with_samples
from slap.datamodules.augment.base import RandomTransform
from slap.datamodules.dataset import custom_of, tags_of
from slap.datamodules.segments import segments_of, together, with_field


@dataclass(frozen=True)
class Mixup(RandomTransform):
    """Weighted sum of two clips of the batch, for classification (mixup, arXiv 1710.09412; of waveforms as in PSLA).

    A clip becomes `share` x itself + (1 - share) x another one, both without their mean; the share is drawn from a
    Beta distribution. The other clip is cut, or lies at a random place in silence, so that the clip keeps its length.
    Its labels become soft: those of each clip with its share, those of both with the sum (`Batch.tags`). Captions are
    joined, that of the larger share first. The mix gets an id of its own, and the segments of both clips where they are
    heard in it, if both were annotated.

    Args:
        probability: probability that a clip is mixed (PSLA, arXiv 2102.01243: 0.5).
        alpha: both parameters of the Beta distribution; large ones mix evenly (PSLA and AST, arXiv 2104.01778: 10).
        joint: text between the captions.
        seed: seed of the random draws.
    """

    probability: float = 0.5
    alpha: float = 10.0
    joint: str = " and "
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.alpha > 0, "alpha > 0", "alpha")

    def transform_in_batch(self, cut: Cut, rng: random.Random, batch: list[Cut]) -> Cut:
        """Return the weighted sum of the cut and another one of the batch."""
        others = [other for other in batch if other.id != cut.id]
        if not others:
            return cut
        other = rng.choice(others)
        share = rng.betavariate(self.alpha, self.alpha)
        waves, place = (load(cut), load(other)), rng.random()
        samples = mixed(*waves, share, place)
        one = with_samples(mixed_down(cut), samples)
        texts = [cut.supervisions[0].text, other.supervisions[0].text]
        text = self.joint.join([texts[share < 0.5].rstrip(" ."), texts[share >= 0.5]])
        name = f"{cut.id}*{other.id}"
        supervision = fastcopy(cut.supervisions[0], id=name, text=text if len(set(texts)) > 1 else texts[0])
        custom = with_field(_custom(cut, other, share), _segments(cut, other, _overlap(*waves, place)))
        return fastcopy(one, id=name, supervisions=[supervision], custom=custom)


def mixed(first: Tensor, second: Tensor, share: float, place: float) -> Tensor:
    """Return the weighted sum of two waveforms, (T,) as the first.

    Args:
        first: (T,).
        second: (T',); cut to T, or with silence around it.
        share: weight of the first, 0 to 1; the second has the rest.
        place: begin of the second, from 0, as early as possible, to 1, as late as possible.

    Example:
        >>> import torch
        >>> mixed(torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.tensor([2.0, -2.0]), 0.75, 1.0).tolist()
        [0.75, -0.75, 1.25, -1.25]
    """
    size, begins = _overlap(first, second, place)
    result = share * (first - first.mean())
    part = second[begins[1] : begins[1] + size]
    result[begins[0] : begins[0] + size] += (1 - share) * (part - part.mean())
    return result


def _overlap(first: Tensor, second: Tensor, place: float) -> tuple[int, list[int]]:
    """Return the samples that two waveforms have in common, and where these begin in each."""
    size = min(len(first), len(second))
    return size, [round(place * (len(wave) - size)) for wave in (first, second)]


def _segments(cut: Cut, other: Cut, overlap: tuple[int, list[int]]) -> Rows | None:
    """Return the segments of a mix: those of the first clip, and those of the part of the second that is in it."""
    (size, begins), rate, theirs = overlap, cut.sampling_rate, segments_of(other)
    part = None if theirs is None else cropped(theirs, begins[1] / rate, size / rate)
    return together([(segments_of(cut), 0.0), (part, begins[0] / rate)])


def _custom(cut: Cut, other: Cut, share: float) -> dict[str, Any]:
    """Return the custom fields of a mix: soft labels for the tasks for which both clips have labels."""
    mine, theirs = _shares(cut), _shares(other)
    tags = {}
    for task in mine.keys() & theirs.keys():
        names = {**mine[task], **theirs[task]}
        tags[task] = {
            name: share * mine[task].get(name, 0.0) + (1 - share) * theirs[task].get(name, 0.0) for name in names
        }
    return {**custom_of(cut), "labels": {}, "tags": tags}


def _shares(cut: Cut) -> dict[str, Mapping[str, float]]:
    labels = custom_of(cut).get("labels") or {}
    tags = {task: shares for task, (shares,) in tags_of([cut]).items() if shares is not None}
    return {**{task: {name: 1.0} for task, name in labels.items()}, **tags}
