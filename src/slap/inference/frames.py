"""Similarity of a recording to texts over time, and events: when something sounds.

F frames of a recording, m texts, E shared dimension, T samples of a recording.

A frame is one time step of the audio encoder's patches, 160 ms wide for SLAP's. Frames of a finer step come from passes
over the waveform that is shifted by that step, interleaved. A frame's dense features, with those of its neighbors in
the same pass, go through the model's own pooling head, so that they can be compared to texts; they were never trained
to stand for so short a time, which makes similarities comparable within a recording rather than between texts. A model
that was trained with `frame_alignment` makes its frames by the head of that objective instead, each from its own
features alone, and has learned the probability that a text is heard in a frame.

Events follow in four steps, each text by itself: a median over `smooth` seconds; an event begins where the similarity
reaches `threshold` and lasts while it stays above `threshold - hysteresis`; events shorter than `shortest` are
dropped. Without a `threshold` it is the similarity whose probability is one half, if the model has learned that. Else
it is half-way between the 10th and the 95th percentile of the text's own similarity, and a text whose similarity varies
by less than `contrast` between these has no events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from slap.core.calibration import Calibration
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.core.windows import cut, hop_of


@dataclass(frozen=True)
class Event:
    """A part of a recording that sounds like a text.

    Attributes:
        onset: its beginning.
        offset: its end.
        text: the text.
        score: mean similarity within, a cosine.
    """

    onset: Seconds
    offset: Seconds
    text: str
    score: float


@dataclass(frozen=True, eq=False)
class Frames:
    """Similarity of texts to a recording over time.

    Attributes:
        times: (F,) float64, the middle of each frame on a player's clock.
        similarity: (F, m) cosines.
        texts: the texts.
        seconds: duration of the recording.
        hop: from frame to frame.
        begins: time of the first sample on a player's clock; above 0 in a video whose audio starts late.
        note: a word about the recording, e.g. that it is silent or was cut short; empty if there is none.
        silent: nothing is heard in it, see `slap.audio.level`, so it has no events.
        calibration: the rule by which similarities become probabilities, if the model has learned one for frames.
    """

    times: Tensor
    similarity: Tensor
    texts: tuple[str, ...]
    seconds: Seconds
    hop: Seconds
    begins: Seconds = 0.0
    note: str = ""
    silent: bool = False
    calibration: Calibration | None = None

    @property
    def probability(self) -> Tensor | None:
        """(F, m), the probability that each text is heard in each frame; None if the model has not learned it."""
        return None if self.calibration is None else self.calibration.probabilities(self.similarity)

    def default_threshold(self, curve: Tensor, contrast: float) -> float | None:
        """Return the similarity from which on a text is heard, by default; None if it is nowhere.

        Args:
            curve: (F,) similarities of the text.
            contrast: as for `events`.
        """
        rule = self.calibration
        if rule is None:
            return adaptive_threshold(curve, contrast)
        return -rule.bias / rule.scale  # where the sigmoid is one half

    def events(
        self,
        threshold: float | None = None,
        hysteresis: float = 0.02,
        shortest: Seconds = 0.2,
        smooth: Seconds = 0.2,
        contrast: float = 0.05,
    ) -> list[Event]:
        """Find the events of all texts, in the order of their onsets; see the head of this file.

        Args:
            threshold: the cosine that an event must reach; None takes that of a probability of one half, or sets it by
                each text's own distribution.
            hysteresis: an event lasts while the cosine is less than this below `threshold`.
            shortest: events below this duration are dropped.
            smooth: width of the median.
            contrast: the least difference between loud and quiet, without `threshold` and without probabilities.
        """
        if hysteresis < 0 or shortest < 0 or smooth < 0:
            raise UserError(f"{hysteresis=}, {shortest=} and {smooth=} must not be negative")
        found: list[Event] = []
        for i, text in enumerate(() if self.silent else self.texts):
            curve = median_filter(self.similarity[:, i], round(smooth / self.hop))
            level = self.default_threshold(curve, contrast) if threshold is None else threshold
            if level is None:
                continue
            for first, last in above(curve, level, level - hysteresis):
                onset, offset = self._edge(first), self._edge(last)
                if offset - onset >= shortest - 1e-9:
                    found.append(Event(onset, offset, text, float(self.similarity[first:last, i].mean())))
        return sorted(found, key=lambda event: (event.onset, event.offset, event.text))

    def _edge(self, frame: int) -> Seconds:
        """Return the time between a frame and the one before it; the first and the last frame reach to the ends."""
        if frame == 0:
            return self.begins
        return self.begins + self.seconds if frame == len(self.times) else float(self.times[frame]) - self.hop / 2


def adaptive_threshold(curve: Tensor, contrast: float) -> float | None:
    """Return the middle of the 10th and the 95th percentile of (F,) similarities, None if these hardly differ."""
    low, high = curve.quantile(torch.tensor([0.1, 0.95])).tolist()
    return None if high - low < contrast else (low + high) / 2


def median_filter(curve: Tensor, width: int) -> Tensor:
    """Take the median over an odd number of frames around each, at most `width`; the ends are repeated.

    Example:
        >>> median_filter(torch.tensor([0.0, 0.0, 9.0, 0.0, 1.0, 1.0]), 3).tolist()
        [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    reach = (max(width, 1) - 1) // 2
    padded = pad(curve[None], (reach, reach), mode="replicate")[0]
    return padded.unfold(0, 2 * reach + 1, 1).median(1).values


def above(curve: Tensor, high: float, low: float) -> list[tuple[int, int]]:
    """Find runs of frames, from the first to behind the last, that stay above `low` and reach `high` somewhere.

    Example:
        >>> above(torch.tensor([0.0, 0.5, 0.9, 0.5, 0.0, 0.5, 0.0]), high=0.8, low=0.4)
        [(1, 4)]
    """
    inside = pad((curve >= low).int(), (1, 1)).diff()
    starts, stops = (inside == 1).nonzero()[:, 0].tolist(), (inside == -1).nonzero()[:, 0].tolist()
    return [(a, b) for a, b in zip(starts, stops, strict=True) if bool((curve[a:b] >= high).any())]


def over_time(
    blocks: Iterable[np.ndarray], similar: Callable[[np.ndarray], Tensor], window: int, hop: int, width: int
) -> tuple[Tensor, int]:
    """Compute the similarity of texts to a whole recording, window by window where it is long.

    Where two windows overlap, frames before the middle of the overlap are the former's.

    Args:
        blocks: (n_i,) samples, in order.
        similar: a clip, (n,), to the cosines of its frames, (f, m), as many as `frame_count` says.
        window: samples that the model takes at once.
        hop: samples from frame to frame.
        width: samples of a frame.

    Returns:
        (F, m), and T.
    """
    kept: list[Tensor] = []
    first, stop = 0, 0  # frame that the newest of `kept` begins with; where the newest window ends
    for start, clip in cut(blocks, window, hop_of(window)):
        skip = -start % hop  # only the first window need begin on the grid of frames
        rows, begin = similar(clip[skip:]), (start + skip) // hop
        if kept:
            seam = max(((start + stop) // 2 - width // 2) // hop, begin)
            kept[-1], rows = kept[-1][: seam - first], rows[seam - begin :]
            begin = seam
        kept.append(rows)
        first, stop = begin, start + len(clip)
    return torch.cat(kept), stop


def frame_count(samples: int, hop: int, width: int) -> int:
    """Return F: the number of frames whose middle lies within a clip, one at least."""
    return max(1, -(-(samples - width // 2) // hop))


def frames_of(
    blocks: Iterable[np.ndarray],
    similar: Callable[[np.ndarray], Tensor],
    texts: tuple[str, ...],
    window: int,
    hop: int,
    width: int,
    rate: int,
) -> Frames:
    """Make the frames of a recording; for the arguments see `over_time`, `rate` is in Hz."""
    similarity, samples = over_time(blocks, similar, window, hop, width)
    times = (torch.arange(len(similarity), dtype=torch.float64) * hop + width / 2) / rate
    return Frames(times.clamp(max=samples / rate), similarity, texts, samples / rate, hop / rate)
