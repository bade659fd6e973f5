"""SLAP: train, evaluate and use language-audio models on audio of any duration.

Public names load on first use, so that `import slap` and `slap --help` do not wait for torch. The distribution
slap-onnx has a part of this package, see `slap.onnx`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slap.audio.errors import AudioError as AudioError
    from slap.core.batch import Batch as Batch
    from slap.core.errors import UserError as UserError
    from slap.core.packed import Packed as Packed
    from slap.core.registry import plugins as plugins
    from slap.core.registry import register as register
    from slap.evaluation.evaluate import evaluate as evaluate
    from slap.inference.load import load as load
    from slap.inference.model import Model as Model
    from slap.model.contracts import AudioEncoder as AudioEncoder
    from slap.model.contracts import Objective as Objective
    from slap.model.contracts import TextEncoder as TextEncoder
    from slap.model.views import View as View
    from slap.model.views import Views as Views
    from slap.training.module import SLAP as SLAP

_HOMES = {
    "AudioError": "slap.audio.errors",
    "AudioEncoder": "slap.model.contracts",
    "Batch": "slap.core.batch",
    "Model": "slap.inference.model",
    "Objective": "slap.model.contracts",
    "Packed": "slap.core.packed",
    "SLAP": "slap.training.module",
    "TextEncoder": "slap.model.contracts",
    "UserError": "slap.core.errors",
    "View": "slap.model.views",
    "Views": "slap.model.views",
    "evaluate": "slap.evaluation.evaluate",
    "load": "slap.inference.load",
    "plugins": "slap.core.registry",
    "register": "slap.core.registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'slap' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("slap."):
            raise
        message = f"slap.{name} is a part of slap-audio; slap-onnx has slap.onnx alone: pip install slap-audio"
        raise ImportError(message, name=error.name) from error
    globals()[name] = value  # the next look-up does not come here
    return value


def _version() -> str:
    try:
        return version("slap-audio")
    except PackageNotFoundError:  # the small distribution without torch
        return version("slap-onnx")


def __dir__() -> list[str]:
    return __all__
