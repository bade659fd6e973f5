"""Longer scenes out of a batch's clips: one after the other, with captions that say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.core.units import Seconds
from slap.datamodules.audio.load import mixed_down
from slap.datamodules.augment.basic import draw_of


@dataclass(frozen=True)
class Concatenate:
    """Joins clips of a batch, one after the other, with their captions: "a dog barks, then rain falls".

    The clips that are joined are taken from the batch itself, each once, so that the batch gets fewer clips and not
    more audio: the budget of seconds stays a hard cap. Which clips a clip meets depends on the batch. What is joined
    gets an id of its own and has no labels.

    Args:
        probability: that a clip which is not joined yet gets others after it.
        most: clips that are joined at most; how many is drawn, from 2 on.
        longest: of what is joined.
        joint: what stands between the captions.
        seed: of the choice.
    """

    probability: float = 0.5
    most: int = 2
    longest: Seconds = 30.0
    joint: str = ", then "
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or self.most < 2 or self.longest <= 0:
            raise ValueError(
                f"probability must be within 0 to 1, most at least 2, longest above 0 s; "
                f"got probability={self.probability}, most={self.most}, longest={self.longest}"
            )

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut that comes first."""
        waiting = list(cuts)
        made: list[Cut] = []
        while waiting:
            first = waiting.pop(0)
            chosen = [first]
            rng = draw_of(self, first)
            count = rng.randint(2, self.most) if rng.random() < self.probability else 1
            for other in list(waiting):
                if len(chosen) == count:
                    break
                if self._fits(other, chosen):
                    chosen.append(other)
                    waiting.remove(other)
            made.append(self._joined(chosen) if len(chosen) > 1 else first)
        return CutSet(made)

    def _fits(self, cut: Cut, chosen: Sequence[Cut]) -> bool:
        texts = {_caption(other) for other in chosen}
        return sum(other.duration for other in (*chosen, cut)) <= self.longest and _caption(cut) not in texts

    def _joined(self, cuts: Sequence[Cut]) -> MonoCut:
        # A mix inside a longer cut would take its levels from the first clip of all.
        single = [mixed_down(cut) if isinstance(cut, MixedCut) else cut for cut in cuts]
        sequence = reduce(lambda left, right: left.append(right), [fastcopy(cut, supervisions=[]) for cut in single])
        text = self.joint.join([_caption(cut).rstrip(" .") for cut in cuts[:-1]] + [_caption(cuts[-1])])
        cut = fastcopy(mixed_down(sequence), id=">".join(cut.id for cut in cuts))
        custom = {name: value for name, value in (single[0].custom or {}).items() if name not in ("labels", "tags")}
        supervision = fastcopy(cuts[0].supervisions[0], id=cut.id, start=0.0, duration=cut.duration, text=text)
        return fastcopy(cut, supervisions=[supervision], custom=custom)


def _caption(cut: Cut) -> str:
    text: str = cut.supervisions[0].text
    return text
