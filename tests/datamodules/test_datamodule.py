"""The data module: batches with every field filled, the same whatever the workers, and its life with a trainer."""

import gc
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

import slap.datamodules
from epochs import epoch, tokenize
from slap.core.batch import Batch, fingerprint
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.datamodules.augment.basic import Mix, RandomCrop, RandomGain, RandomSpeed
from slap.datamodules.workers import freeze_gc, unfreeze_gc

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.jsonl: 24 clips of 0.2 to 1.35 s at 8 kHz, two captions each. val.jsonl: 7 stereo clips at 44.1 kHz."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)

    def clip(name: str, seconds: float, rate: int, channels: int, captions: list[str], labels: dict[str, str]) -> Clip:
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, (round(seconds * rate), channels)), rate)
        return Clip(name, folder / f"{name}.wav", captions, labels)

    train = [clip(f"t{i}", 0.2 + 0.05 * i, 8000, 1, [f"train {i}", f"clip {i}"], {}) for i in range(24)]
    labels = [{"digit": str(i)} if i < 5 else {"pet": "cat"} for i in range(7)]
    val = [clip(f"v{i}", 0.3 + 0.2 * i, 44100, 2, ["one", f"val {i}", "two"][: 1 + i % 3], labels[i]) for i in range(7)]
    write_manifest(folder / "train.jsonl", train)
    write_manifest(folder / "val.jsonl", val)
    return folder


def module(folder: Path, **options) -> AudioTextData:
    options = {"max_duration": 4.0, "max_clip": None, "num_buckets": 3, **options}
    data = AudioTextData(folder / "train.jsonl", folder / "val.jsonl", **options)
    data.connect(RATE, tokenize)
    return data


def facts(batches: list[Batch]) -> list[tuple]:
    return [(batch.ids, batch.captions, batch.audio.values.tolist(), batch.text.values.tolist()) for batch in batches]


def test_every_field_of_a_training_batch(folder: Path) -> None:
    batches = epoch(module(folder))
    assert Counter(name for batch in batches for name in batch.ids) == Counter(f"t{i}" for i in range(24))
    for batch in batches:
        assert batch.audio.values.dtype == torch.float32
        assert len(batch.audio.values) <= 4 * RATE
        sizes = [round(RATE * (0.2 + 0.05 * int(name[1:]))) for name in batch.ids]
        assert list(batch.audio.sizes) == sizes
        assert batch.clip.tolist() == list(range(len(batch)))
        assert torch.equal(batch.clip_key, fingerprint(batch.ids))
        assert torch.equal(batch.caption_key, fingerprint(batch.captions))
        for name, text in zip(batch.ids, batch.captions, strict=True):
            assert text in (f"train {name[1:]}", f"clip {name[1:]}")
        assert torch.equal(batch.text.values, tokenize(batch.captions).values)
        assert batch.text.sizes == tokenize(batch.captions).sizes
        assert batch.labels == {}


def test_evaluation_gives_whole_clips_all_captions_and_labels(folder: Path) -> None:
    data = module(folder, transforms=[RandomCrop()], max_clip=0.5)
    batches = list(data.val_dataloader())
    assert Counter(name for batch in batches for name in batch.ids) == Counter(f"v{i}" for i in range(7))
    for batch in batches:
        for i, name in enumerate(batch.ids):
            number = int(name[1:])
            captions = [text for text, clip in zip(batch.captions, batch.clip.tolist(), strict=True) if clip == i]
            assert captions == ["one", f"val {number}", "two"][: 1 + number % 3]
            samples, _ = soundfile.read(folder / f"{name}.wav")
            assert batch.audio.sizes[i] == round((0.3 + 0.2 * number) * RATE)
            assert batch.audio.unpack()[i].mean().item() == pytest.approx(samples.mean(), abs=1e-3)
            wanted = (str(number), None) if number < 5 else (None, "cat")
            assert (batch.labels["digit"][i], batch.labels["pet"][i]) == wanted
    assert facts(batches) == facts(list(data.val_dataloader()))


@pytest.mark.parametrize("in_memory", [False, True])
def test_workers_change_nothing(folder: Path, in_memory: bool) -> None:
    options = {"transforms": [RandomSpeed(), RandomGain(), RandomCrop(), Mix()], "max_clip": 0.8}
    alone = module(folder, in_memory=in_memory, **options)
    busy = module(folder, in_memory=in_memory, num_workers=2, **options)
    loader = busy.train_dataloader()
    for number in (0, 1, 0):  # the same workers live through all epochs
        loader.sampler.set_epoch(number)
        assert facts(list(loader)) == facts(epoch(alone, number))
    busy.teardown("fit")


class Watched:
    """Writes how many objects the garbage collector looks at where it is called, and how many it leaves alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, cuts: CutSet) -> CutSet:
        with self.path.open("a") as file:
            file.write(f"{len(gc.get_objects())} {gc.get_freeze_count()}\n")
        return cuts


def test_the_collector_leaves_alone_what_workers_share(folder: Path, tmp_path: Path) -> None:
    """Otherwise the first full collection of each process copied all objects, 112 MB of them in training."""
    many = [[] for _ in range(100_000)]
    data = module(folder, num_workers=2, transforms=[Watched(tmp_path / "seen")])
    loader = data.train_dataloader()
    for number in range(2):
        loader.sampler.set_epoch(number)
        list(loader)
    assert gc.get_freeze_count() > len(many)
    seen = [[int(count) for count in line.split()] for line in (tmp_path / "seen").read_text().splitlines()]
    assert seen
    assert all(watched < len(many) < left_alone for watched, left_alone in seen)
    data.teardown("fit")
    assert gc.get_freeze_count() == 0


def test_garbage_is_found_soon_among_many_objects_that_were_set_aside() -> None:
    many = [[] for _ in range(1_000_000)]
    freeze_gc()
    try:
        before = gc.get_stats()[2]["collections"]
        more = [[] for _ in range(200_000)]  # fewer than a quarter
        assert gc.get_stats()[2]["collections"] > before
        assert len(more) < len(many) / 4
    finally:
        unfreeze_gc()


def test_memory_changes_nothing(folder: Path) -> None:
    """Without crops: from disk those are resampled by themselves, so their edges differ and they begin at a sample."""
    options = {"transforms": [RandomSpeed(), RandomGain(), Mix()]}
    memory, disk = (facts(epoch(module(folder, in_memory=held, **options))) for held in (True, False))
    assert memory == disk


def test_caption_and_order_are_drawn_anew_each_epoch(folder: Path) -> None:
    data = module(folder)
    seen: dict[str, set[str]] = {}
    for number in range(12):
        for batch in epoch(data, number):
            for name, text in zip(batch.ids, batch.captions, strict=True):
                seen.setdefault(name, set()).add(text)
    assert all(len(texts) == 2 for texts in seen.values())  # the chance to miss one is 24 x 2 ** -11
    assert [b.ids for b in epoch(data, 0)] != [b.ids for b in epoch(data, 1)]
    assert facts(epoch(data, 3)) == facts(epoch(module(folder), 3)) != facts(epoch(module(folder, seed=1), 3))


def test_ranks_are_disjoint_and_in_step(folder: Path) -> None:
    for loader in ("train_dataloader", "val_dataloader"):
        ranks = []
        for rank in range(3):
            data = module(folder, max_duration=2.0)
            strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda found: found)
            model = SimpleNamespace(audio=SimpleNamespace(sample_rate=RATE), text=SimpleNamespace(tokenize=tokenize))
            data.trainer = SimpleNamespace(
                global_rank=rank,
                world_size=3,
                strategy=strategy,
                lightning_module=model,
                fast_dev_run=False,
                is_global_zero=True,
            )
            ranks.append(list(getattr(data, loader)()))
        names = [name for batches in ranks for batch in batches for name in batch.ids]
        assert len(set(names)) == len(names) == (24 if loader == "train_dataloader" else 7)
        assert len({len(batches) for batches in ranks}) == 1


def test_long_clips_are_cropped_in_training_at_random_places(folder: Path) -> None:
    data = module(folder, max_clip=0.5, max_duration=2.0)
    cropped = set()
    for number in range(3):
        for batch in epoch(data, number):
            assert len(batch.audio.values) <= 2 * RATE
            for name, audio in zip(batch.ids, batch.audio.unpack(), strict=True):
                assert len(audio) == min(round(RATE * (0.2 + 0.05 * int(name[1:]))), RATE // 2)
                if name == "t23":
                    cropped.add(tuple(audio[:5].tolist()))
    assert len(cropped) == 3


def test_short_clips_are_left_out_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(folder, min_clip=0.39)
    names = {name for batch in epoch(data) for name in batch.ids}
    assert names == {f"t{i}" for i in range(4, 24)}
    assert "4 of 24 clips are shorter than min_clip=0.39 s and left out; the first is 't0'" in caplog.text
    with pytest.raises(ValueError, match=r"no training clip is left: all are shorter than min_clip=3\.0"):
        module(folder, min_clip=3.0).setup("fit")


def test_repeats_draw_each_time_anew(folder: Path) -> None:
    extra = write_manifest(folder / "extra.jsonl", [Clip("x", folder / "v0.wav", [f"caption {i}" for i in range(99)])])
    data = AudioTextData([folder / "train.jsonl", extra], max_duration=9.0, max_clip=None, repeats=[1, 20])
    data.connect(RATE, tokenize)
    batches = epoch(data)
    counts = Counter(name for batch in batches for name in batch.ids)
    assert counts == Counter({**{f"t{i}": 1 for i in range(24)}, "x": 20})
    texts = {text for batch in batches for name, text in zip(batch.ids, batch.captions, strict=True) if name == "x"}
    assert len(texts) > 10
    assert len(list(data.captions())) == 2 * 24 + 99  # once each, whatever is repeated


def test_one_id_for_two_sounds_is_refused(folder: Path) -> None:
    other = write_manifest(folder / "other.jsonl", [Clip("t3", folder / "v0.wav", ["x"])])
    with pytest.raises(
        ValueError, match=r"other\.jsonl, line 1: the id 't3' names other audio in .*train\.jsonl, line 4"
    ):
        AudioTextData([folder / "train.jsonl", other]).setup("fit")
    same = write_manifest(folder / "same.jsonl", [Clip("t3", folder / "t3.wav", ["x"])])
    AudioTextData([folder / "train.jsonl", same]).setup("fit")


def test_a_clip_that_no_batch_can_hold_is_named_at_setup(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"train\.jsonl, line 18: clip 't17' lasts 1\.05 s.*max_duration=1\.0.*max_clip"
    ):
        AudioTextData(folder / "train.jsonl", max_duration=1.0, max_clip=None).setup("fit")
    AudioTextData(folder / "train.jsonl", max_duration=1.0, max_clip=1.0).setup("fit")


def test_a_batch_knows_the_captions_that_were_not_drawn_but_of_mixes_only_the_new_one(folder: Path) -> None:
    for batch in epoch(module(folder)):
        both = [(f"t{name[1:]}", text) for name in batch.ids for text in (f"train {name[1:]}", f"clip {name[1:]}")]
        expected = zip(*(fingerprint(part).tolist() for part in zip(*both, strict=True)), strict=True)
        assert sorted(map(tuple, batch.pairs.tolist())) == sorted(expected)
    mixed = epoch(module(folder, transforms=[Mix(probability=1.0)]))
    for batch in mixed:
        own = dict(zip(batch.ids, batch.captions, strict=True))
        for name in (name for name in batch.ids if "+" in name):
            rows = batch.pairs[batch.pairs[:, 0] == fingerprint([name])]
            assert rows[:, 1].tolist() == fingerprint([own[name]]).tolist()
    assert any("+" in name for batch in mixed for name in batch.ids)


def test_a_transform_that_loses_captions_or_clips_is_told(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"after the transforms clips \['t\d+'.* have no caption"):
        epoch(module(folder, transforms=[lambda cuts: CutSet([cut.drop_supervisions() for cut in cuts])]))
    with pytest.raises(ValueError, match="after the transforms no clip is left"):
        epoch(module(folder, transforms=[lambda cuts: CutSet([])]))


def test_prompts(folder: Path) -> None:
    data = module(folder, prompts={"digit": "the digit {label}"})
    data.setup("validate")
    assert data.prompts == {"digit": "the digit {label}", "pet": "This is a sound of {label}."}
    with pytest.raises(ValueError, match=r"has no {label} in it: 'a digit'"):
        module(folder, prompts={"digit": "a digit"})
    with pytest.raises(
        ValueError, match=r"name the tasks \['digits'\], but the clips have labels of \['digit', 'pet'\]"
    ):
        module(folder, prompts={"digits": "{label}"}).setup("fit")


def test_an_unknown_task_is_told_before_the_training_clips_are_read(folder: Path, tmp_path: Path) -> None:
    """It used to be told when both `val` and `test` were read, so by `slap test` after a whole training."""
    manifests = {"train": tmp_path / "gone.jsonl", "val": folder / "val.jsonl", "test": folder / "train.jsonl"}
    with pytest.raises(ValueError, match=r"name the tasks \['digits'\], but the clips have labels of"):
        AudioTextData(**manifests, prompts={"digits": "{label}"}).setup("fit")
    own = {"train": folder / "train.jsonl", "val": folder / "train.jsonl", "test": folder / "val.jsonl"}
    data = AudioTextData(**own, prompts={"pet": "a {label}"})  # of which test clips alone have labels
    data.setup("fit")
    assert data.prompts["pet"] == "a {label}"


def test_impossible_arguments(folder: Path) -> None:
    with pytest.raises(ValueError, match="repeats must be 1 or more for each of the 1 training manifests"):
        AudioTextData("a.csv", repeats=[1, 2])
    with pytest.raises(ValueError, match="repeats must be"):
        AudioTextData("a.csv", repeats=0)
    with pytest.raises(ValueError, match="max_clips=0"):
        AudioTextData("a.csv", max_clips=0)
    with pytest.raises(ValueError, match=r"min_clip < max_clip <= max_duration is needed.*max_clip=30\.0"):
        AudioTextData("a.csv", max_duration=20.0)
    with pytest.raises(ValueError, match=r"fit needs a manifest: give AudioTextData\(train=...\)"):
        AudioTextData(val="a.csv").setup("fit")
    with pytest.raises(RuntimeError, match=r"call connect\(sample_rate, tokenize\) first"):
        AudioTextData(folder / "train.jsonl").train_dataloader()


def test_the_data_set_can_go_to_a_spawned_worker(folder: Path) -> None:
    data = module(folder, in_memory=True, transforms=[RandomGain(), Mix()])
    loader = data.train_dataloader()
    draw = next(iter(loader.sampler))
    copy = pickle.loads(pickle.dumps(loader.dataset))
    assert facts([copy[draw]]) == facts([loader.dataset[draw]])


class Recorder(lightning.LightningModule):
    """Keeps what it is given, by epoch and stage."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = SimpleNamespace(sample_rate=RATE)
        self.text = SimpleNamespace(tokenize=tokenize)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.last_step: list[tuple[str, int, Batch]] = []

    def training_step(self, batch: Batch) -> torch.Tensor:
        self.last_step.append(("train", self.current_epoch, batch))
        return self.weight * 0

    def validation_step(self, batch: Batch) -> None:
        self.last_step.append(("val", self.current_epoch, batch))

    def test_step(self, batch: Batch) -> None:
        self.last_step.append(("test", self.current_epoch, batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def of(self, stage: str, epoch: int = 0) -> list[Batch]:
        return [batch for name, number, batch in self.last_step if (name, number) == (stage, epoch)]


@pytest.mark.parametrize("workers", [0, 2])
def test_life_with_a_trainer(folder: Path, tmp_path: Path, workers: int) -> None:
    data = AudioTextData(
        folder / "train.jsonl",
        folder / "val.jsonl",
        folder / "val.jsonl",
        max_duration=4.0,
        max_clip=None,
        num_buckets=3,
        num_workers=workers,
        in_memory=workers > 0,
    )
    model = Recorder()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, datamodule=data)
    for number in range(3):
        assert facts(model.of("train", number)) == facts(epoch(module(folder), number))
        assert sum(len(batch) for batch in model.of("val", number)) == 7
    trainer.test(model, datamodule=data, verbose=False)
    assert sum(len(batch) for batch in model.of("test", 3)) == 7


def test_waiting_for_batches_is_counted_and_nothing_else(folder: Path) -> None:
    data = module(folder, transforms=[lambda cuts: time.sleep(0.05) or cuts])
    loader = data.train_dataloader()
    assert loader.waited == 0
    count = 0
    for _ in loader:
        count += 1
        time.sleep(0.2)  # training
    assert 0.05 * count <= loader.waited < 0.2 * count


def test_fit_without_validation(folder: Path) -> None:
    model = Recorder()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=2, accelerator="cpu", enable_model_summary=False, **options)
    with pytest.warns(UserWarning, match="no `val_dataloader`. Skipping val loop"):
        trainer.fit(model, datamodule=AudioTextData(folder / "train.jsonl"))
    assert model.of("train")
    assert not model.of("val")


def test_names_load_on_first_use() -> None:
    """Import as a command's help does: it must not wait for Lhotse or torch."""
    code = "import sys, slap.datamodules; print({'torch', 'lhotse', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        slap.datamodules.nothing  # noqa: B018


def test_training_finds_what_it_takes_from_any_data_module_that_has_it(folder: Path) -> None:
    """`slap.training` reads these names with a default, so that a data module without them trains too."""
    data = module(folder, window=0.7)
    data.setup("fit")
    assert data.window == 0.7
    assert set(data.source_names) == {"train", "val", "test"}
    assert data.train_dataloader().waited == 0
