"""A video whose audio starts late, as PyAV writes it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def late_video(path: Path, samples: np.ndarray, rate: int, late: float, seconds: float) -> Path:
    """A Matroska file with pictures from 0 to `seconds`, and samples, (T,), as PCM from `late` on."""
    with av.open(str(path), "w", format="matroska") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        packets = []
        for number in range(round(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number % 255, np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += video.encode(frame)
        packets += video.encode(None)
        pcm = np.rint(samples * 32767).astype(np.int16)
        for start in range(0, len(pcm), rate // 10):
            frame = av.AudioFrame.from_ndarray(pcm[None, start : start + rate // 10], "s16", "mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(late * rate) + start
            packets += audio.encode(frame)
        for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
            container.mux(packet)
    return path
