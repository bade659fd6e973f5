"""Sounds for scenes: the loudest event of a clip whose class is known, or all that sounds in any other clip.

T samples of an event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slap.core.units import Seconds
from slap.datamodules.augment.base import Decibels
from slap.datamodules.augment.event_crop import FRAME, frame_powers, loud_frames
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


def level(samples: np.ndarray) -> Decibels:
    """Return the mean power of samples, (T,), dB."""
    return 10 * float(np.log10(max(np.mean(np.square(samples, dtype=np.float64)), 1e-12)))


def loudest_event(samples: np.ndarray, rate: int, words: Words) -> Event:
    """Return the loudest event of a clip.

    Args:
        samples: (T',), of the clip.
        rate: sample rate, Hz.
        words: words for the sound of the clip.
    """
    frame = max(round(FRAME * rate), 1)
    loud, powers = loud_frames(samples, frame, WITHIN), frame_powers(samples, frame)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > BRIDGE / FRAME) + 1)
    group = max(groups, key=lambda frames: powers[frames].max())
    shortest = LEAST if words.lasting else KEPT
    return _event(samples, group, powers, frame, words, round(shortest * rate))


def whole_event(samples: np.ndarray, rate: int, words: Words) -> Event:
    """Return all of a clip between its first and its last sound; it is never cut shorter.

    Args:
        samples: (T',), of the clip.
        rate: sample rate, Hz.
        words: words for the clip.
    """
    frame = max(round(FRAME * rate), 1)
    loud, powers = loud_frames(samples, frame, 2 * WITHIN), frame_powers(samples, frame)
    return _event(samples, loud, powers, frame, words, len(samples))


def _event(
    samples: np.ndarray, frames: np.ndarray, powers: np.ndarray, frame: int, words: Words, shortest: int
) -> Event:
    """Return the event from the first of some frames to the last one."""
    start, stop = int(frames[0]) * frame, min((int(frames[-1]) + 1) * frame, len(samples))
    if len(samples) - stop < frame:
        stop = len(samples)  # the samples after the last whole frame
    peak = int(frames[powers[frames].argmax()]) * frame - start
    part = samples[start:stop]
    return Event(words, part, peak, min(shortest, len(part)), _bursts(part, frame))


def _bursts(samples: np.ndarray, frame: int) -> int:
    within, pause = BURST
    return 1 + int((np.diff(loud_frames(samples, frame, within)) > pause / FRAME).sum())
