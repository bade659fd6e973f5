"""SLAP: train, judge and use language-audio models on audio of any duration.

Public names load on first use, so that `import slap` and `slap --help` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slap.batch import Batch as Batch
    from slap.contracts import AudioEncoder as AudioEncoder
    from slap.contracts import Objective as Objective
    from slap.contracts import TextEncoder as TextEncoder
    from slap.inference import Model as Model
    from slap.loading import load as load
    from slap.module import SLAP as SLAP
    from slap.packed import Packed as Packed
    from slap.registry import plugins as plugins
    from slap.registry import register as register
    from slap.views import View as View
    from slap.views import Views as Views

_HOMES = {
    "AudioEncoder": "slap.contracts",
    "Batch": "slap.batch",
    "Model": "slap.inference",
    "Objective": "slap.contracts",
    "Packed": "slap.packed",
    "SLAP": "slap.module",
    "TextEncoder": "slap.contracts",
    "View": "slap.views",
    "Views": "slap.views",
    "load": "slap.loading",
    "plugins": "slap.registry",
    "register": "slap.registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'slap' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return __all__
