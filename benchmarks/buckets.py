"""What length classes cost and bring: packing, clips per step, and the speed of an encoder, on clips of 0.5 to 30 s.

    python benchmarks/buckets.py

A clip counts in the loss of a step as one among its clips. So where steps have few clips and many, clips have different
weights, and a contrastive loss has few negatives and many.
"""

from __future__ import annotations

import time
from statistics import fmean

import numpy as np
import torch

from slap.core.packed import Packed
from slap.datamodules.sampling.batching import bucket_bounds, fill
from slap.encoders.audio_transformer import AudioTransformer

RATE = 16_000
BUCKETS = (1, 3, 10, 30)
CLIPS = 100_000
BUDGET = 600.0
"""Seconds of audio per batch, as in the recipe `base`."""

TIMED = 120.0
"""Seconds of audio per batch that the encoder is timed on."""

ROUNDS = 6


def lengths(count: int) -> np.ndarray:
    """Draw durations in samples, log-normal around 5 s, from 0.5 to 30 s."""
    seconds = np.clip(np.exp(np.random.default_rng(0).normal(1.6, 0.8, count)), 0.5, 30)
    return (seconds * RATE).astype(np.int64)


def batches(samples: np.ndarray, buckets: int, budget: float) -> list[np.ndarray]:
    """Return the full batches of an epoch, each as the lengths of its clips."""
    bounds = bucket_bounds(samples, buckets) if buckets > 1 else np.zeros(0, np.int64)
    return [samples[places] for places in fill(samples, bounds, round(budget * RATE), None)[0]]


def speeds(samples: np.ndarray) -> dict[int, float]:
    """Return the CPU time of a training step of the encoder `tiny`, ms per second of audio, by number of classes."""
    torch.set_num_threads(1)
    encoder = AudioTransformer(size="tiny").train()
    wave = torch.randn(31 * RATE) * 0.1
    order = np.random.default_rng(1)
    chosen = {}
    for buckets in BUCKETS:
        found = batches(samples, buckets, TIMED)
        chosen[buckets] = [found[i] for i in order.permutation(len(found))[:ROUNDS]]
    times: dict[int, list[float]] = {buckets: [] for buckets in BUCKETS}
    for turn in range(ROUNDS):
        for buckets in BUCKETS:
            sizes = chosen[buckets][turn]
            audio = Packed.pack([wave[:size] for size in sizes])
            started = time.process_time()
            encoder(encoder.patchify(audio)).values.square().mean().backward()
            times[buckets].append((time.process_time() - started) / (sizes.sum() / RATE))
    return {buckets: 1000 * fmean(values) for buckets, values in times.items()}


def main() -> None:
    """Print the table."""
    samples = lengths(CLIPS)
    speed = speeds(samples[:20_000])
    print("| length classes | packing | clips per batch, 1st to 99th percentile | ratio | ms of CPU per s of audio |")
    print("|---:|---:|---:|---:|---:|")
    for buckets in BUCKETS:
        found = batches(samples, buckets, BUDGET)
        packing = fmean(sizes.sum() / (BUDGET * RATE) for sizes in found)
        low, high = np.percentile([len(sizes) for sizes in found], [1, 99])
        print(f"| {buckets} | {packing:.1%} | {low:.0f} to {high:.0f} | {high / low:.1f} | {speed[buckets]:.1f} |")


if __name__ == "__main__":
    main()
