"""A check for collapsed models, which give nearly the same embedding to everything.

n inputs, E shared dimension.
"""

from __future__ import annotations

import logging
from math import pi

import torch
from torch import Tensor

from slap.core.errors import UserError, printable
from slap.inference.embedder import Embedder

NEARLY_IDENTICAL = 0.95
"""Collapsed is a model to which even the two most different inputs are closer than this cosine. Random models of all
sizes lie below 0.1, a trained one at 0.24 for texts, whose wording it had never seen, and below 0 for sounds."""

TEXTS = (
    "a dog barks",
    "heavy rain on a metal roof",
    "a man speaks while music plays",
    "an engine starts, then stops",
    "silence",
    "a woman sings a high note",
    "glass breaks on the floor",
    "7",
)


PROBES = 3
"""Sounds that `warn` embeds: noise, brown noise, a tone. A CLAP model of the published size takes 1.6 s of a core for
them and the texts, and 3.4 s for all nine."""

log = logging.getLogger(__name__)


def sounds(rate: int) -> list[Tensor]:
    """Make a second each of noises, tones, a sweep, clicks, a rhythm and silence, (rate,) samples; always the same."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(rate) / rate
    noise = torch.randn(rate, generator=generator) * 0.1
    return [
        noise,
        noise.cumsum(0) * 0.02,
        torch.sin(2 * pi * 220 * time) * 0.5,
        torch.sin(2 * pi * 0.2 * rate * time) * 0.5,
        torch.sin(2 * pi * (100 + 0.1 * rate * time) * time) * 0.4,
        (torch.rand(rate, generator=generator) < 0.0005).float(),
        noise * (torch.sin(2 * pi * 4 * time) > 0),
        torch.sin(2 * pi * 150 * time).sign() * 0.3,
        torch.zeros(rate),
    ]


def refuse_collapsed(model: Embedder, verb: str, allowed: bool) -> None:
    """Refuse a collapsed model, unless it is allowed.

    Args:
        model: the model.
        verb: what is to be done with it, for the message, e.g. "saved".
        allowed: whether to take it anyway; then nothing is embedded.

    Raises:
        UserError: it is collapsed; says of which inputs.
    """
    fault = None if allowed else complaint(model)
    if fault:
        raise UserError(
            f"the model is collapsed: {fault}. With --allow-collapsed (allow_collapsed=True) it is {verb} anyway"
        )


def warn(model: Embedder, name: object) -> None:
    """Log a warning if a model is collapsed, by a look at few inputs.

    Args:
        model: the model.
        name: of its file or folder, for the message.
    """
    fault = complaint(model, PROBES)
    if fault:
        log.warning("%s is collapsed: %s. Its rankings and scores say nothing", printable(str(name)), fault)


def complaint(model: Embedder, most: int | None = None) -> str | None:
    """Say what is collapsed about a model; None if it tells inputs apart.

    Args:
        model: the model.
        most: number of sounds to embed. Default: all.
    """
    sides = {"sounds": _of_sounds(model, most)}
    if _reads(model):
        sides["texts"] = model.encode_texts(TEXTS).nan_to_num(0.0)
    for what, embeddings in sides.items():
        dead = int((embeddings.norm(dim=1) < 0.5).sum())
        if dead:
            return f"{dead} of {len(embeddings)} varied {what} have no direction: their embeddings are 0"
        least = float((embeddings @ embeddings.T).min())
        if least > NEARLY_IDENTICAL:
            return f"even the most different of {len(embeddings)} varied {what} have a cosine of {least:.4f}"
    return None


def _reads(model: Embedder) -> bool:
    """Return False for a text encoder that never got a tokenizer, as after training on audio alone."""
    text = getattr(getattr(model.backend, "network", None), "text", None)
    return getattr(text, "tokenizer", True) is not None


def _of_sounds(model: Embedder, most: int | None) -> Tensor:
    """Embed the sounds, (n, E), as far as the model takes them at once; those without a finite embedding as zeros."""
    longest = max(round(model.max_seconds * model.sample_rate), 1)
    found = model.backend.encode_audio([sound[:longest] for sound in sounds(model.sample_rate)[:most]])
    return found.where(found.isfinite().all(1, keepdim=True), 0.0)
