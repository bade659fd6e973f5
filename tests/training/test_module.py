"""The training step: weights, views computed once, the teacher, schedules, checkpoints."""

import gc
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from slap import SLAP, Batch, Objective, Packed, register
from slap.core.batch import fingerprint
from slap.nn.tokenizer import train_tokenizer
from slap.training.half_precision import HalfWeights

AUDIO = {"name": "transformer", "size": "nano"}
TEXT = {"name": "transformer", "size": "nano", "vocab_size": 300}
CAPTIONS = ["a dog barks", "rain falls", "a bell rings twice", "a dog barks"]

no_trainer = pytest.mark.filterwarnings("ignore:You are trying to `self.log\\(\\)` but the `self.trainer`:UserWarning")


class Constant(Objective):
    """A loss that is a number times one parameter, which starts at 1."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, views):
        return self.factor * self.value


class Reads(Objective):
    """Reads the views it is told to, several times over."""

    def __init__(self, *names):
        super().__init__()
        self.names = names

    def forward(self, views):
        return sum(getattr(views, name).tokens.values.pow(2).mean() for name in self.names * 2)


class TeacherReads(Reads):
    uses_teacher = True


class Data(LightningDataModule):
    prompts: ClassVar = {"animal": "{label}"}

    def captions(self):
        yield from CAPTIONS

    def _batches(self):
        tokenize = self.trainer.lightning_module.text.tokenize
        generator = torch.Generator().manual_seed(0)
        audio = Packed.pack([torch.randn(n, generator=generator) * 0.1 for n in (3_000, 8_000, 1, 5_000)])
        keys = fingerprint(["a", "b", "c", "d"]), fingerprint(CAPTIONS)
        labels = {"animal": ("dog", None, None, "cat")}
        names = {"ids": tuple("abcd"), "captions": tuple(CAPTIONS), "labels": labels}
        batch = Batch(audio, tokenize(CAPTIONS), torch.arange(4), *keys, **names)
        return DataLoader([batch] * 2, batch_size=None)

    train_dataloader = val_dataloader = test_dataloader = _batches


def quiet_trainer(tmp_path, **options):
    return Trainer(
        default_root_dir=tmp_path,
        **{"max_steps": 3, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"} | options,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@pytest.fixture
def batch():
    audio = Packed.pack([torch.randn(4_000), torch.randn(2_000)])
    text = Packed.pack([torch.tensor([1, 5, 2]), torch.tensor([1, 2])])
    return Batch(audio, text, torch.arange(2), fingerprint(["a", "b"]), fingerprint(["x", "y"]))


@no_trainer
def test_the_loss_is_the_weighted_sum(batch):
    model = SLAP(AUDIO, TEXT, {"one": {"weight": 0.5, "objective": Constant(3.0)}, "two": Constant(2.0)})
    assert model.weights == {"one": 0.5, "two": 1.0}
    assert model.training_step(batch, 0).item() == pytest.approx(0.5 * 3.0 + 2.0)


@no_trainer
def test_each_view_is_computed_once_and_only_when_read(batch, monkeypatch):
    model = SLAP(AUDIO, TEXT, {"a": Reads("full"), "b": Reads("full", "masked"), "c": TeacherReads("full", "teacher")})
    calls = {"student": 0, "teacher": 0, "text": 0, "patchify": 0}

    def count(module, name):
        module.register_forward_pre_hook(lambda *_: calls.__setitem__(name, calls[name] + 1))

    count(model.audio, "student")
    count(model.teacher.copy_of(model.audio), "teacher")
    count(model.text, "text")
    count(model.audio.logmel, "patchify")
    model.training_step(batch, 0).backward()
    assert calls == {"student": 2, "teacher": 1, "text": 0, "patchify": 1}
    assert all(p.grad is None for p in model.teacher.parameters())


@no_trainer
def test_objectives_that_choose_the_masked_view_save_the_full_pass(batch):
    small = {"layers": 1, "width": 64, "heads": 2, "hidden": 64, "view": "masked"}
    objectives = {"contrastive": {"view": "masked"}, "sigmoid": {"view": "masked"}, "captioning": small}
    model = SLAP(AUDIO, TEXT, objectives | {"masked_distillation": {"prototypes": 8, "hidden": 16, "bottleneck": 8}})
    passes = []
    model.audio.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs)))
    model.training_step(batch, 0).backward()
    assert passes == [2]  # one pass, and it was given what to hide
    with pytest.raises(ValueError, match="view must be one of full, masked, visible; got 'teacher'"):
        SLAP(AUDIO, TEXT, {"contrastive": {"view": "teacher"}})


@no_trainer
@pytest.mark.parametrize("micro_clips", [None, 1])
def test_a_step_leaves_no_tensors_for_the_collector(batch, micro_clips):
    """It counts objects, not their bytes, and looks at what is older than a step after hundreds of steps."""
    distillation = {"prototypes": 8, "hidden": 16, "bottleneck": 8}
    small = {"layers": 1, "width": 64, "heads": 2, "hidden": 64}
    objectives = {"contrastive": 1.0, "masked_distillation": distillation, "captioning": small}
    model = SLAP(AUDIO, TEXT, objectives, micro_clips=micro_clips)

    def step():
        model.training_step(batch.to("cpu"), 0).backward()  # a copy, so that nothing else holds its layouts

    step()  # what only the first one makes
    gc.unfreeze()  # so that all objects are seen, also those that a loader has set aside
    gc.collect()
    # What other tests left may become garbage at any time, when one of their threads ends.
    before = {id(thing) for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)}
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        step()
        gc.collect()
        made = [thing for thing in gc.garbage if issubclass(type(thing), torch.Tensor) and id(thing) not in before]
        left = [tuple(thing.shape) for thing in made]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left


class Returns(Objective):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, views):
        return self.output


class Typo(Objective):
    def forward(self, views):
        return views.ful.embedding.mean()


class Unborn(Objective):
    def __init__(self):
        self.head = torch.nn.Linear(2, 2)

    def forward(self, views):
        return self.head.weight.sum()


@no_trainer
@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Returns(None), r"objective 'mine' \(Returns\) returned a NoneType; its `forward` returns the loss, a 0-dim"),
        (Returns(torch.ones(2, requires_grad=True)), r"returned a tensor of shape \(2,\)"),
        (Returns(torch.ones(())), "returned a loss without gradient, detached"),
        (Returns((torch.ones((), requires_grad=True), torch.ones(()))), "a loss with a Tensor beside it"),
        (Typo(), r"objective 'mine' \(Typo\) reads `views.ful`, which does not exist; did you mean 'full'"),
    ],
)
def test_an_objective_that_gives_no_loss_is_named(batch, objective, message):
    with pytest.raises(ValueError, match=message):
        SLAP(AUDIO, TEXT, {"mine": objective}).training_step(batch, 0)


def test_a_plugin_that_forgets_its_base_class_is_told_the_line():
    with pytest.raises(AttributeError, match=r"before Module.__init__"):
        Unborn()
    register("unborn")(Unborn)
    with pytest.raises(
        ValueError, match=r"objective 'unborn' cannot be made: its `__init__` must begin with `super\(\)"
    ):
        SLAP(AUDIO, TEXT, {"unborn": 1.0})


@no_trainer
def test_reading_the_teacher_without_declaring_it_is_an_error(batch):
    with pytest.raises(RuntimeError, match="set `uses_teacher = True`"):
        SLAP(AUDIO, TEXT, {"c": Reads("teacher")}).training_step(batch, 0)


def test_the_teacher_follows_once_per_optimizer_step(tmp_path):
    torch.manual_seed(0)
    model = SLAP(AUDIO, TEXT, {"contrastive": 1.0, "masked_distillation": 1.0}, ema_momentum=(0.5, 0.5), warmup_steps=1)
    averages = [p.detach().clone() for p in model.audio.parameters()]
    seen = []

    step = model.optimizer_step

    def watched(*args, **kwargs):
        step(*args, **kwargs)
        seen.append(model.global_step)
        for average, p in zip(averages, model.audio.parameters(), strict=True):
            average.lerp_(p.detach(), 0.5)

    model.optimizer_step = watched
    quiet_trainer(tmp_path, accumulate_grad_batches=2, limit_val_batches=0).fit(model, datamodule=Data())
    assert len(seen) == 3
    for average, copy in zip(averages, model.teacher.copy_of(model.audio).parameters(), strict=True):
        torch.testing.assert_close(copy, average)


def test_fit_logs_what_it_promises_and_validates(tmp_path):
    objectives = {"contrastive": 1.0, "captioning": {"weight": 0.5, "layers": 1, "width": 64, "heads": 2, "hidden": 64}}
    model = SLAP(AUDIO, TEXT, objectives, warmup_steps=1)
    trainer = quiet_trainer(tmp_path, log_every_n_steps=1, gradient_clip_val=1.0)
    trainer.fit(model, datamodule=Data())
    logged = trainer.callback_metrics
    for name in ("loss", "contrastive", "contrastive/scale", "captioning", "weight/captioning", "lr", "grad_norm"):
        assert torch.isfinite(logged[f"train/{name}"]), name
    assert logged["train/weight/captioning"] == 0.5
    for name in ("t2a_R@1", "t2a_R@5", "t2a_R@10", "a2t_R@1", "a2t_R@5", "a2t_R@10", "zeroshot_animal"):
        assert 0 <= logged[f"val/{name}"] <= 100
    assert logged["val/t2a_R@5"] == 100.0  # there are only four clips
    assert logged["val/zeroshot_animal"] in (0.0, 50.0, 100.0)


def test_half_precision_trains_all_objectives_and_keeps_the_averages_in_full(tmp_path):
    small = {"layers": 1, "width": 64, "heads": 2, "hidden": 64}
    objectives = {"contrastive": 1.0, "captioning": small, "masked_distillation": {"prototypes": 8}}
    model = SLAP(AUDIO, TEXT, objectives, warmup_steps=0)
    trainer = quiet_trainer(tmp_path, plugins=[HalfWeights("bf16-true")], limit_val_batches=0, log_every_n_steps=1)
    trainer.fit(model, datamodule=Data())
    assert all(torch.isfinite(trainer.callback_metrics[f"train/{name}"]) for name in objectives)
    assert model.audio.embed.weight.dtype == torch.bfloat16
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float32}
    assert model.objectives["contrastive"].log_scale.dtype == torch.float32


def test_a_checkpoint_brings_back_the_model_with_its_tokenizer(tmp_path):
    model = SLAP(AUDIO, TEXT, {"contrastive": 1.0, "masked_distillation": 1.0}, warmup_steps=0)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(model, datamodule=Data())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = SLAP.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    model.eval()
    torch.testing.assert_close(again.embed_captions(CAPTIONS), model.embed_captions(CAPTIONS))
    audio = Packed.pack([torch.randn(9_000)])
    torch.testing.assert_close(again.embed_audio(audio), model.embed_audio(audio))
    assert again.weights == model.weights
    for old, new in zip(model.teacher.parameters(), again.teacher.parameters(), strict=True):
        assert torch.equal(old, new)


def test_a_checkpoint_loads_where_the_files_it_was_made_from_are_gone(tmp_path):
    words = tmp_path / "words.model"
    train_tokenizer(CAPTIONS, 300).save(words)
    model = SLAP(AUDIO, TEXT | {"tokenizer": str(words)}, warmup_steps=0)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(model, datamodule=Data())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    words.unlink()
    again = SLAP.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert torch.equal(again.text.tokenize(CAPTIONS).values, model.text.tokenize(CAPTIONS).values)


def test_a_checkpoint_of_an_instance_says_what_to_pass(tmp_path):
    model = SLAP(AUDIO, TEXT, {"mine": Constant(1.0)}, warmup_steps=0)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(model, datamodule=Data())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="'mine' was an instance of Constant, which a checkpoint cannot hold"):
        SLAP.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    again = SLAP.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True, objectives={"mine": Constant(1.0)})
    assert torch.equal(again.objectives["mine"].factor, model.objectives["mine"].factor)


def test_an_embedding_does_not_depend_on_its_batch():
    model = SLAP(AUDIO, TEXT).eval()
    clips = [torch.randn(n) * 0.1 for n in (1, 20_000, 7_777, 3)]
    together = model.embed_audio(Packed.pack(clips))
    alone = torch.cat([model.embed_audio(Packed.pack([clip])) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))


def test_without_max_steps_there_is_no_schedule(tmp_path):
    with pytest.raises(ValueError, match="set the trainer's max_steps, which is -1"):
        quiet_trainer(tmp_path, max_steps=-1, max_epochs=1).fit(SLAP(AUDIO, TEXT), datamodule=Data())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": {}}, "at least one objective"),
        ({"objectives": {"contrastiv": 1.0}}, "did you mean 'contrastive'"),
        ({"objectives": {"contrastive": {"wieght": 1.0}}}, "'contrastive' has no argument 'wieght'"),
        ({"objectives": {"contrastive": "heavy"}}, "weight .* must be a finite number, got 'heavy'"),
        ({"objectives": {"contrastive": float("nan")}}, "must be a finite number"),
        ({"objectives": {"x": {"weight": 1.0, "objective": Constant(1.0), "depth": 3}}}, "takes no further depth"),
        ({"audio": "transfomer"}, "no audio encoder 'transfomer'; did you mean 'transformer'"),
        ({"audio": {"size": "tiny"}}, "an encoder is given by a name"),
        ({"text": {"name": "transformer", "sise": "tiny"}}, "did you mean 'size'"),
    ],
)
def test_unknown_names_and_arguments_fail_with_the_valid_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        SLAP(**{"audio": AUDIO, "text": TEXT} | arguments)
