"""Files of FLAC and Ogg to which others were joined, one behind the other: players read all, libsndfile the first.

The parts of such files count their frames or pages anew. A small file is looked through as a whole. Of a large one the
numbers are read in some places: where one is lower than another before it, something begins again.
"""

from __future__ import annotations

from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]
"""From a place in a file and a number of bytes to these bytes, fewer at its end."""

LOOKED_THROUGH = 1 << 22
"""Bytes of a file up to which it is looked through."""

PLACES = 64
"""Number of places, at equal distances, in which a number of a large file is read. Parts that are joined are found if
they are twice as long as a distance; of shorter ones there are too many for their numbers to rise by chance."""

WINDOW = 1 << 15
"""Bytes that are read in each place; most frames and pages are shorter."""


def numbers_rise(read_at: ReadAt, size: int, number_in: Callable[[bytes], int | None], window: int = WINDOW) -> bool:
    """Return whether the numbers of frames or pages rise throughout a file, as far as some places say.

    Args:
        read_at: reads the file.
        size: of the file, bytes.
        number_in: returns the first number in some bytes, None if there is none.
        window: bytes to read in each place.
    """
    last = -1
    for place in range(1, PLACES):
        number = number_in(read_at(place * size // PLACES, window))
        if number is not None:
            if number < last:
                return False
            last = number
    return True


# -- FLAC -------------------------------------------------------------------------------------------------------------


def flac_begins(read_at: ReadAt, size: int) -> tuple[int, ...]:
    """Return the places of a file of FLAC at which others begin; all of the file is read."""
    found = []
    for start in range(4, size, LOOKED_THROUGH):
        block = read_at(start, LOOKED_THROUGH + 7)
        at = block.find(b"fLaC")
        while at >= 0:
            if block[at + 4 : at + 8] in (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22") and at < LOOKED_THROUGH:
                found.append(start + at)
            at = block.find(b"fLaC", at + 4)
    return tuple(found)


def flac_number(data: bytes) -> int | None:
    """Return the number of the first frame of FLAC that begins in some bytes, of those with blocks of one size."""
    at = data.find(b"\xff\xf8")
    while at >= 0:
        number = _flac_number(data[at : at + 16])
        if number is not None:
            return number
        at = data.find(b"\xff\xf8", at + 1)
    return None


def _flac_number(head: bytes) -> int | None:
    """Return the number in the head of a frame; None if its checksum says that it is none."""
    if len(head) < 16:
        return None
    more = _continued(head[4])
    if more is None:
        return None
    number = head[4] & (0x7F if more == 0 else 0x3F >> more)
    for byte in head[5 : 5 + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    size, rate = head[2] >> 4, head[2] & 0xF
    end = 5 + more + {6: 1, 7: 2}.get(size, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    return number if _checksum(head[:end]) == head[end] else None


def _continued(byte: int) -> int | None:
    """Return the bytes that follow the first one of a number; None if it is no first one."""
    ones = 8 - (byte ^ 0xFF).bit_length()
    return 0 if ones == 0 else ones - 1 if 2 <= ones <= 7 else None


def _checksum(data: bytes) -> int:
    """Return the CRC-8 of FLAC, of the polynomial x^8 + x^2 + x + 1.

    Example:
        >>> _checksum(b"123456789")
        244
    """
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
    return value


# -- Ogg --------------------------------------------------------------------------------------------------------------


def ogg_begins_once(read_at: ReadAt, size: int) -> bool:
    """Return whether no page of Ogg but the first begins a stream, in a file that is read as a whole."""
    at = page_bytes(read_at(0, 27 + 255))
    while at < size:
        page = read_at(at, 27 + 255)
        if page[:4] != b"OggS" or page[5] & 2:
            return False
        at += page_bytes(page)
    return True


def ogg_number(data: bytes) -> int | None:
    """Return the number of the first page of Ogg that begins in some bytes."""
    at = data.find(b"OggS\x00")
    return int.from_bytes(data[at + 18 : at + 22], "little") if at >= 0 and len(data) >= at + 27 else None


def page_bytes(page: bytes) -> int:
    """Return the size of a page of Ogg by its first bytes."""
    segments = page[26] if len(page) > 26 else 0
    return 27 + segments + sum(page[27 : 27 + segments])
