"""Files that this user's own commands wrote, told from files that came from elsewhere by their place and content.

A file's mark is an empty file in the user's folder of states, `slap/own` below XDG_STATE_HOME or ~/.local/state. Its
name is a hash of the file's place and content, so a file that was moved, changed or downloaded has no mark.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

VARIABLE = "XDG_STATE_HOME"


def mark_own(path: Path) -> None:
    """Remember a file as the user's own, as it is now.

    Args:
        path: of a file that a command of the user has just written.

    Raises:
        OSError: there is no such file, or the user's folder of states cannot be written.
    """
    mark = _mark(path)
    mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark.touch()


def is_own(path: Path) -> bool:
    """Return True if a command of this user wrote the file at this place, and it is unchanged and no link."""
    try:
        return not path.is_symlink() and _mark(path).is_file()
    except OSError:
        return False


def _mark(path: Path) -> Path:
    place = os.fsencode(path.parent.resolve() / path.name)
    name = hashlib.sha256(place + b"\0" + path.read_bytes()).hexdigest()
    return _states() / "slap" / "own" / name


def _states() -> Path:
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise OSError(f"this user has no home directory; set {VARIABLE}") from error
