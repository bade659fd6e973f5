"""Processes that torchrun starts anew (`--max-restarts`) meet under keys of their own.

The store at which processes meet belongs to torchrun and outlives them. It still has the addresses of the processes
before, which PyTorch would take for those of the new ones, and wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from torch._C._distributed_c10d import PrefixStore, TCPStore

from slap.core.launched import ATTEMPT


def meet_anew(trainer: Trainer) -> None:
    """Let a trainer whose processes were started anew set up their group under other keys; else change nothing."""
    again = os.environ.get(ATTEMPT, "0") != "0" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if again and trainer.world_size > 1:
        strategy: Any = trainer.strategy
        strategy.setup_environment = _after_meeting(strategy, strategy.setup_environment)


def _after_meeting(strategy: Any, set_up: Callable[[], None]) -> Callable[[], None]:
    def meet_and_set_up() -> None:
        if not dist.is_initialized():
            _meet(strategy)
        set_up()  # Lightning takes the group that there is

    return meet_and_set_up


def _meet(strategy: Any) -> None:
    environment, device = strategy.cluster_environment, strategy.root_device
    size = environment.world_size()
    store = TCPStore(environment.main_address, environment.main_port, size, is_master=False)
    dist.init_process_group(
        strategy._get_process_group_backend(),
        store=PrefixStore(f"attempt/{os.environ[ATTEMPT]}", store),
        rank=environment.global_rank(),
        world_size=size,
        timeout=strategy._timeout,
        device_id=None if device.type == "cpu" else device,
    )
