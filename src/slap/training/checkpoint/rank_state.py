"""States that differ between processes, gathered into one checkpoint: random numbers, sums since the last log row.

R processes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist


@runtime_checkable
class RankState(Protocol):
    """An object whose state differs between processes. States are tensors and plain data."""

    def rank_state(self) -> dict[str, Any]:
        """Return the state of this process."""

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state that this process had."""


class RandomNumbers:
    """The global random number generators: torch's, also that of a GPU, NumPy's and Python's.

    Args:
        device: the device of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def rank_state(self) -> dict[str, Any]:
        """Return the state of all generators."""
        kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # what libraries draw from
        assert isinstance(keys, np.ndarray)
        version, words, next_gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "numpy": [str(kind), torch.tensor(keys.astype(np.int64)), int(place), int(has_gauss), float(gauss)],
            "python": [version, torch.tensor(words), next_gauss],
        }

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """Continue with the numbers that would have come next."""
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words.tolist()), gauss))


def gather(state: dict[str, Any], group: Any = None) -> list[dict[str, Any]]:
    """Return the states of all processes, by rank; every process must call it.

    Args:
        state: the state of this process.
        group: the group of all processes, on the CPU; None if there is one process.
    """
    if group is None:
        return [state]
    states: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(states, state, group=group)
    return states
