"""Corpora that recipes know by name, with settings of training. These are our choice, but for those of AST."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from slap.core.errors import UserError

CaptionedCorpus = Literal["audiocaps", "clotho"]

LabeledCorpus = Literal[
    "esc50",
    "esc10",
    "urbansound8k",
    "speechcommands",
    "gtzan-filtered",
    "cremad-evar",
    "vggsound",
    "fsd50k",
    "audioset-20k",
    "audioset-2m",
]

CAPTIONED_STEPS: Mapping[str, int] = {"audiocaps": 4000, "clotho": 1500}
"""Optimizer steps: about ten epochs of AudioCaps, 128 clips per batch, and twenty of Clotho, 57 per batch."""

LABELED_STEPS: Mapping[str, int] = {
    "esc50": 1500,
    "esc10": 1000,
    "urbansound8k": 3000,
    "speechcommands": 10_000,
    "gtzan-filtered": 1000,
    "cremad-evar": 2000,
    "vggsound": 20_000,
    "fsd50k": 10_000,
    "audioset-20k": 12_000,
    "audioset-2m": 80_000,
}
"""Optimizer steps: about as many clips as AST sees, at the default budget of a batch."""

MIXUP: Mapping[str, float] = {"speechcommands": 0.6, "audioset-20k": 0.5, "audioset-2m": 0.5}
"""Probability that a training clip is mixed with another, as AST (arXiv 2104.01778) has it."""


def check_one(corpora: Iterable[str], **given: Any) -> None:
    """Refuse to train on nothing, and on several things at once.

    Args:
        corpora: names of the corpora that may be given.
        **given: values of the options of `data` that say what to train on, by name.

    Raises:
        ValueError: none of them or several are given.
    """
    named = [f"--data.{name}" for name, value in given.items() if value]
    if len(named) != 1:
        raise UserError(
            f"say what to train on by one of {', '.join(f'--data.{name}' for name in given)}; "
            f"got {' and '.join(named) or 'none'}. The corpora are {', '.join(corpora)}"
        )
