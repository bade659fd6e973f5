"""The memory of a training step on the paper's 2,048 clips in parts, beside that of a step on the clips of one part.

    python benchmarks/large_batch.py --update

Three objectives, forward and backward pass, each step in a process of its own. Memory is the most that the process had
beyond model and gradients, which a first step on two clips has brought in.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import torch
from rows import Row, add_options, finish
from step import SETS, batch_of
from timing import peak_megabytes

from slap.model.grad_cache import views_of
from slap.recipes import base
from slap.training import step

ABOUT = """`python benchmarks/large_batch.py --size {size}`: the peak memory of a training step with three objectives
and cached gradients (`micro_clips`), beside a step on the clips of one part, beyond the model and its gradients. Clips
of {duration:g} s. What grows with the batch is waveforms, patches and what objectives keep of a clip, whatever the size
of the encoders; the memory of one part grows with theirs. The allocator is told to give blocks of a megabyte back at
once (`MALLOC_MMAP_THRESHOLD_`): what glibc keeps otherwise depends on the order of blocks more than on their number."""

ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1048576"}


def measure(options: argparse.Namespace, clips: int, parts_of: int) -> dict[str, float]:
    """Measure a step on a number of clips, in parts of a given size, in a new process."""
    command = [sys.executable, __file__, "--one", str(clips), "--part", str(parts_of), "--size", options.size]
    command += ["--duration", str(options.duration), "--threads", str(options.threads)]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(options: argparse.Namespace) -> dict[str, float]:
    """Run the step of `measure`: MB beyond those of a tiny step, and MB of the waveforms."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    encoder = {"name": "transformer", "size": options.size}
    objectives = {name: base.OBJECTIVES[name] for name in SETS["three objectives"]}
    model = base.model(audio=encoder, text=encoder, objectives=objectives).train()
    for clips in (2, options.one):
        before = peak_megabytes()
        batch = batch_of([options.duration] * clips)
        loss, _ = step.compute(model, views_of(model, [batch], options.part))
        loss.backward()
    waveforms = batch.audio.values.numel() * 4 / 1e6
    return {"memory": peak_megabytes() - before, "waveforms": waveforms}


def run(options: argparse.Namespace) -> list[Row]:
    """Measure; the rows of the table."""
    few, many, part = options.part, options.clips, options.part
    small, large = measure(options, few, part), measure(options, many, part)
    what = f"step, {many:,} clips in parts of {part} against {few} clips ({large['waveforms']:.0f} MB of waveforms)"
    return [Row(what, "MB", small["memory"], large["memory"], large["memory"] / small["memory"])]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--clips", type=int, default=2048, help="of the large batch (default: %(default)s)")
    parser.add_argument("--part", type=int, default=64, help="clips at once (default: %(default)s)")
    parser.add_argument("--duration", type=float, default=1.0, help="of a clip, in seconds (default: %(default)g)")
    parser.add_argument("--size", default="small", help="of both encoders (default: %(default)s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options)))
    else:
        finish("large_batch", "A large batch in parts", ABOUT.format(**vars(options)), run, options)


if __name__ == "__main__":
    main()
