"""A run that continues has the options and the data that it was made with, or is told which differ."""

import json
import signal

import pytest
import soundfile
import yaml

import resume_recipe
from resume_runs import in_process, logged, options
from slap.core.checkpoint_file import read, write
from slap.training.checkpoint.options import compare

pytestmark = pytest.mark.usefixtures("fast_reports")

STEPS = {"trainer.max_steps": 4, "trainer.val_check_interval": 4}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Stop a run after two of four steps; return the folder that holds the run and its clips."""
    folder = tmp_path_factory.mktemp("stopped")
    resume_recipe.data(str(folder / "clips"))
    arguments = options(folder / "clips", folder / "out", **STEPS, **{"trainer.compare_audio": "hash"})
    assert in_process(arguments, {"batch": 2, "signal": signal.SIGTERM}) == 143
    return folder


def go_on(stopped, **changed):
    return in_process(options(stopped / "clips", stopped / "out", **{**STEPS, **changed}), again=True)


def test_every_option_that_differs_is_listed(stopped):
    changed = {"model.lr": 0.1, "trainer.accumulate_grad_batches": 2, "trainer.precision": "bf16-mixed"}
    changed |= {"trainer.max_steps": 6, "trainer.gradient_clip_val": 2}
    with pytest.raises(ValueError, match="the run was made with other options") as refused:
        go_on(stopped, **changed)
    for text in (
        "model.lr was 0.001 and is 0.1",
        "trainer.accumulate_grad_batches was 1 and is 2",
        'trainer.precision was "32-true" and is "bf16-mixed"',
        "trainer.max_steps was 4 and is 6",
        "trainer.gradient_clip_val was 1.0 and is 2",
        "--trainer.changed_options accept",
    ):
        assert text in str(refused.value)


def test_the_seed_of_a_run_cannot_change(stopped):
    with pytest.raises(ValueError, match='cannot change within a run: seed_everything was "0" and is "5"'):
        go_on(stopped, seed_everything=5, **{"trainer.changed_options": "accept"})


@pytest.mark.parametrize("what", ["captions", "reversed", "shorter"])
def test_data_that_differ_under_the_same_names_are_noticed(what, stopped):
    manifest, audio = stopped / "clips" / "birds-30.jsonl", stopped / "clips" / "birds0.wav"
    before = manifest.read_bytes(), audio.read_bytes()
    asked, named = {}, "the content of the manifests"
    if what == "captions":
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        for row, other in zip(rows, [row["caption"] for row in rows[1:] + rows[:1]], strict=True):
            row["caption"] = other
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif what == "reversed":
        samples, rate = soundfile.read(audio)
        soundfile.write(audio, samples[::-1], rate)
        asked, named = {"trainer.compare_audio": "hash"}, "the content of the audio files"
    else:
        audio.write_bytes(before[1][:-100])
        named = "the sizes of the audio files"
    try:
        with pytest.raises(ValueError, match=f"the data have changed: {named}"):
            go_on(stopped, **asked)
    finally:
        manifest.write_bytes(before[0])
        audio.write_bytes(before[1])


def test_accepted_options_take_effect_and_are_recorded(stopped):
    assert go_on(stopped, **{"model.lr": 0.1, "trainer.max_steps": 6, "trainer.changed_options": "accept"}) == 0
    rates = {int(row["step"]): float(row["train/lr"]) for row in logged(stopped / "out") if "train/lr" in row}
    assert rates[1] < 0.001
    assert rates[2] == pytest.approx(0.1 * 0.75)  # of a cosine over six steps, after two
    config = yaml.safe_load((stopped / "out" / "config.yaml").read_text())
    assert config["model"]["lr"] == 0.1
    assert config["trainer"]["changed_options"] == "refuse"  # of what changes later


def test_a_checkpoint_of_an_older_version_is_not_guessed_at(stopped, tmp_path):
    content = read(stopped / "out" / "last.ckpt")
    content["slap_resume"]["version"] = 2
    write(content, tmp_path / "old.ckpt")
    arguments = options(stopped / "clips", tmp_path / "new", **STEPS)
    with pytest.raises(ValueError, match="has version 2, and this one reads version 3"):
        in_process([*arguments, "--ckpt_path", str(tmp_path / "old.ckpt")])


def test_an_option_that_a_side_does_not_know_is_not_compared():
    assert not compare({}, {"model.new": 1}, "refuse")
    assert not compare({"model.old": 1}, {}, "refuse")
