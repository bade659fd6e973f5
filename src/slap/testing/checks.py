"""Helpers of the contract tests: comparing, copying, pickling, restoring, gradients."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from slap.core.packed import Packed

M = TypeVar("M", bound=nn.Module)

TOLERANCE = 1e-5
"""Largest accepted difference, as a share of the largest value, or of 1 when all values are smaller."""


@contextmanager
def promise(plugin: nn.Module, sentence: str) -> Iterator[None]:
    """Turn any error inside into an `AssertionError` that names the broken promise of the plug-in."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        raise AssertionError(f"{type(plugin).__name__} breaks a promise: it {sentence}; but {kind}{error}") from error


def close(value: Tensor, expected: Tensor, what: str) -> None:
    """Raise an `AssertionError` where two tensors differ by more than `TOLERANCE`."""
    assert value.shape == expected.shape, f"the {what} have shapes {tuple(value.shape)} and {tuple(expected.shape)}"
    value, expected = value.detach(), expected.detach()
    error = float((value - expected).abs().max()) if value.numel() else 0.0
    largest = float(expected.abs().max()) if value.numel() else 0.0
    assert error <= TOLERANCE * max(1.0, largest), f"the {what} differ by {error:.2g}, with values up to {largest:.2g}"


def same(one: Packed, other: Packed) -> bool:
    """Return whether two packed batches hold the same items, bit by bit."""
    return one.sizes == other.sizes and torch.equal(one.values, other.values)


def copied(module: M) -> M:
    """Return a deep copy."""
    return deepcopy(module)


def pickled(module: M) -> M:
    """Return a copy by way of a pickle."""
    twin: M = pickle.loads(pickle.dumps(module))
    return twin


TWINS = {"copied": copied, "pickled": pickled}


def restored(target: M, source: nn.Module) -> M:
    """Return `target` after adding noise to its parameters and then loading the state of `source` from a checkpoint."""
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(torch.randn_like(parameter))
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    target.load_state_dict(torch.load(file, weights_only=True))
    return target


def gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor | None]:
    """Compute the gradient of each trainable parameter."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    found = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.requires_grad}
    module.zero_grad(set_to_none=True)
    return found


def assert_finite(found: dict[str, Tensor | None]) -> None:
    """Raise an `AssertionError` where a gradient is missing or not finite."""
    missing = [name for name, gradient in found.items() if gradient is None]
    assert not missing, f"these get none: {', '.join(missing)}"
    bad = [name for name, gradient in found.items() if gradient is not None and not gradient.isfinite().all()]
    assert not bad, f"these are not finite: {', '.join(bad)}"
