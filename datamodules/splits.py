"""Clips of the splits `train`, `val` and `test`, read from their manifests on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.datamodules.captions.sample import check_fields
from slap.datamodules.labels import Labels, all_labels
from slap.datamodules.manifests.collection import MonoCuts, check_lengths, long_enough, read_manifests
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.sequence import ClipNames, Clips, ConcatClips
from slap.datamodules.options import Batching, Limits, Mixture
from slap.datamodules.overlap.warn import named
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.mixture import NamedManifests


class Splits:
    """Reader of the manifests, which keeps what it has read.

    Args:
        manifests: the manifests of each split.
        batching: sizes of batches and clips.
        mixture: number of times that training clips come in an epoch.
        limits: limits on bad clips and on reading.
        report: gets each split that is read, with the clips of its manifests that are bad.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.

    Attributes:
        bad: by split, the clips of its manifests that were left out.
        firsts: by split, the number of the first clip of each source.
        sources: what an epoch takes of the training clips, once they are read.
    """

    def __init__(
        self,
        manifests: Mapping[str, NamedManifests],
        batching: Batching,
        mixture: Mixture,
        limits: Limits,
        report: Callable[[str, list[BadClip]], None],
        columns: Columns | None = None,
    ) -> None:
        self.manifests = manifests
        self.batching, self.mixture, self.limits = batching, mixture, limits
        self.report, self.columns = report, columns
        self.bad: dict[str, list[BadClip]] = {}
        self.firsts: dict[str, tuple[int, ...]] = {}
        self.sources: list[Source] = []
        self._read: dict[str, ConcatClips] = {}
        self._labels: dict[str, Labels] = {}
        self._mono: dict[tuple[str, int], MonoCuts] = {}

    def clips(self, split: str) -> ConcatClips:
        """Return the clips of a split.

        Raises:
            ManifestError: a manifest cannot be used.
            ValueError: no training clip is left, or one is too long for a batch.
        """
        if split not in self._read:
            bad = self.bad.setdefault(split, [])
            paths, limits = self.manifests[split].paths, self.limits
            parts = read_manifests(paths, limits.max_bad, bad, limits.data_root, self.columns, limits.remote_roots)
            self.report(split, bad)
            if split == "train":
                parts = self._trained_on(parts)
            self.firsts[split] = self.manifests[split].firsts([len(part) for part in parts])
            clips = ConcatClips(parts)
            if split == "train" and self.batching.max_clip is None:
                check_lengths(clips, self.batching.max_duration, "raise max_duration, or crop with max_clip")
            self._read[split] = clips
        return self._read[split]

    def mono_cuts(self, split: str, sample_rate: int, in_memory: bool) -> MonoCuts:
        """Return the clips as a model of this sample rate (Hz) wants them, decoded now if they stay in memory."""
        if (split, sample_rate) not in self._mono:
            self._mono[split, sample_rate] = MonoCuts(self.clips(split), sample_rate, in_memory, self.limits.largest)
        return self._mono[split, sample_rate]

    def labels(self, task: str) -> Labels:
        """Return the labels of a task that each training clip has."""
        if task not in self._labels:
            self._labels[task] = all_labels(self.clips("train"), task)
        return self._labels[task]

    def tasks(self) -> list[str]:
        """Return the zero-shot tasks of the evaluation manifests read so far."""
        read = [self._read[split] for split in ("val", "test") if split in self._read]
        return sorted({task for clips in read for task in clips.tasks})

    def all_tasks_known(self) -> bool:
        """Return whether there are evaluation manifests and all of them are read."""
        given = {split for split in ("val", "test") if self.manifests[split].paths}
        return bool(given) and given <= set(self._read)

    def by_manifest(self, split: str) -> list[tuple[Path, Clips | ClipNames]]:
        """Return the manifests of a split with their clips, or if they are not read yet, with the names of these."""
        paths = self.manifests[split].paths
        if split in self._read:
            return list(zip(paths, self._read[split].sources, strict=True))
        return named(paths, self.columns)

    def check_disjoint(self) -> None:
        """Compare the ids of test clips with those of validation clips, and of training clips if they are read.

        Raises:
            ValueError: a test clip is one of the others.
        """
        if not self.manifests["test"].paths:
            return
        for split, kind, rule in (
            ("val", "validation", "what selects the checkpoint may not test it; give val and test different clips"),
            ("train", "training", "what a model has learned does not test it; give train and test different clips"),
        ):
            if not self.manifests[split].paths or (split == "train" and split not in self._read):
                continue
            test = self.clips("test")
            shared = np.isin(test.keys, self.clips(split).keys)
            if shared.any():
                first = test.cut(int(np.flatnonzero(shared)[0]))
                raise UserError(
                    f"{int(shared.sum())} of the {len(test)} test clips are {kind} clips too, e.g. {first.id!r}: {rule}"
                )

    def check_fields(self, fields: Mapping[str, float] | None) -> None:
        """Refuse fields of which no training clip has a caption, see `slap.datamodules.captions.sample`."""
        check_fields(self.clips("train").sources, fields or {})

    def _trained_on(self, parts: list[Clips]) -> list[Clips]:
        """Leave out clips that are too short, and settle what an epoch takes of the others."""
        parts = [long_enough(part, self.batching.min_clip) for part in parts]
        self.sources = self.mixture.sources(parts, lambda task: self._labels_of(parts, task))
        if not self.sources:
            raise UserError(f"no training clip is left: all are shorter than min_clip={self.batching.min_clip} s")
        return parts

    def _labels_of(self, parts: list[Clips], task: str) -> Labels:
        self._labels[task] = all_labels(ConcatClips(parts), task)
        return self._labels[task]
