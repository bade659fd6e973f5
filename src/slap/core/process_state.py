"""State of other processes of this machine."""

from __future__ import annotations

import os
from pathlib import Path


def runs(pid: int) -> bool:
    """Return whether a process of this machine is there and has not ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return status(pid)[:1] != ["Z"]


def status(pid: int) -> list[str]:
    """Return the fields of a process's status behind its name; none where the system does not show them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
