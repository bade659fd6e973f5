"""Outline of a model: its modules and the shapes of its tensors, made without memory for their values.

A file may describe a model of any size in a few bytes. The outline of what it describes is compared with the weights
that it brings, whose own size somebody had to store, before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from slap.core.errors import UserError

SLACK = 1 << 26
"""Values that a model may have beyond those of its weights: tables that are computed, not stored."""

SPARE = 1000
"""Parameters and modules that a model may have beyond those that its weights speak for."""

BROKEN = (
    *(RuntimeError, TypeError, ValueError, LookupError, AttributeError),
    *(ArithmeticError, AssertionError, MemoryError),
)
"""Errors that arguments of wrong types and values cause in encoders and objectives."""

SCALED = {"mul", "__mul__", "__rmul__", "mul_", "div", "__truediv__", "add", "__add__", "add_"}
"""Functions of a tensor and a number that keep its shape."""

M = TypeVar("M", bound=nn.Module)


def outline(make: Callable[[], M], weights: Mapping[str, Tensor]) -> M | None:
    """Make a model on the device `meta`, where tensors have shapes alone.

    Args:
        make: makes the model; it is called once.
        weights: those of the file that describes the model, by name.

    Returns:
        The model without values; None if it cannot be made without them, as a plug-in may need them.

    Raises:
        UserError: it would be larger than the weights say, or cannot be made of its arguments.
    """
    try:
        with _limits(weights), torch.device("meta"):
            made = make()
    except UserError:
        raise
    except BROKEN as error:
        if isinstance(error, RuntimeError) and "meta" in str(error).lower():
            return None
        first = str(error).partition("\n")[0]
        raise UserError(f"no model can be made of these arguments: {type(error).__name__}: {first}") from error
    described = sum(part.numel() for part in (*made.parameters(), *made.buffers()))
    stored = _values(weights)
    if described > stored + SLACK:
        raise UserError(f"the model would have {described} values, but all its weights hold {stored}; it is not made")
    return made


def refuse_misfit(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that lack some of a model's, or have other shapes; further ones are ignored.

    Args:
        model: the model, or its outline.
        weights: by name.

    Raises:
        UserError: they do not fit; lists what is missing and what has other shapes.
    """
    wanted = model.state_dict()
    missing = sorted(set(wanted) - set(weights))
    shapes = [
        f"{name} has {tuple(weights[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in weights and isinstance(value, Tensor) and not is_extra(name) and weights[name].shape != value.shape
    ]
    if missing or shapes:
        raise UserError(f"the weights do not fit the model: missing are {missing or 'none'}; of other shape: {shapes}")


def is_extra(name: str) -> bool:
    """Return True for the name of what a module keeps beside its tensors, such as a tokenizer."""
    return name.endswith("_extra_state")


def _values(weights: Mapping[str, Tensor]) -> int:
    """Count the values that are stored: a tensor may show one value a billion times, or share those of others."""
    stored = {}
    for value in weights.values():
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            stored[storage.data_ptr()] = storage.nbytes() // value.element_size()
    return sum(stored.values())


@contextmanager
def _limits(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop the making of a model that needs more tensors, or larger ones, than its weights."""
    values = _values(weights)
    most = SPARE + 4 * len(weights)
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise UserError(f"the model would have far more parts than its {len(weights)} weights; it is not made")

    hooks = [register_module_parameter_registration_hook(count), register_module_module_registration_hook(count)]
    try:
        with _Largest(values + SLACK, values):
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _Largest(TorchFunctionMode):
    """Refuses tensors that are too large.

    Args:
        most: largest number of values of a tensor.
        stored: number of values of all weights, for the message.
    """

    def __init__(self, most: int, stored: int) -> None:
        super().__init__()
        self.most, self.stored = most, stored

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in SCALED and len(args) == 2 and isinstance(args[1], int | float):
            return args[0]  # torch's own on `meta` imports its compiler, which takes seconds
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.numel() > self.most:
            raise UserError(
                f"the model would have a tensor of shape {tuple(result.shape)}, but all its weights hold "
                f"{self.stored} values; it is not made"
            )
        return result
