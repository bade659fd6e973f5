"""Properties of the data that the batches of an epoch depend on, by which a run that continues compares them.

n clips.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from slap.datamodules.sampling.mixed import MixedSampler
from slap.datamodules.sampling.sampler import StepSampler, TrainSampler
from slap.datamodules.stored import Array, digest


def basis(keys: Array, sampler: StepSampler) -> dict[str, Any]:
    """Return the properties that the batches of an epoch depend on, as plain data.

    Args:
        keys: (n,) int64, fingerprints of the clips' lasting names.
        sampler: makes the batches.
    """
    if isinstance(sampler, MixedSampler):
        count = len(sampler.captioned.lengths)
        others = json.dumps(basis(keys[count:], sampler.others)).encode()
        return {**basis(keys[:count], sampler.captioned), "unlabelled": blake2b(others, digest_size=8).hexdigest()}
    assert isinstance(sampler, TrainSampler)
    parts = [(source.first, source.size, source.repeats, source.taken) for source in sampler.sources]
    arrays = [(source.parts, source.weights) for source in sampler.sources]
    stored = [[None if array is None else digest(array) for array in pair] for pair in arrays]
    return {
        "clips": digest(keys),
        "lengths": digest(sampler.array),
        "count": len(sampler.lengths),
        "sources": str([*zip(parts, stored, strict=True)]),
        "num_buckets": sampler.num_buckets,
        "max_samples": sampler.max_samples,
        "max_clips": sampler.max_clips,
        "seed": sampler.seed,
        **({"min_clips": sampler.min_clips} if sampler.min_clips > 1 else {}),
        **({"sections": sampler.sections} if sampler.sections > 1 else {}),
    }
