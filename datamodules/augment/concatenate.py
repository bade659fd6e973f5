"""Longer scenes from the clips of a batch: one after the other, with captions joined in the same order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.core.units import Seconds
from slap.datamodules.audio.load import mixed_down
from slap.datamodules.augment.base import RandomTransform
from slap.datamodules.augment.basic import unlabeled
from slap.datamodules.segments import segments_of, together, with_field


@dataclass(frozen=True)
class Concatenate(RandomTransform):
    """Sequence of clips of a batch, with their captions joined: "a dog barks, then rain falls".

    The clips that are joined are taken from the batch itself, each once, so that the batch gets fewer clips and not
    more audio: the budget of seconds stays a hard limit. Which clips are joined depends on the batch. The sequence gets
    an id of its own and has no labels. It has the segments of all its clips, if all were annotated.

    Args:
        probability: probability that a clip that is not joined yet gets others after it.
        most: largest number of clips to join; the number is drawn, from 2 on.
        longest: largest duration of a sequence, seconds.
        joint: text between the captions.
        seed: seed of the random draws.
    """

    probability: float = 0.5
    most: int = 2
    longest: Seconds = 30.0
    joint: str = ", then "
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.most >= 2 and self.longest > 0, "most >= 2 and longest > 0 s", "most", "longest")

    def __call__(self, cuts: CutSet) -> CutSet:
        """Return the sequences, and the cuts that are in none, in the order of their first clips."""
        waiting = list(cuts)
        made = []
        while waiting:
            made.append(self._drawn(waiting.pop(0), waiting))
        return CutSet(made)

    def transform_in_batch(self, cut: Cut, rng: random.Random, batch: list[Cut]) -> Cut:
        """Return the cut with later ones after it, which are taken out of the batch."""
        count = rng.randint(2, self.most)
        chosen = [cut]
        for other in list(batch):
            if len(chosen) == count:
                break
            if self._fits(other, chosen):
                chosen.append(other)
                batch.remove(other)
        return self._joined(chosen) if len(chosen) > 1 else cut

    def _fits(self, cut: Cut, chosen: Sequence[Cut]) -> bool:
        texts = {_caption(other) for other in chosen}
        return sum(other.duration for other in (*chosen, cut)) <= self.longest and _caption(cut) not in texts

    def _joined(self, cuts: Sequence[Cut]) -> MonoCut:
        # A mix inside a longer cut would take its levels from the first clip of all.
        single = [mixed_down(cut) if isinstance(cut, MixedCut) else cut for cut in cuts]
        sequence = reduce(lambda left, right: left.append(right), [fastcopy(cut, supervisions=[]) for cut in single])
        text = self.joint.join([_caption(cut).rstrip(" .") for cut in cuts[:-1]] + [_caption(cuts[-1])])
        cut = fastcopy(mixed_down(sequence), id=">".join(cut.id for cut in cuts))
        supervision = fastcopy(cuts[0].supervisions[0], id=cut.id, start=0.0, duration=cut.duration, text=text)
        starts = accumulate((part.duration for part in single), initial=0.0)
        segments = together((segments_of(part), start) for part, start in zip(cuts, starts, strict=False))
        return fastcopy(cut, supervisions=[supervision], custom=with_field(unlabeled(single[0]), segments))


def _caption(cut: Cut) -> str:
    text: str = cut.supervisions[0].text
    return text
