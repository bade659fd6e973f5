"""Clips of the splits `train`, `val` and `test`, read from their manifests on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.captions.sample import check_fields
from slap.datamodules.labels import Labels, all_labels
from slap.datamodules.manifests.collection import (
    MonoCuts,
    check_lengths,
    every_source,
    long_enough,
    read_manifests,
    refuse_other_audio,
)
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.sequence import ClipNames, Clips, ConcatClips, UncaptionedClips
from slap.datamodules.options import Batching, Limits, Mixture, Unlabelled
from slap.datamodules.overlap.warn import named
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.mixed import train_sampler
from slap.datamodules.sampling.mixture import NamedManifests
from slap.datamodules.sampling.sampler import StepSampler, TrainSampler
from slap.datamodules.stored import Array

STAGES = {"fit": "train", "validate": "val", "test": "test", "predict": "test"}
"""The split that each stage cannot do without."""

UNLABELLED = "unlabelled"
"""Name, in the logs, of the training clips without captions, where the other sources have names."""


class Splits:
    """Reader of the manifests, which keeps what it has read.

    Args:
        manifests: the manifests of each split.
        batching: sizes of batches and clips.
        mixture: number of times that training clips come in an epoch.
        unlabelled: training clips without captions.
        limits: limits on bad clips and on reading.
        report: gets each split that is read, with the clips of its manifests that are bad.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.

    Attributes:
        bad: by split, the clips of its manifests that were left out.
        firsts: by split, the number of the first clip of each source.
        sources: what an epoch takes of the training clips of `train`, once they are read.
        others: manifests of the training clips without captions, once each; they come after those of `train`.
    """

    def __init__(
        self,
        manifests: Mapping[str, NamedManifests],
        batching: Batching,
        mixture: Mixture,
        unlabelled: Unlabelled,
        limits: Limits,
        report: Callable[[str, list[BadClip]], None],
        columns: Columns | None = None,
    ) -> None:
        self.manifests = manifests
        self.batching, self.mixture, self.unlabelled, self.limits = batching, mixture, unlabelled, limits
        self.report, self.columns = report, columns
        self.bad: dict[str, list[BadClip]] = {}
        self.firsts: dict[str, tuple[int, ...]] = {}
        self.sources: list[Source] = []
        self.others: list[Source] = []
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
            captioned = split != "train" or not self.unlabelled.empty_captions
            parts = self._read_manifests(self.manifests[split].paths, bad, captioned)
            others = self._without_captions(parts, bad) if split == "train" else []
            self.report(split, bad)
            if split == "train":
                parts = self._trained_on(parts, others)
            self.firsts[split] = self.manifests[split].firsts([len(part) for part in parts])
            if self.manifests[split].names and others:
                self.firsts[split] += (sum(map(len, parts)),)
            self._read[split] = ConcatClips([*parts, *others])
        return self._read[split]

    def _read_manifests(self, paths: Sequence[Path], bad: list[BadClip], captioned: bool) -> list[Clips]:
        limits = self.limits
        return read_manifests(
            paths, limits.max_bad, bad, limits.data_root, self.columns, captioned, limits.remote_roots
        )

    def _without_captions(self, parts: list[Clips], bad: list[BadClip]) -> list[Clips]:
        """Return the clips of the manifests of `unlabelled`, and settle what comes of them."""
        found = self._read_manifests(self.unlabelled.manifests.paths, bad, False)
        refuse_other_audio([*parts, *found])
        others: list[Clips] = [UncaptionedClips(long_enough(part, self.batching.min_clip)) for part in found]
        self.others = [source for source in every_source(others) if source.size]
        if found and not self.others:
            raise UserError(
                f"no clip of `unlabelled` is left: all are shorter than min_clip={self.batching.min_clip} s"
            )
        return others

    def needed(self, stage: str | None, streamed: bool = False) -> list[str]:
        """Return the splits that a stage reads.

        Args:
            stage: of the trainer; None stands for all splits that have manifests.
            streamed: `train` is not read here.

        Raises:
            ValueError: a manifest that the stage needs is not given.
        """
        given = {split for split, group in self.manifests.items() if group.paths}
        if self.unlabelled.manifests.paths:
            given.add("train")
        needed = given if stage is None else {STAGES[stage]}
        for split in needed - given:
            audio = " or AudioTextData(unlabelled=...)" if split == "train" else ""
            raise UserError(f"{stage} needs a manifest: give AudioTextData({split}=...){audio}")
        return sorted((needed | ({"val"} if stage == "fit" else set())) - ({"train"} if streamed else set()))

    def train_sampler(self, lengths: Array, sample_rate: int, seed: int, process: tuple[int, int]) -> StepSampler:
        """Return the sampler of the training clips.

        Args:
            lengths: (n,) their lengths, in samples.
            sample_rate: of the model, Hz.
            seed: seed of the order.
            process: rank and world size.
        """

        def make(lengths: Array, samples: int, clips: int | None, sources: Sequence[Source]) -> TrainSampler:
            sizes = self.batching
            return TrainSampler(
                lengths,
                samples,
                clips,
                sizes.num_buckets,
                seed,
                *process,
                sources,
                min_clips=sizes.min_clips,
                shuffle_clips=sizes.shuffle_clips,
                step_batches=sizes.step_batches,
            )

        budgets = [(round(seconds * sample_rate), clips) for seconds, clips in self.budgets]
        return train_sampler(make, lengths, budgets, self.sources, self.others)

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

    def tasks_with(self, wanted: Iterable[str], needed: Sequence[str]) -> list[str] | None:
        """Return the zero-shot tasks of the evaluation manifests, of which no more are read than some tasks need.

        Args:
            wanted: the tasks that are looked for.
            needed: the splits that are read anyway, in which they are looked for first.

        Returns:
            The tasks found so far; None where there are no evaluation manifests.
        """
        given = [split for split in ("val", "test") if self.manifests[split].paths]
        for split in sorted(given, key=lambda split: split not in needed):
            if set(wanted) <= set(self.tasks()):
                break
            self.clips(split)
        return self.tasks() if given else None

    def source_names(self, split: str) -> tuple[str, ...]:
        """Return the names of the sources of a split, in the order in which batches number them; none without names."""
        names = self.manifests[split].names
        return (*names, UNLABELLED) if names and split == "train" and self.unlabelled.manifests.paths else names

    def by_manifest(self, split: str) -> list[tuple[Path, Clips | ClipNames]]:
        """Return the manifests of a split with their clips, or if they are not read yet, with the names of these."""
        paths = self.manifests[split].paths + (self.unlabelled.manifests.paths if split == "train" else ())
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

    def _trained_on(self, parts: list[Clips], others: list[Clips]) -> list[Clips]:
        """Leave out clips that are too short, and settle what an epoch takes of the others."""
        parts = [long_enough(part, self.batching.min_clip) for part in parts]
        if parts or not others:
            self.sources = self.mixture.sources(parts, lambda task: self._labels_of(parts, task))
        if not self.sources and (parts or not others):
            raise UserError(f"no training clip is left: all are shorter than min_clip={self.batching.min_clip} s")
        if self.batching.max_clip is None:
            for kind, (seconds, _) in zip((parts, others), self.budgets, strict=True):
                check_lengths(ConcatClips(kind), seconds, "raise max_duration, or crop with max_clip")
        return parts

    @property
    def budgets(self) -> list[tuple[Seconds, int | None]]:
        """Seconds and clips of a training batch for the clips of `train`, and for those without captions."""
        if self.sources and self.others:
            return self.unlabelled.budgets(self.batching)
        return [(self.batching.max_duration, self.batching.max_clips)] * 2

    def _labels_of(self, parts: list[Clips], task: str) -> Labels:
        self._labels[task] = all_labels(ConcatClips(parts), task)
        return self._labels[task]
