"""Streamed data sets in training: read in order, split over processes and workers, continued exactly."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from epochs import tokenize
from hf_tables import RATE, row, table
from slap.datamodules import AudioTextData
from slap.datamodules.huggingface import stream
from slap.testing.tiny import tiny_model
from slap.training.trainer import trainer

datasets = pytest.importorskip("datasets")

COUNT, SHARDS = 48, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 rows in 4 parquet files, one of them without audio; a test split of 3."""
    folder = tmp_path_factory.mktemp("stream")
    rows = [row(i % 12, number=i) | {"text": f"caption {i}"} for i in range(COUNT)]
    rows[5]["audio"]["bytes"] = b"nothing"
    made = table(rows)
    for shard in range(SHARDS):
        path = folder / f"train-{shard:05d}-of-{SHARDS:05d}.parquet"
        made.shard(SHARDS, shard, contiguous=True).to_parquet(path)
    made.select(range(10, 13)).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 7)


def module(folder: Path, batches: int = 20, **options) -> AudioTextData:
    options = {"max_duration": 1.0, "max_clip": None, "num_buckets": 2, "max_bad": 0.2, **options}
    data = AudioTextData(f"hf:{folder}?split=train&streaming=true", stream_batches=batches, **options)
    data.connect(RATE, tokenize)
    return data


def taken(data: AudioTextData, epochs: int = 1, first: int = 0) -> list[tuple]:
    loader = data.train_dataloader()
    found = []
    for number in range(first, first + epochs):
        loader.sampler.set_epoch(number)
        found += [(batch.ids, batch.captions, batch.audio.values.sum().item()) for batch in loader]
    data.teardown("fit")
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_comes_and_comes_again(folder: Path, workers: int) -> None:
    batches = taken(module(folder, num_workers=workers), epochs=3)
    assert len(batches) == 60
    counts = Counter(text for _, captions, _ in batches for text in captions)
    assert set(counts) == {f"caption {i}" for i in range(COUNT) if i != 5}
    assert max(counts.values()) - min(counts.values()) <= (2 if workers == 0 else 3)


def test_the_order_depends_on_the_seed(folder: Path) -> None:
    assert taken(module(folder)) == taken(module(folder))
    assert taken(module(folder)) != taken(module(folder, seed=1))


@pytest.mark.parametrize(("workers", "done"), [(0, 0), (0, 14), (0, 20), (2, 3)])
def test_a_run_goes_on_where_it_stopped(folder: Path, workers: int, done: int) -> None:
    """Batches that were loaded ahead do not count."""
    whole = taken(module(folder, num_workers=workers), epochs=2)
    first = module(folder, num_workers=workers)
    loader = first.train_dataloader()
    batches = iter(loader)
    for _ in range(min(done + 2, 20)):
        next(batches)
    first.commit(0, done)
    state = json.loads(json.dumps(first.state_dict()))
    first.teardown("fit")
    again = module(folder, num_workers=workers)
    again.load_state_dict(state)
    assert taken(again, epochs=2) == whole[done:]


def test_what_has_changed_is_told(folder: Path) -> None:
    data = module(folder)
    list(data.train_dataloader())
    data.commit(0, 20)
    for options, message in (({"num_workers": 2}, "num_workers"), ({"seed": 3}, "seed was 0 and is 3")):
        other = module(folder, **options)
        other.load_state_dict(data.state_dict())
        with pytest.raises(ValueError, match=message):
            other.train_dataloader()
        other.restart_changed = True
        other.load_state_dict(data.state_dict())
        assert len(taken(other)) == 20


@pytest.mark.parametrize("processes", [2, 3])  # of 4 files, each has two, or every third row
def test_processes_read_different_rows(folder: Path, monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    read = []
    for rank in range(processes):
        monkeypatch.setattr(AudioTextData, "_process", lambda self, rank=rank: (rank, processes))
        monkeypatch.setattr("torch.distributed.new_group", lambda **_: None)
        read.append({text for _, captions, _ in taken(module(folder, batches=3)) for text in captions})
    for rank, mine in enumerate(read):
        for other in read[:rank]:
            assert not mine & other


def test_a_tokenizer_learns_from_the_first_rows(folder: Path) -> None:
    assert sorted(module(folder).captions()) == sorted(f"caption {i}" for i in range(COUNT))


def test_bad_rows_are_listed_once_each_time(folder: Path, tmp_path: Path) -> None:
    data = module(folder)
    data.bad_clips.out = tmp_path
    taken(data)
    (line, *_) = (tmp_path / "bad_clips.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "unreadable"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unlabelled": "audio"}, "cannot be combined with other manifests, unlabelled"),
        ({"repeats": 2}, "combined with repeats"),
        ({"in_memory": True}, "combined with in_memory"),
        ({"batches": 0}, "stream_batches must be at least 1"),
    ],
)
def test_what_needs_random_access_is_refused(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(folder, **options)


@pytest.mark.slow
def test_a_run(folder: Path, tmp_path: Path) -> None:
    """A stream in training, a table in validation, and a second run that continues the first."""
    for steps in (4, 7):
        torch.manual_seed(0)
        data = AudioTextData(
            f"hf:{folder}?split=train&streaming=true", f"hf:{folder}?split=test", max_duration=1.0, max_clip=None,
            stream_batches=3, max_bad=0.5,
        )  # fmt: skip
        quick = {"accelerator": "cpu", "log_every_n_steps": 1, "val_check_interval": 2}
        run = trainer(out=str(tmp_path), max_steps=steps, changed_options="accept", **quick)
        last = tmp_path / "last.ckpt"
        run.fit(tiny_model({"contrastive": 1.0}), datamodule=data, ckpt_path=last if last.is_file() else None)
        assert run.global_step == steps
        assert "val/t2a_R@1" in run.callback_metrics
    assert data.place == (2, 1)
