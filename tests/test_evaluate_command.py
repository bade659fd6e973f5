"""`slap evaluate`, end to end on small corpora in their official layouts, against figures computed by hand."""

import json
from pathlib import Path

import pytest
import torch

import slap
from slap.cli import main
from slap.judge.judged_set import hash_of_ids
from slap.registry import load_module
from slap.tiny import tiny_checkpoint

TREES = Path(__file__).parent / "trees"
captioned, sounds, speech, youtube, tools = (
    load_module(str(TREES / f"tree_{name}.py")) for name in ("captioned", "sounds", "speech", "youtube", "tools")
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    tiny_checkpoint(path)
    return path


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


def test_retrieval_equals_figures_by_hand(evaluated, model, corpora):
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
    assert result["settings"]["channels"] == "averaged"
    assert result["paper"]["t2a_R@1"] == {"pretrained": 18.9, "finetuned": 27.2}
    assert record["model"]["hash"] == slap.load(record["model"]["path"]).name
    assert record["software"]["torch"] == torch.__version__.split("+")[0]


def test_zeroshot_equals_figures_by_hand(evaluated, model, corpora):
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
