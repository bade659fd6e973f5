"""Sounds for scenes: the loudest event of a clip whose class is known, or all that sounds in any other clip.

T samples of an event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slap.core.units import Seconds
from slap.datamodules.augment.base import Decibels
from slap.datamodules.augment.event_crop import FRAME, loud_frames
from slap.datamodules.captions.grammar import Words

WITHIN: Decibels = 25.0
"""Largest level of a clip's loudest frame over the other frames of an event."""

BRIDGE: Seconds = 0.2
"""Longest pause within an event: stops within a word are shorter, pauses between barks are longer."""

KEPT: Seconds = 1.5
"""Events with an end of their own are not cut shorter than this."""

BURST: tuple[Decibels, Seconds] = (15.0, 0.08)
"""Bursts of an event, such as two knocks, are this much louder than a pause of this length between them."""

LEAST: Seconds = 0.4
"""Lasting sounds are not cut shorter than this."""


@dataclass(frozen=True)
class Event:
    """A sound that is cut out of a clip.

    Attributes:
        words: words for it.
        samples: (T,) float32.
        peak: its loudest sample, about.
        shortest: samples that it has at least, when it is cut.
        bursts: number of its parts with short pauses between them.
    """

    words: Words
    samples: np.ndarray
    peak: int
    shortest: int
    bursts: int = 1

    @property
    def level(self) -> Decibels:
        """Mean power, dB."""
        return 10 * float(np.log10(max(np.mean(np.square(self.samples, dtype=np.float64)), 1e-12)))


def loudest_event(samples: np.ndarray, rate: int, words: Words) -> Event:
    """Return the loudest event of a clip.

    Args:
        samples: (T',), of the clip.
        rate: sample rate, Hz.
        words: words for the sound of the clip.
    """
    frame = max(round(FRAME * rate), 1)
    loud = loud_frames(samples, frame, WITHIN)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > BRIDGE / FRAME) + 1)
    peaks = [_loudest(samples, group, frame) for group in groups]
    place = max(range(len(groups)), key=lambda number: peaks[number][0])
    shortest = LEAST if words.lasting else KEPT
    return _event(samples, groups[place], peaks[place][1], frame, words, round(shortest * rate))


def whole_event(samples: np.ndarray, rate: int, words: Words) -> Event:
    """Return all of a clip between its first and its last sound; it is never cut shorter.

    Args:
        samples: (T',), of the clip.
        rate: sample rate, Hz.
        words: words for the clip.
    """
    frame = max(round(FRAME * rate), 1)
    loud = loud_frames(samples, frame, 2 * WITHIN)
    return _event(samples, loud, _loudest(samples, loud, frame)[1], frame, words, len(samples))


def _loudest(samples: np.ndarray, frames: np.ndarray, frame: int) -> tuple[float, int]:
    powers = [float(np.square(samples[i * frame : (i + 1) * frame], dtype=np.float64).mean()) for i in frames]
    best = int(np.argmax(powers))
    return powers[best], int(frames[best]) * frame


def _event(samples: np.ndarray, frames: np.ndarray, peak: int, frame: int, words: Words, shortest: int) -> Event:
    start, stop = int(frames[0]) * frame, min((int(frames[-1]) + 1) * frame, len(samples))
    if len(samples) - stop < frame:
        stop = len(samples)  # the samples after the last whole frame
    return Event(
        words, samples[start:stop], peak - start, min(shortest, stop - start), _bursts(samples[start:stop], frame)
    )


def _bursts(samples: np.ndarray, frame: int) -> int:
    level, pause = BURST
    return 1 + int((np.diff(loud_frames(samples, frame, level)) > pause / FRAME).sum())
