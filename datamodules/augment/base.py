"""The base class of random transforms of training clips."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar

from lhotse import CutSet
from lhotse.cut import Cut, MixedCut

from slap.core.errors import UserError

Decibels = float


class RandomTransform:
    """A transform that draws for each cut what it becomes, from `seed` and the cut's custom field `draw` alone.

    Subclasses are frozen dataclasses that declare the field `seed`, and `probability` if they leave some clips as they
    are. They define `transform`, or `transform_in_batch` where they need other clips, and check their own fields in
    `__post_init__`.

    Attributes:
        seed: seed of the random draws; two transforms of one kind need different ones.
        probability: the probability that a clip is transformed; None for transforms of every clip.
    """

    seed: int
    probability: float | None = None
    moves_segments: ClassVar[bool] = True
    """True for a transform that changes the times of segments as it changes those of the audio."""
    before_mix: ClassVar[bool] = False
    """True for a transform that could cut away one of the clips that the caption of a mix names."""

    def __post_init__(self) -> None:
        if self.probability is not None:
            self._require(0 <= self.probability <= 1, "probability within 0 to 1", "probability")

    def __call__(self, cuts: CutSet) -> CutSet:
        """Return the transformed cuts, in order."""
        batch = list(cuts)
        return CutSet([self._drawn(cut, batch) for cut in batch])

    def captions(self) -> Iterator[str]:
        """Yield examples of the captions that it writes, for a tokenizer to learn from; most write none."""
        return iter(())

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return what a cut becomes.

        Args:
            cut: the cut to transform.
            rng: the generator to draw from, at the same state for the same seed and draw.
        """
        raise NotImplementedError

    def transform_in_batch(self, cut: Cut, rng: random.Random, batch: list[Cut]) -> Cut:  # noqa: ARG002
        """Return what a cut becomes; `batch` holds all cuts of the batch, this one among them."""
        return self.transform(cut, rng)

    def rng(self, cut: Cut) -> random.Random:
        """Return the generator for a cut: different for each kind of transform, each seed and each draw."""
        draw = (cut.custom or {}).get("draw", cut.id)
        return random.Random(f"{type(self).__name__} {self.seed} {draw}")

    def draw(self, cut: Cut) -> random.Random | None:
        """Return the generator for a cut that is transformed; None for one that stays as it is."""
        if self.before_mix and isinstance(cut, MixedCut):
            name = type(self).__name__
            raise UserError(f"{name} must stand before Mix: it could cut a clip away that the caption names")
        rng = self.rng(cut)
        return None if self.probability is not None and rng.random() >= self.probability else rng

    def _drawn(self, cut: Cut, batch: list[Cut]) -> Cut:
        rng = self.draw(cut)
        return cut if rng is None else self.transform_in_batch(cut, rng, batch)

    def _require(self, fulfilled: bool, condition: str, *fields: str) -> None:
        """Raise a ValueError with the values of the fields unless the condition is fulfilled."""
        if not fulfilled:
            values = ", ".join(f"{field}={getattr(self, field)!r}" for field in fields)
            raise UserError(f"{type(self).__name__} needs {condition}; got {values}")
