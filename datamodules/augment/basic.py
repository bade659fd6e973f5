"""Gain, crop, speed and mix: Lhotse's cut operations, drawn at random, applied when the audio is loaded.

Each takes and returns a CutSet, so `AudioTextData(transforms=[...])` applies them in order, beside any function or
`lhotse.dataset.cut_transforms` object that does the same. The draw depends on `seed` and on the cut's custom field
`draw`, which the data module makes different for each clip and epoch; so it does not depend on workers or on the batch.
`slap.datamodules.augment` knows all transforms by name.

The batch's budget of seconds counts clips before transforms; only `RandomSpeed` makes clips longer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.core.segments import Rows
from slap.core.units import Seconds
from slap.datamodules.augment.base import Decibels, RandomTransform
from slap.datamodules.segments import crop, faster, segments_of, together, with_field


@dataclass(frozen=True)
class RandomGain(RandomTransform):
    """Change of loudness.

    Args:
        low: lowest gain, dB.
        high: highest gain, dB; above 0 a loud clip may leave [-1, 1].
        seed: seed of the random draws.
    """

    low: Decibels = -12.0
    high: Decibels = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._require(self.low <= self.high, "low <= high, in dB", "low", "high")

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return the cut with another gain."""
        return cut.perturb_volume(10 ** (rng.uniform(self.low, self.high) / 20), affix_id=False)


@dataclass(frozen=True)
class RandomCrop(RandomTransform):
    """Crop of random length at a random place.

    The crop may leave out a sound that the caption names, so keep `shortest` near 1 where captions describe a sequence
    of events. It must stand before `Mix`.

    Args:
        shortest: smallest share of the clip to keep, above 0 and up to 1.
        at_least: seconds to keep in any case; clips that are not longer stay whole.
        seed: seed of the random draws.
    """

    shortest: float = 0.75
    at_least: Seconds = 0.0
    seed: int = 0
    before_mix = True

    def __post_init__(self) -> None:
        self._require(0 < self.shortest <= 1, "shortest, a share of the clip, above 0 and up to 1", "shortest")

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return a random segment of the cut."""
        whole = min(round(self.at_least * cut.sampling_rate), cut.num_samples)
        size = max(round(cut.num_samples * rng.uniform(self.shortest, 1)), whole, 1)
        return segment(cut, rng.randint(0, cut.num_samples - size), size)


@dataclass(frozen=True)
class RandomSpeed(RandomTransform):
    """Faster or slower playback, which changes the pitch too.

    Args:
        factors: speeds to choose from; 1.1 is 10 % faster and higher. At most two decimals: the cost of resampling
            grows with the smallest whole numbers whose ratio a factor is. At 16 kHz, a second of audio takes 0.2 ms for
            0.9, 0.9 ms for 0.93, and 45 ms for 0.9371.
        seed: seed of the random draws.
    """

    factors: Sequence[float] = (0.9, 0.95, 1.0, 1.05, 1.1)
    seed: int = 0

    def __post_init__(self) -> None:
        self._require(len(self.factors) > 0, "at least one of factors; (1.0,) changes nothing", "factors")
        valid = all(factor > 0 and abs(factor * 100 - round(factor * 100)) <= 1e-9 for factor in self.factors)
        self._require(valid, "factors above 0 with at most two decimals", "factors")

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return the cut at another speed."""
        factor = rng.choice(self.factors)
        return cut if factor == 1 else faster(cut, factor)


@dataclass(frozen=True)
class Mix(RandomTransform):
    """Sum of two clips of the batch, with the captions joined: "a dog barks and rain falls".

    The second clip is not longer than the first, has another caption and lies wholly within the first, so that the
    caption stays true and the batch does not get longer. A clip for which there is no second one stays as it is.
    The mix gets an id of its own and has no labels. It has the segments of both clips, if both were annotated.

    Args:
        probability: probability that a clip is mixed with a second one.
        low: lowest level of the first clip relative to the second, dB.
        high: highest level of the first clip relative to the second, dB.
        joint: text between the captions.
        seed: seed of the random draws.
    """

    probability: float = 0.5
    low: Decibels = -6.0
    high: Decibels = 6.0
    joint: str = " and "
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.low <= self.high, "low <= high, in dB", "low", "high")

    def transform_in_batch(self, cut: Cut, rng: random.Random, batch: list[Cut]) -> Cut:
        """Return the cut with another one of the batch laid over it."""
        others = [] if isinstance(cut, MixedCut) else [other for other in batch if _fits(cut, other)]
        if not others:
            return cut
        other = rng.choice(others)
        offset = rng.randint(0, cut.num_samples - other.num_samples) / cut.sampling_rate
        caption = cut.supervisions[0].text.rstrip(" .") + self.joint + other.supervisions[0].text
        level = rng.uniform(self.low, self.high)
        segments = together([(segments_of(cut), 0.0), (segments_of(other), offset)])
        first, second = _with_caption(cut, caption, segments), _with_caption(other, None, None)
        mixed = first.mix(second, offset_other_by=offset, snr=level)
        return fastcopy(mixed, id=f"{cut.id}+{other.id}")


@dataclass(frozen=True)
class Only:
    """A transform of those clips alone whose id begins with a prefix, e.g. the name of their corpus.

    Args:
        prefix: beginning of the ids.
        transform: the transform. Of one that returns fewer cuts than it gets, such as `Scenes`, the results come after
            the other clips.
    """

    prefix: str
    transform: Callable[[CutSet], CutSet]

    @property
    def moves_segments(self) -> bool:
        """True if the transform does."""
        return getattr(self.transform, "moves_segments", False)

    def __call__(self, cuts: CutSet) -> CutSet:
        """Return the batch with the matching cuts transformed and the others as they are, in order."""
        batch = list(cuts)
        matching = [cut for cut in batch if cut.id.startswith(self.prefix)]
        changed = list(self.transform(CutSet(matching))) if matching else []
        if len(changed) != len(matching):
            return CutSet([cut for cut in batch if not cut.id.startswith(self.prefix)] + changed)
        rest = iter(changed)
        return CutSet([next(rest) if cut.id.startswith(self.prefix) else cut for cut in batch])


def segment(cut: Cut, start: int, size: int) -> Cut:
    """Return the segment of a cut from sample `start` on, `size` samples long, with the same id."""
    rate = cut.sampling_rate
    return crop(cut, start / rate, size / rate)


def unlabeled(cut: Cut) -> dict[str, object]:
    """Return the custom fields of a cut without its labels and tags."""
    return {name: value for name, value in (cut.custom or {}).items() if name not in ("labels", "tags")}


def _fits(cut: Cut, other: Cut) -> bool:
    if not isinstance(other, MonoCut) or other.duration > cut.duration or other.id == cut.id:
        return False
    return bool(other.supervisions[0].text != cut.supervisions[0].text)


def _with_caption(cut: MonoCut, caption: str | None, segments: Rows | None) -> MonoCut:
    supervisions = [] if caption is None else [fastcopy(cut.supervisions[0], text=caption)]
    return fastcopy(cut, supervisions=supervisions, custom=with_field(unlabeled(cut), segments))
