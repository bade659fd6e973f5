"""The length that the header of a compressed file claims, checked against the bytes of the file.

libsndfile believes these claims and reads no further. They are wrong for files that were joined or cut, and absent in
files that were written to a pipe. Of long files only the first and the last bytes are read here, and a few between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slap.audio.joined import (
    LOOKED_THROUGH,
    WINDOW,
    ReadAt,
    flac_begins,
    flac_number,
    numbers_rise,
    ogg_begins_once,
    ogg_number,
    page_bytes,
)

ENCODERS = (b"LAME", b"Lavf", b"Lavc")
"""Encoders whose MP3 says how many samples of its beginning and end are padding."""

TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")
"""First bytes of what may follow the audio of an MP3."""

RESERVOIR = 256
"""Bytes per frame of an MP3 from which on the few frames that libmpg123 reads before a place hold all that it needs."""

BEGIN = 512
"""Bytes at the beginning of a file that are read at once."""

UNKNOWN = 0x7FFFF000
"""Bytes of a WAV, or of its data, from which on the size is that of a stream, whose length was not known."""

ENDLESS = 1 << 62
"""Bytes of the data of a CAF from which on its size is not known, too."""

ASF = b"\x30\x26\xb2\x75"
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""First bytes of ASF, and those of what it says of itself."""

MOST_CHUNKS = 32
"""Chunks before that of the data, at most."""

CHUNKED = (b"RIFF", b"RF64", b"caff", ASF)
"""First bytes of files that say how many bytes they have."""

DELAY = 529
"""Samples by which the decoder of MP3 is late."""


@dataclass(frozen=True)
class Claim:
    """The length that the header of a file claims, and its trustworthiness.

    Attributes:
        sure: the bytes of the file bear it out, so libsndfile reads the whole file.
        frames: T that the header declares; None if it does not, or only an estimate could.
        broken_off: the file ends within its stream.
        reach: number of the last frame at which libsndfile begins to read rightly; None if it may begin anywhere.
        whole: the header of a WAV says where its data ends, and this lies within the file.
        parts: places at which other files of FLAC begin, which were joined to this one.
    """

    sure: bool
    frames: int | None = None
    broken_off: bool = False
    reach: int | None = None
    whole: bool = False
    parts: tuple[int, ...] = ()


SURE = Claim(True)
UNSURE = Claim(False)


def examined(read_at: ReadAt, size: int) -> Claim:
    """Check what the header of a file claims.

    Args:
        read_at: reads the file.
        size: of the file, bytes.
    """
    begin = read_at(0, BEGIN)

    def near(at: int, count: int) -> bytes:
        return begin[at : at + count] if at + count <= len(begin) else read_at(at, count)

    return _examined(near, size)


def _examined(read_at: ReadAt, size: int) -> Claim:
    head = read_at(0, 4)
    if head == b"fLaC":
        return _flac(read_at, size)
    if head == b"OggS":
        return _ogg(read_at, size)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        return _mp3(read_at, size)
    if head in CHUNKED:
        end = _chunks(read_at, head)
        return Claim(True, broken_off=end > size, whole=head == b"RIFF" and 0 < end <= size)
    return SURE


def _chunks(read_at: ReadAt, head: bytes) -> int:
    """Return the bytes that a file of chunks says to have, up to the end of its data; 0 if it does not know."""
    if head == ASF:
        return _asf(read_at)
    if head == b"caff":
        return _end_of_data(read_at, 8, 8, "big")
    if head == b"RF64":
        return int.from_bytes(read_at(20, 8), "little") + 8
    if read_at(8, 4) == b"AVI ":
        return int.from_bytes(read_at(4, 4), "little") + 8
    return _end_of_data(read_at, 12, 4, "little")


def _end_of_data(read_at: ReadAt, at: int, width: int, order: Literal["big", "little"]) -> int:
    """Return where the chunk of the data ends, of chunks that begin at a place and have sizes of some bytes."""
    for _ in range(MOST_CHUNKS):
        chunk = read_at(at, 4 + width)
        said = int.from_bytes(chunk[4:], order)
        if chunk[:4] == b"data":
            return at + 4 + width + said if said < (UNKNOWN if width == 4 else ENDLESS) else 0
        at += 4 + width + said + (said & 1 if width == 4 else 0)
    return 0


def _asf(read_at: ReadAt) -> int:
    """Return the bytes that ASF says to have, unless it was written to a pipe."""
    head = read_at(0, 1 << 13)
    at = head.find(ASF_PROPERTIES)
    piped = at < 0 or len(head) < at + 92 or head[at + 88] & 1
    return 0 if piped else int.from_bytes(head[at + 40 : at + 48], "little")


def _flac(read_at: ReadAt, size: int) -> Claim:
    """Look for the number of the last frame near the end of the file."""
    about = read_at(4, 38)
    if len(about) < 38 or about[0] & 0x7F:
        return UNSURE
    block, largest = int.from_bytes(about[6:8]), int.from_bytes(about[11:14])
    frames = int.from_bytes(about[14:22]) & 0xF_FFFF_FFFF
    small = size <= LOOKED_THROUGH
    alone = small or numbers_rise(read_at, size, flac_number, max(WINDOW, 2 * largest))
    ends = bool(frames) and _ends_with(read_at, size, (frames - 1) // block, largest)
    parts = flac_begins(read_at, size) if small or not (alone and ends) else ()
    return Claim(ends and alone and not parts, frames or None, parts=parts)


def _ends_with(read_at: ReadAt, size: int, last: int, largest: int) -> bool:
    """Return whether the frame of a number stands near the end of a file of FLAC."""
    number = _coded(last)
    tail = read_at(max(size - (largest or 1 << 16) - 1024, 0), size)
    at = tail.rfind(b"\xff\xf8")
    while at >= 0 and tail[at + 4 : at + 4 + len(number)] != number:
        at = tail.rfind(b"\xff\xf8", 0, at)
    return at >= 0


def _coded(number: int) -> bytes:
    """Return a number as FLAC writes it, in the manner of UTF-8."""
    if number < 0x80:
        return bytes([number])
    rest: list[int] = []
    while number >= 1 << (6 - len(rest)):
        rest.insert(0, 0x80 | number & 0x3F)
        number >>= 6
    return bytes([(0xFF << (7 - len(rest))) & 0xFF | number, *rest])


def _ogg(read_at: ReadAt, size: int) -> Claim:
    """Look whether the last page ends the stream that the first one begins.

    Of the last page, which usually holds fewer samples than its packets, libsndfile takes the wrong ones where it
    begins to read in it, if it is Vorbis.
    """
    first = read_at(0, 27 + 255)
    second = read_at(page_bytes(first), 6)
    for length in (1 << 13, 1 << 17):
        tail = read_at(max(size - length, 0), length)
        at = tail.rfind(b"OggS")
        before = tail.rfind(b"OggS", 0, max(at, 0))
        if before >= 0:
            break
    last = tail[at:] if at >= 0 else b""
    whole = len(last) > 27 and page_bytes(last) == len(last) and bool(last[5] & 4)
    alone = len(second) == 6 and not second[5] & 2 and first[14:18] == last[14:18]
    if alone:
        small = size <= LOOKED_THROUGH
        alone = ogg_begins_once(read_at, size) if small else numbers_rise(read_at, size, ogg_number)
    reach = None
    if b"vorbis" in first:
        reach = max(int.from_bytes(tail[before + 6 : before + 14], "little", signed=True) - 1, 0) if before >= 0 else 0
    return Claim(whole and alone, broken_off=not whole, reach=reach)


def _mp3(read_at: ReadAt, size: int) -> Claim:
    """Look for the frame that counts the others, and whether they are as many bytes as it says."""
    start = 0
    head = read_at(0, 10)
    while head[:3] == b"ID3" and len(head) == 10 and start < size:
        start += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        start += 10 if head[5] & 0x10 else 0
        head = read_at(start, 10)
    frame = read_at(start, 192)
    if len(frame) < 192 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:
        return UNSURE
    first_version, mono = frame[1] & 0x18 == 0x18, frame[3] & 0xC0 == 0xC0
    at = 4 + ((17 if mono else 32) if first_version else (9 if mono else 17))
    kind, flags = frame[at : at + 4], frame[at + 7]
    if kind not in (b"Xing", b"Info") or flags & 3 != 3:
        return UNSURE
    count, length = int.from_bytes(frame[at + 8 : at + 12]), int.from_bytes(frame[at + 12 : at + 16])
    encoder = at + 16 + (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    if frame[encoder : encoder + 4] not in ENCODERS or not count:
        return UNSURE
    padding = int.from_bytes(frame[encoder + 21 : encoder + 24])
    frames = count * (1152 if first_version else 576) - (padding >> 12) - max(padding & 0xFFF, DELAY)
    after = read_at(start + length, 11)
    return Claim(
        start + length <= size and (not after or after.startswith(TAGS)),
        frames,
        start + length > size,
        None if kind == b"Info" and length >= RESERVOIR * count else 0,
    )
