"""`slap evaluate`, end to end on small corpora in their official layouts, against metrics computed by hand."""

import json
from pathlib import Path

import pytest
import torch

import slap
import tree_captioned as captioned
import tree_sounds as sounds
import tree_speech as speech
import tree_tools as tools
import tree_youtube as youtube
from slap.cli.main import main
from slap.core.own_files import mark_own
from slap.evaluation.eval_set import hash_of_ids


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    """The model to evaluate."""
    return tiny_checkpoint


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Corpora in their official layouts, below folders as people name them."""
    root = tmp_path_factory.mktemp("corpora")
    captioned.clotho(root / "Clotho_v2.1")
    speech.cremad(root / "CREMA-D")
    return root


def evaluate(model, out, *options, status=0):
    """Run the command, and read what it wrote."""
    assert main(["evaluate", str(model), "--out", str(out), "--workers", "0", *map(str, options)]) == status
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def evaluated(model, corpora, tmp_path_factory):
    """A retrieval and a zero-shot row."""
    out = tmp_path_factory.mktemp("out") / "results.json"
    return out, evaluate(model, out, "--tasks", "retrieval/clotho", "zeroshot/cremad", "--data", corpora)


CLOTHO = ["Radio Garble.wav", "toy rattle  2.wav", " leading.wav", "Caf\xe9.wav"]


def test_retrieval_equals_metrics_by_hand(evaluated, model, corpora):
    _, record = evaluated
    result = record["results"][0]
    loaded = slap.load(model)
    audio = loaded.embed_audio([corpora / "Clotho_v2.1" / "evaluation" / name for name in CLOTHO])
    texts = [f"{name}: {letter}" for name in CLOTHO for letter in "abcde"]
    scores = (loaded.embed_text([text.strip() for text in texts]) @ audio.T).tolist()
    right = sum(max(range(4), key=row.__getitem__) == i // 5 for i, row in enumerate(scores))
    assert result["metrics"]["t2a_R@1"]["value"] == pytest.approx(100 * right / 20)
    assert result["metrics"]["t2a_R@1"]["chance"] == 25.0
    assert result["metrics"]["t2a_R@5"]["value"] == 100.0
    best = 0
    for clip in range(4):
        order = sorted(range(20), key=lambda text: -scores[text][clip])
        best += order[0] // 5 == clip
    assert result["metrics"]["a2t_R@1"]["value"] == pytest.approx(25.0 * best)
    assert set(result["metrics"]) == set(result["definitions"])


def test_a_result_says_what_it_depends_on(evaluated):
    _, record = evaluated
    result = record["results"][0]
    assert (result["task"], result["dataset"], result["split"]) == ("retrieval", "clotho", "evaluation")
    assert result["counts"] == {"official": 1045, "found": 4, "evaluated": 4, "lost": {"missing": 1}, "unusable": 0}
    assert result["ids_sha256"] == hash_of_ids(f"clotho/evaluation/{name}" for name in CLOTHO)
    assert result["warnings"] == ["4 clips were evaluated; the published list has 1045"]
    assert result["settings"]["captions_per_clip"] == "5"
    assert result["settings"]["windowing"]["window_seconds"] == 2.0
    assert result["settings"]["channels"].startswith("their mean; where channels cancel each other, the loudest one")
    assert result["paper"]["t2a_R@1"] == {"pretrained": 18.9, "finetuned": 27.2}
    assert record["model"]["hash"] == slap.load(record["model"]["path"]).name
    assert record["software"]["torch"] == torch.__version__.split("+")[0]


def test_zeroshot_equals_metrics_by_hand(evaluated, model, corpora):
    """One of the five listed clips has no audio file, one is empty."""
    _, record = evaluated
    result = record["results"][1]
    words = {
        "anger": "angry",
        "disgust": "disgusted",
        "fear": "fearful",
        "happy": "happy",
        "neutral": "neutral",
        "sad": "sad",
    }
    assert result["settings"]["prompts"] == {
        "set": "default",
        "templates": ["this person is feeling {label}"],
        "words": words,
        "sha256": result["settings"]["prompts"]["sha256"],
    }
    folder = corpora / "CREMA-D" / "AudioWAV"
    clips = {"1001_DFA_ANG_XX": "anger", "1001_IEO_HAP_HI": "happy", "1091_WSI_NEU_XX": "neutral"}
    labels = [row["class"] for row in result["per_class"]]
    loaded = slap.load(model)
    spoken = [f"this person is feeling {words[label]}" for label in labels]
    scores = loaded.similarity([folder / f"{name}.wav" for name in clips], spoken)
    guesses = [labels[i] for i in scores.argmax(1).tolist()]
    right = sum(guess == truth for guess, truth in zip(guesses, clips.values(), strict=True))
    assert result["metrics"]["accuracy"]["value"] == pytest.approx(100 * right / 3)
    assert result["counts"]["lost"] == {"missing": 1, "empty": 1}
    assert result["ids_sha256"] == hash_of_ids(f"cremad/{name}" for name in clips)


def test_tables_and_plots_stand_beside(evaluated):
    out, record = evaluated
    markdown = out.with_suffix(".md").read_text()
    value = record["results"][1]["metrics"]["accuracy"]["value"]
    assert f"| zeroshot | cremad | accuracy | {value:.1f} |" in markdown
    assert "this person is feeling {label}" in markdown
    latex = out.with_suffix(".tex").read_text()
    assert f"zeroshot & cremad & accuracy & {value:.1f} &" in latex
    assert r"t2a\_mAP@10" in latex
    plots = [plot for result in record["results"] for plot in result["plot_files"]]
    assert {Path(plot).name for plot in plots} >= {
        "zeroshot_cremad_confusion.png",
        "zeroshot_cremad_score_by_class.png",
        "retrieval_clotho_recall_by_duration.png",
    }
    assert all((out.parent / plot).stat().st_size > 5000 for plot in plots)


# -- what data there may be -------------------------------------------------------------------------------------------


def test_the_paper_runs_what_there_is_data_for(model, corpora, tmp_path, capsys):
    data = f"cremad={corpora / 'CREMA-D'}"
    record = evaluate(model, tmp_path / "results.json", "--tasks", "paper", "--data", data, "--no-plots")
    assert [f"{result['task']}/{result['dataset']}" for result in record["results"]] == ["zeroshot/cremad"]
    skipped = {row["row"]: row["reason"] for row in record["skipped"]}
    assert "there is no folder esc50 or esc-50-master in nowhere" in skipped["zeroshot/esc50"]
    assert skipped["finetuned_classification/esc50"].startswith("a recipe trains its head and `slap test` evaluates it")
    assert record["failed"] == []
    error = capsys.readouterr().err
    assert "slap: retrieval/audiocaps: skipped: there is no folder audiocaps in" in error
    assert "## Not run\n\n- retrieval/audiocaps: there is no folder" in (tmp_path / "results.md").read_text()


def test_a_row_that_was_named_and_has_no_data_is_a_failure(model, corpora, tmp_path, capsys):
    rows = ["zeroshot/esc50", "zeroshot/cremad"]
    record = evaluate(model, tmp_path / "r.json", "--tasks", *rows, "--data", corpora, "--no-plots", status=3)
    assert [row["row"] for row in record["failed"]] == ["zeroshot/esc50"]
    assert len(record["results"]) == 1
    assert "zeroshot/esc50: no data: there is no folder esc50" in capsys.readouterr().err
    evaluate(model, tmp_path / "none.json", "--tasks", "zeroshot/esc50", "--data", corpora, status=2)
    assert "slap: nothing ran" in capsys.readouterr().err


def test_all_corpora_in_their_official_layouts(model, tmp_path):
    """Each tree has a clip or two; the classes are those of the published lists all the same."""
    root = tmp_path / "corpora"
    sounds.fsd50k(root / "FSD50K")
    sounds.urbansound8k(root / "UrbanSound8K")
    sounds.gtzan(root / "gtzan")
    speech.speechcommands(root / "speech_commands_v0.02")
    speech.ravdess(root / "ravdess")
    youtube.audioset(root / "AudioSet")
    youtube.vggsound(root / "VGGSound")
    record = evaluate(model, tmp_path / "r.json", "--tasks", "zeroshot", "--data", root, "--no-plots")
    found = {result["dataset"]: result for result in record["results"]}
    counts = {name: (found[name]["counts"]["evaluated"], found[name]["settings"]["classes"]) for name in found}
    assert counts == {
        "audioset": (1, 5),
        "fsd50k": (1, 3),
        "gtzan": (7, 10),
        "gtzan-filtered": (4, 10),
        "ravdess": (2, 8),
        "ravdess-all": (4, 8),
        "speechcommands": (1, 35),
        "urbansound8k": (4, 10),
        "vggsound": (1, 4),
    }
    assert found["gtzan"]["counts"]["lost"] == {"missing": 992, "unreadable": 1}
    assert found["ravdess-all"]["counts"]["official"] == 2452
    assert found["urbansound8k"]["settings"]["folds"] == 2
    assert "only 2 of the 10 folds have clips" in found["urbansound8k"]["warnings"]
    assert set(found["urbansound8k"]["metrics"]) == {"accuracy", "accuracy_pooled"}
    assert set(found["audioset"]["metrics"]) == {"mAP"}
    assert "only 5 of the 527 classes are known, so the metrics are too high" in found["audioset"]["warnings"]


def test_what_slap_prepare_wrote_is_read_too(model, corpora, tmp_path, evaluated):
    _, before = evaluated
    made = tmp_path / "manifests"
    tools.prepare("cremad", corpora / "CREMA-D", made / "cremad")
    tools.prepare("clotho", corpora / "Clotho_v2.1", made / "clotho", "--splits", "evaluation")
    rows = ["retrieval/clotho", "zeroshot/cremad", "zeroshot/cremad-evar"]
    record = evaluate(model, tmp_path / "r.json", "--tasks", *rows, "--data", made, "--no-plots", status=3)
    for old, new in zip(before["results"], record["results"], strict=True):
        for part in ("metrics", "ids_sha256", "counts", "settings", "per_class", "warnings"):
            assert new[part] == old[part]
    (failed,) = record["failed"]
    assert (
        "was prepared from cremad with {'actors': 'all', 'labels': 'emotion'}; cremad-evar needs actors evar"
        in failed["reason"]
    )


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A table of clips with captions, folds, a label and several tags; one clip cannot be read."""
    for number in range(6):
        tools.tone(tmp_path / f"{number}.wav", 0.2 + 0.1 * number, pitch=200 + 100 * number)
    rows = [(f"{n}.wav", f"sound {n}", "low" if n < 3 else "high", n % 2, "a;b" if n % 2 else "b;c") for n in range(6)]
    tools.table(tmp_path / "mine.csv", ["audio", "caption", "label_pitch", "fold", "tags"], rows)
    tools.table(tmp_path / "train.csv", ["audio", "caption"], rows_of_training(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of_training(rows):
    return [(audio, caption) for audio, caption, *_ in rows[:2]]


def test_any_manifest(model, mine):
    rows = ["retrieval/mine", "zeroshot/mine/pitch", "zeroshot/mine/tags"]
    record = evaluate(model, mine / "r.json", "--tasks", *rows, "--manifest", "mine=mine.csv", "--no-plots")
    retrieval, labels, tags = record["results"]
    assert (retrieval["dataset"], retrieval["counts"]["official"]) == ("mine", None)
    assert (labels["dataset"], labels["settings"]["folds"], labels["settings"]["classes"]) == ("mine/pitch", 2, 2)
    assert (tags["dataset"], set(tags["metrics"]), tags["settings"]["classes"]) == ("mine/tags", {"mAP"}, 3)
    failed = evaluate(model, mine / "s.json", "--tasks", "zeroshot/mine", "--manifest", "mine=mine.csv", status=2)
    assert "has labels for several tasks, pitch, tags; name one, as in TASK/mine/pitch" in failed["failed"][0]["reason"]


def test_shards_are_judged_as_the_manifest_that_was_packed(model, mine):
    assert main(["pack", "mine.csv", "shards"]) == 0
    rows = ["retrieval/mine", "zeroshot/mine/pitch"]
    results = [
        evaluate(model, mine / f"{name}.json", "--tasks", *rows, "--manifest", f"mine={path}", "--no-plots")["results"]
        for name, path in (("a", "mine.csv"), ("b", "shards"))
    ]
    for whole, packed in zip(*results, strict=True):
        assert packed["metrics"] == whole["metrics"]
        assert packed["ids_sha256"] == whole["ids_sha256"]
        assert packed["counts"] == whole["counts"]


def test_audiocaps_in_both_versions(model, tmp_path):
    root = tmp_path / "corpora" / "AudioCaps"
    captioned.audiocaps(root)
    for version in ("dataset", "dataset2.0"):
        (root / version / "val.csv").rename(root / version / "test.csv")
    rows = ["retrieval/audiocaps", "retrieval/audiocaps-v2"]
    record = evaluate(model, tmp_path / "r.json", "--tasks", *rows, "--data", root.parent, "--no-plots")
    first, second = record["results"]
    assert first["counts"] == {"official": 975, "found": 2, "evaluated": 2, "lost": {}, "unusable": 0}
    assert (first["settings"]["captions"], second["settings"]["captions"]) == (10, 10)
    assert first["ids_sha256"] == second["ids_sha256"]
    assert (first["paper"]["t2a_R@1"], second["paper"]) == ({"pretrained": 35.1, "finetuned": 47.5}, {})
    assert "version 2 of the captions (2025)" in second["settings"]["about"]


def test_rows_of_a_manifest_that_cannot_be_used_are_counted(model, mine, capsys):
    with (mine / "mine.csv").open("a") as file:
        file.write('gone.wav,a sound,low,0,"a"\n0.wav,,low,0,"a"\n5.wav,again and again,,1,\n')
    tools.tone(mine / "6.wav")
    with (mine / "mine.csv").open("a") as file:
        file.write("6.wav,a sound without label,,0,\n")
    rows = ["retrieval/mine", "zeroshot/mine/pitch"]
    record = evaluate(model, mine / "r.json", "--tasks", *rows, "--manifest", "mine=mine.csv", "--no-plots")
    assert "slap: retrieval/mine is without some clips: 1 absent, 1 caption\n" in capsys.readouterr().err
    retrieval, labels = (result["counts"] for result in record["results"])
    assert (retrieval["evaluated"], retrieval["lost"]) == (7, {"absent": 1, "caption": 1})
    assert (labels["evaluated"], labels["lost"]) == (6, {"absent": 1, "caption": 1, "without label": 1})
    assert "7 evaluated, 7 found, 0 unusable; of the list 1 absent, 1 caption" in (mine / "r.md").read_text().replace(
        "clips: ", ""
    )


def test_training_data_that_are_judged_on(model, mine, capsys):
    options = ["--tasks", "retrieval/mine", "--manifest", "mine=mine.csv", "--no-plots"]
    record = evaluate(model, mine / "r.json", *options, "--train", "train.csv")
    expected = "the training manifest train.csv holds evaluated clips: 2 by id, of 6; the metrics are too high"
    assert any(warning.startswith(expected) for warning in record["results"][0]["warnings"])
    assert expected in capsys.readouterr().err
    tools.table(mine / "other.csv", ["audio", "caption", "id"], [("0.wav", "x", "another id")])
    by = ["--train", "other.csv", "--overlap-by"]
    assert evaluate(model, mine / "s.json", *options, *by, "id")["results"][0]["warnings"] == []
    record = evaluate(model, mine / "t.json", *options, *by, "content")
    assert "1 by content, of 6" in record["results"][0]["warnings"][0]


def test_the_training_manifest_of_a_run_is_known(model, mine):
    (mine / "run").mkdir()
    (mine / "run" / "best.ckpt").write_bytes(model.read_bytes())
    (mine / "run" / "config.yaml").write_text("data:\n  train:\n    mine: train.csv\n    gone: gone.csv\n")
    options = ["--tasks", "retrieval/mine", "--manifest", "mine=mine.csv"]
    record = evaluate(mine / "run" / "best.ckpt", mine / "q.json", *options)
    assert record["results"][0]["warnings"] == []  # a downloaded config could name any file
    mark_own(mine / "run" / "config.yaml")
    record = evaluate(mine / "run" / "best.ckpt", mine / "r.json", *options)
    assert "training manifest train.csv holds evaluated clips" in record["results"][0]["warnings"][0]


# -- again, and interrupted -------------------------------------------------------------------------------------------


def test_the_same_command_computes_nothing_again(model, mine, monkeypatch, capsys):
    options = ["--tasks", "retrieval/mine", "--manifest", "mine=mine.csv"]
    first = evaluate(model, mine / "r.json", *options)
    capsys.readouterr()
    monkeypatch.setattr("slap.inference.model.Model.stream", None)  # no audio is read any more
    assert evaluate(model, mine / "r.json", *options) == first
    assert "retrieval/mine: done before; --overwrite makes it anew" in capsys.readouterr().err
    # Embeddings are kept too: another row needs no audio either.
    record = evaluate(model, mine / "r.json", "--tasks", "zeroshot/mine/pitch", *options[2:])
    assert [result["dataset"] for result in record["results"]] == ["mine/pitch"]
    # Nor does the first row again, though another evaluation stands in its place; but what belongs to it must be there.
    assert evaluate(model, mine / "r.json", *options)["results"] == first["results"]
    (mine / first["results"][0]["plot_files"][0]).unlink()
    assert evaluate(model, mine / "r.json", *options)["results"] == first["results"]
    assert (mine / first["results"][0]["plot_files"][0]).exists()


def test_a_file_that_changed_is_read_again(model, mine):
    options = ["--tasks", "retrieval/mine", "--manifest", "mine=mine.csv", "--no-plots"]
    first = evaluate(model, mine / "r.json", *options)
    (mine / "3.wav").write_bytes(b"no audio any more")
    record = evaluate(model, mine / "r.json", *options)
    assert (first["results"][0]["counts"]["evaluated"], record["results"][0]["counts"]["evaluated"]) == (6, 5)


def test_an_interrupted_evaluation_goes_on(model, mine, monkeypatch):
    options = ["--tasks", "retrieval/mine", "--manifest", "mine=mine.csv", "--no-plots"]
    whole = evaluate(model, mine / "whole.json", *options)
    stream = slap.Model.stream
    read = []

    def interrupted(self, audio, batch_seconds):
        for number, done in enumerate(stream(self, audio, batch_seconds)):
            if number == 4 and not read:
                raise KeyboardInterrupt
            yield done

    monkeypatch.setattr(slap.Model, "stream", interrupted)
    assert main(["evaluate", str(model), "--out", "r.json", "--workers", "0", *options]) == 130
    monkeypatch.setattr(
        slap.Model, "stream", lambda self, audio, seconds: read.append(len(audio)) or stream(self, audio, seconds)
    )
    record = evaluate(model, mine / "r.json", *options)
    assert read == [2]
    assert record["results"][0]["metrics"] == whole["results"][0]["metrics"]


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "r.json"], "--tasks is missing"),
        (["--tasks", "paper"], "--out is missing"),
        (["--tasks", "paper", "--out", "r.txt"], "ends in .json, got r.txt"),
        (["--tasks", "papre", "--out", "r.json"], "'papre' is no task and no data set; did you mean 'paper'?"),
        (["--tasks", "zeroshot/esc51", "--out", "r.json"], "no data set 'esc51'; did you mean 'esc50'?"),
        (["--tasks", "retrieval/esc50", "--out", "r.json"], "esc50 has labels, and the task needs captions"),
        (["--tasks", "paper", "--data", "nowhere", "--out", "r.json"], "--data: there is no folder nowhere"),
        (["--tasks", "paper", "--manifest", "mine.csv", "--out", "r.json"], "write NAME=PATH"),
        (
            ["--tasks", "paper", "--manifest", "esc50=mine.csv", "--out", "r.json"],
            "esc50 is a benchmark with its own protocol",
        ),
        (["--tasks", "paper", "--manifest", "m/train=mine.csv", "--out", "r.json"], "m has no clips to test on"),
        (
            ["--tasks", "paper", "--prompt-set", "lion", "--out", "r.json"],
            "no prompt set 'lion'; did you mean 'laion'?",
        ),
        (["--tasks", "paper", "--set", "zeroshot.x=1", "--out", "r.json"], "zeroshot has no option 'x'"),
        (["--tasks", "paper", "--train", "no.csv", "--out", "r.json"], "--train: there is no no.csv"),
        (["--tasks", "paper", "--set", "zeroshot", "--out", "r.json"], "write TASK.OPTION=VALUE"),
    ],
)
def test_mistakes_say_what_to_do(options, message, model, mine, capsys):
    assert main(["evaluate", str(model), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_something_else_is_not_overwritten(model, mine, capsys):
    (mine / "r.json").write_text('{"precious": 1}')
    assert main(["evaluate", str(model), "--tasks", "paper", "--data", ".", "--out", "r.json"]) == 2
    assert (
        "r.json is not of the schema slap-evaluation/2; name another file, or give --overwrite"
        in capsys.readouterr().err
    )
    assert (mine / "r.json").read_text() == '{"precious": 1}'


def test_help_and_list(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = capsys.readouterr().out
    assert "Exit status: 0 all rows that were named ran" in text
    assert main(["evaluate", "--list"]) == 0
    text = capsys.readouterr().out
    assert "  zeroshot         Classify clips by the texts of their labels" in text
    assert "  gtzan-filtered   the fault-filtered split: 443, 197 and 290 pieces" in text
    assert "urbansound8k: {'templates': ['{label}']}" in text
