"""The clips of several manifests together, and what must hold between them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from lhotse.cut import Cut

from slap.bad_clip import BadClip
from slap.datamodules.clip import ManifestError, Seconds
from slap.datamodules.cutset import tracks_of
from slap.datamodules.manifest import read_manifest
from slap.datamodules.waveform import files_read

log = logging.getLogger(__name__)


def read_manifests(paths: Sequence[Path], max_bad: float, bad: list[BadClip]) -> list[list[Cut]]:
    """The clips of each manifest.

    Args:
        paths: of the manifests.
        max_bad: the share of the clips of each that may be bad, 0 to 1.
        bad: gets those that are, and are left out.

    Raises:
        ManifestError: a manifest cannot be used, or an id names different audio in two of them: clips of equal id
            count as the same clip in the losses and the figures.
    """
    parts = [list(read_manifest(path, max_bad, bad)) for path in paths]
    seen: dict[str, Cut] = {}
    for part in parts:
        for cut in part:
            known = seen.setdefault(cut.id, cut)
            if known is not cut and _place(known) != _place(cut):
                raise ManifestError(
                    f"{cut.where}: the id {cut.id!r} names other audio in {known.where}; give ids that differ"
                )
    return parts


def check_lengths(cuts: Iterable[Cut], max_duration: Seconds, remedy: str) -> None:
    """Refuse clips that no batch can hold.

    Args:
        cuts: the clips.
        max_duration: seconds of audio in a batch.
        remedy: what to do about it, for the message.

    Raises:
        ValueError: a clip is longer; names it.
    """
    for cut in cuts:
        if cut.duration > max_duration:
            raise ValueError(
                f"{cut.where}: clip {cut.id!r} lasts {cut.duration:.2f} s, but a batch holds "
                f"max_duration={max_duration} s of audio; {remedy}"
            )


def long_enough(cuts: Sequence[Cut], min_clip: Seconds) -> list[Cut]:
    """The clips that last at least `min_clip`; the log says how many do not."""
    short = [cut for cut in cuts if cut.duration < min_clip]
    if short:
        log.warning(
            "%d of %d clips are shorter than min_clip=%s s and left out; the first is %r (%s)",
            len(short),
            len(cuts),
            min_clip,
            short[0].id,
            short[0].where,
        )
    return [cut for cut in cuts if cut.duration >= min_clip]


def turns(sizes: Sequence[int], repeats: Sequence[int]) -> list[int]:
    """The clips of an epoch, by their index over all manifests, each as often as its manifest says.

    Example:
        >>> turns([2, 1], [1, 3])
        [0, 1, 2, 2, 2]
    """
    epoch: list[int] = []
    first = 0
    for size, times in zip(sizes, repeats, strict=True):
        epoch += list(range(first, first + size)) * times
        first += size
    return epoch


def tasks_of(cuts: Iterable[Cut]) -> tuple[str, ...]:
    """The zero-shot tasks for which any of the clips has a label, in alphabetical order."""
    return tuple(sorted({task for cut in cuts for task in cut.custom["labels"]}))


def _place(cut: Cut) -> tuple[list[str], list[Seconds], Seconds]:
    return files_read(cut), [track.start for track in tracks_of(cut)], cut.duration
