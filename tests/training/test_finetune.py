"""Fine-tuning recipes from the official layout of a corpus to the metrics of its test, from a trained model on."""

import csv
import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
import torch
import yaml

import pages
import slap
import tree_tuning as trees
from slap.cli.crossval import crossval, summary
from slap.cli.main import main
from slap.cli.recipe_source import built_in
from slap.datamodules import read_manifest
from slap.datamodules.sampling.folds import folds
from slap.evaluation.benchmarks import PROTOCOLS, TRAINABLE, datasets, manifests_of
from slap.recipes import classification, finetune, retrieval
from slap.recipes._corpora import LabeledCorpus
from slap.training.callbacks.learning_curves import panels, read_metrics

pytestmark = pytest.mark.usefixtures("fast_reports")


DATA = Path(__file__).parents[3] / "shared" / "data"

QUICK = [
    *("--trainer.max_steps=2", "--trainer.val_check_interval=1", "--trainer.num_sanity_val_steps=0"),
    *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--data.num_workers=0"),
    "--model.warmup_steps=0",
]


def prepared(tmp_path, corpus, *options):
    getattr(trees, corpus)(tmp_path / "root")
    folder = tmp_path / "manifests"
    assert main(["prepare", corpus, str(tmp_path / "root"), str(folder), "--workers", "0", *options]) == 0
    return folder


def tuned(recipe, out, start, *options):
    """Train, select and test; return the metrics of the test."""
    fit = ["fit", "--recipe", recipe, f"--trainer.out={out}", f"--model.start={start}"]
    assert main([*fit, *QUICK, *options]) == 0
    assert main(["test", "--config", f"{out}/config.yaml", "--ckpt_path", "best"]) == 0
    (results,) = out.glob("test/*/results.json")
    return json.loads(results.read_text())["metrics"]


@pytest.mark.parametrize("corpus", ["audiocaps", "clotho"])
def test_retrieval(corpus, tmp_path, tiny_checkpoint):
    manifests = prepared(tmp_path, corpus)
    out = tmp_path / "run"
    found = tuned("retrieval", out, tiny_checkpoint, f"--data.corpus={corpus}", f"--data.manifests={manifests}")
    assert found["t2a_R@1"]["count"] == 15  # three clips with five captions
    assert found["a2t_R@1"]["count"] == 3
    content = torch.load(out / "best.ckpt", weights_only=True)
    before = torch.load(tiny_checkpoint, weights_only=True)["state_dict"]
    changed = [name for name, value in before.items() if not torch.equal(value, content["state_dict"].get(name, value))]
    assert {name.split(".")[0] for name in changed} >= {"audio", "text", "audio_pool", "text_pool", "objectives"}


def test_the_model_before_training_stands_beside_what_became_of_it(tmp_path, tiny_checkpoint, capsys):
    """By one command, by the whole validation set, and without a trace in what is trained."""
    manifests = prepared(tmp_path, "clotho")
    weights = []
    for first in (True, False):
        out = tmp_path / f"run_{first}"
        run = ["fit", "--recipe", "retrieval", f"--trainer.out={out}", f"--model.start={tiny_checkpoint}"]
        options = ["--data.corpus=clotho", f"--data.manifests={manifests}", f"--trainer.validate_first={first}"]
        quick = [option for option in QUICK if "num_sanity" not in option]
        capsys.readouterr()
        assert main([*run, *quick, *options]) == 0
        assert ("before training" in capsys.readouterr().out) == first
        weights.append(torch.load(out / "last.ckpt", weights_only=True)["state_dict"])
        found = read_metrics(out / "metrics.csv")["val/t2a_mAP@10"]
        assert sorted(found) == ([-1] if first else []) + [0, 1]
        if first:
            assert main(["fit", *run[1:], *quick, *options]) == 2  # before it validates
            assert "holds a run already" in capsys.readouterr().err
            validate = ["validate", *run[1:], *QUICK[:-1], *options, "--ckpt_path", "none"]
            assert main([*validate, f"--trainer.out={tmp_path / 'other'}"]) == 0
            printed = capsys.readouterr().out
            shown = next(line for line in printed.splitlines() if "val/t2a_mAP@10" in line)
            assert float(shown.split("│")[2]) == pytest.approx(found[-1], rel=1e-4)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_captioning(tmp_path, tiny_checkpoint):
    manifests = prepared(tmp_path, "clotho")
    out = tmp_path / "run"
    tuned("captioning", out, tiny_checkpoint, "--data.corpus=clotho", f"--data.manifests={manifests}")
    content = torch.load(out / "best.ckpt", weights_only=True)
    before = torch.load(tiny_checkpoint, weights_only=True)["state_dict"]
    changed = {n.split(".")[0] for n, v in before.items() if not torch.equal(v, content["state_dict"].get(n, v))}
    assert changed == {"audio", "objectives"}
    with (out / "metrics.csv").open() as file:
        losses = [float(row["val/captioning"]) for row in csv.DictReader(file) if row["val/captioning"]]
    assert len(losses) == 2
    (report,) = out.glob("test/*/report.md")
    assert "## Captions" in report.read_text()
    monitored = next(value for name, value in content["callbacks"].items() if "BestCheckpoint" in name)
    assert float(monitored["best_model_score"]) == pytest.approx(min(losses), rel=1e-5)


def test_wavcaps(tmp_path, tiny_checkpoint):
    manifests = prepared(tmp_path, "wavcaps")
    others = prepared(tmp_path / "others", "speechcommands")
    options = [f"--data.manifests={manifests}", "--data.held_out=0.3", "--model.objectives={contrastive: 1.0}"]
    out = tmp_path / "run"
    fit = ["fit", "--recipe", "wavcaps", f"--trainer.out={out}", f"--model.start={tiny_checkpoint}"]
    for part in ("heldout", "train"):  # clips of the validation, and of training: refused
        test = f"--data.test=[{manifests}/SoundBible.jsonl.gz#{part}=0.3]"
        assert main([*fit, *QUICK, *options, test]) == 2
    options.append(f"--data.test=[{others}/test.jsonl.gz]")
    found = tuned("wavcaps", out, tiny_checkpoint, *options)
    assert 0 < found["t2a_R@1"]["count"] <= len(read_manifest(f"{others}/test.jsonl.gz"))
    header = (out / "metrics.csv").read_text().splitlines()[0]
    assert "val/FreeSound/t2a_R@10" in header


def test_speech_commands_with_mixup(tmp_path, tiny_checkpoint):
    manifests = prepared(tmp_path, "speechcommands")
    options = ["--data.corpus=speechcommands", f"--data.manifests={manifests}", "--data.mixup=1.0"]
    found = tuned("classification", tmp_path / "run", tiny_checkpoint, *options)
    assert list(found) == ["classification_accuracy"]
    assert (found["classification_accuracy"]["count"], found["classification_accuracy"]["chance"]) == (8, 25.0)
    content = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)
    assert content["hyper_parameters"]["objectives"]["classification"]["classes"] == ["down", "no", "up", "yes"]
    assert list((tmp_path / "run" / "test").glob("*/confusion_classification.png"))
    (panel,) = [p for p in panels(read_metrics(tmp_path / "run" / "metrics.csv"), {}) if p.unit == "%"]
    assert panel.title == "classification, accuracy, validation"
    assert len(panel.curves["classification_accuracy"]) == 2


@pytest.mark.parametrize("size", ["20k", "2m"])
def test_audioset(size, tmp_path, tiny_checkpoint):
    manifests = prepared(tmp_path, "audioset")
    options = [f"--data.corpus=audioset-{size}", f"--data.manifests={manifests}", "--model.features=tokens"]
    found = tuned("classification", tmp_path / "run", tiny_checkpoint, *options)
    assert list(found) == ["classification_mAP"]
    assert found["classification_mAP"]["count"] == 6
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert "corpus" not in config["trainer"]  # --data.corpus says it


@pytest.mark.slow
def test_esc50_by_folds_in_one_table(tmp_path, tiny_checkpoint, capsys):
    manifests = prepared(tmp_path, "esc50")
    options = [
        "--recipe=classification",
        "--data.corpus=esc50",
        f"--data.manifests={manifests}",
        f"--model.start={tiny_checkpoint}",
    ]
    calls = []

    def slap(arguments):
        calls.append(arguments[0])
        return main(list(arguments))

    out = tmp_path / "runs"
    assert crossval([2, 5], out, [*options, *QUICK], slap) == 0
    assert calls == ["fit", "test"] * 2
    table = (out / "crossval.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert table.splitlines()[0].endswith("| fold 2 | fold 5 |")
    assert "classification, accuracy" in table
    record = json.loads((out / "crossval.json").read_text())
    each = [record["folds"][fold]["classification_accuracy"]["value"] for fold in ("2", "5")]
    assert record["mean"]["classification_accuracy"]["value"] == pytest.approx(sum(each) / 2)
    assert record["mean"]["classification_accuracy"]["count"] == 12
    shutil.rmtree(out / "fold5")
    assert crossval([2, 5], out, [*options, *QUICK], slap) == 0
    assert calls == ["fit", "test"] * 3  # fold 2 was done
    with pytest.raises(ValueError, match="holds folds that were made with"):
        crossval([2, 5], out, options, slap)
    assert crossval([1, 2], tmp_path / "failing", options, lambda arguments: 3) == 3


def test_a_fold_that_ended_before_its_first_checkpoint_is_begun_anew(tmp_path):
    """Otherwise `slap fit` would refuse the folder with the logs of the fold."""
    calls = []

    def slap(arguments):
        calls.append(arguments)
        (tmp_path / "fold1").mkdir(exist_ok=True)
        return 3

    for _ in range(2):
        assert crossval([1, 2], tmp_path, ["--recipe", "classification"], slap) == 3
    assert calls[1] == [*calls[0], "--ckpt_path", "last"]


# -- labels and pairs of the user's own -------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """Write a table of labels with folds, and no captions."""
    rng = np.random.default_rng(0)
    rows = ["audio,label,fold"]
    for number in range(12):
        soundfile.write(tmp_path / f"{number}.wav", rng.uniform(-0.5, 0.5, 3200), 16_000)
        rows.append(f"{number}.wav,{'dog' if number % 2 else 'rain'},{number // 4 + 1}")
    (tmp_path / "all.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_labels_of_ones_own(own, tiny_checkpoint, capsys):
    """Go from a table to a model that classifies files, and from that to the next one."""
    splits = [f"--data.{role}=[{own}/all.csv#fold={fold}]" for fold, role in enumerate(("train", "val", "test"), 1)]
    found = tuned("classification", own / "run", tiny_checkpoint, *splits)
    assert found["classification_accuracy"]["count"] == 4
    folded = tuned("classification", own / "folded", tiny_checkpoint, f"--data.folded={own}/all.csv", "--data.fold=3")
    assert folded["classification_accuracy"]["count"] == 4
    clips = [own / f"{number}.wav" for number in (1, 2)]
    model = slap.load(own / "run" / "best.ckpt", "cpu")
    labels = model.label(clips)
    assert [{one.label for one in found} for found in labels] == [{"dog", "rain"}] * 2
    network = torch.load(own / "run" / "best.ckpt", weights_only=True)["state_dict"]
    head = "objectives.classification"
    read = torch.nn.functional.layer_norm(
        model.embed_audio(clips), (16,), network[f"{head}.norm.weight"], network[f"{head}.norm.bias"]
    )
    chances = (read @ network[f"{head}.linear.weight"].T + network[f"{head}.linear.bias"]).softmax(1)
    for found, row in zip(labels, chances, strict=True):
        assert found[0].probability == pytest.approx(float(row.max()), rel=1e-4)
        assert found[0].label == ["dog", "rain"][int(row.argmax())]
    capsys.readouterr()
    assert main(["classify", str(own / "run" / "best.ckpt"), str(clips[0])]) == 0
    assert capsys.readouterr().out.split("\t")[1] == labels[0][0].label
    model.save_pretrained(own / "exported", allow_collapsed=True)
    assert slap.load(own / "exported", "cpu").label(clips) == labels
    assert main(["classify", str(tiny_checkpoint), str(clips[0])]) == 2
    assert "there is no head None to classify by; the model has none" in capsys.readouterr().err
    again = classification.model(start=str(own / "run" / "best.ckpt"), classes=["dog", "rain"])
    assert torch.equal(again.objectives["classification"].linear.bias, network[f"{head}.linear.bias"])
    assert classification.model(start=str(own / "run" / "best.ckpt")).objectives["classification"].linear is None


def test_a_frozen_encoder_stays_as_it_is(own, tiny_checkpoint):
    options = [f"--data.folded={own}/all.csv", "--model.freeze=[audio]"]
    tuned("classification", own / "run", tiny_checkpoint, *options)
    before = torch.load(tiny_checkpoint, weights_only=True)["state_dict"]
    after = torch.load(own / "run" / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in before.items():
        if name.startswith(("audio.", "text.", "text_pool.")):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["audio_pool.query"], after["audio_pool.query"])


def test_pairs_of_ones_own(own, tiny_checkpoint):
    found = tuned(
        "finetune",
        own / "run",
        tiny_checkpoint,
        *(f"--data.{role}=[{own}/all.csv#fold={n}]" for n, role in enumerate(("train", "val", "test"), 1)),
    )
    assert {"t2a_R@1", "zeroshot_label"} <= set(found)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_nothing_is_chosen_on_the_test(own):
    for monitor in ("test/t2a_R@1", "eval/retrieval/clotho/t2a_R@1", "eval/t2a_R@1"):
        with pytest.raises(ValueError, match=f"monitor must begin with val/.* got '{monitor}'"):
            finetune.trainer(monitor=monitor)
    assert finetune.trainer(out=str(own), monitor="eval/retrieval/mine/t2a_R@1", accelerator="cpu").max_steps == 2000
    with pytest.raises(ValueError, match="fold 2 is tested on, so it may not choose: val_fold can be 1, 3 or 0"):
        folds(own / "all.csv", 2, 2)


def test_what_is_trained_on_is_said_once(own):
    with pytest.raises(ValueError, match=r"got none. The corpora are esc50"):
        classification.data()
    with pytest.raises(ValueError, match=r"got --data.corpus and --data.folded"):
        classification.data(corpus="esc50", folded=str(own / "all.csv"))
    with pytest.raises(FileNotFoundError, match=r"prepare it by `slap prepare esc50 ROOT manifests/esc50`"):
        classification.data(corpus="esc50")
    with pytest.raises(FileNotFoundError, match=r"prepare it by `slap prepare clotho ROOT manifests/clotho`"):
        retrieval.data(corpus="clotho")


def test_folds_to_test_on_and_to_choose_on(own):
    table = own / "all.csv"
    assert folds(table, 1) == {
        "test": [f"{table}#fold=1"],
        "val": [f"{table}#fold=2"],
        "train": [f"{table}#fold=not 1,2"],
    }
    assert folds(table, 3)["val"] == [f"{table}#fold=1"]
    assert folds(table, 3, 0) == {"test": [f"{table}#fold=3"], "val": [], "train": [f"{table}#fold=not 3"]}


def test_every_benchmark_has_splits_that_prepare_makes(tmp_path):
    corpora = load_corpora()
    for name, protocol in [*datasets().items(), *TRAINABLE.items()]:
        made = {"all", "train", "valid", "test", *corpora[protocol.prepare.split()[0]].SPLITS}
        assert {*protocol.train, *protocol.val, *protocol.test} <= made, name
    for name, protocol in TRAINABLE.items():
        if not protocol.folds:
            splits = manifests_of(name, str(tmp_path))
            assert set(splits) == {"train", "val", "test"}
            assert all(splits.values())


def test_a_name_means_the_same_splits_to_train_and_to_evaluate():
    """`gtzan` and `cremad` were all clips to `slap evaluate`, and the filtered split and EVAR's to `--data.corpus`."""
    for name in get_args(LabeledCorpus):
        known = datasets().get(name, datasets()["audioset"])
        assert (PROTOCOLS[name].test, PROTOCOLS[name].options) == (known.test, known.options)
    with pytest.raises(ValueError, match="gtzan has no training split; gtzan-filtered has one"):
        manifests_of("gtzan")
    with pytest.raises(ValueError, match="there is no benchmark 'esc5'"):
        manifests_of("esc5")


def test_a_benchmark_without_validation_split_holds_clips_out(tmp_path):
    assert manifests_of("audioset-2m", str(tmp_path)) == {
        "train": [f"{tmp_path}/balanced_train.jsonl.gz#train=0.05", f"{tmp_path}/unbalanced_train.jsonl.gz"],
        "val": [f"{tmp_path}/balanced_train.jsonl.gz#heldout=0.05"],
        "test": [f"{tmp_path}/eval.jsonl.gz"],
    }


def load_corpora():
    from slap.core.registry import plugins

    return plugins("corpus")


def test_the_mean_over_folds():
    figure = lambda value: {"f": {"value": value, "chance": 10.0, "count": 4, "best": 100.0}}  # noqa: E731
    found = summary({1: figure(50.0), 2: figure(100.0), 3: figure(75.0)})["f"]
    assert (found.value, found.chance, found.count) == (75.0, 10.0, 12)
    assert (found.low, found.high, found.over) == (0.0, 100.0, "folds")  # t of two degrees of freedom: 75 +- 98
    with pytest.raises(ValueError, match="fold 2 has the metrics g, another one f"):
        summary({1: figure(1.0), 2: {"g": figure(1.0)["f"]}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--recipe", "classification"], "needs OUT, --folds"),
        (["x", "--folds", "1", "--recipe", "classification"], "two or more different folds"),
        (["x", "--folds", "1", "2", "--recipe=c", "--data.fold=3"], "sets --data.fold=3 itself"),
        (["x", "--folds", "a"], "invalid int value"),
    ],
)
def test_mistakes_with_crossval(arguments, message, capsys):
    assert main(["crossval", *arguments]) == 2
    assert message in capsys.readouterr().err


def commands_of_the_docs():
    guides = [pages.Page(f"docs/howto/{name}.md") for name in ("finetune", "classification")]
    return [command[1:] for guide in guides for command in guide.commands()]


@pytest.mark.parametrize("command", [c for c in commands_of_the_docs() if c[0] == "fit"], ids=" ".join)
def test_commands_of_the_docs_have_no_unknown_option(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--print_config"])
    assert stop.value.code == 0
    assert f"start: {command[command.index('--model.start') + 1]}" in capsys.readouterr().out


def test_folds_of_the_docs(monkeypatch):
    called = []
    monkeypatch.setattr("slap.cli.crossval.crossval", lambda *arguments: called.append(arguments[:3]) or 0)
    (command,) = [c for c in commands_of_the_docs() if c[0] == "crossval"]
    assert main(command) == 0
    options = ["--recipe", "classification", "--data.corpus", "esc50", "--model.start", "runs/base/best.ckpt"]
    assert called == [([1, 2, 3, 4, 5], Path("runs/esc50"), options)]


def test_recipes_of_fine_tuning_are_built_in():
    assert {"finetune", "retrieval", "wavcaps", "classification", "captioning"} <= set(built_in())
