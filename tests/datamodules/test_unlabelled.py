"""Clips without captions in training: beside pairs with a share of every batch, alone, and within a manifest."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from epochs import epoch, tokenize
from slap.core.batch import Batch
from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.augment.basic import Mix
from slap.datamodules.augment.mixup import Mixup
from slap.datamodules.augment.scenes import Scenes
from slap.datamodules.learnable import check_learnable
from slap.testing.tiny import tiny_model
from slap.training.trainer import trainer

RATE = 8000
PAIRS, AUDIO = 12, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.csv: 12 pairs of 0.2 to 0.31 s; audio/: 40 files of 0.4 to 0.79 s in two folders; val.csv: two pairs."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)

    def write(name: str, seconds: float) -> str:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
        return name

    rows = [f"{write(f'p{i}.wav', 0.2 + 0.01 * i)},caption {i}" for i in range(PAIRS)]
    (folder / "train.csv").write_text("audio,caption\n" + "\n".join(rows))
    (folder / "val.csv").write_text("audio,caption\n" + "\n".join(f"{write(f'v{i}.wav', 0.3)},val {i}" for i in (0, 1)))
    for i in range(AUDIO):
        write(f"audio/{'ab'[i % 2]}/{i}.wav", 0.4 + 0.01 * i)
    (folder / "audio" / "notes.txt").write_text("no audio")
    return folder


def module(folder: Path, train: str | None = "train.csv", **options) -> AudioTextData:
    options = {"max_duration": 4.0, "max_clip": None, "num_buckets": 3, "unlabelled": folder / "audio", **options}
    data = AudioTextData([] if train is None else folder / train, folder / "val.csv", **options)
    data.connect(RATE, tokenize)
    return data


def ids(batch: Batch) -> list[str]:
    """The paths below the folder of the corpus."""
    return [re.sub(r".*/corpus\d+/", "", name) for name in batch.ids]


def captioned(batch: Batch) -> set[str]:
    return {ids(batch)[clip] for clip in batch.clip_index}


def facts(batches: list[Batch]) -> list[tuple]:
    return [(batch.ids, batch.captions, batch.audio.values.tolist()) for batch in batches]


def test_every_batch_has_its_share_of_both_kinds(folder: Path) -> None:
    data = module(folder)
    batches = epoch(data)
    assert len(batches) == 2  # 3.1 s of pairs in 2 s each
    for batch in batches:
        pairs = [name for name in ids(batch) if name.startswith("p")]
        assert captioned(batch) == set(pairs)
        assert pairs
        seconds = {name: size / RATE for name, size in zip(ids(batch), batch.audio.sizes, strict=True)}
        others = [name for name in ids(batch) if name not in pairs]
        assert 1 < sum(seconds[name] for name in others) <= 2
        assert sum(seconds[name] for name in pairs) <= 2
        assert len(batch.pairs) == len(pairs)
    assert Counter(name for batch in batches for name in captioned(batch)) == Counter(f"p{i}.wav" for i in range(PAIRS))


def test_the_share_decides_how_much(folder: Path) -> None:
    few = epoch(module(folder, unlabelled_share=0.25))
    assert all(sum(s for n, s in zip(ids(b), b.audio.sizes, strict=True) if "/" in n) <= RATE for b in few)


def test_epochs_go_on_where_the_last_one_stopped(folder: Path) -> None:
    """After enough epochs every clip has come, and none much more often than another."""
    data = module(folder)
    loader = data.train_dataloader()
    seen: Counter[str] = Counter()
    for number in range(60):
        loader.sampler.set_epoch(number)
        seen.update(name for batch in loader for name in ids(batch) if "/" in name)
    assert len(seen) == AUDIO
    mean = seen.total() / AUDIO
    assert max(seen.values()) < 2 * mean
    assert min(seen.values()) > mean / 2


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_epoch_goes_on_exactly(folder: Path, workers: int) -> None:
    whole = module(folder, max_duration=2.0)
    batches = [epoch(whole, number) for number in (0, 1)]
    whole.commit(1, 2)
    state = whole.state_dict()
    again = module(folder, max_duration=2.0, num_workers=workers)
    again.load_state_dict(json.loads(json.dumps(state)))
    assert facts(epoch(again, 1)) == facts(batches[1][2:])
    again.teardown("fit")
    for options, changed in (
        ({"unlabelled_share": 0.4}, "the budget of a batch"),
        ({"unlabelled": folder / "audio" / "a"}, "the clips of `unlabelled`"),
    ):
        other = module(folder, max_duration=2.0, **options)
        other.load_state_dict(state)
        with pytest.raises(ValueError, match=changed):
            other.train_dataloader()


def test_processes_have_equally_many_steps_and_different_clips(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = []
    for rank in (0, 1):
        monkeypatch.setattr(AudioTextData, "_process", lambda self, rank=rank: (rank, 2))
        ranks.append(epoch(module(folder, max_duration=2.0)))
    assert len(ranks[0]) == len(ranks[1]) == 2
    first, second = ({name for batch in batches for name in ids(batch)} for batches in ranks)
    assert not first & second


def test_audio_alone(folder: Path) -> None:
    """Without pairs, each file comes once per epoch."""
    batches = epoch(module(folder, train=None))
    assert Counter(name for batch in batches for name in ids(batch)) == Counter(
        f"audio/{'ab'[i % 2]}/{i}.wav" for i in range(AUDIO)
    )
    assert not any(batch.captions or len(batch.pairs) for batch in batches)
    assert all(batch.text.sizes == () for batch in batches)


def test_captions_of_unlabelled_manifests_are_not_read(folder: Path) -> None:
    batches = epoch(module(folder, unlabelled=folder / "train.csv", train=None))
    assert {name for batch in batches for name in ids(batch)} == {f"p{i}.wav" for i in range(PAIRS)}
    assert not any(batch.captions for batch in batches)


def test_an_empty_caption_is_bad_unless_it_is_asked_for(folder: Path) -> None:
    rows = [f"p{i}.wav,{'' if i % 3 else f'caption {i}'}" for i in range(PAIRS)]
    (folder / "some.csv").write_text("audio,caption\n" + "\n".join(rows))
    with pytest.raises(ManifestError, match="8 of 12 clips are bad"):
        epoch(module(folder, "some.csv", unlabelled=()))
    batches = epoch(module(folder, "some.csv", unlabelled=(), empty_captions=True))
    assert sorted(name for batch in batches for name in ids(batch)) == sorted(f"p{i}.wav" for i in range(PAIRS))
    assert {name for batch in batches for name in captioned(batch)} == {f"p{i}.wav" for i in range(0, PAIRS, 3)}


@pytest.mark.parametrize("row", [{}, {"caption": ""}, {"caption": []}, {"caption": None}, {"caption_1": " "}])
def test_empty_captions_of_json(folder: Path, row: dict) -> None:
    path = folder / "empty.jsonl"
    path.write_text(json.dumps({"audio": "p0.wav", **row}) + "\n" + json.dumps({"audio": "p1.wav", "caption": "a"}))
    clips = read_manifest(path, captioned=False)
    assert clips.uncaptioned.tolist() == [0]
    assert clips[:1].uncaptioned.tolist() == [0]
    assert [len(cut.supervisions) for cut in clips] == [0, 1]


def test_cuts_without_captions(folder: Path, tmp_path: Path) -> None:
    """Lhotse's cuts of audio alone, and those whose supervisions have no text; also once they are indexed."""
    cuts = [cut.with_id(f"c{i}") for i, cut in enumerate(read_manifest(folder / "audio", captioned=False)[:3])]
    path = tmp_path / "cuts.jsonl"
    records = [cut.to_dict() for cut in cuts]
    records[1]["supervisions"] = [
        {"id": "s", "recording_id": "r", "start": 0.0, "duration": 0.1, "channel": 0, "speaker": "me"}
    ]
    records[2]["supervisions"] = [{**records[1]["supervisions"][0], "text": "a sound"}]
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    clips = read_manifest(path, captioned=False)
    assert clips.uncaptioned.tolist() == [0, 1]
    with pytest.raises(ManifestError, match="line 1: cut 'c0' needs supervisions"):
        read_manifest(path)


@pytest.mark.parametrize("transform", [Mix(), Mixup(1.0), Scenes(1.0)])
def test_transforms_mix_no_caption_with_audio_that_has_none(folder: Path, transform) -> None:
    for batch in epoch(module(folder, transforms=[transform])):
        for clip, name in enumerate(batch.ids):
            others = name.count("/audio/")
            assert others == (0 if clip in batch.clip_index else name.count(".wav"))


def test_sources_with_names(folder: Path) -> None:
    data = module(folder, train=None)
    data = AudioTextData({"pairs": folder / "train.csv"}, unlabelled=folder / "audio", max_duration=4.0, max_clip=None)
    data.connect(RATE, tokenize)
    assert data.source_names["train"] == ("pairs", "unlabelled")
    for batch in epoch(data):
        assert [bool(source) for source in batch.source.tolist()] == ["/" in name for name in ids(batch)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unlabelled_share": 1.0}, "between 0 and 1; got 1.0"),
        ({"max_clips": 1}, "max_clips=1 cannot hold"),
        ({"max_clip": 3.0}, "max_clip=3.0 s does not fit into 2 s"),
        ({"max_duration": 1.5}, "a batch holds max_duration=0.75 s"),
        ({"min_clip": 0.9, "max_clip": 1.0}, "no clip of `unlabelled` is left"),
    ],
)
def test_what_cannot_be(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        epoch(module(folder, **options))


def test_a_clip_that_no_objective_learns_from_is_told_before_training(folder: Path) -> None:
    clips = read_manifest(folder / "audio", captioned=False)
    pairs = read_manifest(folder / "train.csv")
    text, both = (
        tiny_model(objectives)
        for objectives in ({"contrastive": 1.0}, {"contrastive": 1.0, "masked_distillation": {"prototypes": 4}})
    )
    check_learnable(pairs, text)
    with pytest.raises(ValueError, match="no objective that learns from audio alone: 40 of 40"):
        check_learnable(clips, text)
    with pytest.raises(ValueError, match="none of the 40 training clips has a caption, from which contrastive"):
        check_learnable(clips, both)


@pytest.mark.parametrize("train", ["train.csv", None])
def test_a_run(folder: Path, tmp_path: Path, train: str | None) -> None:
    """L_CLAP + L_SSL on pairs and audio, and L_SSL on audio alone; a validation between sees its pairs."""
    torch.manual_seed(0)
    names = {"masked_distillation": {"prototypes": 4, "hidden": 8, "bottleneck": 4}}
    model = tiny_model(names if train is None else {"contrastive": 1.0, **names})
    run = trainer(out=str(tmp_path), max_steps=3, accelerator="cpu", val_check_interval=1, log_every_n_steps=1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    run.fit(model, datamodule=module(folder, train))
    assert run.global_step == 3
    assert run.callback_metrics["train/masked_distillation"] > 0
    assert "val/t2a_R@1" in run.callback_metrics
    changed = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert "audio" in changed
    assert ("text" in changed) == (train is not None)


def test_a_run_without_an_objective_for_audio_alone_is_refused(folder: Path, tmp_path: Path) -> None:
    run = trainer(out=str(tmp_path), max_steps=1, accelerator="cpu")
    with pytest.raises(ValueError, match="no objective that learns from audio alone"):
        run.fit(tiny_model({"contrastive": 1.0}), datamodule=module(folder))
