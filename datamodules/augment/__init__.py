"""Augmentation of training clips, by name and arguments as in recipes and on the command line.

    --data.augment '{speed: {}, noise: {noises: noises/, low: 0}, scenes: {probability: 0.3}}'

Each augmentation is a transform; they are applied in the order in which they are written. All take the argument `only`:
the transform is applied only to clips whose ids begin with this text, e.g. the name of their corpus.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from slap.core.errors import UserError, suggest
from slap.datamodules.augment.basic import Mix, Only, RandomCrop, RandomGain, RandomSpeed
from slap.datamodules.augment.event_crop import EventCrop
from slap.datamodules.augment.mixup import Mixup
from slap.datamodules.augment.noise import RandomNoise
from slap.datamodules.augment.random_eq import RandomFilter
from slap.datamodules.augment.reverb import RandomReverb
from slap.datamodules.augment.scenes import Scenes
from slap.datamodules.dataset import Transform

AUGMENTATIONS: dict[str, Any] = {
    "crop": RandomCrop,
    "event_crop": EventCrop,
    "filter": RandomFilter,
    "gain": RandomGain,
    "mix": Mix,
    "mixup": Mixup,
    "noise": RandomNoise,
    "reverb": RandomReverb,
    "scenes": Scenes,
    "speed": RandomSpeed,
}

ONLY = "only"


def augmentations(options: Mapping[str, Mapping[str, Any] | None]) -> tuple[Transform, ...]:
    """Return the transforms with these names and arguments.

    Args:
        options: arguments of each augmentation by its name; None or an empty mapping stands for the defaults.

    Raises:
        ValueError: there is no such augmentation or argument, or a value is out of range; names the valid ones.

    Example:
        >>> augmentations({"gain": {"low": -6.0}, "speed": None})[0]
        RandomGain(low=-6.0, high=0.0, seed=0)
    """
    return tuple(_built(name, dict(arguments or {})) for name, arguments in options.items())


def _built(name: str, arguments: dict[str, Any]) -> Transform:
    if name not in AUGMENTATIONS:
        raise UserError(f"there is no augmentation {name!r}; {suggest(name, AUGMENTATIONS)}")
    kind = AUGMENTATIONS[name]
    only = arguments.pop(ONLY, None)
    valid = [*inspect.signature(kind).parameters, ONLY]
    for argument in arguments:
        if argument not in valid:
            raise UserError(f"the augmentation {name!r} has no argument {argument!r}; {suggest(argument, valid)}")
    try:
        transform: Transform = kind(**arguments)
    except TypeError as error:
        raise UserError(f"the augmentation {name!r} cannot be made of {arguments}: {error}") from error
    return transform if only is None else Only(str(only), transform)
