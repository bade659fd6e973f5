"""Settings of the environment: the cache, and the patience with servers. Every process of a run sees the same."""

from __future__ import annotations

import os
from pathlib import Path

from slap.core.errors import UserError
from slap.core.units import Seconds

GIGABYTE = 10**9


def cache_folder() -> Path:
    """Return the folder of the cache: SLAP_REMOTE_CACHE, or `slap/remote` in the user's cache folder."""
    named = os.environ.get("SLAP_REMOTE_CACHE")
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named).expanduser() if named else Path(general) / "slap" / "remote"


def cache_bytes() -> int:
    """Return the bytes that the files of the cache may take: SLAP_REMOTE_CACHE_GB gigabytes, 50 by default."""
    return round(_number("SLAP_REMOTE_CACHE_GB", 50.0) * GIGABYTE)


def tries() -> int:
    """Return the attempts in a row without progress after which a file is given up: SLAP_REMOTE_TRIES, 6 by default."""
    return max(round(_number("SLAP_REMOTE_TRIES", 6)), 1)


def timeout() -> Seconds:
    """Return the seconds without a byte after which a connection counts as broken: SLAP_REMOTE_TIMEOUT, or 60."""
    return _number("SLAP_REMOTE_TIMEOUT", 60.0)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise UserError(f"the environment variable {variable} must be a number above 0, got {text!r}")
    return value
