"""Several corpora in one set of clips: each under a name, and in training with a share of every epoch.

S sources, each of one manifest or several; n_i clips of source i, p_i its share, t_i its occurrences in an epoch.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slap.core.errors import UserError
from slap.datamodules.sampling.epoch import Source

log = logging.getLogger(__name__)

Manifest = str | Path

Manifests = Manifest | Sequence[Manifest] | Mapping[str, Manifest | Sequence[Manifest]]
"""A manifest, several, or for each name of a source its manifests."""


@dataclass(frozen=True)
class NamedManifests:
    """Manifests of a split, in order, with the names of their sources.

    Attributes:
        paths: paths of all manifests.
        names: names of the S sources; empty if they have no names.
        counts: number of manifests of each source.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, manifests: Manifests) -> NamedManifests:
        """Make them of the argument `train`, `val` or `test` of the data module.

        Raises:
            ValueError: a source without a manifest, or a name that logs could not show.
        """
        if not isinstance(manifests, Mapping):
            return cls(_paths(manifests))
        parts = {name: _paths(paths) for name, paths in manifests.items()}
        for name, paths in parts.items():
            if not isinstance(name, str) or not name.strip() or "/" in name:
                raise UserError(f"a source needs a name without slashes, as logs show it; got {name!r}")
            if not paths:
                raise UserError(f"the source {name!r} has no manifest")
        paths = tuple(path for part in parts.values() for path in part)
        return cls(paths, tuple(parts), tuple(len(part) for part in parts.values()))

    def grouped(self, values: Sequence[int]) -> list[list[int]]:
        """Group values of the manifests by source; into one group where there are no names."""
        counts = self.counts or (len(values),)
        ends = np.cumsum(counts).tolist()
        return [list(values[end - count : end]) for end, count in zip(ends, counts, strict=True)]

    def firsts(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the number of the first clip of each source, given the number of clips of each manifest."""
        totals = [sum(group) for group in self.grouped(sizes)]
        return tuple(np.cumsum([0, *totals[:-1]]).tolist())


def source_of(firsts: Sequence[int], clip: int) -> int:
    """Return the number of a clip's source.

    Example:
        >>> [source_of((0, 3, 3, 7), clip) for clip in (0, 2, 3, 6, 7)]  # the second source is empty
        [0, 0, 2, 2, 3]
    """
    return bisect_right(firsts, clip) - 1


def shares(
    sizes: Mapping[str, int], weights: Mapping[str, float] | None = None, temperature: float | None = None
) -> dict[str, float]:
    """Return p_i of each source; they sum to 1.

    Args:
        sizes: n_i by name.
        weights: p_i is in proportion to these.
        temperature: T; p_i is in proportion to n_i^(1 / T). 1 leaves the corpora's own shares, more evens them out, as
            multilingual models are trained (XLM-R, arXiv 1911.02116, whose alpha is 1 / T).

    Raises:
        ValueError: weights of other sources than there are, or none above 0; a temperature that is not above 0; a
            source that has no clips.

    Example:
        >>> shares({"audiocaps": 10_000, "clotho": 100}, temperature=2.0)
        {'audiocaps': 0.9090909090909091, 'clotho': 0.09090909090909091}
    """
    empty = [name for name, size in sizes.items() if not size]
    if empty:
        raise UserError(f"no clips are left of {', '.join(empty)}, so they can have no share of an epoch")
    if weights is not None:
        if set(weights) != set(sizes) or not all(0 < weight < float("inf") for weight in weights.values()):
            raise UserError(f"weights must give each of {', '.join(sizes)} a number above 0; they are {dict(weights)}")
        parts = {name: float(weights[name]) for name in sizes}
    else:
        if temperature is None or not temperature > 0:
            raise UserError(f"temperature must be above 0, got {temperature}")
        largest = max(sizes.values())  # first, so that no power overflows
        parts = {name: (size / largest) ** (1 / temperature) for name, size in sizes.items()}
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def occurrences_of(parts: Sequence[float], total: int) -> list[int]:
    """Split `total` into whole numbers in proportion to some parts, each at least 1.

    Example:
        >>> occurrences_of([0.5, 0.3, 0.2], 11), occurrences_of([1.0, 1e-9], 5)
        ([6, 3, 2], [4, 1])
    """
    if total < len(parts):
        raise UserError(f"an epoch of {total} clips is too short for {len(parts)} manifests, one clip of each")
    exact = np.asarray(parts) / sum(parts) * total
    whole = np.maximum(np.floor(exact).astype(np.int64), 1)
    while whole.sum() > total:  # the least parts were raised to 1
        whole[np.argmax(whole - exact - (whole == 1) * total)] -= 1
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole.tolist()


def mixed(sources: Sequence[Source], given: NamedManifests, share: Mapping[str, float], total: int) -> list[Source]:
    """Return what an epoch of `total` clips takes of each manifest.

    Args:
        sources: the manifests, once each.
        given: their names.
        share: p_i by name; within a source, manifests have shares by their sizes.
        total: clips of an epoch, the sum of all t_i.
    """
    parts = []
    for name, sizes in zip(given.names, given.grouped([source.size for source in sources]), strict=True):
        parts += [share[name] * size / sum(sizes) for size in sizes]
    wanted = [i for i, part in enumerate(parts) if part]
    taken = occurrences_of([parts[i] for i in wanted], total)
    return [replace(sources[i], taken=count) for i, count in zip(wanted, taken, strict=True)]


def mixed_epoch(
    sources: Sequence[Source],
    given: NamedManifests,
    weights: Mapping[str, float] | None,
    temperature: float | None,
    epoch_clips: int | None,
) -> list[Source]:
    """Return what an epoch of a mixture takes of each manifest, and log the share of each source.

    Args:
        sources: the manifests, once each.
        given: their names.
        weights: as for `shares`.
        temperature: as for `shares`.
        epoch_clips: clips of an epoch; None is as many as there are.
    """
    grouped = given.grouped([source.size for source in sources])
    sizes = dict(zip(given.names, map(sum, grouped), strict=True))
    share = shares(sizes, weights, temperature)
    total = epoch_clips or sum(sizes.values())
    for name, size in sizes.items():
        times = share[name] * total / size
        log.info("%s: %.1f %% of an epoch of %d clips, each %.2f times", name, 100 * share[name], total, times)
    return mixed(sources, given, share, total)


def balanced(sources: Sequence[Source], weights: np.ndarray, total: int | None = None) -> list[Source]:
    """Return what an epoch takes of each manifest where every clip has a weight.

    Args:
        sources: the manifests, once each.
        weights: (n,) weights of all clips.
        total: clips of an epoch; None is as many as there are.
    """
    own = [weights[source.first : source.first + source.size] for source in sources]
    wanted = [i for i, part in enumerate(own) if part.sum() > 0]
    taken = occurrences_of([float(own[i].sum()) for i in wanted], len(weights) if total is None else total)
    return [replace(sources[i], taken=count, weights=own[i]) for i, count in zip(wanted, taken, strict=True)]


def _paths(manifests: Manifest | Sequence[Manifest]) -> tuple[Path, ...]:
    return (Path(manifests),) if isinstance(manifests, str | Path) else tuple(Path(path) for path in manifests)
