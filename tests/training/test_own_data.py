"""The recipe `own_data`: sizes and steps by the clips, a validation split of their own, and what it says."""

import numpy as np
import pytest
import soundfile
import yaml

from slap.cli.main import main
from slap.core.errors import UserError
from slap.datamodules import read_manifest
from slap.recipes import _own_data, own_data
from slap.recipes._own_data import Choice, Facts
from slap.training.callbacks.learning_curves import read_metrics

QUICK = [
    *("--trainer.max_steps=2", "--data.num_workers=0", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--data.max_duration=30"),
]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Thirty files of a second, each with two segments."""
    monkeypatch.chdir(tmp_path)
    rows = ["audio,caption,start,duration"]
    for number in range(30):
        sound = np.random.default_rng(number).uniform(-0.5, 0.5, 16_000)
        soundfile.write(f"{number}.wav", sound, 16_000)
        rows += [f"{number}.wav,sound {number},0,0.5", f"{number}.wav,the end of sound {number},0.5,0.5"]
    (tmp_path / "my.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "my.csv"


@pytest.mark.parametrize(("clips", "passes", "size"), [(500, 60, "nano"), (5000, 19, "tiny"), (50_000, 6, "small")])
def test_steps_and_sizes_by_the_clips(clips, passes, size):
    facts = Facts(clips, 5.0 * clips, 700)
    for gpu in (False, True):
        choice = Choice.by(facts, gpu, max_duration=160.0)
        assert choice.max_steps * choice.max_duration / facts.seconds == pytest.approx(passes, rel=0.05)
        assert (choice.size, choice.vocab_size) == (size if gpu else "nano", 1000)
    assert Choice.by(Facts(50, 50.0, 10), False).max_steps == 300


def test_batches_by_the_length_and_a_night_on_the_cpu():
    batches = [Choice.by(Facts(1000, 1000 * mean, 100), False).max_duration for mean in (0.5, 5.0, 30.0)]
    assert batches == [60, 160, 480]
    long = [Choice.by(Facts(50_000, 50_000 * 20.0, 100), gpu) for gpu in (False, True)]
    assert long[0].max_steps * long[0].max_duration == pytest.approx(_own_data.NIGHT, rel=0.02)
    assert long[1].max_steps * long[1].max_duration == pytest.approx(6 * 50_000 * 20.0, rel=0.02)
    assert [_own_data.warmup(steps) for steps in (2, 40, 1600, 50_000)] == [1, 10, 80, 500]


def test_clips_of_one_file_or_of_one_source_are_on_one_side(table):
    sides = []
    for part in ("train", "heldout"):
        clips = read_manifest(f"{table}#{part}=0.3")
        sides.append({cut.recording.sources[0].source for cut in clips})
        assert len(clips) == 2 * len(sides[-1])
    assert not sides[0] & sides[1]
    rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{rows[0]},youtube", *(f"{row},{n // 2 % 25}" for n, row in enumerate(rows[1:]))]))
    origins = [
        {cut.custom["origin"]["youtube"] for cut in read_manifest(f"{table}#{p}=0.3")} for p in ("train", "heldout")
    ]
    assert not origins[0] & origins[1]
    assert len(origins[0] | origins[1]) == 25


def test_a_clip_keeps_its_side_when_others_come_and_the_folder_moves(table, tmp_path):
    before = {cut.id.rpartition("/")[2] for cut in read_manifest(f"{table}#heldout=0.3")}
    rows = table.read_text().splitlines()
    (tmp_path / "moved").mkdir()
    for path in tmp_path.glob("*.wav"):
        path.rename(tmp_path / "moved" / path.name)
    (tmp_path / "moved/my.csv").write_text("\n".join([rows[0], *rows[11:], *rows[1:11]]))
    moved = read_manifest(f"{tmp_path}/moved/my.csv#heldout=0.3")
    assert {cut.id.rpartition("/")[2] for cut in moved} == before


@pytest.mark.slow
def test_one_command_on_a_csv(table, capsys):
    """What it chooses is said, kept, and no longer depends on the CSV once the run is there."""
    assert main(["fit", "--recipe", "own_data", "--data.train=my.csv", *QUICK]) == 0
    captured = capsys.readouterr()
    assert "14 clips of 7 of the 30 sources validate, always the same ones (#heldout=0.2)" in captured.err
    assert "fewer than 500 clips are little to learn from" in captured.err
    assert "before training" in captured.out
    config = yaml.safe_load((table.parent / "runs/own_data/config.yaml").read_text())
    assert config["data"]["train"] == "my.csv#train=0.2"
    assert config["data"]["val"] == "my.csv#heldout=0.2"
    assert (config["model"]["size"], config["model"]["vocab_size"]) == ("nano", 400)
    assert (config["model"]["warmup_steps"], config["trainer"]["max_steps"]) == (1, 2)
    assert -1 in read_metrics(table.parent / "runs/own_data/metrics.csv")["val/t2a_mAP@10"]

    soundfile.write("new.wav", np.random.default_rng(99).uniform(-0.5, 0.5, 16_000), 16_000)
    (table.parent / "test.csv").write_text("audio,caption\nnew.wav,another sound\n")
    table.write_text(table.read_text() + "".join(f"0.wav,word{n} and more,0,0.5\n" for n in range(300)))
    assert main(["test", "--config", "runs/own_data/config.yaml", "--data.test=[test.csv]"]) == 0
    captured = capsys.readouterr()
    assert "own_data:" not in captured.err
    assert "text to audio, R@1" in captured.out


def test_options_that_are_given_stay(table, capsys):
    (table.parent / "val.csv").write_text("audio,caption\n0.wav,a sound\n1.wav,another\n")
    given = {"data.train": {"mine": ["my.csv"]}, "data.val": "val.csv", "model.size": "tiny", "trainer.max_steps": 77}
    chosen = own_data.settle({**given, "trainer.accelerator": "cpu"})
    assert chosen == {"model.vocab_size": 400, "data.max_duration": 60.0, "model.warmup_steps": 10}
    assert own_data.settle({**given, **chosen}) == {}
    assert capsys.readouterr().err.count("77 steps of 60 s") == 1
    chosen = own_data.settle({"data.train": {"a": "my.csv"}})
    assert (chosen["data.train"], chosen["data.val"]) == ({"a": "my.csv#train=0.2"}, {"a": "my.csv#heldout=0.2"})


def test_too_few_sources_are_not_split(table):
    rows = table.read_text().splitlines()
    table.write_text("\n".join(rows[:31]) + "\n")  # fifteen files
    with pytest.raises(UserError, match=r"30 clips of 15 sources are too few to hold some out .* by --data.val"):
        own_data.settle({"data.train": "my.csv"})
    with pytest.raises(UserError, match=r"my.csv#heldout=0.5 is a part of a manifest; .* by --data.val"):
        own_data.settle({"data.train": "my.csv#heldout=0.5"})
    with pytest.raises(UserError, match=r"give --data.train my.csv"):
        own_data.settle({})


def test_from_python(table, capsys):
    model, data, trainer = own_data.run("my.csv", out="runs/python")
    assert (trainer.max_steps, trainer.default_root_dir) == (300, "runs/python")
    assert data.manifests["val"][0].name == "my.csv#heldout=0.2"
    assert sum(p.numel() for p in model.parameters()) < 2.5e6
    assert model.hparams["warmup_steps"] == 15
    assert "own_data:" in capsys.readouterr().err
