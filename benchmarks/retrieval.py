"""What all figures of retrieval take, in time and memory: 5,000 clips x 25,000 captions unless told otherwise.

python benchmarks/retrieval.py
python benchmarks/retrieval.py --clips 20000 --each 1 --width 768
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch.nn.functional import normalize

from slap.judge.intervals import median_rank
from slap.retrieval_figures import retrieval_figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--each", type=int, default=5, help="captions of a clip")
    parser.add_argument("--width", type=int, default=512, help="of the embeddings")
    parser.add_argument("--quick", action="store_true", help="ranks alone, without intervals")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    audio = normalize(torch.randn(options.clips, options.width, generator=generator), dim=1)
    clip = torch.arange(options.clips).repeat_interleave(options.each)
    text = normalize(audio[clip] + 0.2 * torch.randn(len(clip), options.width, generator=generator), dim=1)
    few = torch.arange(64) // 2
    retrieval_figures(audio[:32], text[:64], few)  # what libraries hold from their first use on is not counted
    before, start = peak(), time.perf_counter()
    if options.quick:
        from slap.retrieval import caption_ranks, text_to_audio_ranks

        value = 100 * (text_to_audio_ranks(audio, text, clip) < 1).double().mean().item()
        caption_ranks(audio, text, clip)
    else:
        found = retrieval_figures(audio, text, clip)
        median_rank(found.text_ranks, clip, 0.0)
        value = found.results["t2a_R@1"].value
    seconds = time.perf_counter() - start
    scores = options.clips * len(clip) * 4 / 1e6
    print(f"{options.clips} clips x {len(clip)} captions, {options.width} dimensions: {seconds:.1f} s")
    print(f"text to audio R@1 {value:.1f}")
    print(f"peak above start: {peak() - before:.0f} MB (the matrix of all scores would take {scores:.0f} MB)")


def peak() -> float:
    """The most memory that this process had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
