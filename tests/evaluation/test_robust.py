"""Robustness: known changes of models that depend on level or length, every kind of annotation, and the cache."""

import json

import pytest
import soundfile
import torch

import slap
from slap.cli.main import main
from slap.core.progress import silent
from slap.evaluation import EvalClip, EvalSet, EvaluatedModel
from slap.evaluation.embedding_cache import EmbeddingCache
from slap.evaluation.plan import rows_of
from slap.evaluation.prompts import PromptBook, PromptSet, Wording
from slap.evaluation.tasks.robust import Cut, Level, Noise, Silence
from slap.inference.model import Model

BARE = PromptBook({"bare": PromptSet("bare", "", Wording(("{label}",)), {})}, "bare")
WORDS = {"soft": [1.0, 0.0], "loud": [0.0, 1.0], "softly": [1.0, 0.0], "loudly": [0.0, 1.0]}


class Ears:
    """A model that hears nothing but whether the mean level is above 0.1, or with `deaf` nothing of it."""

    sample_rate, max_seconds, embedding_dim, calibration, name = 8000, 10.0, 2, None, "ears"

    def __init__(self, deaf=False):
        self.deaf, self.embedded = deaf, 0

    def encode_audio(self, clips):
        self.embedded += len(clips)
        levels = [float((clip / clip.abs().max() if self.deaf else clip).abs().mean()) for clip in clips]
        return torch.eye(2)[[int(level > 0.1) for level in levels]]

    def encode_text(self, texts):
        return torch.tensor([WORDS[text] for text in texts])


LEVELS = {"soft": 0.03, "loud": 0.5}


def clips(kind):
    """Two soft and two loud noises."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for i, name in enumerate(("soft", "loud", "soft", "loud")):
        audio = LEVELS[name] * torch.rand(800, generator=generator)
        about = {
            "labels": {"labels": (name,)},
            "captions": {"captions": (f"{name}ly",)},
            "choices": {"choices": {"level": [name, "loud" if name == "soft" else "soft"]}},
        }
        found.append(EvalClip(f"{i}", audio, **about[kind]))
    return EvalSet("mine", "test", found, classes=("loud", "soft") if kind == "labels" else ())


def run(task, kind="labels", deaf=False, store=None):
    subject = EvaluatedModel(Model(Ears(deaf)), BARE, store=store)
    return task.run(subject, clips(kind), silent)


def test_a_model_of_levels_loses_what_the_gain_moves_across_its_threshold():
    """At -30 dB all is soft to it, at +20 dB all is loud: half of the answers are lost, and which half differs."""
    result = run(Level())
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values == {
        "accuracy": 100,
        "accuracy:-30dB": -50,
        "accuracy:-20dB": -50,
        "accuracy:-10dB": -50,
        "accuracy:+10dB": 0,
        "accuracy:+20dB": -50,
        "accuracy:worst": -50,
    }
    assert result.settings["worst"] == {"accuracy": "-30dB"}
    assert result.settings["conditions"]["-30dB"] == 'gain {"clip": false, "decibels": -30}'
    assert set(result.definitions) == set(result.metrics)
    worst = result.metrics["accuracy:worst"]
    assert (worst.low, worst.count, worst.best) == (-100, 4, None)


def test_a_model_that_is_deaf_to_level_changes_by_nothing_and_no_certainty_is_claimed():
    result = run(Level(), deaf=True)
    assert all(metric.value == 0 for name, metric in result.metrics.items() if ":" in name)
    change = result.metrics["accuracy:-30dB"]
    assert change.low < 0 < change.high


@pytest.mark.parametrize(("kind", "figures"), [("captions", {"t2a_R@1", "a2t_R@1"}), ("choices", {"level"})])
def test_what_is_measured_is_what_the_clips_have(kind, figures):
    result = run(Level(), kind)
    assert {f"{figure}:-30dB" for figure in figures} <= set(result.metrics)
    assert not any("median" in name for name in result.metrics)
    assert result.metrics[f"{min(figures)}:-30dB"].value < 0


def test_several_labels_per_clip_have_the_change_of_map():
    data = clips("labels")
    data = EvalSet("mine", "test", data.clips, classes=data.classes, multilabel=True)
    result = Level((-30,)).run(EvaluatedModel(Model(Ears()), BARE), data, silent)
    assert result.metrics["mAP"].value == 100
    assert result.metrics["mAP:-30dB"].value == -50  # all scores tie: precision is that of the share of each class


def test_silence_makes_the_mean_level_lower_and_a_part_does_not():
    assert run(Silence((0.4,))).metrics["accuracy:lead0.4s"].value == -50
    assert run(Silence((0.4,))).metrics["accuracy:trail0.4s"].value == -50
    assert run(Cut()).metrics["accuracy:first0.5"].value == 0
    assert run(Noise((40,))).metrics["accuracy:40dB"].value == 0


def test_a_clip_that_a_condition_makes_silent_is_still_evaluated():
    """At -60 dB all clips are below what is heard; silent clips themselves are left out, as in training."""
    result = run(Level((-60,)))
    assert (result.counts["evaluated"], result.warnings) == (4, [])
    data = clips("labels")
    data = EvalSet(
        "mine", "test", [*data.clips, EvalClip("dead", torch.zeros(800), labels=("soft",))], ("loud", "soft")
    )
    result = Level((-60,)).run(EvaluatedModel(Model(Ears()), BARE), data, silent)
    assert (result.counts["evaluated"], result.counts["unusable"]) == (4, 1)
    assert "silent" in result.failed[0][1]


def test_conditions_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="robust/level needs one condition or more"):
        Level(())
    with pytest.raises(ValueError, match="robust/noise needs one condition or more, each once"):
        Noise((10, 10))
    with pytest.raises(ValueError, match=r"robust/cut\.share are parts"):
        Cut((0,))


@pytest.fixture
def mine(tmp_path):
    """Four files with captions, labels of two tasks, tags and questions."""
    rows = []
    for i, name in enumerate(("soft", "loud", "soft", "loud")):
        noise = LEVELS[name] * torch.rand(1600, generator=torch.Generator().manual_seed(i))
        soundfile.write(tmp_path / f"{i}.wav", noise.numpy(), 8000)
        rows.append(
            {
                "audio": f"{i}.wav",
                "caption": f"{name}ly",
                "labels": {"level": name, "again": name},
                "tags": [name],
                "choices": {"level": [name, "loud" if name == "soft" else "soft"], "other": ["softly", "loudly"]},
            }
        )
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def evaluate(backend, mine, out=None, tasks=("robust/level",), **options):
    options["allow_collapsed"] = True  # it knows a few words alone
    return slap.evaluate(Model(backend), list(tasks), {"mine": str(mine)}, prompt_set="bare", out=out, **options)


def test_a_manifest_is_measured_by_all_that_it_has(mine):
    results = evaluate(Ears(), mine, tasks=["robust/level/mine"])
    found = {(result["dataset"], metric) for result in results.record["results"] for metric in result["metrics"]}
    assert {(dataset, name.partition(":")[0]) for dataset, name in found} >= {
        ("mine", "t2a_R@1"),
        ("mine/again", "accuracy"),
        ("mine/level", "accuracy"),
        ("mine/tags", "mAP"),
        ("mine", "level"),
        ("mine", "other"),
    }
    assert results["robust/level/mine/level/accuracy:-30dB"].value == -50
    table = str(results)
    assert "accuracy:-30dB" in table
    assert "-50.0" in table
    assert "a2t_R@10:-30dB" not in table
    assert "a2t_R@10:worst" in table
    (one,) = evaluate(Ears(), mine, tasks=["robust/level/mine/again"]).record["results"]
    assert one["dataset"] == "mine/again"


def test_embeddings_under_each_condition_are_kept(mine, tmp_path):
    first = Ears()
    before = evaluate(first, mine, tmp_path / "a.json", ["zeroshot/mine/level"])
    assert first.embedded == 4
    second = Ears()
    out = tmp_path / "a.json"
    after = evaluate(second, mine, out, ["robust/level/mine/level", "robust/noise/mine/level"])
    assert second.embedded == 4 * (5 + 3)  # the clean ones were kept
    assert after["robust/level/mine/level/accuracy"].value == before["zeroshot/mine/level/accuracy"].value
    third = Ears()
    again = evaluate(third, mine, out, ["robust/level/mine/again"], overwrite=True)
    assert third.embedded == 0
    assert again["robust/level/mine/again/accuracy:-30dB"].value == -50
    store = EmbeddingCache(tmp_path / "a.parts" / "embeddings", "ears", 2)
    keys = {(str(mine.with_name("0.wav")), str(mine.with_name("0.wav")), key) for key in ("", 'gain {"clip": true}')}
    assert len(store.read(keys)) == 1


def test_options_are_those_of_the_conditions(mine):
    options = {"robust/level": {"decibels": [6], "clip": True}}
    results = evaluate(Ears(), mine, tasks=["robust/level/mine/level"], options=options)
    assert [*results][:2] == ["robust/level/mine/level/accuracy", "robust/level/mine/level/accuracy:+6dB"]


def test_names_of_rows():
    from slap.core.registry import plugins

    tasks = plugins("task")
    of = lambda word: [str(row) for row in rows_of([word], tasks, ["mine"])]  # noqa: E731
    family = [f"robust/{name}" for name in ("codec", "cut", "level", "noise", "rate", "silence")]
    assert of("robust/mine") == [f"{name}/mine" for name in family]
    assert of("robust/level/mine/pitch") == ["robust/level/mine/pitch"]
    assert "robust/level/esc50" in of("robust/level")
    assert {row.partition("/")[0] for row in of("mine")} == {*tasks} - {*family}  # which take long, and are asked for
    with pytest.raises(ValueError, match="there is no task 'robost'"):
        of("robost/mine")
    with pytest.raises(ValueError, match="there is no data set 'other'"):
        of("robust/level/other")


def test_the_command_on_files(tiny_checkpoint, mine, tmp_path, capsys):
    command = ["evaluate", str(tiny_checkpoint), "--manifest", f"mine={mine}", "--out", str(tmp_path / "out.json")]
    rows = ["--tasks", "robust/codec/mine", "robust/rate/mine/level"]
    assert main([*command, *rows, "--set", "robust/codec.mp3=[32000]", "--no-plots"]) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert [result["task"] for result in record["results"]] == ["robust/codec"] * 5 + ["robust/rate"] * 2
    markdown = (tmp_path / "out.md").read_text()
    assert "| robust/codec | mine/level | accuracy:mp3\\_32k |" in markdown
    assert "- worst: " in markdown
    assert "accuracy:8000Hz" in capsys.readouterr().out
