"""Generation options of captions: greedy decoding, beam search, or nucleus sampling.

B clips, T tokens at most.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from slap.core.errors import UserError


@dataclass(frozen=True)
class Decoding:
    """Generation options.

    Attributes:
        max_length: T, the maximal number of tokens per caption, `bos` and `eos` included.
        beam: beam width; 1 takes the most probable token each time.
        length_penalty: exponent of the length in beam search: 0 prefers the most probable caption, and thereby short
            captions; 1 the highest mean over tokens.
        top_p: sample each token among the most probable ones that together have this probability (nucleus sampling,
            arXiv 1904.09751); 1 samples among all tokens; None does not sample.
        temperature: divides the logits in sampling; below 1, improbable tokens become rarer.
        seed: random seed of sampling.

    Raises:
        ValueError: a value out of range, or options that have no effect together.
    """

    max_length: int = 64
    beam: int = 1
    length_penalty: float = 1.0
    top_p: float | None = None
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise UserError(f"max_length must be at least 2, since the first token is given; got {self.max_length}")
        if self.beam < 1:
            raise UserError(f"beam must be at least 1, got {self.beam}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature must be above 0, got {self.temperature}; for greedy decoding leave out top_p")
        self._refuse_what_has_no_effect()

    def _refuse_what_has_no_effect(self) -> None:
        if self.top_p is not None and self.beam > 1:
            raise UserError(
                f"choose a beam or top_p, i.e. search or sampling; got beam {self.beam} and top_p {self.top_p}"
            )
        if self.beam == 1 and self.length_penalty != 1:
            raise UserError(f"length_penalty needs beam search; set beam too, above 1; got {self.length_penalty}")
        if self.top_p is None and (self.temperature, self.seed) != (1, 0):
            what = f"temperature {self.temperature:g}, seed {self.seed}"
            raise UserError(f"temperature and seed need sampling; set top_p too (1 samples among all); got {what}")

    @property
    def method(self) -> str:
        """`greedy`, `beam` or `nucleus`."""
        return "nucleus" if self.top_p is not None else "beam" if self.beam > 1 else "greedy"

    def settings(self) -> dict[str, float | int | str]:
        """Return the options that have an effect, as plain data, for the record beside captions."""
        shown = {
            "greedy": ("max_length",),
            "beam": ("max_length", "beam", "length_penalty"),
            "nucleus": ("max_length", "top_p", "temperature", "seed"),
        }
        values = asdict(self)
        return {"method": self.method, **{name: values[name] for name in shown[self.method]}}


GREEDY = Decoding()
"""The most probable token each time."""


def draws(clips: Sequence[Tensor], decoding: Decoding) -> Tensor | None:
    """Return the uniform numbers to sample the tokens of each clip's caption with, or None without sampling.

    They depend on the seed and on the samples of the clip alone, so a caption depends neither on the other clips, nor
    on their order, nor on the device.

    Args:
        clips: B clips, (T_i,) float32 on the CPU.
        decoding: generation options.

    Returns:
        (B, max_length - 1) float64 from 0 to below 1.
    """
    if decoding.top_p is None:
        return None
    rows = []
    for clip in clips:
        digest = blake2b(clip.contiguous().numpy().data, digest_size=16).hexdigest()
        stream = random.Random(f"{decoding.seed} {digest}")
        rows.append([stream.random() for _ in range(decoding.max_length - 1)])
    return torch.tensor(rows, dtype=torch.float64).view(len(rows), decoding.max_length - 1)
