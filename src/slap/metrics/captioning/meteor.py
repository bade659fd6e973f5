"""Score of METEOR 1.5 from its counts (Denkowski and Lavie, 2014), with its parameters for English.

S corpora, G clips. The counts of a corpus are sums over its clips, so a bootstrap needs no further run of the program.
"""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
WEIGHTS = (1.0, 0.6, 0.8, 0.6)
"""Weights of matches by the word itself, by its stem, by a synonym, by a paraphrase."""

COUNTS = 23
"""Words, words of the reference, function words of both; for each kind of match content words of both and function
words of both; chunks, matched words of both."""

CHUNKS = 20


def added(counts: Tensor) -> Tensor:
    """Return what clips add to a corpus, (G, 23) -> (G, 23): one that equals its reference adds no chunk."""
    counts = counts.double().clone()
    counts[_whole(counts), CHUNKS] = 0
    return counts


def _whole(counts: Tensor) -> Tensor:
    """Find the clips whose words all match in one piece, which is no fragment."""
    return (counts[:, 21] == counts[:, 0]) & (counts[:, 22] == counts[:, 1]) & (counts[:, CHUNKS] == 1)


def meteor_of(counts: Tensor) -> Tensor:
    """Compute METEOR of corpora, 0 to 1.

    Args:
        counts: (S, 23), those of single clips, or sums of what `added` makes of them.

    Returns:
        (S,) float64.
    """
    lengths, matches = counts[:, :4].double(), counts[:, 4:20].double().view(-1, len(WEIGHTS), 4)
    chunks, matched, matched_reference = counts[:, CHUNKS:].double().unbind(1)
    weighted = (matches * torch.tensor(WEIGHTS, dtype=torch.float64)[:, None]).sum(1)
    shares = []
    for side in (0, 1):  # ours, the reference's
        content, function = weighted[:, side], weighted[:, 2 + side]
        words = DELTA * (lengths[:, side] - lengths[:, 2 + side]) + (1 - DELTA) * lengths[:, 2 + side]
        shares.append((DELTA * content + (1 - DELTA) * function) / words)
    precision, recall = shares
    mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
    fragments = torch.where(_whole(counts), 0.0, chunks / ((matched + matched_reference) / 2))
    return ((1 - GAMMA * fragments**BETA) * mean).nan_to_num(0.0)
