"""A model in the middle of its training, lent to whoever judges it, and given back as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from slap.inference.model import Model
from slap.inference.network_backend import DEFAULT_MAX_SECONDS, NetworkBackend
from slap.inference.rebuild import for_use
from slap.training.module import SLAP


@contextmanager
def as_model(module: SLAP) -> Iterator[Model]:
    """The model that `slap.load` would give for a checkpoint of this moment, on the same weights, without a copy.

    Within, nothing is trained: modules are in evaluation mode. Afterwards their modes and all random number generators
    (Python, NumPy, torch, CUDA) are as before, so that training goes on as if nothing had happened.

    Args:
        module: one whole copy of the model, not sharded over processes.

    Raises:
        ValueError: a model whose encoders read files, see `slap.inference.rebuild.for_use`.
    """
    key = module.CHECKPOINT_HYPER_PARAMS_KEY
    checkpoint = {key: dict(module.hparams)}
    module.on_save_checkpoint(checkpoint)  # which makes arguments portable
    arguments, absent = for_use(checkpoint[key])
    modes = [(part, part.training) for part in module.modules()]
    with _same_random_numbers(module.device):
        module.eval()
        try:
            yield Model(NetworkBackend(module, arguments, module.max_seconds or DEFAULT_MAX_SECONDS, absent, lent=True))
        finally:
            for part, mode in modes:
                part.training = mode


@contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    """Python's, NumPy's and torch's generators, on the CPU and on the device, are afterwards as before."""
    plain, numpys = random.getstate(), np.random.get_state()
    try:
        # Of this device alone: to ask the others for their state would begin to use them.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numpys)
