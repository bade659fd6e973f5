"""Files of an index, opened only while they are what was indexed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from slap.audio.reader import AudioError
from slap.core.data_root import ElsewhereError, open_audio
from slap.search.store import WindowRow


class ChangedFileError(AudioError):
    """A file that has changed since it was indexed."""


def open_indexed(folder: Path, row: WindowRow) -> BinaryIO:
    """Open the file of a row.

    Args:
        folder: the indexed folder.
        row: of the index.

    Raises:
        AudioError: it is no longer there, or lies elsewhere.
        ChangedFileError: it has changed since it was indexed.
    """
    inside = not Path(row.path).is_absolute() and ".." not in Path(row.path).parts
    try:
        file = open_audio(folder / row.path) if inside else None
    except (OSError, ElsewhereError):
        file = None
    if file is None:
        raise AudioError("this file is no longer there; run `slap index` again", "absent")
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (row.size, row.mtime_ns):
        file.close()
        raise ChangedFileError("this file has changed since it was indexed; run `slap index` again")
    return file
