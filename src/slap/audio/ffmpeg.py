"""The second decoder: FFmpeg, as PyAV brings it, for every container and codec of sound that libsndfile is not sure of.

FFmpeg is given an open file, and opens nothing else: playlists and scripts of other files are no format of `FORMATS`,
and there is no protocol by which it could open one. Packets that are damaged are counted, and are silence, so that what
follows keeps its time. All others are decoded, to the end of the file, whatever its header says of its length.

PyAV is imported with the first file that needs it.

T frames, C channels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from slap.audio.claims import Claim
from slap.audio.packets import holds_no_sound, land, packets_of
from slap.core.errors import UserError
from slap.core.units import Seconds

FORMATS = (
    *("aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "dtshd", "eac3"),
    *("flac", "flv", "loas", "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "nut", "ogg", "oma", "rm"),
    *("shn", "tak", "truehd", "tta", "voc", "w64", "wav", "wv", "xwma"),
)
"""FFmpeg's names of the containers that are opened. Each holds its sound itself; none names other files."""

UNKNOWN = "no format of sound is found in it; wav, flac, mp3, ogg, opus, m4a, webm, wma and most others are read"

DECLARING = ("aiff", "ape", "au", "avi", "caf", "flac", "mov", "tak", "tta", "w64", "wv")
"""Containers whose header declares the length; of others FFmpeg estimates it, or takes it from the end of the file."""

COMMON = ("flv", "matroska")
"""Containers whose header declares one length for all that is in them."""

TIME = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
"""The time of a tag of Matroska that gives the length of one track."""

NEAR = 10
"""Seconds up to which all before a place is decoded too: decoders of AAC and AC-3 draw random noise as they go on."""

LEAD = 1
"""Seconds that are decoded before a place that is farther away: after them decoders have settled."""

FORGETFUL = (
    *("aac", "alac", "ape", "dca", "flac", "libopus", "libspeex"),
    *("mlp", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "speex", "tak", "truehd", "tta"),
    *("vorbis", "wavpack", "wmav1", "wmav2"),
)
"""Decoders that soon forget what was before, but for the noise of AAC; of others everything is decoded."""

GAP = 0.05
"""Seconds without a packet from which on something is missing in Ogg."""

SCALES = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31, "s64": 1 << 63}
"""Full scale of FFmpeg's formats of whole numbers."""


class FfmpegFile:
    """An open file, see `slap.audio.decoders.Decoder`.

    Args:
        source: a path, or an open file, which is read from its beginning.
        claim: of its header.

    Raises:
        UserError: there is no sound in it.
        Exception: whatever PyAV raises.
    """

    def __init__(self, source: str | BinaryIO, claim: Claim) -> None:
        self._bytes: BinaryIO = Path(source).open("rb") if isinstance(source, str) else source  # noqa: SIM115
        self._parts = claim.parts
        self._owned = isinstance(source, str)
        self._container: Any = None
        self.samplerate = self.channels = 0
        self._first: Seconds | None = None  # time of the first frame
        try:
            self.broken_off = claim.broken_off
            self._start()
            first = next(self._blocks, None)
            self.exact = first is None
            self._held += [] if first is None else [first]
            self.frames = 0 if self.exact else self._hint()
            self.declared = claim.frames or self._declared()
            self.begins = self._begins()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        """Open the file, at its first packet."""
        if self._container is not None:
            self._container.close()
        container = self._container = _container(_Nameless(self._bytes, 0, self._parts[0] if self._parts else None))
        self._stream = container.streams.best("audio")
        if self._stream is None:
            raise UserError("there is no sound in it" if not container.streams.audio else "its sound has no channels")
        context = self._stream.codec_context
        if context is None:
            raise UserError("FFmpeg has no decoder for its sound")
        context.thread_count = 1
        self.lossy = not context.codec.lossless
        if not self.samplerate:
            self._take(context)
        self.damaged, self.missing = 0, 0.0
        self._at = 0
        self._blocks = self._decoded(packets_of(container, self._stream), joined=self._parts)
        self._held: list[np.ndarray] = []

    def _take(self, sound: Any) -> None:
        """Take rate and channels from the first frame, and until then from the container, which may mean later ones."""
        self.samplerate, self.layout, self.channels = sound.sample_rate, sound.layout, sound.layout.nb_channels

    def _hint(self) -> int:
        """Return T by the header, or as FFmpeg estimates it; 0 if neither is known."""
        ticks, unit = self._stream.duration, self._stream.time_base
        if not ticks:
            ticks, unit = self._container.duration, Fraction(1, 1_000_000)
        return round(ticks * unit * self.samplerate) if ticks else 0

    def _declared(self) -> int | None:
        """Return T as the header declares it; None where it does not, or only for sound and pictures together."""
        container, own = self._container.format.name.split(",")[0], self._stream.duration
        if container not in COMMON:
            return self.frames if container in DECLARING and own else None
        tag = TIME.fullmatch(self._stream.metadata.get("DURATION", ""))
        if tag:
            hours, minutes, seconds = map(Fraction, tag.groups())
            end = hours * 3600 + minutes * 60 + seconds
        elif own or sum(not _is_cover(stream) for stream in self._container.streams) > 1:  # its own is an estimate
            return None
        else:
            end = Fraction(self._container.duration or 0, 1_000_000)
        return round((end - Fraction(self._first or 0)) * self.samplerate) if end else None

    def _begins(self) -> Seconds:
        """Return the time of the first sample after the first picture, if there are pictures."""
        videos = [video for video in self._container.streams.video if not _is_cover(video)]
        times = [float(video.start_time * video.time_base) for video in videos if video.start_time is not None]
        return max((self._first or 0.0) - min(times), 0.0) if times else 0.0

    def _decoded(
        self, packets: Iterator[Any], frames: Sequence[Any] = (), joined: Sequence[int] = ()
    ) -> Iterator[np.ndarray]:
        """Yield (n, C) float32 of some frames that are decoded, of the packets after them, and of files joined."""
        convert = _Converter(self)
        for frame in chain(frames, self._frames(packets), self._joined(joined)):
            if self._first is None:
                self._first = frame.time or 0.0
                self._take(frame)
            yield from convert(frame)
        yield from convert(None)

    def _frames(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield FFmpeg's frames; packets that cannot be decoded are counted, and silence where others follow."""
        from av.error import FFmpegError

        last, silent = None, 0
        while True:
            packet = None
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except EOFError:
                return
            except FFmpegError:
                if packet is None:
                    self.broken_off = True
                    return
                if holds_no_sound(packet, self._stream.codec.name):
                    continue
                self.damaged, silent = self.damaged + 1, silent + 1
                continue
            if packet is None:
                return
            if frames and last is not None:  # else what is damaged is the beginning or the end
                yield from (_silent(last) for _ in range(silent))
            silent = 0 if frames else silent
            for frame in frames:
                self.missing += self._gap(last, frame)
                last = frame
                yield frame

    def _gap(self, last: Any, frame: Any) -> Seconds:
        """Return the time between two frames of Ogg: pages that are damaged are passed over without a word."""
        if last is None or None in (last.pts, frame.pts) or self._container.format.name != "ogg":
            return 0.0
        gap = float((frame.pts - last.pts) * frame.time_base) - last.samples / last.sample_rate
        return gap if gap > GAP else 0.0

    def _joined(self, begins: Sequence[int]) -> Iterator[Any]:
        """Yield FFmpeg's frames of the files that begin in some places, each by a decoder of its own.

        FFmpeg takes them for one file, whose frames then have wrong numbers, and loses one of each.
        """
        for begin, end in zip(begins, (*begins, None)[1:], strict=True):
            try:
                container = _container(_Nameless(self._bytes, begin, end))
            except UserError:
                self.broken_off = True
                return
            with container:
                stream = container.streams.best("audio")
                stream.codec_context.thread_count = 1
                yield from self._frames(packets_of(container, stream))

    def seek(self, frame: int) -> int:
        """Read from a frame on, with the same samples as if all before it were decoded."""
        near = NEAR * self.samplerate
        if frame < self._at or frame - self._at > near:
            self._start()
            if frame > near and not self._land(frame):
                self._start()
        self._skip(frame)
        return frame

    def length(self) -> int:
        """Return T, of which only the end is decoded where the packets can be counted."""
        beyond = max(self.frames - 2 * LEAD * self.samplerate, 0)
        self._start()
        if beyond and self._land(beyond) and self.read(1 << 10).size:
            self._skip(None)
            return self._at
        self._start()
        self._skip(None)
        return self._at

    def _land(self, frame: int) -> bool:
        """Go to a place that lies before a frame without decoding what is before it, if that can be found."""
        from av.error import FFmpegError

        name = self._stream.codec.name
        if self._parts or not (name in FORGETFUL or name.startswith("pcm_")):
            return False
        try:
            found = land(self._container, self._stream, frame, LEAD * self.samplerate)
        except (FFmpegError, EOFError):
            return False
        if found is not None:
            self._at, self._blocks = found.position, self._decoded(found.packets, found.frames)
        return found is not None

    def _skip(self, frame: int | None) -> None:
        """Decode up to a frame, or to the end, and drop it."""
        while (frame is None or self._at < frame) and self.read(min((frame or 1 << 62) - self._at, 1 << 16)).size:
            pass

    def read(self, frames: int) -> np.ndarray:
        """Decode (frames, C) float32 from here on, fewer where the file ends."""
        parts, missing = [np.zeros((0, self.channels), np.float32)], frames
        while missing:
            block = self._held.pop() if self._held else next(self._blocks, None)
            if block is None:
                break
            if len(block) > missing:
                self._held.append(block[missing:])
                block = block[:missing]
            parts.append(block)
            missing -= len(block)
        self._at += frames - missing
        return np.concatenate(parts)

    def close(self) -> None:
        """Close the file, unless it was open before."""
        if self._container is not None:
            self._container.close()
        if self._owned:
            self._bytes.close()


def _container(file: _Nameless) -> Any:
    """Open a container that holds sound, and nothing else."""
    import av

    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": ""}
    try:
        return av.open(file, metadata_errors="ignore", options=options)
    except (av.error.InvalidDataError, av.error.ArgumentError, EOFError) as error:
        raise UserError(UNKNOWN) from error


class _Nameless:
    """A part of an open file, without its name.

    By a name FFmpeg could take it for another format, or find files beside it.

    Args:
        file: the file.
        begin: of the part, in bytes.
        end: of the part; None is that of the file.
    """

    def __init__(self, file: BinaryIO, begin: int, end: int | None) -> None:
        self._file, self._begin, self._end = file, begin, end
        file.seek(begin)

    def read(self, count: int) -> bytes:
        """Read some bytes, fewer at the end."""
        left = count if self._end is None else min(count, self._end - self._file.tell())
        return self._file.read(max(left, 0))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the beginning of the part."""
        if whence == os.SEEK_END and self._end is not None:
            offset, whence = self._end - self._begin + offset, os.SEEK_SET
        return self._file.seek(offset + (self._begin if whence == os.SEEK_SET else 0), whence) - self._begin

    def tell(self) -> int:
        """Return the place, counted from the beginning of the part."""
        return self._file.tell() - self._begin


class _Converter:
    """From FFmpeg's frames to (n, C) float32 of one rate and one number of channels.

    In a file of several streams one after the other these may change; the later ones are resampled and mixed to what
    the first one has, as FFmpeg's own command does.
    """

    def __init__(self, file: FfmpegFile) -> None:
        self._file = file
        self._resampler: Any = None
        self._kind: tuple[Any, ...] = ()

    def __call__(self, frame: Any) -> Iterator[np.ndarray]:
        """Convert a frame; None is the end."""
        kind = () if frame is None else (frame.sample_rate, frame.layout.name, frame.format.name)
        if kind != self._kind:
            if self._resampler is not None:
                yield from map(_samples, self._resampler.resample(None))
            self._kind, self._resampler = kind, None
            file = self._file
            if frame is not None and (frame.sample_rate, frame.layout.nb_channels) != (file.samplerate, file.channels):
                self._resampler = self._new()
        if frame is None:
            return
        if self._resampler is None:
            yield _samples(frame)
        else:
            frame.pts = None
            yield from map(_samples, self._resampler.resample(frame))

    def _new(self) -> Any:
        from av import AudioResampler

        return AudioResampler("fltp", self._file.layout, self._file.samplerate)


def _samples(frame: Any) -> np.ndarray:
    """Return the samples of FFmpeg's frame, (n, C) float32."""
    values = frame.to_ndarray()
    kind = frame.format.name
    samples = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    scale = SCALES.get(kind.removesuffix("p"))
    if scale is None:
        return np.ascontiguousarray(samples, np.float32)
    samples = samples.astype(np.float32) if scale == SCALES["s16"] else samples.astype(np.float64)
    return np.ascontiguousarray((samples - (scale if kind.startswith("u") else 0)) / scale, np.float32)


def _silent(frame: Any) -> Any:
    """Return a frame of silence like another one, that follows it."""
    from av import AudioFrame

    made = AudioFrame(frame.format.name, frame.layout.name, frame.samples)
    made.sample_rate, made.time_base = frame.sample_rate, frame.time_base
    for plane in made.planes:
        plane.update((b"\x80" if frame.format.name.startswith("u8") else b"\0") * plane.buffer_size)
    return made


def _is_cover(stream: Any) -> bool:
    """Tell if a stream is the cover of a piece of music."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)
