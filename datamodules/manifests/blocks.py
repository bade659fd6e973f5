"""Files of lines in blocks, so that any line can be read without those before it.

A gzip file may hold several members, one after the other, and every gzip reader gives their contents as one. Here a
member holds a block of lines; to read a line, its member alone is decompressed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

LINES = 64  # in a block: gzip looks back 32 kB, so larger blocks would hardly compress better
LARGEST = 1 << 19  # bytes of text in a block that is still read as a whole for one line
READ = 1 << 20


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of a file lie.

    Args:
        offsets: (K + 1,) int64, where each of the K blocks begins, in bytes, and where the last one ends.
        path: the file that holds them.
        gzipped: each block is a gzip member; else it is plain text.
        data: the same bytes in memory, where there is no such file.
    """

    offsets: np.ndarray
    path: Path
    gzipped: bool
    data: bytes | None = None

    def __len__(self) -> int:
        """How many blocks there are, K."""
        return len(self.offsets) - 1

    def read(self, block: int) -> bytes:
        """The text of a block. The file is opened for each, so that any process may read.

        Raises:
            OSError, EOFError, zlib.error: the file is not what it was.
        """
        start, stop = int(self.offsets[block]), int(self.offsets[block + 1])
        if self.data is not None:
            raw = self.data[start:stop]
        else:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                raw = file.read(stop - start)
        return gzip.decompress(raw) if self.gzipped else raw


class BlockWriter:
    """Writes lines to a file in gzip members of `LINES` lines each."""

    def __init__(self, file: BinaryIO) -> None:
        self.offsets = [0]
        self._file = file
        self._lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        """Add a line, with its end."""
        self._lines.append(line)
        if len(self._lines) == LINES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait for their block to fill up."""
        if self._lines:
            member = gzip.compress(b"".join(self._lines), compresslevel=6, mtime=0)
            self._file.write(member)
            self.offsets.append(self.offsets[-1] + len(member))
            self._lines.clear()


def members(path: Path) -> tuple[list[int], list[int]] | None:
    """Where the members of a gzip file begin and end, in bytes of the file and of its text.

    Returns:
        K + 1 offsets of each kind; None where the members do not serve as blocks: one is too large, does not end with
        its line, or is damaged.
    """
    packed, plain = [0], [0]
    with path.open("rb") as file:
        for size, last, text in _walk(file):
            if last != b"\n" or size == 0:
                return None
            packed.append(packed[-1] + size)
            plain.append(plain[-1] + text)
            if text > LARGEST:
                return None
        whole = file.seek(0, 2) == packed[-1]
    return (packed, plain) if whole and len(packed) > 1 else None


def _walk(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """For each gzip member its size, the last byte of its text and the text's size; size 0 tells that it is unfit."""
    waiting = file.read(READ)
    while waiting:
        member, size, text, last = zlib.decompressobj(wbits=31), 0, 0, b""
        while not member.eof:
            try:
                part = member.decompress(waiting, LARGEST)
            except zlib.error:
                waiting = b""  # damaged; whoever reads the lines tells where
            if not waiting or member.unconsumed_tail or text > LARGEST:
                yield 0, b"", text
                return
            size += len(waiting) - len(member.unused_data)
            text, last = text + len(part), part[-1:] or last
            waiting = member.unused_data or file.read(READ)
        yield size, last, text
