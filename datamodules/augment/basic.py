"""Augmentation of training clips: Lhotse's cut operations, drawn at random, applied when the audio is loaded.

Each takes and gives a CutSet, so `AudioTextData(transforms=[...])` applies them in order, beside any function or
`lhotse.dataset.cut_transforms` object that does the same. What is drawn depends on `seed` and on the cut's custom field
`draw`, which the data module makes different for each clip and epoch; so it does not depend on workers or on the batch.
Give two transforms of one kind different seeds. More of them: `transforms_event`, `transforms_filter`,
`transforms_noise`, `transforms_reverb`, `transforms_sequence`; `augmentation` knows all by name.

The batch's budget of seconds counts clips before transforms; only `RandomSpeed` makes clips longer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.core.units import Seconds

Decibels = float


@dataclass(frozen=True)
class RandomGain:
    """Makes clips louder or quieter.

    Args:
        low: the lowest gain, dB.
        high: the highest; above 0 a loud clip may leave [-1, 1].
        seed: of the choice.
    """

    low: Decibels = -12.0
    high: Decibels = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low must not be above high, got {self.low} and {self.high} dB")

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        return CutSet([self._one(cut) for cut in cuts])

    def _one(self, cut: Cut) -> Cut:
        gain = draw_of(self, cut).uniform(self.low, self.high)
        return cut.perturb_volume(10 ** (gain / 20), affix_id=False)


@dataclass(frozen=True)
class RandomCrop:
    """Keeps a stretch of each clip, of random length at a random place.

    What the caption speaks of may be cut away, so keep `shortest` near 1 where captions tell a sequence of events.
    It stands before `Mix`.

    Args:
        shortest: the share of the clip that is kept at least.
        at_least: what is kept at least in any case; clips that are not longer stay whole.
        seed: of the choice.
    """

    shortest: float = 0.75
    at_least: Seconds = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= 1:
            raise ValueError(f"shortest is a share of the clip, above 0 and up to 1; got {self.shortest}")

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        return CutSet([self._one(cut) for cut in cuts])

    def _one(self, cut: Cut) -> Cut:
        if isinstance(cut, MixedCut):
            raise ValueError("RandomCrop must stand before Mix: it could cut a clip away that the caption names")
        rng = draw_of(self, cut)
        whole = min(round(self.at_least * cut.sampling_rate), cut.num_samples)
        size = max(round(cut.num_samples * rng.uniform(self.shortest, 1)), whole, 1)
        start = rng.randint(0, cut.num_samples - size)
        rate = cut.sampling_rate
        return cut.truncate(offset=start / rate, duration=size / rate, preserve_id=True)


@dataclass(frozen=True)
class RandomSpeed:
    """Plays clips faster or slower, which moves their pitch too.

    Args:
        factors: to choose from; 1.1 is 10 % faster and higher. At most two decimals: the cost of resampling grows with
            the smallest whole numbers whose ratio a factor is. At 16 kHz, a second of audio takes 0.2 ms for 0.9,
            0.9 ms for 0.93, and 45 ms for 0.9371.
        seed: of the choice.
    """

    factors: Sequence[float] = (0.9, 0.95, 1.0, 1.05, 1.1)
    seed: int = 0

    def __post_init__(self) -> None:
        for factor in self.factors:
            if not factor > 0 or abs(factor * 100 - round(factor * 100)) > 1e-9:
                raise ValueError(f"factors must be positive and have at most two decimals, got {factor}")
        if not self.factors:
            raise ValueError("factors is empty; (1.0,) changes nothing")

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        return CutSet([self._one(cut) for cut in cuts])

    def _one(self, cut: Cut) -> Cut:
        factor = draw_of(self, cut).choice(self.factors)
        return cut if factor == 1 else cut.perturb_speed(factor, affix_id=False)


@dataclass(frozen=True)
class Mix:
    """Lays another clip of the batch over some clips, with the captions joined: "a dog barks and rain falls".

    The other clip is not longer, has another caption and lies wholly within the first, so that the caption stays true
    and the batch does not get longer. A clip for which there is none stays as it is.
    The mix gets an id of its own and has no labels.

    Args:
        probability: that a clip gets another one.
        low: the lowest level of the first clip over the second, dB.
        high: the highest.
        joint: what stands between the captions.
        seed: of the choice.
    """

    probability: float = 0.5
    low: Decibels = -6.0
    high: Decibels = 6.0
    joint: str = " and "
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not self.low <= self.high:
            raise ValueError(
                f"probability must be within 0 to 1 and low not above high; "
                f"got probability={self.probability}, low={self.low}, high={self.high}"
            )

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        single = [cut for cut in cuts if isinstance(cut, MonoCut)]
        return CutSet([self._one(cut, single) for cut in cuts])

    def _one(self, cut: Cut, batch: Sequence[MonoCut]) -> Cut:
        rng = draw_of(self, cut)
        if isinstance(cut, MixedCut) or rng.random() >= self.probability:
            return cut
        caption = cut.supervisions[0].text
        others = [
            other
            for other in batch
            if other.duration <= cut.duration and other.id != cut.id and other.supervisions[0].text != caption
        ]
        if not others:
            return cut
        other = rng.choice(others)
        offset = rng.randint(0, cut.num_samples - other.num_samples) / cut.sampling_rate
        first = _with_caption(cut, caption.rstrip(" .") + self.joint + other.supervisions[0].text)
        mixed = first.mix(_with_caption(other, None), offset_other_by=offset, snr=rng.uniform(self.low, self.high))
        return fastcopy(mixed, id=f"{cut.id}+{other.id}")


@dataclass(frozen=True)
class Only:
    """Applies another transform to some clips: those whose id begins with a text, e.g. the name of their corpus.

    Args:
        prefix: of the ids.
        transform: gives as many cuts as it takes, as all of this module do.
    """

    prefix: str
    transform: Callable[[CutSet], CutSet]

    def __call__(self, cuts: CutSet) -> CutSet:
        """Apply the transform to the clips that are meant; the others stay where they are, as they are."""
        batch = list(cuts)
        meant = [cut for cut in batch if cut.id.startswith(self.prefix)]
        changed = iter(list(self.transform(CutSet(meant))) if meant else [])
        return CutSet([next(changed) if cut.id.startswith(self.prefix) else cut for cut in batch])


def draw_of(transform: Any, cut: Cut) -> random.Random:
    """What a transform with a `seed` draws from for a clip: different for each kind of transform, seed and draw."""
    draw = (cut.custom or {}).get("draw", cut.id)
    return random.Random(f"{type(transform).__name__} {transform.seed} {draw}")


def _with_caption(cut: MonoCut, caption: str | None) -> MonoCut:
    supervisions = [] if caption is None else [fastcopy(cut.supervisions[0], text=caption)]
    custom = {name: value for name, value in (cut.custom or {}).items() if name not in ("labels", "tags")}
    return fastcopy(cut, supervisions=supervisions, custom=custom)
