"""Embedding clips on a CPU: how near it comes to matrix multiplication, and what others take for the same clips.

    python benchmarks/encode.py --update

The audio encoder `base` with random weights embeds packed clips, in float32 and bfloat16. Rates are operations that the
clips need (benchmarks/flops.py) by time, beside those of square matrices in the same turns. Other encoders get the same
clips, at their own sample rates, in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import flops
import padded
import peers
import torch
from rows import Row, add_options, finish
from timing import Matmul, Turns
from torch import Tensor
from workload import durations_of, waveforms

from slap.core.packed import Packed
from slap.inference.load import computes_bfloat16
from slap.inference.rebuild import cast
from slap.model.network import Network
from slap.nn.linear import prepack

ABOUT = """`python benchmarks/encode.py`: `base`, packed, clips of log-normal durations, random weights. At best: the
rate of square matrices in the same run. Reached: operations that the clips need by time; `with log-mel` counts the
front-end's time too. Others: seconds of real audio a second, beside ours in float32 with its front-end; longer clips
than they take go in windows. The padded encoder is ours, written the usual way: one batch padded to its longest. At
equal rates an encoder can only be as many times slower as it needs operations, padding included; where these are fewer
than 15 times ours, the aim asks for more than leaving out padding can give."""

TINY = {"name": "transformer", "size": "tiny"}


def network() -> Network:
    """Make the paper's audio encoder with a small text encoder, ready for inference."""
    torch.manual_seed(0)
    model = Network({"name": "transformer", "size": "base"}, TINY, {}).eval().requires_grad_(False)
    prepack(model)
    return model


@torch.no_grad()
def embed(model: Network, patches: Packed) -> Tensor:
    """Patches to embeddings, (B, E), in the precision of the model."""
    values = patches.values.to(model.audio_pool.dtype)
    return model.audio_pool(model.audio(patches.replace(values)))


def chosen_peers(options: argparse.Namespace) -> list[Any]:
    """Return the encoders to compare with."""
    found: list[Any] = [peers.TRANSFORMERS[name]() for name in options.peers]
    return [*found, peers.NaFlexCLAP(options.open_clip)] if options.open_clip else found


def run(options: argparse.Namespace) -> list[Row]:
    """Measure; the rows of the table."""
    lengths = durations_of(options.seconds)
    audio = Packed.pack(waveforms(lengths))
    models = {"float32": network()}
    if computes_bfloat16():
        models["bfloat16"] = cast(deepcopy(models["float32"]), torch.bfloat16)
    squares = {name: Matmul(getattr(torch, name)) for name in models}
    others = chosen_peers(options)
    turns = Turns(options.clock)
    with torch.no_grad():
        patches = models["float32"].audio.patchify(audio)
    expected = embed(models["float32"], patches)  # and warms up
    for turn in range(options.turns):
        for name, model in models.items():
            squares[name].turn(turns)
            with torch.no_grad():
                turns.take("log-mel", lambda: models["float32"].audio.patchify(audio))
            found = turns.take(name, lambda model=model: embed(model, patches))
            close = torch.cosine_similarity(found, expected).min().item()
            assert close > 0.99, f"{name} gives other embeddings, cosine {close}"
        mine = lengths[turn :: options.turns]
        for peer in others:
            clips = waveforms(mine, peer.rate)
            if turn == 0:
                peer(clips[:1])  # warms up
            turns.take(peer.name, lambda peer=peer, clips=clips: peer(clips))
        squares["float32"].turn(turns)
    embeddings = turns.take("padded", lambda: padded.embed(models["float32"], patches))
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-4)
    work = flops.encode(models["float32"], patches.sizes)
    rows = _ours(turns, squares, work, sum(lengths)) + _others(turns, [peer.name for peer in others], lengths, options)
    for peer in others:
        if isinstance(peer, peers.Windowed):
            theirs = peer.operations(waveforms(lengths, peer.rate))
            each = [count / sum(lengths) / 1e9 for count in (theirs, work)]
            rows.append(Row(f"operations of {peer.name} against ours", "GFLOP/audio s", *each, theirs / work))
    return rows


def _ours(turns: Turns, squares: dict[str, Matmul], work: int, seconds: float) -> list[Row]:
    rows = []
    front = turns.median("log-mel")
    for name, square in squares.items():
        best, took = square.rate(turns), turns.median(name)
        for what, time in (("without log-mel", took), ("with log-mel", took + front)):
            aim = 0.85 if name == "float32" and what == "without log-mel" else None
            rows.append(
                Row(
                    f"encode, {name}, {what} ({seconds / time:.3g} audio s/s)",
                    "GFLOP/s",
                    best / 1e9,
                    work / time / 1e9,
                    work / time / best,
                    at_least=aim,
                )
            )
    if "bfloat16" in squares:
        faster = turns.median("float32") / turns.median("bfloat16")
        rates = [seconds / turns.median(name) for name in ("float32", "bfloat16")]
        rows.append(Row("encode, bfloat16 against float32", "audio s/s", *rates, faster, at_least=1.0))
    else:
        rows.append(Row.skipped("encode, bfloat16 against float32", "the processor has no bfloat16 instructions"))
    share = front / turns.median("float32")
    rows.append(Row("log-mel against the float32 encoder", "s", turns.median("float32"), front, share))
    return rows


def _others(turns: Turns, names: Sequence[str], lengths: list[float], options: argparse.Namespace) -> list[Row]:
    seconds = sum(lengths)
    ours = seconds / (turns.median("float32") + turns.median("log-mel"))
    rows = []
    for name in [*names, "padded"]:
        theirs = seconds / turns.total(name)
        shown = "our encoder, padded and masked" if name == "padded" else name
        aim = None if name == "padded" else 15.0
        rows.append(Row(f"encode, ours against {shown}", "audio s/s", theirs, ours, ours / theirs, at_least=aim))
    if not options.open_clip:
        rows.append(Row.skipped("encode, ours against NaFlexCLAP base, open_clip", "needs --open-clip PATH"))
    return rows


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--seconds", type=float, default=90.0, help="of audio (default: %(default)g)")
    parser.add_argument("--turns", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--peers", nargs="*", default=[*peers.TRANSFORMERS], choices=[*peers.TRANSFORMERS])
    parser.add_argument("--open-clip", type=Path, metavar="PATH", help="source of open_clip with NaFlexCLAP")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)
    add_options(parser)
    finish("encode", "Embedding clips on a CPU", ABOUT, run, parser.parse_args())


if __name__ == "__main__":
    main()
