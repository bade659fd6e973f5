"""Specifications of encoders and objectives, as recipes and the command line give them, and building from them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from slap.core.errors import UserError
from slap.core.registry import build, plugins
from slap.model.contracts import AudioEncoder, Encoder, Objective, TextEncoder

EncoderSpec = str | Mapping[str, Any] | Encoder
"""A registered name, `{"name": ..., argument: value}`, or an instance."""

ObjectiveSpec = float | Mapping[str, Any] | Objective
"""A weight, `{"weight": ..., argument: value}`, an instance, or `{"weight": ..., "objective": instance}`."""

LARGEST = sys.float_info.max
"""Largest weight of an objective. An `int` may be larger than any `float`."""

INSTANCE = "instance of "
"""Prefix by which a checkpoint describes an instance, which it cannot hold."""

NO_INIT = "its `__init__` must begin with `super().__init__()`, as that of every torch.nn.Module"

E = TypeVar("E", AudioEncoder, TextEncoder)
M = TypeVar("M", bound=nn.Module)


def build_encoder(kind: type[E], spec: EncoderSpec) -> E:
    """Build the encoder of a specification.

    Raises:
        ValueError: an unknown name or argument; lists the valid ones.
        TypeError: the instance is not of this kind.
    """
    if isinstance(spec, nn.Module):
        if not isinstance(spec, kind):
            raise TypeError(f"{type(spec).__name__} is no {kind.__name__}")
        return _initialized(spec)
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f'an encoder is given by a name or by {{"name": ..., argument: value}}; got {spec!r}')
    if name.startswith(INSTANCE):
        raise UserError(f"this model was made with an {name}, which a checkpoint cannot hold; pass the instance")
    encoder = _build(_kind_name(kind), name, options)
    assert isinstance(encoder, kind)
    return encoder


def build_objectives(specs: Mapping[str, ObjectiveSpec]) -> tuple[nn.ModuleDict, dict[str, float]]:
    """Build the objectives of a mapping from names to specifications, and return them with their weights.

    Raises:
        ValueError: an unknown name or argument, or a weight that is no finite number.
        TypeError: the instance is no objective.
    """
    objectives, weights = nn.ModuleDict(), {}
    for name, spec in specs.items():
        options = _in_full(spec)
        weight, instance = options.pop("weight", 1.0), options.pop("objective", None)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) <= LARGEST:
            raise UserError(f"the weight of objective {name!r} must be a finite number, got {weight!r}")
        if isinstance(instance, str):
            raise UserError(f"objective {name!r} was an {instance}, which a checkpoint cannot hold; pass the instance")
        if instance is not None and not isinstance(instance, Objective):
            raise TypeError(f"objective {name!r} is a {type(instance).__name__}, not an Objective")
        if instance is not None and options:
            raise UserError(f"objective {name!r} is an instance, so it takes no further {', '.join(options)}")
        objectives[name] = _build("objective", name, options) if instance is None else _initialized(instance)
        weights[name] = float(weight)
    return objectives, weights


def _build(kind: str, name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a plug-in by its name; see `_initialized` for the error of one that lacks a line."""
    try:
        return _initialized(build(kind, name, options))
    except AttributeError as error:
        if "before Module.__init__" not in str(error):
            raise
        raise UserError(f"{kind} {name!r} cannot be made: {NO_INIT}") from error


def _initialized(plugin: M) -> M:
    """Return a plug-in whose base class was initialized.

    Raises:
        ValueError: it was not.
    """
    if "_parameters" not in vars(plugin):
        raise UserError(f"{type(plugin).__name__} cannot be used: {NO_INIT}")
    return plugin


def _in_full(spec: ObjectiveSpec) -> dict[str, Any]:
    if isinstance(spec, Mapping):
        return dict(spec)
    described = isinstance(spec, str) and spec.startswith(INSTANCE)
    return {"objective": spec} if described or isinstance(spec, nn.Module) else {"weight": spec}


def portable_spec(objective: Objective, spec: Any) -> Any:
    """Return the specification that rebuilds an objective from a checkpoint: plain data, with what it learned."""
    if isinstance(spec, str):  # an instance
        return spec
    options = _in_full(spec)
    kept = objective.portable(options)
    return spec if kept == options else kept


def as_saved(kind: type[Encoder], spec: Any) -> Any:
    """Return the specification of a saved model's encoder, with the arguments that it lacks by its age.

    Args:
        kind: AudioEncoder or TextEncoder.
        spec: as a checkpoint holds it.
    """
    name = spec if isinstance(spec, str) else spec.get("name") if isinstance(spec, Mapping) else None
    plugin = plugins(_kind_name(kind)).get(name) if isinstance(name, str) else None
    if plugin is None:
        return spec
    assert issubclass(plugin, Encoder)
    return {**plugin.older, **({"name": spec} if isinstance(spec, str) else spec)}


def _kind_name(kind: type[Encoder]) -> str:
    return "audio encoder" if issubclass(kind, AudioEncoder) else "text encoder"


def describe(spec: Any) -> Any:
    """Turn a specification into plain data, for a checkpoint; an instance becomes the name of its class."""
    if isinstance(spec, nn.Module):
        return INSTANCE + type(spec).__name__
    if isinstance(spec, Mapping):
        return {key: describe(value) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [describe(value) for value in spec]
    return spec
