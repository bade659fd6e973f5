"""Audio that browsers play by themselves, and can seek in: known by the first bytes of a file.

FLAC is not among it: Chromium 156 stops with `demuxer seek failed` when one seeks in a FLAC file without a seek table,
such as soundfile writes. Nor is MPEG-4, whose codecs are not in all browsers.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

START = 4096
"""Bytes that are looked at."""

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Codings of a WAV file."""

WIDTHS = {PCM: (8, 16, 24, 32), FLOAT: (32,)}
"""Bits per sample that browsers play, by coding."""


def playable(file: BinaryIO) -> str | None:
    r"""Return the media type of an open file that browsers play; None for any other.

    Example:
        >>> import io
        >>> playable(io.BytesIO(b"OggS" + bytes(22) + b"\x01\x13OpusHead")), playable(io.BytesIO(b"fLaC"))
        ('audio/ogg', None)
    """
    file.seek(0)
    start = file.read(START)
    if start[:4] == b"RIFF" and start[8:12] == b"WAVE":
        return "audio/wav" if _is_plain_wav(start) else None
    if start[:4] == b"OggS" and len(start) > 27:
        content = start[27 + start[26] :]
        return "audio/ogg" if content.startswith((b"\x01vorbis", b"OpusHead")) else None
    if start[:3] == b"ID3" or (start[:1] == b"\xff" and len(start) > 1 and start[1] & 0xE6 == 0xE2):  # layer III
        return "audio/mpeg"
    return None


def _is_plain_wav(start: bytes) -> bool:
    """Return True if the format chunk says samples as they are."""
    at = 12
    while at + 24 <= len(start):
        name, size = struct.unpack_from("<4sI", start, at)
        if name == b"fmt ":
            coding, _, _, _, _, bits = struct.unpack_from("<HHIIHH", start, at + 8)
            if coding == EXTENSIBLE and at + 34 <= len(start):
                (coding,) = struct.unpack_from("<H", start, at + 32)
            return bits in WIDTHS.get(coding, ())
        at += 8 + size + size % 2
    return False
