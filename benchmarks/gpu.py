"""Training on one GPU: how near it comes to the rate of its matrix products, and whether the host ever waits for it.

    python benchmarks/gpu.py --out results.json --update

The model is the paper's, `base`, in bfloat16 with compiled blocks, on packed clips of log-normal durations.

N patches of a batch, n hidden ones, B clips, M text tokens.
"""

from __future__ import annotations

import argparse
import gc
import logging
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from results import keep, rewrite, write
from torch import nn
from workload import captions, durations_of

from slap import SLAP, Batch, Packed
from slap.core.batch import fingerprint
from slap.encoders.audio_transformer import PATCH, AudioTransformer
from slap.nn.stack import compile_blocks

RATE = 16_000
DEVICE = "cuda"
ROOT = Path(__file__).parent.parent
BASE = {"name": "transformer", "size": "base"}
OBJECTIVES: dict[str, Any] = {"contrastive": 1.0, "masked_distillation": 1.0, "captioning": 0.5}
ROWS_A_SECOND = 25
"""Patches of a second of audio."""

NAME, TITLE = "gpu", "Training on one GPU"
ABOUT = """\
`python benchmarks/gpu.py --update`: the model `base` of the paper, bfloat16 by autocast, weights in float32, packed
clips of log-normal durations (benchmarks/workload.py). Utilisation is the floating-point operations that the model
asks for (attention within windows and clips; nothing that is computed again) by the time, as a share of the rate of
the largest matrix product measured in the same run. The aims: 50 % for the encoder, 40 % for the step with three
objectives, no compiling after the first batches, no waiting for the GPU within a step."""


class Report:
    """The measured rows, each printed at once.

    Args:
        rows: rows of the table.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.known: dict[str, float] = {}

    def add(self, what: str, value: Any, unit: str = "", note: str = "") -> None:
        """Print a row and keep it."""
        self.rows.append({"what": what, "value": value, "unit": unit, "note": note})
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"[{time.strftime('%H:%M:%S')}] {what}: {shown} {unit} {note}", flush=True)


# -- time ------------------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], Any], repeats: int = 5, warm: int = 2) -> float:
    """Measure the median time of a function on the GPU, in seconds."""
    for _ in range(warm):
        run()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return sorted(times)[len(times) // 2]


def clear() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


# -- data ------------------------------------------------------------------------------------------------------------


def make_batch(patches: int, seed: int = 0, vocabulary: int = 8000) -> Batch:
    """Make clips of about this number of patches in all, with a caption each, in page-locked memory of the host."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [round(one * RATE) for one in durations_of(patches / ROWS_A_SECOND, seed)]
    words = [len(caption.split()) + 2 for caption in captions(len(sizes), seed)]
    audio = torch.randn(sum(sizes), generator=generator).mul_(0.1)
    text = torch.randint(3, vocabulary, (sum(words),), generator=generator)
    ids = [f"{seed}-{i}" for i in range(len(sizes))]
    batch = Batch(
        audio=Packed(audio, torch.tensor(sizes, dtype=torch.int32)),
        text=Packed(text, torch.tensor(words, dtype=torch.int32)),
        clip=torch.arange(len(sizes)),
        clip_key=fingerprint(ids),
        caption_key=fingerprint([f"caption {i}" for i in ids]),
        ids=tuple(ids),
    )
    return batch.pin_memory()


class Batches(LightningDataModule):
    """Batches that are there already, again and again."""

    prompts: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, batches: Sequence[Batch]) -> None:
        super().__init__()
        self.batches = batches

    def captions(self) -> Iterator[str]:
        """Return the captions to learn the tokenizer from."""
        yield from captions(2000)

    def train_dataloader(self) -> Endless:
        """Return the batches."""
        return Endless(self.batches)


class Endless:
    """Some batches, over and over."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.batches


# -- work ------------------------------------------------------------------------------------------------------------


def linear_weights(module: nn.Module, without: Sequence[nn.Module] = ()) -> int:
    """Weights of the linear layers."""
    left_out = {id(part) for other in without for part in other.modules()}
    return sum(
        part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear) and id(part) not in left_out
    )


def seen(sizes: Sequence[int], window: int | None) -> int:
    """Pairs of a row and a row that it attends to."""
    if window is None:
        return sum(n * n for n in sizes)
    reach = window // 2
    return sum(n * (2 * min(reach, n - 1) + 1) - min(reach, n - 1) * (min(reach, n - 1) + 1) for n in sizes)


def encoder_flops(encoder: Any, sizes: Sequence[int]) -> float:
    """Count the operations of one forward pass of the blocks and of the patch embedding."""
    weights = linear_weights(encoder)
    pairs = sum(seen(sizes, block.attention.window) for block in encoder.blocks)
    return 2.0 * sum(sizes) * weights + 4.0 * encoder.width * pairs


def patches_of(batch: Batch) -> list[int]:
    return [4 * -(-(1 + n // 160) // PATCH[0]) for n in batch.audio.sizes]


def step_flops(model: SLAP, batch: Batch) -> dict[str, float]:
    """Count the operations of a step by its parts; forward and backward count as three forward passes."""
    audio, text = patches_of(batch), list(batch.text.sizes)
    passes = encoder_flops(model.audio, audio)
    parts = {"audio": 3 * passes, "text": 3 * encoder_flops(model.text, text)}
    for side, pool, rows in (("audio", model.audio_pool, sum(audio)), ("text", model.text_pool, sum(text))):
        parts[f"pooling {side}"] = 6.0 * rows * pool.attention.kv.weight.numel()
    if "masked_distillation" in model.objectives:
        head: Any = model.objectives["masked_distillation"]
        hidden = sum(min(round(n * model.mask_ratio), n - 1) for n in audio)
        parts |= {"masked audio": 3 * passes, "teacher": passes}
        parts["prototypes"] = 8.0 * hidden * (linear_weights(head.head) + head.head.prototypes.numel())
    if "captioning" in model.objectives:
        decoder: Any = model.objectives["captioning"].decoder
        heard = [block.cross_attention.kv for block in decoder.blocks]
        words = [n - 1 for n in text]
        flops = 2.0 * sum(words) * (linear_weights(decoder, heard) + decoder.embedding.weight.numel())
        flops += 2.0 * sum(audio) * sum(linear_weights(kv) for kv in heard)
        pairs = sum(n * (n + 1) / 2 + n * m for n, m in zip(words, audio, strict=True))
        parts["decoder"] = 3 * (flops + 4.0 * decoder.embedding.embedding_dim * len(decoder.blocks) * pairs)
    return parts


# -- what is measured ------------------------------------------------------------------------------------------------


def matmul(report: Report, options: argparse.Namespace) -> None:
    """Rates of matrix products, and of copying."""
    rows = options.tokens
    shapes = {"8192 cubed": (8192, 8192, 8192)} | {
        "qkv": (rows, 768, 2304),
        "attention out": (rows, 768, 768),
        "feed-forward in": (rows, 768, 6144),
        "feed-forward out": (rows, 3072, 768),
        "gradient of a weight": (768, rows, 6144),
    }
    for name, (m, k, n) in shapes.items():
        a, b = (torch.randn(*shape, device="cuda", dtype=torch.bfloat16) for shape in ((m, k), (n, k)))
        rate = 2 * m * k * n / seconds(lambda a=a, b=b: a @ b.T, 10, 3) / 1e12
        report.known[name] = rate
        report.add(f"matrix product, {name}", rate, "TFLOP/s", f"{m} x {k} x {n}")
        del a, b
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    report.add("copy", 2 * source.nbytes / seconds(lambda: target.copy_(source)) / 1e12, "TB/s", "read and written")
    report.known["peak"] = report.known["8192 cubed"]


def peak(report: Report) -> float:
    """Return the peak of matrix products, in FLOP/s; it is measured if it is not known yet."""
    if "peak" not in report.known:
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        report.known["peak"] = 2 * 8192**3 / seconds(lambda: a @ b, 10, 3) / 1e12
    return report.known["peak"] * 1e12


def correct(report: Report, options: argparse.Namespace) -> None:
    """Check embeddings and gradients, and meanwhile run the tests for CUDA, since compiling leaves the GPU idle."""
    begun = None if options.without_tests else begin_tests()
    try:
        compare(report)
        if begun is not None:
            end_tests(report, begun)
    finally:
        if begun is not None and begun.poll() is None:
            begun.kill()


def compare(report: Report) -> None:
    """Compare embeddings and gradients in bfloat16 on the GPU with those in float32 on the host."""
    model = make_model(compiled=False).eval().cpu()
    batch = make_batch(400, seed=3)
    with torch.no_grad():
        expected = model.embed_audio(batch.audio), model.embed_text(batch.text)
    model, moved = model.to(DEVICE), batch.to(DEVICE)
    for name in ("eager", "compiled"):
        if name == "compiled":
            compile_blocks(model)
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            found = model.embed_audio(moved.audio), model.embed_text(moved.text)
        for side, ours, theirs in zip(("audio", "text"), found, expected, strict=True):
            error = (ours.double().cpu() - theirs.double()).norm() / theirs.double().norm()
            report.add(f"{side} embeddings, {name} bfloat16 to float32 on the host", float(error), "relative error")
            assert error < 0.05, f"{name} {side} embeddings are {error:.3f} away from float32 on the host"
    model.train()
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    with torch.autocast("cuda", torch.bfloat16):
        model.training_step(moved, 0).backward()
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    report.add("gradients that are not finite", len(bad), "", ", ".join(bad[:5]))


def begin_tests() -> subprocess.Popen[str]:
    """Start the tests that are skipped without CUDA."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [str(ROOT / "tests/nn/test_attention.py"), "-k", "flash", "-W", "default"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_tests(report: Report, begun: subprocess.Popen[str]) -> None:
    output, _ = begun.communicate(timeout=120)
    print(output[-1500:], flush=True)
    report.add("tests of attention that need CUDA", output.strip().splitlines()[-1] if output.strip() else "none")
    assert begun.returncode == 0, f"the tests failed: exit status {begun.returncode}"


def encode(report: Report, options: argparse.Namespace) -> None:
    """Measure the encoder forward and backward: compiled and not, with and without recomputing."""
    clips = make_batch(options.tokens + ROWS_A_SECOND * 30).audio.to("cuda", non_blocking=True)
    torch.manual_seed(0)
    patches = AudioTransformer("base").cuda().patchify(clips)
    audio = clips.layout.total / RATE
    report.add("patches of the batch", patches.layout.total, "", f"{len(clips)} clips, {audio:.0f} s")
    for name, compiled, again in (
        ("compiled", True, False),
        ("compiled, recomputing", True, True),
        ("eager", False, False),
    ):
        clear()
        torch.manual_seed(0)
        with torch.device(DEVICE):
            encoder = AudioTransformer("base", checkpointing=again).train()
        if compiled:
            compile_blocks(encoder)
        before = torch.cuda.memory_allocated()

        def run(encoder: nn.Module = encoder, backward: bool = True) -> None:
            with torch.autocast("cuda", torch.bfloat16), torch.set_grad_enabled(backward):
                out = encoder(patches).values
            if backward:
                out.backward(torch.ones_like(out))

        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        report.add(f"encoder, {name}: first step", time.perf_counter() - begun, "s")
        taken, flops = seconds(run), encoder_flops(encoder, patches.sizes)
        report.add(f"encoder, {name}: forward and backward", 1000 * taken, "ms", f"{3 * flops / 1e12:.1f} TFLOP")
        report.add(f"encoder, {name}: utilisation", 300 * flops / taken / peak(report), "%", "aim: 50")
        report.add(f"encoder, {name}: audio", audio / taken, "s/s")
        memory = (torch.cuda.max_memory_allocated() - before) / 1e9
        report.add(f"encoder, {name}: memory for 1,000 s", 1000 * memory / audio, "GB", f"{memory:.1f} in all")
        alone = seconds(partial(run, backward=False))
        report.add(f"encoder, {name}: forward alone", 1000 * alone, "ms", f"{100 * flops / alone / peak(report):.1f} %")
        if compiled and not again:
            profile(report, "encoder", run, options)
        del encoder, run


class Watch(Callback):
    """Calls a function before the first of some steps, and another after the last.

    Args:
        first: the step after which it begins.
        last: the step after which it ends.
        begin: called once.
        end: called once.
        stops: call `end` also if training fails.
    """

    def __init__(
        self, first: int, last: int, begin: Callable[[], Any], end: Callable[[], Any], stops: bool = False
    ) -> None:
        self.first, self.last, self.begin, self.end, self.stops = first, last, begin, end, stops

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """After each step."""
        if trainer.global_step == self.first:
            self.begin()
        if trainer.global_step == self.last:
            self.end()

    def on_exception(self, *_: Any) -> None:
        """Before Lightning cleans up."""
        if self.stops:
            self.end()


def fit(model: LightningModule, batches: Sequence[Batch], steps: int, callbacks: list[Callback]) -> None:
    """Train as a user does, by Lightning, without what writes files."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            default_root_dir=folder,
            accelerator="gpu",
            devices=1,
            precision="bf16-mixed",
            max_steps=steps,
            gradient_clip_val=1.0,
            log_every_n_steps=10**6,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=callbacks,
        )
        trainer.fit(model, datamodule=Batches(batches))


def make_model(compiled: bool = True, recompute: bool = False, objectives: Any = None) -> SLAP:
    torch.manual_seed(0)
    encoder = {**BASE, "checkpointing": recompute}
    with torch.device(DEVICE):  # random weights are soon made there
        return SLAP(encoder, encoder, objectives or OBJECTIVES, compile=compiled)


def step(report: Report, options: argparse.Namespace) -> None:
    """Measure the whole training step with three objectives, and with one."""
    batches = [make_batch(options.tokens + ROWS_A_SECOND * 30, seed) for seed in range(3)]
    audio = sum(batch.audio.layout.total for batch in batches) / len(batches) / RATE
    cases: list[tuple[str, Any, bool]] = [("three objectives", OBJECTIVES, False)]
    if not options.quick:
        cases += [
            ("three objectives, recomputing", OBJECTIVES, True),
            ("contrastive alone", {"contrastive": 1.0}, False),
        ]
    for name, objectives, again in cases:
        try:
            time_steps(report, name, make_model(True, again, objectives), batches, audio, options)
        except torch.OutOfMemoryError as error:
            report.add(f"step, {name}", "out of memory", "", str(error)[:100])
        clear()


def time_steps(
    report: Report, name: str, model: SLAP, batches: Sequence[Batch], audio: float, options: argparse.Namespace
) -> None:
    clear()
    first, last = 4, 4 + 3 * (2 if options.quick else 3)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    host: list[float] = []

    def note(event: torch.cuda.Event) -> None:
        event.record()
        host.append(time.perf_counter())

    watch = Watch(first, last, lambda: note(begin), lambda: note(end))
    begun = time.perf_counter()
    fit(model, batches, last, [watch])
    torch.cuda.synchronize()
    report.add(f"step, {name}: all {last} steps and compiling", time.perf_counter() - begun, "s")
    taken = begin.elapsed_time(end) / 1000 / (last - first)
    parts = [step_flops(model, batch) for batch in batches]
    flops = sum(sum(part.values()) for part in parts) / len(parts)
    report.add(f"step, {name}", 1000 * taken, "ms", f"{flops / 1e12:.1f} TFLOP")
    report.add(f"step, {name}: host", 1000 * (host[1] - host[0]) / (last - first), "ms", "until it has asked for all")
    report.add(f"step, {name}: utilisation", 100 * flops / taken / peak(report), "%", "aim: 40")
    report.add(f"step, {name}: audio", audio / taken, "s/s")
    memory = torch.cuda.max_memory_allocated() / 1e9
    report.add(f"step, {name}: memory for 1,000 s", 1000 * memory / audio, "GB", f"{memory:.1f} in all")
    if name == "three objectives":
        shares = ", ".join(f"{part} {value / 1e12:.1f}" for part, value in parts[-1].items())
        report.add("step, parts", "", "TFLOP", shares)
        moved = batches[0].to(DEVICE)
        model.to(DEVICE)  # Lightning brings it to the host in the end
        frontend = seconds(lambda: model.audio.patchify(moved.audio))
        report.add("step, log-mel and patches", 100 * frontend / taken, "% of the step", "aim: 5")


def profiled(report: Report, options: argparse.Namespace) -> None:
    """Report the time of a step by kernels."""
    batches = [make_batch(options.tokens + ROWS_A_SECOND * 30, seed) for seed in range(2)]
    recorder = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])

    def begin() -> None:
        torch.cuda.synchronize()
        recorder.start()

    def end() -> None:
        torch.cuda.synchronize()
        recorder.stop()

    fit(make_model(), batches, 6, [Watch(4, 6, begin, end)])
    breakdown(report, "step", recorder, 2)


KINDS = {
    "attention": ("flash", "fmha"),
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "xmma", "sm90_", "sm80_", "splitk"),
    "optimizer and teacher": ("multi_tensor", "foreach", "fused_adam", "adam", "lerp"),
    "compiled": ("triton",),
    "copies": ("memcpy", "memset"),
    "sorting and gathering": ("sort", "scatter", "gather", "index", "radix", "scan", "cub", "embedding"),
    "Fourier transform": ("fft",),
    "reductions": ("reduce", "softmax", "norm"),
    "elementwise": ("elementwise", "cat", "fill", "copy"),
}


def kind_of(kernel: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in kernel.lower() for part in parts)), "other")


def breakdown(report: Report, name: str, recorder: Any, steps: int) -> None:
    """Shares of kinds of kernels and the longest kernels."""
    kernels: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for event in recorder.key_averages():
        if event.device_type == torch.autograd.DeviceType.CUDA and event.self_device_time_total:
            kernels[event.key][0] += event.self_device_time_total / 1000 / steps
            kernels[event.key][1] += event.count / steps
    total = sum(spent for spent, _ in kernels.values())
    kinds: dict[str, float] = defaultdict(float)
    for key, (spent, _) in kernels.items():
        kinds[kind_of(key)] += spent
    report.add(f"{name}, kernels", total, "ms", f"{sum(count for _, count in kernels.values()):.0f} of them")
    for kind, spent in sorted(kinds.items(), key=lambda item: -item[1]):
        report.add(f"{name}, {kind}", 100 * spent / total, "% of the kernels' time")
    print(f"longest kernels of {name} (ms, count):")
    for key, (spent, count) in sorted(kernels.items(), key=lambda item: -item[1][0])[:45]:
        print(f"  {spent:8.3f} {count:6.0f}  {key[:130]}", flush=True)


def profile(report: Report, name: str, run: Callable[[], None], options: argparse.Namespace) -> None:
    """Report the time of a function by kernels."""
    if options.quick:
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorder:
        run()
        torch.cuda.synchronize()
    breakdown(report, name, recorder, 1)


def shapes(report: Report, options: argparse.Namespace) -> None:
    """Batches of 200 different shapes: how often is code compiled after the first three?"""
    from torch._dynamo import config
    from torch._dynamo.utils import counters

    count = 40 if options.quick else 200
    sizes = torch.randint(1_000, 6_000, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = [make_batch(size, seed) for seed, size in enumerate(sizes)]
    graphs: list[int] = []
    note = lambda: graphs.append(counters["stats"]["unique_graphs"])  # noqa: E731

    class Strict(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            config.error_on_recompile = trainer.global_step >= 3

    counters.clear()
    torch.compiler.reset()
    try:
        fit(make_model(), batches, count, [Watch(3, count, note, note), Strict()])
    finally:
        config.error_on_recompile = False
    report.add("graphs compiled in the first 3 steps", graphs[0])
    report.add(
        f"graphs compiled in steps 4 to {count}", graphs[1] - graphs[0], "", "each batch of another shape; aim: 0"
    )
    report.add("breaks of graphs", sum(counters["graph_break"].values()), "", str(dict(counters["graph_break"]))[:200])


@contextmanager
def stacks() -> Iterator[dict[str, int]]:
    """Count, by where they come from in our code, warnings that the host waits."""
    found: dict[str, int] = defaultdict(int)

    def show(message: Any, *_: Any, **__: Any) -> None:
        if "synchronizing CUDA operation" not in str(message):
            return
        lines = [line for line in traceback.extract_stack() if "warnings.py" not in line.filename]
        ours = [f"{Path(line.filename).name}:{line.lineno} {line.line}" for line in lines[-14:-1]]
        found[" < ".join(reversed(ours[-6:]))] += 1

    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        try:
            yield found
        finally:
            warnings.showwarning = before


def waits(report: Report, _: argparse.Namespace) -> None:
    """Check that the host does not wait for the GPU within a step: by errors, and then by warnings with their places.

    The batches are small, so that the GPU is faster than the host: the measured time is that of the host per step.
    """
    batches = [make_batch(1500 + 100 * seed, seed) for seed in range(4)]
    model, mode, clock = make_model(), torch.cuda.set_sync_debug_mode, list[float]()
    clocked = Watch(4, 8, lambda: clock.append(time.perf_counter()), lambda: clock.append(time.perf_counter()))
    try:
        fit(model, batches, 9, [Watch(4, 8, partial(mode, "error"), partial(mode, "default"), True), clocked])
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        traceback.print_exc()
        report.add("steps with waiting as an error", "failed", "", "see the places")
        with stacks() as found:
            fit(model, batches, 9, [Watch(4, 8, partial(mode, "warn"), partial(mode, "default"), True)])
        report.add("places where the host waits in 4 steps", len(found), "", "aim: 0")
        for place, count in found.items():
            print(f"  {count} times: {place}", flush=True)
        return
    report.add("places where the host waits in 4 steps", 0, "", "waiting is an error in them; aim: 0")
    taken = 1000 * (clock[1] - clock[0]) / 4
    report.add("step of a batch of 1,500 patches, which is the host's time", taken, "ms", "three objectives")


SECTIONS: dict[str, Callable[[Report, argparse.Namespace], None]] = {
    "matmul": matmul,
    "correct": correct,
    "encode": encode,
    "waits": waits,
    "step": step,
    "profile": profiled,
    "shapes": shapes,
}


def main() -> int:
    """Measure and print; one part's failure does not keep the others from being measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", default=[*SECTIONS], choices=SECTIONS, help="(default: all)")
    parser.add_argument(
        "--tokens", type=int, default=65_536, help="patches of a batch, at least (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats and shapes")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here as JSON")
    parser.add_argument("--update", action="store_true", help="replace the section of RESULTS.md")
    parser.add_argument("--without-tests", action="store_true", help="leave out the tests that need CUDA")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="measure nothing: figures from a file that --out wrote"
    )
    options = parser.parse_args()
    if options.source:
        rewrite(options.source, NAME, TITLE, ABOUT, options.update)
        return 0
    if not torch.cuda.is_available():
        parser.error("this needs a CUDA device")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    report = Report()
    report.add(
        "device", torch.cuda.get_device_name(), "", f"{torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB"
    )
    failed = []
    for name in options.sections:
        begun = time.perf_counter()
        try:
            SECTIONS[name](report, options)
        except Exception:
            failed.append(name)
            traceback.print_exc()
            report.add(f"section {name}", "failed", "", traceback.format_exc().strip().splitlines()[-1][:150])
        clear()
        report.add(f"section {name} took", time.perf_counter() - begun, "s")
        if options.out:  # what is measured so far, should the next part never end
            write(NAME, report.rows, options.out)
    keep(NAME, TITLE, ABOUT, report.rows, options.out, options.update)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
