"""Synthesis of twelve kinds of sound with random pitch, rate and loudness.

T samples at `RATE`, in single precision, in which numpy is several times faster. All of this is our own choice:
the paper trains on recordings that were never published.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.scenes.questions import RATE

Sound = NDArray[np.float32]

FADE: Seconds = 0.005
"""Duration of the fade-in and fade-out of each sound, which avoid clicks."""


def synthesize(kind: str, seconds: Seconds, rng: Generator) -> Sound:
    """Synthesize a sound.

    Args:
        kind: a key of `SOUNDS`.
        seconds: duration of the sound.
        rng: generator for pitch, rate, loudness and noise.

    Returns:
        (T,) waveform with a peak between 0.25 and 0.8.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in SOUNDS:
        raise UserError(f"there is no sound of kind {kind!r}; valid are: {', '.join(SOUNDS)}")
    sound = SOUNDS[kind](_times(seconds), rng)
    edge = min(round(FADE * RATE), len(sound) // 2)
    ramp = np.linspace(0, 1, edge, dtype=np.float32)
    sound[:edge] *= ramp
    sound[len(sound) - edge :] *= ramp[::-1]
    return sound * np.float32(rng.uniform(0.25, 0.8) / max(np.abs(sound).max(), 1e-9))


def beep(t: Sound, rng: Generator) -> Sound:
    """Synthesize a steady sine between 500 and 1500 Hz."""
    return _tone(np.full_like(t, rng.uniform(500, 1500)))


def rising(t: Sound, rng: Generator) -> Sound:
    """Synthesize a sine that rises by one and a half to three octaves."""
    return _tone(rng.uniform(250, 500) * np.exp2(rng.uniform(1.5, 3) / t[-1] * t))


def falling(t: Sound, rng: Generator) -> Sound:
    """Synthesize a sine that falls by one and a half to three octaves."""
    return _tone(rng.uniform(250, 500) * np.exp2(rng.uniform(1.5, 3) / t[-1] * t[::-1]))


def hiss(t: Sound, rng: Generator) -> Sound:
    """Synthesize noise above 2 to 4 kHz."""
    return _noise(t, rng, rng.uniform(2000, 4000), RATE / 2)


def rumble(t: Sound, rng: Generator) -> Sound:
    """Synthesize noise below 120 to 220 Hz that swells and ebbs."""
    swell = 1 + 0.6 * np.sin(2 * np.pi * rng.uniform(1, 3) * t + rng.uniform(0, 2 * np.pi))
    return swell * _noise(t, rng, 30, rng.uniform(120, 220))


def ticking(t: Sound, rng: Generator) -> Sound:
    """Synthesize dry clicks, six to ten per second."""
    pitch = rng.uniform(2500, 5000)
    return _strikes(t, rng.uniform(6, 10), lambda u: np.cos(2 * np.pi * pitch * u) * np.exp(-u / 0.002))


def bell(t: Sound, rng: Generator) -> Sound:
    """Synthesize inharmonic partials that are struck once and ring out; the high ones decay first."""
    pitch, ring, u = rng.uniform(350, 700), t[-1] * rng.uniform(0.4, 0.5), np.clip(t - FADE, 0, None)
    ratios = (1.0, 2.76, 5.40, 8.93)  # of a bar that is free at both ends
    return sum((np.sin(2 * np.pi * pitch * r * u) * np.exp(-u * r**0.5 / ring) / r**0.5 for r in ratios), 0 * u)


def siren(t: Sound, rng: Generator) -> Sound:
    """Synthesize a tone with overtones whose pitch swings up and down, three to five times per second."""
    swing = np.sin(2 * np.pi * rng.uniform(3, 5) * t + rng.uniform(0, 2 * np.pi))
    cycles = _cycles(rng.uniform(700, 1000) * np.exp2(0.5 * swing))
    return _sine(cycles) + 0.5 * _sine(2 * cycles) + 0.3 * _sine(3 * cycles)


def bird(t: Sound, rng: Generator) -> Sound:
    """Synthesize short high chirps, four to seven per second, each falling from above 4 kHz."""
    rate, pitch = rng.uniform(4, 7), rng.uniform(3500, 4500)
    within = (t * rate) % 1
    return _tone(pitch * (1.5 - 0.8 * within)) * np.clip(np.sin(np.pi * within / 0.6), 0, None) * (within < 0.6)


def buzz(t: Sound, rng: Generator) -> Sound:
    """Synthesize a sawtooth of 90 to 180 Hz with a slight vibrato."""
    pitch = rng.uniform(90, 180) * (1 + 0.02 * np.sin(2 * np.pi * rng.uniform(4, 8) * t))
    return (2 * (_cycles(pitch) % 1) - 1).astype(np.float32)


def knock(t: Sound, rng: Generator) -> Sound:
    """Synthesize thuds on wood, about five per second."""
    pitch = rng.uniform(180, 320)
    return _strikes(t, rng.uniform(4.5, 6), lambda u: np.sin(2 * np.pi * pitch * u) * np.exp(-u / 0.02))


def bubbles(t: Sound, rng: Generator) -> Sound:
    """Synthesize many small damped drops at irregular times, each rising in pitch as bubbles in water do."""
    sound = np.zeros_like(t)
    for start in np.arange(0, t[-1], 0.05) + rng.uniform(0, 0.05):
        begin = round((start + rng.uniform(0, 0.04)) * RATE)
        u = t[: max(0, min(2000, len(t) - begin))]  # 125 ms, after which a drop is inaudible
        drop = np.sin(2 * np.pi * rng.uniform(500, 1600) * u * (1 + 6 * u)) * np.exp(-u / 0.025)
        sound[begin : begin + len(u)] += rng.uniform(0.3, 1) * drop
    return sound


SOUNDS: dict[str, Callable[[Sound, Generator], Sound]] = {
    sound.__name__: sound
    for sound in (beep, rising, falling, hiss, rumble, ticking, bell, siren, bird, buzz, knock, bubbles)
}
"""Every kind of sound: its name, and the function from times in seconds, (T,), to a waveform, (T,)."""


def _times(seconds: Seconds) -> Sound:
    return np.arange(max(2, round(seconds * RATE))).astype(np.float32) / np.float32(RATE)


def _cycles(frequency: Sound) -> NDArray[np.float64]:
    """Return the phase in cycles, (T,), of a frequency in Hz at each sample; in double precision, as it gets large."""
    return np.cumsum(frequency, dtype=np.float64) / RATE


def _sine(cycles: NDArray[np.float64]) -> Sound:
    return np.sin(2 * np.pi * (cycles - np.floor(cycles)).astype(np.float32))


def _tone(frequency: Sound) -> Sound:
    return _sine(_cycles(frequency))


def _noise(t: Sound, rng: Generator, low: float, high: float) -> Sound:
    """Return white noise within low to high Hz."""
    size = 1 << (len(t) - 1).bit_length()  # transforms of powers of two are fast
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    return np.fft.irfft(spectrum * ((frequency >= low) & (frequency <= high)))[: len(t)].astype(np.float32)


def _strikes(t: Sound, rate: float, strike: Callable[[Sound], Sound]) -> Sound:
    """Return strikes at a rate in Hz, each of which lasts until the next; the first one begins after the fade-in."""
    return strike((t - FADE) % np.float32(1 / rate))
