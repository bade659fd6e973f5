"""Places in a file that FFmpeg reads, found by counting its packets, which are not decoded.

FFmpeg itself finds places by times that are estimated in some formats, and rounded in others. Where all packets of a
file hold equally many samples, the number of a packet says exactly which samples it holds. Everything that hints at an
exception makes the file one whose packets cannot be counted.

F samples per packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import Any, NamedTuple

PROBE = 6
"""Packets that are decoded to learn how many samples each holds."""


class Landing(NamedTuple):
    """A place in a file.

    Attributes:
        position: number of the first sample of `frames` among all that are decoded.
        frames: the first that are decoded there.
        packets: those after them.
    """

    position: int
    frames: list[Any]
    packets: Iterator[Any]


class Grid(NamedTuple):
    """The packets of a file that hold equally many samples each.

    Attributes:
        number: of one packet, counted from 0.
        time: of that packet, in units of the container.
        position: number of its first sample.
        size: F.
        step: units from a packet to the next.
    """

    number: int
    time: int
    position: int
    size: int
    step: Fraction

    def fits(self, number: int, time: int | None) -> bool:
        """Tell if a packet has the time that its number says, up to the rounding of the container."""
        if time is None:
            return False
        away = abs(time - self.time - (number - self.number) * self.step)
        return not away if self.step.denominator == 1 else away <= 1


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a file that was just opened.

    FFmpeg 8 counts the samples that an encoder of Opus put before the sound at another rate in Matroska.
    """
    packets = container.demux(stream)
    first = next(packets, None)
    if first is None:
        return
    about = stream.codec_context.extradata or b""
    if about[:8] == b"OpusHead" and first.has_sidedata("skip_samples"):
        skipped = first.get_sidedata("skip_samples")
        skipped.update(about[10:12] + bytes(2) + bytes(skipped)[4:])
        first.set_sidedata(skipped)
    yield first
    yield from packets


def holds_no_sound(packet: Any, codec: str) -> bool:
    """Tell if a packet of MP3 is a tag, or counts the frames of a file that was joined to another."""
    start = bytes(packet)[:192] if codec.startswith("mp3") else b""
    return start.startswith((b"ID3", b"TAG", b"APETAGEX")) or any(mark in start for mark in (b"Xing", b"Info", b"VBRI"))


def land(container: Any, stream: Any, frame: int, lead: int) -> Landing | None:
    """Find a place that lies before a sample, in a file that was just opened.

    Args:
        container: the file.
        stream: its sound.
        frame: number of the sample.
        lead: number of samples to decode before it, which decoders need to settle.

    Returns:
        The place; None if the packets cannot be counted, or do not reach so far.
    """
    packets = packets_of(container, stream)
    grid = _grid(packets, stream)
    if grid is None:
        return None
    wanted = grid.number + (frame - lead - grid.position) // grid.size
    if wanted <= PROBE:
        return None
    found = _by_index(container, stream, grid, wanted) or _by_counting(packets, grid, wanted, stream.codec.name)
    if found is None:
        return None
    stream.codec_context.flush_buffers()
    return _landed(grid, *found)


def _grid(packets: Iterator[Any], stream: Any) -> Grid | None:
    numbers: dict[int | None, int] = {}
    frames: list[tuple[int | None, int, int]] = []
    at = 0
    for number, packet in enumerate(islice(packets, PROBE)):
        numbers[packet.pts] = number
        for frame in packet.decode():
            if frame.sample_rate != stream.codec_context.sample_rate:
                return None
            frames.append((frame.pts, at, frame.samples))
            at += frame.samples
    if len(frames) < 3 or None in numbers or len(numbers) < PROBE or frames[-1][2] != frames[-2][2]:
        return None
    time, position, size = frames[-1]
    if time is None or time not in numbers or numbers.get(frames[-2][0]) != numbers[time] - 1:
        return None
    step = Fraction(size, stream.codec_context.sample_rate) / stream.time_base
    grid = Grid(numbers[time], time, position, size, step)
    return grid if grid.fits(numbers[frames[-2][0]], frames[-2][0]) else None


def _by_index(container: Any, stream: Any, grid: Grid, wanted: int) -> tuple[int, Any, Iterator[Any]] | None:
    """Go to a packet by the container's own list of packets, if that has all of them."""
    from av.error import FFmpegError

    index = stream.index_entries
    if grid.step.denominator > 1 or len(index) <= wanted:
        return None
    if index[wanted].timestamp - index[0].timestamp != wanted * grid.step:
        return None
    try:
        container.seek(index[wanted].timestamp, stream=stream)
    except FFmpegError:  # FFmpeg refuses it in some MPEG-4
        return None
    packets = container.demux(stream)
    packet = next(packets, None)
    if packet is None or packet.pts is None:
        return None
    number = grid.number + (packet.pts - grid.time) // int(grid.step)
    return (number, packet, packets) if number <= wanted and grid.fits(number, packet.pts) else None


def _by_counting(packets: Iterator[Any], grid: Grid, wanted: int, codec: str) -> tuple[int, Any, Iterator[Any]] | None:
    """Pass over the packets before one."""
    for number, packet in enumerate(packets, PROBE):
        if not grid.fits(number, packet.pts) or packet.has_sidedata("skip_samples") or holds_no_sound(packet, codec):
            return None
        if number == wanted:
            return number, packet, packets
    return None


def _landed(grid: Grid, number: int, packet: Any, packets: Iterator[Any]) -> Landing | None:
    """Decode from a packet on until there are samples."""
    from av.error import FFmpegError

    numbers: dict[int | None, int] = {}
    while packet is not None:
        numbers[packet.pts] = number
        try:
            frames = packet.decode()
        except FFmpegError:  # it needs those before it
            frames = []
        if frames:
            first = frames[0]
            if first.samples != grid.size or first.pts not in numbers:
                return None
            return Landing(grid.position + (numbers[first.pts] - grid.number) * grid.size, frames, packets)
        packet, number = next(packets, None), number + 1
    return None
