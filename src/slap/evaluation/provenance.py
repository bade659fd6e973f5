"""Which model, software and machine figures are from."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from slap.inference.model import Model

PACKAGES = (
    *("slap-audio", "torch", "torchaudio", "lhotse", "numpy", "soundfile", "sentencepiece", "transformers"),
    *("scikit-learn", "pycocoevalcap", "sentence-transformers", "av"),
)
"""What figures can depend on."""


def software() -> dict[str, str]:
    """The versions of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def model_record(model: Model, path: str) -> dict[str, Any]:
    """What identifies a model: a hash of its content, where it was, and what it is.

    Args:
        model: the model.
        path: where it was loaded from.
    """
    backend = model.backend
    holder = backend if hasattr(backend, "device") else getattr(backend, "model", None)  # readers of others' models
    device = getattr(holder, "device", None)
    return {
        "path": path,
        "hash": model.name,
        "kind": type(backend).__name__,
        "sample_rate": model.sample_rate,
        "max_seconds": model.max_seconds,
        "embedding_dim": model.embedding_dim,
        "device": str(device) if device is not None else "unknown",
    }
