"""k-nearest neighbors by cosine, the probe that learns nothing.

n clips to learn from, m queries, E features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from slap.core.errors import UserError

TEMPERATURE = 0.07
"""Temperature of neighbors' weights exp(cosine / temperature), as in DINO (arXiv 2104.14294) and before it InstDisc."""

AT_ONCE = 50_000_000
"""C that are held in memory at a time."""


def neighbor_scores(
    features: Tensor, truth: Tensor, queries: Tensor, ks: Sequence[int], temperature: float = TEMPERATURE
) -> dict[int, Tensor]:
    """Compute, for each k, the weighted share of the k nearest clips that have each class.

    Args:
        features: (n, E).
        truth: (n, K) bool, the classes of each clip.
        queries: (m, E).
        ks: numbers of neighbors; more than n are n.
        temperature: a neighbor's weight is exp(cosine / temperature).

    Returns:
        By k (m, K) float64; the rows of clips with one class each sum to 1.

    Raises:
        ValueError: no clips to learn from, or a k below 1.
    """
    if not len(features) or not ks or min(ks) < 1:
        raise UserError(f"neighbors need clips to be of, and numbers from 1 on; got {len(features)} clips, k={[*ks]}")
    known, asked = normalize(features.double(), dim=1), normalize(queries.double(), dim=1)
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in asked.split(max(1, AT_ONCE // len(known))):
        cosines, nearest = (part @ known.T).topk(min(max(ks), len(known)), dim=1)
        # Relative to the nearest, so that nothing under- or overflows.
        weights = ((cosines - cosines[:, :1]) / temperature).exp()
        total = part.new_zeros(len(part), truth.shape[1])
        done = 0
        for k in sorted(set(ks)):
            for place in range(done, min(k, len(known))):
                total += weights[:, place : place + 1] * truth[nearest[:, place]]
            done = min(k, len(known))
            found[k].append(total / weights[:, :done].sum(1, keepdim=True))
    return {k: torch.cat(parts) if parts else features.new_zeros(0, truth.shape[1]) for k, parts in found.items()}
