"""Re-ranking: the best hits of a text in the order in which the caption decoder finds the text probable.

A cosine compares two vectors, each made without the other. The decoder reads the text word by word beside the sound, so
it may know order and number better; it is too slow for a whole index. n hits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from slap.audio.player_clock import on_clock
from slap.audio.reader import AudioError, AudioFile
from slap.core.errors import UserError
from slap.inference.embedding import tensors
from slap.inference.jobs import no_likelihoods
from slap.inference.model import Model
from slap.inference.stream import BATCH_SECONDS
from slap.search.hits import Hit
from slap.search.indexed_file import open_indexed
from slap.search.query import Index

RerankBy = Literal["likelihood", "both"]
"""`likelihood` of the text, or `both`: its sum with the cosine, each with mean 0 and deviation 1 over the hits."""


def require_decoder(model: Model) -> None:
    """Refuse a model that cannot re-rank.

    Raises:
        ValueError: it writes no captions.
    """
    if no_likelihoods(model.backend):
        raise UserError(f"hits are re-ranked by the caption decoder, and {no_likelihoods(model.backend)}")


def reranked(
    index: Index, text: str, hits: Sequence[Hit], by: RerankBy = "likelihood"
) -> tuple[list[Hit], list[tuple[str, str]]]:
    """Order the hits of a text anew, by the mean log-likelihood of its tokens for each hit's window.

    Args:
        index: the index of the hits.
        text: the query.
        hits: n of them; their windows are read and encoded.
        by: the order.

    Returns:
        The hits in their new order, with new ranks from that of the first one on; and the paths of hits whose files
        cannot be read, with the reasons. These come last, in the order that they had.

    Raises:
        ValueError: the model writes no captions.
    """
    require_decoder(index.model)
    failed: list[tuple[str, str]] = []
    found: dict[str, float] = {}
    for batch in _batches(index, hits, failed):
        likelihoods = index.model.caption_likelihood([clip for _, clip in batch], [text] * len(batch))
        found.update(zip((hit.id for hit, _ in batch), likelihoods.tolist(), strict=True))
    read = [replace(hit, likelihood=found[hit.id]) for hit in hits if hit.id in found]
    likelihood = torch.tensor([hit.likelihood for hit in read], dtype=torch.float64)
    if not bool(likelihood.isfinite().all()):
        raise UserError("a likelihood is not finite; are the model's weights whole?")
    order = likelihood if by == "likelihood" else combined(torch.tensor([hit.score for hit in read]), likelihood)
    best = [read[place] for place in order.argsort(descending=True, stable=True).tolist()]
    rest = [hit for hit in hits if hit.id not in found]
    first = min((hit.rank for hit in hits), default=1)
    return [replace(hit, rank=rank) for rank, hit in enumerate([*best, *rest], first)], failed


def combined(cosines: Tensor, likelihoods: Tensor) -> Tensor:
    """Add cosines, (n,), and likelihoods, (n,), each with mean 0 and deviation 1 over the hits, as (n,)."""
    return sum((_standard(one) for one in (cosines, likelihoods)), torch.zeros(len(cosines), dtype=torch.float64))


def _standard(values: Tensor) -> Tensor:
    centered = values.double() - values.double().mean()
    return centered / centered.square().mean().sqrt().clamp(min=1e-12)


def _batches(index: Index, hits: Sequence[Hit], failed: list[tuple[str, str]]) -> Iterator[list[tuple[Hit, Tensor]]]:
    """Yield hits with the samples of their windows, some seconds at a time."""
    batch: list[tuple[Hit, Tensor]] = []
    rate, samples = index.model.sample_rate, 0
    for hit in hits:
        try:
            clip = _window(index, hit)
        except AudioError as error:
            failed.append((hit.path, f"{hit.path}: {error}"))
            continue
        if batch and samples + len(clip) > BATCH_SECONDS * rate:
            yield batch
            batch, samples = [], 0
        batch.append((hit, clip))
        samples += len(clip)
    if batch:
        yield batch


def _window(index: Index, hit: Hit) -> Tensor:
    """Read the window of a hit, (T,) at the model's rate.

    Raises:
        AudioError: its file cannot be read, or is no longer what was indexed.
    """
    rows = index.store.rows_of(hit.id)
    if not rows:
        raise AudioError("the index no longer has this file; search again", "absent")
    with (
        open_indexed(Path(index.metadata.folder), rows[0]) as file,
        AudioFile(file, hit.path) as sound,
    ):
        return torch.cat(tensors(list(on_clock(sound, index.model.sample_rate, hit.start, hit.end))))
