"""Files of all formats, made by FFmpeg as PyAV brings it, and the plain decode that readers are compared with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode(
    path: Path, samples: np.ndarray, rate: int, codec: str, late: float = 0.0, video: bool = False, **options: str
) -> None:
    """Write samples, (n, C), by an encoder of FFmpeg; the name of the path says the container.

    Args:
        path: of the file.
        samples: floats in -1 to 1.
        rate: Hz.
        codec: name of the encoder.
        late: seconds after which the sound begins.
        video: put a second of pictures before and beside it.
        options: of the encoder.
    """
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10) if video else None
        stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
        if pictures is not None:
            pictures.width = pictures.height = 32
            for number in range(40):
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 6 * number, np.uint8), "rgb24")
                picture.pts, picture.time_base = number, Fraction(1, 10)
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
        kind = stream.codec_context.format.name
        convert = av.AudioResampler(kind, layout, rate)
        for start in range(0, len(samples), 4096):
            block = np.ascontiguousarray(samples[start : start + 4096].T, np.float32)
            frame = av.AudioFrame.from_ndarray(block, "fltp", layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = start + round(late * rate)
            for part in convert.resample(frame):
                container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def decode(path: Path) -> tuple[np.ndarray, int]:
    """Decode a file packet by packet, (n, C) float32, and return its rate; packets that cannot be decoded are left."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        convert = av.AudioResampler("fltp")
        parts = []
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            parts += [part.to_ndarray() for frame in frames for part in convert.resample(frame)]
        return np.concatenate(parts, 1).T, stream.rate


def decibels(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the ratio of signal to difference over the shorter length."""
    length = min(len(expected), len(found))
    expected, found = expected[:length].astype(np.float64), found[:length].astype(np.float64)
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - found).sum(), 1e-20)))
