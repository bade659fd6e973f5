"""Versions of the software that metrics can depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("slap-audio", "torch", "torchaudio", "lhotse", "numpy", "soundfile", "sentencepiece", "transformers"),
    *("scikit-learn", "pycocoevalcap", "sentence-transformers", "av"),
)
"""Packages that metrics can depend on."""


def software() -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
