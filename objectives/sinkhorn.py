"""Sinkhorn-Knopp: assign tokens to prototypes so that all prototypes get an equal share.

n tokens of this process, K prototypes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.distributed import all_max, all_sum


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int = 3) -> Tensor:
    """Turn scores into assignments that use all prototypes equally (SwAV, arXiv 2006.09882, section 3.1).

    It scales the columns and rows of exp(scores), in turn, to equal sums. It works with logarithms: exp(scores)
    itself is beyond float32 already at scores of standard deviation 1 and a temperature of 0.04.

    Args:
        scores: (n, K), divided by the temperature. The tokens of all processes count as one batch; n may differ between
            them and be 0.
        iterations: more make the prototypes' shares more equal.

    Returns:
        (n, K), without gradient, at least float32; each row sums to 1.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    rows = scores.new_zeros(len(scores), 1)
    columns = scores.new_zeros(scores.shape[1])
    for _ in range(iterations):
        columns = -_global_logsumexp(scores - rows)
        rows = (scores + columns).logsumexp(1, keepdim=True)
    return (scores + columns - rows).exp()


def _global_logsumexp(values: Tensor) -> Tensor:
    """Log-sum-exp over the rows of all processes: (n, K) -> (K,)."""
    lowest = values.new_full((1, values.shape[1]), -torch.inf)  # stands for no rows, of which there is no maximum
    highest = all_max((values if len(values) else lowest).amax(0))
    return highest + all_sum((values - highest).exp().sum(0)).log()
