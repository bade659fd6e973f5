"""The gate through which every file that holds audio is opened, or refused: folders that audio must lie in.

A manifest, a folder with links or an index may name any file that its reader can read. To limit this for all commands,
name the folders that may hold audio in the environment variable `SLAP_DATA_ROOT`, several with a colon between them (as
in PATH). Links are resolved before the check. The copies that SLAP itself makes of files on other machines are exempt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from io import BufferedReader
from pathlib import Path

from slap.core.errors import UserError, printable
from slap.core.files import open_plain

VARIABLE = "SLAP_DATA_ROOT"

Folders = Sequence[str | Path] | str | Path
"""One folder or several; the command line takes a list for text where text comes first."""


class ElsewhereError(UserError):
    """A file that lies outside of the folders that audio may lie in."""


def resolved_roots(folders: Folders | None = None) -> tuple[str, ...]:
    """Return the folders that audio must lie in, with symbolic links resolved; none if it may lie anywhere.

    Args:
        folders: one or several folders; None stands for those of the environment variable.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if folders is None:
        return _of_variable(os.environ.get(VARIABLE, ""))
    named = [folders] if isinstance(folders, str | Path) else list(folders)
    return tuple(_resolved(str(folder)) for folder in named)


@lru_cache(maxsize=8)
def _of_variable(value: str) -> tuple[str, ...]:
    return tuple(_resolved(folder) for folder in value.split(os.pathsep) if folder)


def _resolved(folder: str) -> str:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder}, which data_root (or {VARIABLE}) names")
    return os.path.realpath(folder)


def lies_elsewhere(path: str | Path, roots: Sequence[str]) -> bool:
    """Return True if a file does not lie below one of the folders, of which there are some.

    Args:
        path: path of the file.
        roots: folders, as `resolved_roots` returns them; without any, nothing lies elsewhere.
    """
    if not roots:
        return False
    real = os.path.realpath(path)
    return not any(real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def check_root(path: str | Path) -> None:
    """Refuse a file that does not lie below the folders of the environment variable, if it names any.

    Raises:
        ElsewhereError: it lies elsewhere.
        FileNotFoundError: the variable names no folder.
    """
    roots = resolved_roots()
    if lies_elsewhere(path, roots):
        where = " or ".join(roots)
        raise ElsewhereError(f"{printable(str(path))} is refused: audio must lie below {where} ({VARIABLE})")


def open_audio(path: str | Path) -> BufferedReader:
    """Open a plain file that holds audio, or may hold some, to read its bytes.

    Raises:
        ElsewhereError: it lies elsewhere.
        OSError: there is no such file, it is no plain file, or it cannot be read.
    """
    check_root(path)
    return open_plain(path)
