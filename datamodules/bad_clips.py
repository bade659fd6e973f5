"""Log of bad clips: they are left out, counted and listed, and too many of them end the run.

A single bad clip never ends a run. Readers raise a `ClipError`; its caller leaves the clip out and passes its `BadClip`
on to a `BadClipLog` in the main process.

`max_bad` is a share of the clips that were attempted. It is checked where a share has a meaning:

- exactly, over a manifest that is read as a whole, when it is opened (`check_manifest`);
- exactly, over the clips that were attempted in an epoch or an evaluation, at its end;
- before that, from `FIRST` attempts on, as soon as there are more bad clips than chance explains: with n attempts, more
  than n x max_bad and three standard deviations. So one bad clip among the first five does not stop a run of a million,
  and a disk that is not mounted does after the first hundred.

Each process checks the clips that it read itself, so nothing has to be exchanged; samplers distribute clips at random,
so the shares of processes differ by chance only.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from math import sqrt
from pathlib import Path

from slap.core.bad_clip import BAD_CLIPS, REASONS, BadClip, Reason
from slap.core.batch import Batch
from slap.core.errors import UserError
from slap.core.files import append_line
from slap.datamodules.manifests.clip import ManifestError

__all__ = ["REASONS", "BadClip", "BadClipLog", "ClipError", "Reason", "RowError", "check_manifest"]

FIRST = 100  # attempts before which no share is checked within an epoch
SHOWN = 5  # clips of each reason that the log names
DETAIL = 400  # characters of a detail in the file, so that a line is written at once

log = logging.getLogger(__name__)


class ClipError(Exception):
    """Error of a single clip that cannot be used; `bad` has its id and the reason."""

    def __init__(self, bad: BadClip) -> None:
        super().__init__(bad)
        self.bad = bad

    def __str__(self) -> str:
        bad = self.bad
        file = f" of {bad.file}" if bad.file not in bad.detail else ""
        return f"clip {bad.id!r}{file} ({bad.where or 'no manifest'}), {bad.reason}: {bad.detail}"


class RowError(ClipError, ManifestError):
    """Error of a row of a manifest whose clip cannot be used."""

    def __str__(self) -> str:
        return f"{self.bad.where}: {self.bad.detail}"


def check_share(max_bad: float) -> None:
    """Refuse a `max_bad` that is no share."""
    if not 0 <= max_bad <= 1:
        raise UserError(f"max_bad is the share of clips that may be bad, 0 to 1; got {max_bad}")


def check_manifest(path: Path, bad: Sequence[BadClip], good: int, max_bad: float) -> None:
    """Refuse a manifest that has too many bad clips.

    Args:
        path: the manifest.
        bad: its bad clips.
        good: number of its other clips.
        max_bad: share of clips that may be bad.

    Raises:
        ManifestError: more are; the message names the first few with their rows.
    """
    if len(bad) > max_bad * (len(bad) + good):
        raise ManifestError(f"{path}: {_too_many(Counter(b.reason for b in bad), len(bad) + good, max_bad, bad)}")


class BadClipLog:
    """Counter of bad clips, which lists them in a file and stops the run when there are too many.

    Every process appends to the same file, each line with one write, so lines do not mix. A clip is listed once per
    stage (train, val, test) and process, in however many epochs it is attempted.

    Args:
        max_bad: share of clips that may be bad, 0 to 1.

    Attributes:
        out: the run's folder; None writes no file.
        waiting: write nothing before training begins, since only then is it known that the folder holds no other run.
        counts: for each stage the number of different clips that were bad, by reason.
    """

    def __init__(self, max_bad: float = 0.05) -> None:
        check_share(max_bad)
        self.max_bad = max_bad
        self.out: Path | None = None
        self.waiting = False
        self.counts: dict[str, Counter[str]] = {}
        self._known: set[tuple[str, str, str, str]] = set()
        self._unwritten: list[str] = []

    def add(self, stage: str, bad: Iterable[BadClip]) -> None:
        """Count, log and list the bad clips that are not known yet."""
        counts = self.counts.setdefault(stage, Counter())
        for clip in bad:
            key = (stage, clip.id, clip.reason, clip.where)
            if key in self._known:
                continue
            self._known.add(key)
            counts[clip.reason] += 1
            if counts[clip.reason] <= SHOWN:
                more = "; further ones are listed, not logged" if counts[clip.reason] == SHOWN else ""
                log.warning("left out: %s%s", ClipError(clip), more)
            self._unwritten.append(json.dumps({"stage": stage, **asdict(replace(clip, detail=clip.detail[:DETAIL]))}))
        self._write()

    def training(self, batches: Iterable[Batch], alone: bool = True) -> Iterator[Batch]:
        """Yield the batches of an epoch, and note their bad clips.

        Args:
            batches: batches of one pass over the clips.
            alone: whether this is the only training process. Otherwise a batch without clips is passed on: the other
                processes wait for this one at every step, and have clips to learn from.

        Raises:
            ValueError: too many clips are bad, or all clips of a batch are and this process is alone.
        """
        watch = _BadShare(self.max_bad)
        for batch in batches:
            self.add("train", batch.bad)
            watch.see(batch)
            if not len(batch) and alone:
                raise UserError(
                    "a batch has no clip left: each of its clips, and each that replaced one, is bad. "
                    f"{_too_many(watch.counts, watch.read, self.max_bad, batch.bad)}"
                )
            yield batch
            self.waiting = False  # Lightning asks for the first batch before training begins, but not for another one
        self.flush()
        watch.end()

    def evaluation(self, batches: Iterable[Batch], stage: str, before: Sequence[BadClip] = ()) -> Iterator[Batch]:
        """Yield the batches of an evaluation but empty ones; each bad clip is in the `bad` of some batch.

        Args:
            batches: batches of one pass over the clips.
            stage: `val` or `test`.
            before: clips that were left out when the manifests were opened.

        Raises:
            ValueError: too many clips are bad.
        """
        watch = _BadShare(self.max_bad)
        held: Batch | None = None
        lost = tuple(before)
        for batch in batches:
            self.add(stage, batch.bad)
            watch.see(batch)
            if not len(batch):
                lost += batch.bad
                continue
            if held is not None:
                yield held
            held, lost = replace(batch, bad=lost + batch.bad), ()
        watch.end()
        if held is not None:
            yield replace(held, bad=held.bad + lost)

    def flush(self) -> None:
        """Write the lines that wait to be written."""
        self.waiting = False
        self._write()

    def summary(self, stage: str) -> str:
        """Describe how many clips of a stage were left out, by reason; empty if none was.

        Example:
            >>> log = BadClipLog()
            >>> log.add("val", [BadClip("a", "silent", "all zero"), BadClip("b", "absent", "no such file")])
            >>> log.summary("val")
            '2 clips left out: 1 absent, 1 silent'
        """
        counts = self.counts.get(stage, Counter())
        return f"{counts.total()} clips left out: {_by_reason(counts)}" if counts else ""

    def _write(self) -> None:
        if self.out is None or self.waiting or not self._unwritten:
            return
        for line in self._unwritten:
            append_line(self.out / BAD_CLIPS, line)
        self._unwritten.clear()


class _BadShare:
    """Share of bad clips in one pass over the data."""

    def __init__(self, max_bad: float) -> None:
        self.max_bad = max_bad
        self.read = 0
        self.counts: Counter[str] = Counter()
        self.first: list[BadClip] = []

    def see(self, batch: Batch) -> None:
        self.read += batch.read + len(batch.bad)
        self.counts.update(clip.reason for clip in batch.bad)
        self.first += batch.bad[: SHOWN - len(self.first)]
        expected = self.max_bad * self.read
        if self.read >= FIRST and self.counts.total() > expected + 3 * sqrt(expected * (1 - self.max_bad)):
            self._stop()

    def end(self) -> None:
        if self.counts.total() > self.max_bad * self.read:
            self._stop()

    def _stop(self) -> None:
        raise UserError(_too_many(self.counts, self.read, self.max_bad, self.first))


def _too_many(counts: Counter[str], read: int, max_bad: float, bad: Sequence[BadClip]) -> str:
    first = "\n".join(f"  {clip.where or clip.id}: {clip.detail}" for clip in bad[:SHOWN])
    return (
        f"{counts.total()} of {read} clips are bad ({_by_reason(counts)}), more than max_bad={max_bad:g} allows; "
        f"mend or drop them, or raise max_bad. The first:\n{first}"
    )


def _by_reason(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[reason]} {reason}" for reason in REASONS if counts[reason])
