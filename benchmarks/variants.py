"""A seeded random walk over files that FFmpeg's program writes: codec, container, rate, channels, the way it is made.

T frames, C channels.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATES = (8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MANY = (1, 2, 2, 6)
"""Numbers of channels to draw from."""

VIDEO = ("-f", "lavfi", "-i", "color=size=64x64:rate=25:duration=9")


@dataclass(frozen=True)
class Kind:
    """A codec in a container.

    Attributes:
        name: of the row in the table.
        suffix: of the file's name.
        muxer: FFmpeg's name of the container.
        options: of FFmpeg, for the codec.
        frame: samples of one packet of the codec, 1 where samples stand alone.
        rates: that the codec takes, Hz.
        channels: numbers of them that it takes.
        ways: of `WAYS`, those that make a valid file of this kind, beside `file` and `cut`.
        video: codec of the video for `late`.
        noisy: the decoder fills in random noise, which is another where it begins elsewhere.
        tells: the container says how long it is, or where it ends, so that it shows if a part is missing.
    """

    name: str
    suffix: str
    muxer: str
    options: tuple[str, ...]
    frame: int = 1
    rates: tuple[int, ...] = RATES
    channels: tuple[int, ...] = MANY
    ways: tuple[str, ...] = ("piped",)
    video: str = ""
    noisy: bool = False
    tells: bool = True


WAYS = {
    "file": "written to a file",
    "piped": "written to a pipe: no length in the header",
    "cut": "the first part of its bytes",
    "joined": "two files, one after the other",
    "joined, other rate": "two files of different rates, one after the other",
    "late": "audio that starts later than the video",
    "two tracks": "a second track of audio",
}

LOW = (8000, 11_025, 16_000, 22_050)
FILM = (32_000, 44_100, 48_000)
OPUS = (8000, 12_000, 16_000, 24_000, 48_000)
JOINED = ("piped", "joined", "joined, other rate")
SHOW = ("piped", "late", "two tracks")


SILENT = ("adts", "ac3", "eac3", "dts", "mp2", "mpeg", "mpegts")
"""Containers that are one packet after the other, of which nothing shows where the last one is."""


def _kinds() -> Iterator[Kind]:
    """Yield the kinds; those of one codec stand together."""

    def kind(name: str, suffix: str, muxer: str, codec: str, *more: str, **about: object) -> Kind:
        about.setdefault("noisy", codec in ("aac", "ac3", "eac3"))
        about.setdefault("tells", muxer not in SILENT)
        return Kind(f"{name} in {suffix}", suffix, muxer, ("-c:a", codec, *more), **about)  # type: ignore[arg-type]

    for coding in ("pcm_s16le", "pcm_u8", "pcm_s24le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw"):
        yield kind(coding, "wav", "wav", coding)
    two = {"channels": (1, 2)}
    yield kind("adpcm_ima_wav", "wav", "wav", "adpcm_ima_wav", frame=2041, **two)
    yield kind("adpcm_ms", "wav", "wav", "adpcm_ms", frame=2036, **two)
    yield kind("gsm", "wav", "wav", "libgsm_ms", frame=320, rates=(8000,), channels=(1,))
    yield kind("mp3", "wav", "wav", "libmp3lame", frame=1152, rates=FILM, **two)
    yield kind("pcm_s16le", "w64", "w64", "pcm_s16le")
    yield kind("pcm_s16le", "rf64", "wav", "pcm_s16le", "-rf64", "always", ways=())
    for coding in ("pcm_s16be", "pcm_s24be", "pcm_f32be"):
        yield kind(coding, "aiff", "aiff", coding, ways=())
    yield kind("pcm_s16be", "au", "au", "pcm_s16be")
    yield kind("pcm_mulaw", "au", "au", "pcm_mulaw")
    yield kind("pcm_s16le", "caf", "caf", "pcm_s16le", ways=())
    yield kind("alac", "caf", "caf", "alac", frame=4096, channels=(1, 2), ways=())
    yield kind("flac", "flac", "flac", "flac", frame=4608)
    yield kind("flac, 24 bit", "flac", "flac", "flac", "-sample_fmt", "s32", frame=4608)
    yield kind("flac", "oga", "oga", "flac", frame=4608, ways=JOINED)
    yield kind("vorbis", "ogg", "ogg", "libvorbis", frame=2048, ways=JOINED)
    yield kind("opus", "opus", "opus", "libopus", frame=960, rates=OPUS, ways=("piped", "joined"))
    yield kind("opus, long packets", "opus", "opus", "libopus", "-frame_duration", "60", frame=2880, rates=OPUS)
    yield kind("speex", "spx", "spx", "libspeex", frame=640, rates=(8000, 16_000, 32_000), **two)
    mpeg = {"frame": 1152, "rates": (16_000, 22_050, 24_000, 32_000, 44_100, 48_000), "channels": (1, 2)}
    yield kind("mp3, constant", "mp3", "mp3", "libmp3lame", "-b:a", "64k", **mpeg, ways=JOINED)
    yield kind("mp3, variable", "mp3", "mp3", "libmp3lame", "-q:a", "4", **mpeg, ways=JOINED)
    yield kind(
        "mp3, no Xing", "mp3", "mp3", "libmp3lame", "-q:a", "4", "-write_xing", "0", **mpeg, tells=False, ways=JOINED
    )
    yield kind("mp3, 8 kHz", "mp3", "mp3", "libmp3lame", frame=576, rates=(8000, 11_025), **two)
    yield kind("mp2", "mp2", "mp2", "mp2", **mpeg, ways=JOINED)
    yield kind("aac", "aac", "adts", "aac", frame=1024, ways=JOINED)
    for suffix, muxer in (("m4a", "ipod"), ("mp4", "mp4"), ("mov", "mov"), ("3gp", "3gp")):
        many = (1, 2) if suffix == "3gp" else MANY
        yield kind("aac", suffix, muxer, "aac", frame=1024, channels=many, ways=SHOW, video="mpeg4")
    yield kind("alac", "m4a", "ipod", "alac", frame=4096)
    yield kind("opus", "mp4", "mp4", "libopus", frame=960, rates=(48_000,), **two)
    yield kind("flac", "mp4", "mp4", "flac", "-strict", "-2", frame=4608)
    yield kind("mp3", "mp4", "mp4", "libmp3lame", **mpeg)
    yield kind("pcm_s16le", "mov", "mov", "pcm_s16le", ways=SHOW, video="mpeg4")
    yield kind("opus", "webm", "webm", "libopus", frame=960, rates=OPUS, **two, ways=SHOW, video="libvpx")
    yield kind("vorbis", "webm", "webm", "libvorbis", frame=2048, ways=SHOW, video="libvpx")
    yield kind("vorbis", "mka", "matroska", "libvorbis", frame=2048)
    yield kind("flac", "mka", "matroska", "flac", frame=4608)
    yield kind("aac", "mkv", "matroska", "aac", frame=1024, ways=SHOW, video="mpeg4")
    yield kind("mp3", "mkv", "matroska", "libmp3lame", **mpeg)
    yield kind("ac3", "mkv", "matroska", "ac3", frame=1536, rates=FILM, ways=SHOW, video="mpeg4")
    yield kind("pcm_s16le", "mkv", "matroska", "pcm_s16le")
    yield kind("ac3", "ac3", "ac3", "ac3", frame=1536, rates=FILM, ways=JOINED)
    yield kind("eac3", "eac3", "eac3", "eac3", frame=1536, rates=FILM, ways=JOINED)
    yield kind("dts", "dts", "dts", "dca", "-strict", "-2", frame=512, rates=FILM, channels=(2, 6), ways=("joined",))
    yield kind("wmav2", "wma", "asf", "wmav2", frame=2048, **two)
    yield kind("wmav1", "wma", "asf", "wmav1", frame=2048, rates=LOW, **two)
    yield kind("wavpack", "wv", "wv", "wavpack", frame=22_050, ways=("piped", "joined"))
    yield kind("wavpack, float", "wv", "wv", "wavpack", "-sample_fmt", "fltp", frame=22_050)
    yield kind("tta", "tta", "tta", "tta", frame=50_000)
    yield kind("mp3", "avi", "avi", "libmp3lame", **{**mpeg, "rates": FILM}, ways=())
    yield kind("aac", "flv", "flv", "aac", frame=1024, rates=(44_100,), ways=SHOW[:2], video="flv")
    yield kind("mp2", "mpg", "mpeg", "mp2", frame=1152, rates=FILM, **two, ways=SHOW, video="mpeg1video")
    yield kind("ac3", "m2ts", "mpegts", "ac3", frame=1536, rates=FILM, ways=SHOW, video="mpeg2video")
    yield kind("wmav2", "wmv", "asf", "wmav2", frame=2048, rates=FILM, **two, ways=("late",), video="wmv2")


KINDS = tuple(_kinds())


@dataclass(frozen=True)
class Variant:
    """A file of the walk.

    Attributes:
        kind: codec and container.
        way: of `WAYS`.
        rate: Hz.
        channels: C.
        seconds: of sound that is encoded.
        share: of the bytes that are kept where it is cut; seconds that the audio is late, as a share of three.
        seed: of the sound.
    """

    kind: Kind
    way: str
    rate: int
    channels: int
    seconds: float
    share: float
    seed: int

    def __str__(self) -> str:
        """Return a name by which the variant is found again."""
        share = f" {self.share:.2f}" if self.way in ("cut", "late") else ""
        return f"{self.kind.name}, {self.way}{share}, {self.rate} Hz x {self.channels}, {self.seconds:.2f} s"

    @property
    def late(self) -> float:
        """Seconds by which the audio starts after the video."""
        return round(3 * self.share, 2) if self.way == "late" else 0.0


def walk(count: int, seed: int) -> Iterator[Variant]:
    """Yield random variants, as many of each kind, to within one."""
    rng = random.Random(seed)
    for number in range(count):
        turn, place = divmod(number, len(KINDS))
        kind = KINDS[place]
        ways = ("file", "cut", *kind.ways)
        way = ways[(turn + place) % len(ways)]  # each kind goes through its ways; everything else is drawn
        seconds = round(rng.choice((rng.uniform(0.1, 0.5), rng.uniform(1, 6), rng.uniform(1, 6), 40.0)), 2)
        rate, channels = rng.choice(kind.rates), rng.choice(kind.channels)
        yield Variant(kind, way, rate, channels, seconds, round(rng.uniform(0.2, 0.95), 2), rng.randrange(2**31))


def make(variant: Variant, folder: Path) -> Path:
    """Write a variant, `folder/NAME.SUFFIX`, and return its path.

    Raises:
        subprocess.CalledProcessError: FFmpeg does not write this.
    """
    kind, path = variant.kind, folder / f"variant.{variant.kind.suffix}"
    source = ["-f", "f32le", "-ar", str(variant.rate), "-ac", str(variant.channels), "-i", "pipe:0"]
    audio = ["-map", "0:a", *kind.options]
    if variant.way == "late":
        shift = ["-itsoffset", str(variant.late)]
        _ffmpeg(
            variant, [*VIDEO, *shift, *source, "-map", "0:v", "-c:v", kind.video, "-map", "1:a", *kind.options], path
        )
    elif variant.way == "two tracks":
        second = ["-f", "lavfi", "-i", f"sine=frequency=300:sample_rate={variant.rate}:duration=3"]
        _ffmpeg(variant, [*source, *second, *audio, "-map", "1:a"], path)
    elif variant.way == "piped":
        fragments = ["-movflags", "frag_keyframe+empty_moov"] if kind.muxer in ("ipod", "mp4", "mov", "3gp") else []
        path.write_bytes(_ffmpeg(variant, [*source, *audio, *fragments], None))
    else:
        _ffmpeg(variant, [*source, *audio], path)
    if variant.way == "cut":
        raw = path.read_bytes()
        path.write_bytes(raw[: max(round(len(raw) * variant.share), 1)])
    elif variant.way.startswith("joined"):
        first = path.read_bytes()
        other = variant.kind.rates[(variant.kind.rates.index(variant.rate) + 1) % len(variant.kind.rates)]
        resampled = ["-ar", str(other)] if variant.way == "joined, other rate" else []
        _ffmpeg(variant, [*source, *audio, *resampled], path)
        path.write_bytes(first + path.read_bytes())
    return path


def sound(variant: Variant) -> np.ndarray:
    """Return (T, C) float32, noise whose level and color change, so that no part is like another."""
    rng = np.random.default_rng(variant.seed)
    frames = round(variant.seconds * variant.rate)
    noise = rng.normal(size=(frames, variant.channels))
    noise[1:] += 0.9 * noise[:-1]
    level = np.interp(np.linspace(0, 1, frames), np.linspace(0, 1, 12), rng.uniform(0.02, 0.12, 12))
    return np.clip(noise * level[:, None], -0.9, 0.9).astype("<f4")


def _ffmpeg(variant: Variant, options: list[str], out: Path | None) -> bytes:
    target = ["-f", variant.kind.muxer, str(out) if out else "pipe:1"]
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *options, *target]
    return subprocess.run(command, input=sound(variant).tobytes(), capture_output=True, check=True).stdout
