"""Time and memory of the retrieval metrics, by default for 5,000 clips x 25,000 captions.

python benchmarks/retrieval.py
python benchmarks/retrieval.py --clips 20000 --each 1 --width 768 --ranks
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from results import keep
from torch.nn.functional import normalize

from slap.metrics.retrieval import retrieval_metrics
from slap.metrics.retrieval_ranks import right_ranks

ABOUT = """`python benchmarks/retrieval.py`: ranks of all captions and clips in both directions, and all figures with
their bootstrap intervals. `peak_mb`: the most memory beyond the embeddings; `matrix_mb`: what all scores would take."""

NOISE = 0.2
"""Of a caption's embedding beside its clip's, so that some are not found."""


def measure(clips: int, each: int, width: int, ranks_alone: bool) -> dict[str, Any]:
    """Time and memory of one size."""
    generator = torch.Generator().manual_seed(0)
    audio = normalize(torch.randn(clips, width, generator=generator), dim=1)
    clip = torch.arange(clips).repeat_interleave(each)
    text = normalize(audio[clip] + NOISE * torch.randn(len(clip), width, generator=generator), dim=1)
    retrieval_metrics(audio[:32], text[: 32 * each], clip[: 32 * each])  # what libraries take on first use is not ours
    Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak so far, which making the embeddings left
    before = memory("VmRSS")
    begun = time.perf_counter()
    every = torch.arange(len(text))
    ranks = right_ranks(text, audio, every, clip)
    right_ranks(audio, text, clip, every)
    result: dict[str, Any] = {"clips": clips, "captions": len(clip), "width": width}
    result["ranks_s"] = time.perf_counter() - begun
    result["all_s"] = "none"
    if not ranks_alone:
        begun = time.perf_counter()
        retrieval_metrics(audio, text, clip)
        result["all_s"] = time.perf_counter() - begun
    result["t2a_R@1"] = 100 * (ranks < 1).double().mean().item()
    return {**result, "peak_mb": memory("VmHWM") - before, "matrix_mb": clips * len(clip) * 4 / 1e6}


def memory(field: str) -> float:
    """Return the memory of this process, now (`VmRSS`) or at its peak (`VmHWM`), in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--each", type=int, default=5, help="captions of a clip")
    parser.add_argument("--width", type=int, default=512, help="of the embeddings")
    parser.add_argument("--ranks", action="store_true", help="ranks alone, without intervals")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here as JSON")
    parser.add_argument("--update", action="store_true", help="replace the section of RESULTS.md")
    arguments = parser.parse_args()
    rows = [measure(arguments.clips, arguments.each, arguments.width, arguments.ranks)]
    keep("retrieval", "Figures of retrieval", ABOUT, rows, arguments.out, arguments.update)


if __name__ == "__main__":
    main()
