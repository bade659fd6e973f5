"""Perturbations of recordings that leave what is heard in them: level, silence around them, noise, codecs, ...

T samples of a recording, mono float32; T' samples after the perturbation.

`PERTURBATIONS` has all of them by name. Each is a pure function of the samples, the rate and, where something is drawn,
the clip's name, so that it is the same for every model of one sample rate and on every machine. It is applied to a
recording as the model gets it: one channel, at the model's rate.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from slap.audio.resample import resample
from slap.audio.sources import AudioStream, Content
from slap.core.units import Seconds


class Sound(NamedTuple):
    """A recording as a perturbation gets it.

    Attributes:
        samples: (T,) float32.
        rate: Hz.
        name: of the clip; noise is drawn by it.
    """

    samples: Tensor
    rate: int
    name: str = ""


def gain(sound: Sound, decibels: float, clip: bool = False) -> Tensor:
    """Multiply samples by a gain in dB.

    Args:
        sound: the recording.
        decibels: the gain.
        clip: limit the result to full scale, -1 to 1, as a recorder does. Otherwise the level alone changes, and
            samples may exceed full scale, which floating-point audio can (our choice, as distortion is another test).
    """
    louder = sound.samples * 10 ** (decibels / 20)
    return louder.clamp(-1, 1) if clip else louder


def silence(sound: Sound, lead: Seconds = 0.0, trail: Seconds = 0.0) -> Tensor:
    """Put digital silence before and after a recording."""
    return pad(sound.samples, (round(lead * sound.rate), round(trail * sound.rate)))


def white_noise(sound: Sound, snr: float, seed: int = 0) -> Tensor:
    """Add white Gaussian noise, drawn by the seed and the clip's name.

    Args:
        sound: the recording.
        snr: mean power of the recording over that of the noise, in dB.
        seed: seed of the noise.
    """
    digest = blake2b(f"{seed} {sound.name}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    noise = torch.randn(sound.samples.shape, generator=generator)
    return sound.samples + noise * sound.samples.square().mean().sqrt() * 10 ** (-snr / 20)


def narrow(sound: Sound, hertz: int) -> Tensor:
    """Resample to a lower rate and back; where the model's rate is no higher, nothing changes."""
    if hertz >= sound.rate:
        return sound.samples
    low = at_rate(sound.samples, sound.rate, hertz)
    return fitted(at_rate(low, hertz, sound.rate), len(sound.samples))


def first_part(sound: Sound, share: float) -> Tensor:
    """Return the first part of a recording, a share of its samples, 0 to 1, and at least one."""
    return sound.samples[: max(round(share * len(sound.samples)), 1)]


CODECS = {"mp3": ("libmp3lame", "mp3"), "opus": ("libopus", "ogg")}
"""FFmpeg's encoders and containers, by name."""

CODEC_RATE = 48_000
"""The rate of encoding, Hz, where a codec does not know the recording's own."""


def coded(sound: Sound, codec: str, bit_rate: int) -> Tensor:
    """Encode a recording by a lossy codec in memory, and decode it as `slap.audio` reads a file of it.

    Its length is kept, and samples beyond full scale are clipped.

    Args:
        sound: the recording.
        codec: a name in `CODECS`.
        bit_rate: bits per second.
    """
    import av  # it takes long to import

    encoder, container = CODECS[codec]
    rate = sound.rate if sound.rate in (av.Codec(encoder, "w").audio_rates or ()) else CODEC_RATE
    samples = at_rate(sound.samples, sound.rate, rate).clamp(-1, 1)
    frame = av.AudioFrame.from_ndarray(samples[None].numpy(), format="fltp", layout="mono")
    frame.sample_rate = rate
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(encoder, rate=rate, layout="mono")
        stream.bit_rate = bit_rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    decoded = Content(file, f"{sound.name} as {codec}").stream(sound.rate, f"{sound.name} as {codec}")
    return fitted(torch.from_numpy(np.concatenate(list(decoded.blocks()))), len(sound.samples))


def at_rate(samples: Tensor, rate: int, wanted: int) -> Tensor:
    """Resample (T,) from a rate to another, in Hz, as files are when they are read."""
    return torch.from_numpy(resample(samples.numpy(), rate, wanted))


def fitted(samples: Tensor, count: int) -> Tensor:
    """Return a number of samples: the first of them, with silence behind where there are fewer."""
    return pad(samples[:count], (0, max(count - len(samples), 0)))


PERTURBATIONS: Mapping[str, Callable[..., Tensor]] = {
    "gain": gain,
    "silence": silence,
    "white_noise": white_noise,
    "narrow": narrow,
    "first_part": first_part,
    "coded": coded,
}
"""All perturbations by name. The tasks `robust/...` evaluate under some conditions of each."""


@dataclass(frozen=True)
class Perturbation:
    """One condition under which recordings are evaluated.

    Attributes:
        name: of the condition among others, e.g. "-20dB".
        kind: the function's name in `PERTURBATIONS`.
        options: its arguments.

    Example:
        >>> Perturbation("-20dB", "gain", {"decibels": -20})(Sound(torch.ones(2), 16_000))
        tensor([0.1000, 0.1000])
    """

    name: str
    kind: str
    options: Mapping[str, Any]

    def __call__(self, sound: Sound) -> Tensor:
        """Return the samples, (T',), of a sound under this condition."""
        return PERTURBATIONS[self.kind](sound, **self.options)

    def of_stream(self, stream: AudioStream, rate: int, name: str) -> AudioStream:
        """Return a recording under this condition, read as a whole when its turn comes.

        Args:
            stream: the recording.
            rate: of its samples, Hz.
            name: of the clip.
        """

        def blocks() -> Iterator[np.ndarray]:
            if found := [block for block in stream.blocks() if len(block)]:
                yield self(Sound(torch.from_numpy(np.concatenate(found)), rate, name)).numpy()

        return AudioStream(stream.name, stream.samples, blocks, stream.close, stream.about)

    @property
    def key(self) -> str:
        """Name and arguments of the function, by which embeddings under this condition are kept on disk."""
        return f"{self.kind} {json.dumps(dict(self.options), sort_keys=True)}"
