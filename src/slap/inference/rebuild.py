"""A network in use, rebuilt from plain data: its arguments and a state.

E shared dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slap.core.errors import UserError
from slap.core.outline import outline, refuse_misfit
from slap.core.registry import plugins
from slap.model.contracts import AlignsFrames, AudioEncoder, Calibrated, Classifier, TextEncoder, Writes
from slap.model.finite_weights import require_finite
from slap.model.network import Network
from slap.model.specs import as_saved

ARGUMENTS = ("audio", "text", "embedding_dim")
"""The hyperparameters of a checkpoint that the network in use depends on, beside its objectives."""

POOL_DURATION = "pool_duration"
"""Another one, which checkpoints may lack."""

DRAWS = {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "erfinv_", "mul_", "add_", "clamp_"}
"""The operations that draw first weights."""


def for_use(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Select the arguments that a model's use depends on; return them, and the objectives left out with the reasons.

    Kept are objectives that learn something of use after training: a calibration, to write captions, to classify, or
    when something is heard.

    Raises:
        ValueError: they are no arguments of a model, or an encoder would be read from a file or a hub.
    """
    _check_arguments(arguments)
    for side, kind in (("audio", "audio encoder"), ("text", "text encoder")):
        _refuse_sources(kind, arguments[side])
    kept, absent = {}, {}
    known = plugins("objective")
    for name, spec in arguments["objectives"].items():
        plugin = known.get(name)
        if plugin is None:
            absent[name] = "it is not registered here; import the plug-in that defines it first"
        elif not issubclass(plugin, Calibrated | Writes | Classifier | AlignsFrames):
            absent[name] = "only training needs it"
        elif isinstance(spec, str) or (isinstance(spec, Mapping) and "objective" in spec):
            absent[name] = "it was an instance, which a checkpoint cannot hold"
        else:
            kept[name] = spec
    used = {key: arguments[key] for key in ARGUMENTS}
    if arguments.get(POOL_DURATION):  # named where it is, so that models without have the names that they had
        used[POOL_DURATION] = True
    return {**used, "objectives": kept}, absent


def _check_arguments(arguments: Any) -> None:
    """Refuse what is not built like the arguments of a model; whether they fit is seen when it is built."""
    wanted = {"audio": str | Mapping, "text": str | Mapping, "embedding_dim": int, "objectives": Mapping}
    for name, kind in wanted.items():
        value = arguments.get(name) if isinstance(arguments, Mapping) else None
        if not isinstance(value, kind):
            raise UserError(f"the model's arguments are damaged: `{name}` is {repr(value)[:80]}")
        if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
            raise UserError(f"the model's arguments are damaged: `{name}` has other keys than texts")
        if isinstance(value, Mapping) and name != "objectives" and not isinstance(value.get("name"), str):
            raise UserError(f"the model's arguments are damaged: the name of `{name}` is {value.get('name')!r}")


def _refuse_sources(kind: str, spec: Any) -> None:
    """Refuse a model that would send its reader to other files or hubs."""
    if isinstance(spec, Mapping):
        sources = getattr(plugins(kind).get(spec.get("name", "")), "sources", ())
        named = {name: spec[name] for name in sources if spec.get(name) is not None}
        if named:
            raise UserError(f"the model's {kind} names {named}; a saved model brings everything with it")


def build(
    arguments: Mapping[str, Any], state: Mapping[str, Tensor], take: bool = False, trust: bool = False
) -> Network:
    """Make the network of plain arguments, and fill it with a state; further entries of the state are ignored.

    Args:
        arguments: from `for_use`.
        state: of the whole model or of the network in use alone.
        take: have the network keep these very tensors where their types are its own, which spares a copy.
        trust: take weights that are not finite, too.

    Raises:
        ValueError: an unknown plug-in or argument, or a state that lacks weights, has others, or is not finite.
    """
    saved = _as_saved(arguments)
    with uninitialized():
        described = outline(lambda: Network(**saved), state)
        if described is not None:  # before memory is allocated
            refuse_misfit(described, state)
        network = Network(**saved)
    refuse_misfit(network, state)
    wanted = network.state_dict()
    if not trust:
        hint = "take another checkpoint of the run (trust=True loads it anyway)"
        require_finite(network, {name: state[name] for name in wanted}, hint)
    own = all(state[name].dtype == value.dtype for name, value in wanted.items())
    network.load_state_dict({name: state[name] for name in wanted}, assign=take and own)
    return network


def _as_saved(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with those that a model lacks by its age."""
    sides = {"audio": AudioEncoder, "text": TextEncoder}
    return {**arguments, **{side: as_saved(kind, arguments[side]) for side, kind in sides.items()}}


def cast(network: Network, dtype: torch.dtype) -> Network:
    """Keep the weights in another precision from now on, and compute in it.

    Spectrograms stay in float32, as do single numbers, such as the scale of cosines, and classification heads.
    """
    heads = [part for part in network.objectives.values() if isinstance(part, Classifier)]
    kept = {id(weights) for head in heads for weights in head.parameters()}
    for weights in network.parameters():
        if weights.dim() and id(weights) not in kept:
            weights.data = weights.data.to(dtype)
    return network


@contextmanager
def uninitialized() -> Iterator[None]:
    """Make modules without drawing their first weights, which takes seconds for large ones, for a state to fill."""
    with _NoDraws():
        yield


class _NoDraws(TorchFunctionMode):
    """Leaves parameters as they are where they would be filled at random."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in DRAWS:
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs)
