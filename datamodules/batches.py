"""Data set and sampler of a split: what makes its batches, see `slap.datamodules.loader`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slap.datamodules.dataset import EvaluationDataset, Tokenize, TrainDataset, Transform
from slap.datamodules.manifests.collection import MonoCuts
from slap.datamodules.options import Captions
from slap.datamodules.sampling.eval_windows import segments_of
from slap.datamodules.sampling.replacement import Replacements
from slap.datamodules.sampling.sampler import EvaluationSampler, StepSampler
from slap.datamodules.splits import Splits


def train_batches(
    splits: Splits,
    cuts: MonoCuts,
    connection: tuple[int, Tokenize],
    process: tuple[int, int],
    captions: Captions,
    transforms: Sequence[Transform],
    seed: int,
) -> tuple[TrainDataset, StepSampler]:
    """Return data set and sampler of the training clips.

    Args:
        splits: reader of the manifests.
        cuts: the training clips, as the model wants them.
        connection: the model's sample rate and tokenizer.
        process: rank and world size.
        captions: choice of captions.
        transforms: transforms of the clips of a batch.
        seed: seed of all that is random.
    """
    sample_rate, tokenize = connection
    clips, sizes = splits.clips("train"), splits.batching
    lengths = sizes.train_lengths(clips, sample_rate)
    replacements = Replacements(lengths, seed, clips.near if clips.remote else None)
    dataset = TrainDataset(
        cuts,
        tokenize,
        clips.tasks,
        transforms,
        sizes.max_clip,
        seed,
        replacements,
        splits.limits.largest,
        splits.firsts["train"],
        captions.sampler(),
    )
    return dataset, splits.train_sampler(lengths, sample_rate, seed, process)


def evaluation_batches(
    splits: Splits, split: str, cuts: MonoCuts, connection: tuple[int, Tokenize], process: tuple[int, int]
) -> tuple[EvaluationDataset, EvaluationSampler]:
    """Return data set and sampler of the clips of a split, each of which comes once.

    Args:
        splits: reader of the manifests.
        split: the split.
        cuts: its clips, as the model wants them.
        connection: the model's sample rate and tokenizer.
        process: rank and world size.
    """
    sample_rate, tokenize = connection
    clips, sizes = splits.clips(split), splits.batching
    budget, window = (round(seconds * sample_rate) for seconds in (sizes.max_duration, sizes.longest_segment))
    segments = segments_of(np.asarray(clips.samples(sample_rate)), window)
    firsts = splits.firsts[split]
    dataset = EvaluationDataset(cuts, tokenize, clips.tasks, segments, splits.limits.largest, firsts)
    return dataset, EvaluationSampler(segments.lengths, budget, sizes.max_clips, *process)
