"""Labels of clips: those of a whole manifest, and weights of clips with which classes come equally often.

n clips, K classes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slap.core.errors import UserError
from slap.datamodules.manifests.sequence import Clips

REPORT = 200_000  # clips between lines in the log

log = logging.getLogger(__name__)

Labels = Sequence[tuple[str, ...]]
"""Labels of a task for each clip: none, one or several."""


def labels_of(custom: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """Return the labels that a clip has of a task, from its custom fields `tags` and `labels`.

    Example:
        >>> labels_of({"labels": {"animal": "dog"}, "tags": {"all": ["dog", "rain"]}}, "all")
        ('dog', 'rain')
    """
    several = (custom.get("tags") or {}).get(task)
    if several is not None:
        return tuple(several)
    label = (custom.get("labels") or {}).get(task)
    return () if label is None else (label,)


def all_labels(clips: Clips, task: str) -> Labels:
    """Return the labels of all clips, which takes a pass over the manifest."""
    found: list[tuple[str, ...]] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # many clips share few sets of labels
    for number, custom in enumerate(clips.customs(), start=1):
        names = labels_of(custom, task)
        found.append(known.setdefault(names, names))
        if number % REPORT == 0:
            log.info("labels of %d of %d clips", number, len(clips))
    return found


def balancing(labels: Labels) -> np.ndarray:
    """Compute the share of an epoch of each clip with which rare classes come as often as frequent ones.

    A clip's weight is the sum over its labels of 1 / (clips with that label), as PSLA (arXiv 2102.01243) and AST weigh
    AudioSet. With one label per clip, all classes then have equal shares.

    Returns:
        (n,) float64, summing to 1; 0 for clips without labels.

    Raises:
        ValueError: no clip has a label.

    Example:
        >>> balancing([("dog",), ("dog",), ("rain",), ()]).tolist()
        [0.25, 0.25, 0.5, 0.0]
    """
    counts = Counter(name for names in labels for name in names)
    if not counts:
        raise UserError("no training clip has a label to balance by")
    weights = np.array([sum(1 / counts[name] for name in names) for names in labels], dtype=np.float64)
    balanced: np.ndarray = weights / weights.sum()
    return balanced
