"""Compiled blocks: one graph for batches of all shapes, equal results, no filling in them; a step that never waits.

No GPU is needed for this: what the host does is the same, and stand-ins do the rest.
"""

import logging
from contextlib import ExitStack, nullcontext
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.connectors.logger_connector.logger_connector import _LoggerConnector
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
from torch._dynamo.utils import counters
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import flash_on_cpu
from slap import SLAP, Batch, Packed
from slap.core.batch import fingerprint
from slap.nn.stack import BUCKET, compile_blocks
from slap.training.callbacks.progress_bar import ProgressBar
from slap.training.callbacks.throughput import Throughput

NANO = {"name": "transformer", "size": "nano"}
OBJECTIVES = {
    "contrastive": 1.0,
    "masked_distillation": {"prototypes": 8, "hidden": 16, "bottleneck": 8},
    "captioning": {"layers": 1, "heads": 2, "width": 32, "hidden": 64},
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are trying to `self.log\\(\\)` but the `self.trainer`:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),  # dynamo's own
]


def model(**options):
    torch.manual_seed(0)
    audio = {**NANO, "mask_bands": 0, "mask_share": 0.0, **options}
    return SLAP(audio=audio, text={**NANO, "vocab_size": 300}, objectives=OBJECTIVES, embedding_dim=32, warmup_steps=0)


def batch(seed, clips):
    """Make clips of up to 4 s, some with several captions or none, so that no two batches have the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda low, high, n: torch.randint(low, high, (n,), generator=generator).tolist()  # noqa: E731
    audio = Packed.pack([torch.randn(n, generator=generator) * 0.1 for n in draw(1, 64_000, clips)])
    text = Packed.pack([torch.arange(1, n) for n in draw(4, 20, clips + 1)])
    keys = fingerprint([f"clip{i}" for i in range(clips)]), fingerprint([f"text{i}" for i in range(clips + 1)])
    return Batch(audio, text, torch.tensor(sorted(draw(0, clips, clips + 1))), *keys)


def loss_and_gradients(net, data):
    net.zero_grad()
    torch.manual_seed(1)  # of what is hidden
    loss = net.training_step(data, 0)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.fixture(autouse=True)
def quiet():
    """Silence torch's logs, which pytest captures: describing each graph takes longer than making it."""
    logging.getLogger("torch.__trace").setLevel(logging.WARNING)
    torch.compiler.reset()


@pytest.mark.slow
def test_one_graph_takes_batches_of_all_shapes_with_equal_losses_and_gradients(monkeypatch):
    plain, net = model().double(), model(checkpointing=True).double()
    expected = [loss_and_gradients(plain, batch(seed, 5)) for seed in (0, 9)]
    flash_on_cpu.use(monkeypatch)
    counters.clear()
    compile_blocks(net, backend="aot_eager")
    found = [loss_and_gradients(net, batch(0, 5))]
    loss_and_gradients(net, batch(1, 2))
    assert counters["graph_break"] == {}
    graphs = counters["stats"]["unique_graphs"]
    # Local and global blocks of student and of teacher, those of the decoder; the text encoder has the global ones.
    assert graphs <= 5
    with torch._dynamo.config.patch(error_on_recompile=True):  # pytest's own patching would leave it hidden
        for seed in range(2, 9):
            loss_and_gradients(net, batch(seed, 1 + seed % 7))
        found.append(loss_and_gradients(net, batch(9, 5)))
    assert counters["stats"]["unique_graphs"] == graphs
    for (loss, gradients), (same, others) in zip(expected, found, strict=True):
        torch.testing.assert_close(same, loss)
        assert others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_rows_are_padded_to_a_bucket_and_the_padding_is_dropped():
    """Check the input of blocks without a compiler: they are only marked as compiled."""
    net = model().eval()
    patches = net.audio.patchify(batch(0, 3).audio)
    plain = net.audio(patches)
    given = []
    for block in net.audio.blocks:
        block.register_forward_pre_hook(lambda block, inputs: given.append((len(inputs[0]), inputs[1].sizes)))
        block._compiled_call_impl = block._call_impl
    filled = net.audio(patches)
    torch.testing.assert_close(filled.values, plain.values)
    assert filled.sizes == plain.sizes
    rows = -(-(patches.layout.total + 1) // BUCKET) * BUCKET
    assert given == [(rows, (*patches.sizes, rows - patches.layout.total))] * len(net.audio.blocks)


def test_a_model_compiles_all_its_blocks_teacher_and_decoder_too():
    net = model()
    assert compile_blocks(net, backend="eager") == 2 * (3 + 3 + 1)  # audio, text, decoder, and the teacher's copies
    assert all(part._compiled_call_impl for part in net.modules() if getattr(part, "compiles", False))


class Blocking(TorchDispatchMode):
    """Refuses copies between devices that wait."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten.copy_.default:
            target, source = args[0].device, args[1].device
        else:
            target = kwargs.get("device") if function is torch.ops.aten._to_copy.default else None
            source = args[0].device if target is not None else None
        if target is not None and torch.device(target).type != source.type and not kwargs.get("non_blocking"):
            raise AssertionError(f"{function} from {source} to {target} waits")
        return function(*args, **kwargs)


class Making(TorchFunctionMode):
    """Refuses tensors made of the host's numbers on another device, also for rows that are set by their indices."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.__setitem__ and args[0].device.type != "cpu" and not torch.is_tensor(args[2]):
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(torch.is_tensor(place) or isinstance(place, list) for place in places):
                raise AssertionError(f"x[indices] = {args[2]} on {args[0].device} waits; take x.new_full((), ...)")
        if function in (torch.tensor, torch.as_tensor) and str(kwargs.get("device") or "cpu") != "cpu":
            raise AssertionError(f"{function.__name__}{args} on {kwargs['device']} waits")
        return function(*args, **kwargs)


@pytest.fixture
def meta(monkeypatch):
    """Use a device without values: reading a value, or a shape that depends on one, is an error."""
    autocast = torch.autocast
    without = lambda device, **options: nullcontext() if device == "meta" else autocast(device, **options)  # noqa: E731
    monkeypatch.setattr(torch, "autocast", without)
    monkeypatch.setattr("slap.nn.attention.flashes", lambda q: True)


def test_the_training_step_reads_nothing_back_from_its_device(meta):
    net = model(mask_bands=16, mask_share=0.15, checkpointing=True).to("meta")
    data = batch(0, 5).to("meta", non_blocking=True)
    optimizer = torch.optim.AdamW(net.parameters())
    with Making(), Blocking():
        net.training_step(data, 0).backward()
        optimizer.step()
        net.teacher.update(0.5)
    assert sum(p.grad is not None for p in net.parameters()) > 30


class Elsewhere(CPUAccelerator):
    """Lightning's accelerator for the device without values."""

    def setup_device(self, device):
        assert device.type == "meta"


class OneDevice(SingleDeviceStrategy):
    """Leaves the model where it is in the end, since there is nothing to bring to the host."""

    def teardown(self):
        pass


class Fused(torch.optim.AdamW):
    """Says that it is torch's fused optimizer, which this device has not."""

    def __init__(self, groups, fused=None, **options):
        super().__init__(groups, **options)
        self.defaults["fused"] = True

    def step(self, closure=None):
        loss = closure()
        self.found_inf = None  # only a fused one looks at this
        return super().step() or loss


class Refusing(Callback):
    """Refuses what waits, from the first batch to the last; before and after, waiting is nobody's loss."""

    def on_train_batch_start(self, trainer, model, data, index):
        if index == 0:
            self.modes = ExitStack()
            self.modes.enter_context(Making())
            self.modes.enter_context(Blocking())

    def on_train_end(self, trainer, model):
        self.modes.close()


class Endless:
    """Has no length, which Lightning would compare over processes, waiting once before the first batch."""

    def __iter__(self):
        yield from (batch(seed, 5) for seed in count())


class Given(LightningDataModule):
    def captions(self):
        yield from ("a dog barks", "rain on a roof")

    def train_dataloader(self):
        return Endless()


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning")
def test_training_by_lightning_reads_nothing_back_from_its_device(meta, monkeypatch, tmp_path):
    """Logging, clipping, the teacher, the schedule and the progress bar, where no row of the logs is due."""
    monkeypatch.setattr("slap.training.optim.AdamW", Fused)
    # In the end Lightning brings to the host what it has collected, but there is nothing to bring.
    monkeypatch.setattr(_ResultCollection, "cpu", lambda results: results)
    monkeypatch.setattr(_LoggerConnector, "teardown", lambda connector: None)
    device = torch.device("meta")
    trainer = Trainer(
        accelerator=Elsewhere(),
        strategy=OneDevice(device=device),
        max_steps=3,
        gradient_clip_val=1.0,
        log_every_n_steps=100,
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[Refusing(), ProgressBar(), Throughput()],
    )
    net = model(mask_bands=16, mask_share=0.15)
    trainer.fit(net, datamodule=Given())
    assert trainer.global_step == 3
    assert all(parameter.device == device for parameter in net.parameters())


def test_the_progress_bar_shows_the_loss_of_the_last_row_of_the_logs():
    bar, trainer = ProgressBar(), SimpleNamespace(loggers=[], progress_bar_metrics={}, log_every_n_steps=2)
    shown = []
    for step in range(1, 6):
        trainer.global_step, trainer.callback_metrics = step, {"train/loss": torch.tensor(float(step))}
        shown.append(bar.get_metrics(trainer, None).get("train/loss"))
    assert shown == [None, 2.0, 2.0, 4.0, 4.0]
    trainer.progress_bar_metrics = {"train/loss": 0.5}  # on a CPU
    assert bar.get_metrics(trainer, None) == {"train/loss": 0.5}


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: x.tolist(),
        lambda x: bool(x.any()),
        lambda x: torch.tensor(1.0, device=x.device),
        lambda x: torch.zeros(2).to(x.device),
        lambda x: x.__setitem__(torch.zeros(2, dtype=torch.int64, device=x.device), 1.0),
    ],
)
def test_that_test_would_see_who_waits(meta, reads):
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)), Making(), Blocking():
        reads(torch.zeros(3, device="meta"))
