"""Sinkhorn-Knopp: assign tokens to prototypes so that all prototypes get an equal share.

n tokens of this process, K prototypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from slap.core.distributed import all_max, all_sum


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int = 3) -> Tensor:
    """Turn scores into assignments that use all prototypes equally (SwAV, arXiv 2006.09882, section 3.1).

    Columns and rows of exp(scores) are scaled alternately to equal sums. The computation uses logarithms, since
    exp(scores) exceeds float32 already for scores of standard deviation 1 and a temperature of 0.04.

    Args:
        scores: (n, K), divided by the temperature. The tokens of all processes count as one batch; n may differ between
            them and be 0.
        iterations: number of iterations; with more, the prototypes' shares are more equal.

    Returns:
        (n, K), without gradient, at least float32; each row sums to 1.
    """
    return assign(scores, balance(lambda: [scores], iterations))


@torch.no_grad()
def balance(chunks: Callable[[], Iterable[Tensor]], iterations: int = 3) -> Tensor:
    """Compute the terms, (K,), that make all prototypes used equally when added to their scores; see `sinkhorn`.

    Args:
        chunks: gives the scores, (n, K) in all, in one or more chunks; called once per iteration, so that all scores
            never need to exist at once.
        iterations: see `sinkhorn`.
    """
    columns: Tensor | None = None
    for _ in range(iterations):
        running: tuple[Tensor, Tensor] | None = None
        for chunk in chunks():
            scores = _precise(chunk)
            if columns is not None:
                scores = scores - (scores + columns).logsumexp(1, keepdim=True)
            running = _add(running, scores)
        assert running is not None
        columns = -_over_processes(*running)
    assert columns is not None
    return columns


@torch.no_grad()
def assign(scores: Tensor, columns: Tensor) -> Tensor:
    """Return the assignments of some tokens, (n, K), with rows of sum 1, from scores and the terms of `balance`."""
    scores = _precise(scores) + columns
    return (scores - scores.logsumexp(1, keepdim=True)).exp()


def _precise(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _add(running: tuple[Tensor, Tensor] | None, values: Tensor) -> tuple[Tensor, Tensor]:
    """Add rows, (n, K), to a running log-sum-exp: the highest value so far, (K,), and the sum relative to it, (K,)."""
    if not len(values):  # of no rows there is no maximum
        none = values.new_full((values.shape[1],), -torch.inf), values.new_zeros(values.shape[1])
        return none if running is None else running
    highest = values.amax(0) if running is None else torch.maximum(values.amax(0), running[0])
    total = (values - highest).exp().sum(0)
    return highest, total if running is None else total + running[1] * (running[0] - highest).exp()


def _over_processes(highest: Tensor, total: Tensor) -> Tensor:
    """Compute the log-sum-exp over the rows of all processes, (K,)."""
    overall = all_max(highest)
    return overall + all_sum(total * (highest - overall).exp().nan_to_num(0.0)).log()
