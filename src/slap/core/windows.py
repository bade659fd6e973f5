"""Windows: audio that is longer than a model was trained on is cut into them, and their embeddings are merged.

T samples of a recording. This module needs numpy alone; `slap.core.merging` merges the embeddings.

The rule: a recording of at most `window` samples is one window, itself. A longer one is cut into windows of exactly
`window` samples, one every `hop` samples, and the last one ends where the recording ends. So no window is shorter than
the clips of training, and no sample is padded or dropped. Its embedding is the mean of its windows' embeddings, each
weighted by the number of samples that it stands for, scaled to length 1; a sample that several windows cover counts
for each of them in equal parts. The rule depends on the recording alone, so embeddings are repeatable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from slap.core.errors import UserError

OVERLAP = 1 / 3
"""Overlap as a share of a window (our choice): with windows of 30 s, some window has any sound of up to 10 s whole."""


def hop_of(window: int) -> int:
    """Return the number of samples from the start of a window to the start of the next, for the default overlap."""
    return max(window - round(window * OVERLAP), 1)


def windows(samples: int, window: int, hop: int) -> list[tuple[int, int]]:
    """Return the start and the end of each window of a recording.

    Args:
        samples: T, at least 1.
        window: samples per window.
        hop: samples from the start of a window to the start of the next, at most `window`.

    Raises:
        ValueError: there are no samples, or the hop would leave samples out.

    Example:
        >>> windows(25, window=10, hop=6)
        [(0, 10), (6, 16), (12, 22), (15, 25)]
        >>> windows(7, window=10, hop=6)
        [(0, 7)]
    """
    _check(window, hop)
    if samples < 1:
        raise UserError(f"a recording needs at least one sample, got {samples}")
    if samples <= window:
        return [(0, samples)]
    starts = list(range(0, samples - window + 1, hop))
    if starts[-1] + window < samples:
        starts.append(samples - window)
    return [(start, start + window) for start in starts]


def cut(blocks: Iterable[np.ndarray], window: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the windows of a recording that comes in blocks, each with its start, without holding the whole recording.

    Args:
        blocks: (n_i,) samples, in order.
        window: samples per window; the windows are those of `windows`.
        hop: samples from the start of a window to the start of the next.
    """
    _check(window, hop)
    held, start, after = np.empty(0, np.float32), 0, 0  # `held` begins at sample `start`; the next window at `after`
    found = False
    for block in blocks:
        held = np.concatenate([held, block])
        while after + window <= start + len(held):
            yield after, held[after - start : after - start + window].copy()
            found, after = True, after + hop
        keep = min(after, start + len(held) - window) - start  # the last window may begin before `after`
        if keep > 0:
            held, start = held[keep:].copy(), start + keep
    total = start + len(held)
    if not found and total:
        yield 0, held
    elif total > after - hop + window:
        yield total - window, held[len(held) - window :].copy()


def window_weights(spans: Sequence[tuple[int, int]]) -> list[float]:
    """Compute the number of samples that each window stands for; they sum to the samples that windows cover.

    Example:
        >>> window_weights([(0, 10), (6, 16)])  # 6 alone, 4 in halves
        [8.0, 8.0]
    """
    edges = sorted({edge for span in spans for edge in span})
    counts = [0] * len(edges)
    place = {edge: i for i, edge in enumerate(edges)}
    for start, stop in spans:
        for i in range(place[start], place[stop]):
            counts[i] += 1
    share = [(edges[i + 1] - edges[i]) / max(counts[i], 1) for i in range(len(edges) - 1)]
    return [sum(share[place[start] : place[stop]]) for start, stop in spans]


def _check(window: int, hop: int) -> None:
    if not 1 <= hop <= window:
        raise UserError(f"the hop must be 1 to the window's {window} samples, or samples would be left out; got {hop}")
