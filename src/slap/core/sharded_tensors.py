"""Arithmetic on tensors of which each process may hold a part only, as under FSDP2 (see `slap.training.fsdp`)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def is_shard(tensor: Tensor) -> bool:
    """Return whether this process has only a part of a tensor, without importing torch's DTensor, which takes long."""
    return hasattr(tensor, "to_local")


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return this process's part of each tensor, sharing its memory; whole tensors stay whole."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def average_whole(parameters: Iterable[Tensor]) -> None:
    """Average the gradients of whole parameters over processes, which FSDP2 does for the other parameters alone."""
    parameters = list(parameters)
    if not any(is_shard(parameter) for parameter in parameters):
        return
    for parameter in parameters:
        if parameter.grad is not None and not is_shard(parameter):
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def total_norm(gradients: Iterable[Tensor]) -> Tensor:
    """Return the norm over all gradients, the same on all processes."""
    gradients = list(gradients)
    parts = local(gradient for gradient in gradients if is_shard(gradient))
    if not parts:
        return torch.nn.utils.get_total_norm(gradients)
    square = torch.nn.utils.get_total_norm(parts).square()
    dist.all_reduce(square)
    whole = [gradient for gradient in gradients if not is_shard(gradient)]
    return (square + torch.nn.utils.get_total_norm(whole).square()).sqrt() if whole else square.sqrt()


def clip_norm(parameters: Iterable[Tensor], most: float, norm: Tensor) -> None:
    """Scale gradients, in place, so that their norm is at most `most`; as torch's function does, but also on parts.

    Args:
        parameters: parameters with gradients.
        most: the largest norm, above 0.
        norm: the norm of all gradients.
    """
    parameters = list(parameters)
    if not any(is_shard(parameter) for parameter in parameters):
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
        return
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(local(p.grad for p in parameters if p.grad is not None), factor)
