"""A network that is being trained, in use: it embeds files and texts as they would be after saving and loading it.

n clips or texts, E shared dimension.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slap.core.decoding import Decoding
from slap.core.files import digest
from slap.inference.network_backend import DEFAULT_MAX_SECONDS, NetworkBackend
from slap.inference.rebuild import for_use
from slap.model.contracts import Classifier
from slap.training.lightning_network import LightningNetwork


class LiveBackend(NetworkBackend):
    """A backend on the weights of a network that may go on training; each call uses them as they are then.

    Modes and random numbers are afterwards as before a call, so that training goes on as if there had been none.

    Args:
        network: one whole copy of the model, not sharded over processes.
    """

    network: LightningNetwork

    def __init__(self, network: LightningNetwork) -> None:
        super().__init__(network, *used_as(network), lent=True)

    @property
    def name(self) -> str:
        """The first 16 digits of the digest of the weights as they are now."""
        return digest(self.arguments, self.state_in_use())[:16]

    def encode_audio(self, clips: Sequence[Tensor]) -> Tensor:
        """Embed clips, (T_i,) each, as (n, E)."""
        with evaluating(self.network):
            return super().encode_audio(clips)

    def encode_frames(self, clip: Tensor, hop: int) -> Tensor:
        """Embed the frames of a clip, see `NetworkBackend`."""
        with evaluating(self.network):
            return super().encode_frames(clip, hop)

    def encode_labels(self, clips: Sequence[Tensor], head: Classifier) -> Tensor:
        """Compute a head's scores of clips, see `NetworkBackend`."""
        with evaluating(self.network):
            return super().encode_labels(clips, head)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (n, E)."""
        with evaluating(self.network):
            return super().encode_text(texts)

    def write(self, clips: Sequence[Tensor], decoding: Decoding) -> tuple[list[str], Tensor]:
        """Write a caption for each clip, see `NetworkBackend`."""
        with evaluating(self.network):
            return super().write(clips, decoding)


def used_as(network: LightningNetwork) -> tuple[dict[str, Any], float, Mapping[str, str]]:
    """Return the arguments of a network in use, its longest clip, and the objectives that are not, with the reasons.

    Raises:
        ValueError: a model whose encoders read files, see `slap.inference.rebuild.for_use`.
    """
    key = network.CHECKPOINT_HYPER_PARAMS_KEY
    checkpoint: dict[str, Any] = {key: dict(network.hparams)}
    network.on_save_checkpoint(checkpoint)  # which makes arguments portable
    arguments, absent = for_use(checkpoint[key])
    return arguments, network.max_seconds or DEFAULT_MAX_SECONDS, absent


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Set all modules to evaluation; afterwards restore their modes, and all random number generators.

    These are Python's, NumPy's and torch's, on the CPU and on the network's device.
    """
    modes = [(part, part.training) for part in network.modules()]
    device = next(network.parameters()).device
    plain, numpys = random.getstate(), np.random.get_state()
    network.eval()
    try:
        # Of this device alone: to ask the others for their state would begin to use them.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numpys)
        for part, mode in modes:
            part.training = mode
