"""Folders below which the audio of manifests must lie: a limit for manifests from untrusted places.

A manifest may name any file that its reader can read: `slap prepare` itself writes absolute paths, since corpora and
their manifests lie in different places. To limit this, name the folders that may hold audio: `data_root` of the data
module and of `read_manifest`, or for all commands the environment variable `SLAP_DATA_ROOT`, several folders with a
colon between them (as in PATH). Symbolic links are resolved before the check.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from slap.datamodules.manifests.clip import ManifestError

VARIABLE = "SLAP_DATA_ROOT"

Folders = Sequence[str | Path] | str | Path
"""One folder or several; the command line takes a list for text where text comes first."""


def resolved_roots(folders: Folders | None = None) -> tuple[str, ...]:
    """Return the folders that audio must lie in, with symbolic links resolved; none if it may lie anywhere.

    Args:
        folders: one or several folders; None stands for those of the environment variable.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if folders is None:
        folders = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    named = [folders] if isinstance(folders, str | Path) else list(folders)
    for folder in named:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"there is no folder {folder}, which data_root (or {VARIABLE}) names")
    return tuple(os.path.realpath(folder) for folder in named)


def refuse_elsewhere(path: str, roots: Sequence[str], where: str) -> None:
    """Refuse a file that does not lie below one of the folders.

    Args:
        path: path of the file.
        roots: folders, as `resolved_roots` returns them; without any, nothing is refused.
        where: file and line, for the message.

    Raises:
        ManifestError: the file lies elsewhere.
    """
    if not roots:
        return
    real = os.path.realpath(path)
    if not any(real.startswith(root.rstrip(os.sep) + os.sep) for root in roots):
        raise ManifestError(f"{where}: {path} is refused: audio must lie below {' or '.join(roots)} (data_root)")
