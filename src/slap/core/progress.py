"""Progress bars on stderr, shown only where it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

Progress = Callable[[int, str, str], Any]
"""`progress(total, what, unit)` makes a bar with `update(n=1)` and `close()`, as tqdm's: `bar` or `silent`."""


def bar(total: int, what: str, unit: str) -> tqdm:
    """Make a progress bar that counts to `total`."""
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=None, file=sys.stderr, dynamic_ncols=True)


def silent(total: int, what: str, unit: str) -> tqdm:
    """Make a progress bar that shows nothing."""
    return tqdm(total=total, desc=what, unit=unit, disable=True)
