"""The task `captioning` of `slap evaluate`: what it writes down, and that a reviewer gets the same scores from it."""

import json

import pytest

import pages
import slap
import tree_captioned as captioned
from slap.cli.main import main
from slap.core.progress import silent
from slap.evaluation.eval_set import EvalClip, EvalSet
from slap.evaluation.evaluated_model import EvaluatedModel
from slap.evaluation.tasks.captioning import CaptioningTask, captions_file, missing_in_words
from slap.metrics.captioning import CaptionMetrics, caption_result, caption_tools
from slap.metrics.captioning import ptb as java_tools
from slap.metrics.captioning.ptb import ToolFailedError
from slap.testing.tiny import tiny_checkpoint


@pytest.fixture(autouse=True)
def _no_tools_of_this_machine(monkeypatch):
    for name in ("SLAP_SPICE", "SLAP_SPICE_JAVA", "SLAP_FENSE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_java(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(java_tools.shutil, "which", lambda name: None)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    """The model to evaluate."""
    return tiny_checkpoint


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    captioned.clotho(root / "clotho")
    return root


def evaluate(model, out, *options, status=0):
    words = ["evaluate", str(model), "--out", str(out), "--workers", "0", "--no-plots", *map(str, options)]
    assert main(words) == status
    return json.loads(out.read_text())


SHORT = ("--set", "captioning.max_length=8", "captioning.beam=2")


def test_clotho_without_java(model, corpora, tmp_path, no_java, capsys, monkeypatch):
    out = tmp_path / "results.json"
    options = ("--tasks", "captioning/clotho", "--data", corpora, *SHORT)
    (result,) = evaluate(model, out, *options)["results"]
    assert list(result["metrics"]) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    assert set(result["definitions"]) == set(result["metrics"])
    assert result["paper"]["CIDEr-D"] == {"reported": 43.7}
    generation = {"method": "beam", "max_length": 8, "beam": 2, "length_penalty": 1.0}
    assert result["settings"]["generation"] == generation
    assert result["settings"]["scoring"]["tokenizer"] == "plain"
    assert "every overlapping window is described" in result["settings"]["windowing"]["rule"]
    assert result["counts"]["official"] == 1045
    assert result["counts"]["evaluated"] == 4
    warnings = "\n".join(result["warnings"])
    assert "without METEOR, SPICE, SPIDEr: captioning metrics need Java" in warnings
    assert "without FENSE: FENSE needs" in warnings
    assert "tokens are not the PTB tokenizer's" in warnings
    assert "without METEOR" in capsys.readouterr().err
    assert "| captioning | clotho | CIDEr-D |" in out.with_suffix(".md").read_text()

    assert result["files"] == ["results_captioning_clotho_captions.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / result["files"][0]).read_text().splitlines()]
    assert len({line["id"] for line in lines}) == 4
    assert {len(line["references"]) for line in lines} == {5}
    written = [line["caption"] for line in lines]
    audio = [corpora / "clotho" / "evaluation" / line["id"].rpartition("/")[2] for line in lines]
    assert written == slap.load(model).caption(audio, beam=2, max_length=8)

    # A reviewer scores the file anew, as the documentation says.
    monkeypatch.chdir(tmp_path)
    blocks = pages.Page("docs/howto/captioning.md").blocks("python")
    (source,) = [block for block in blocks if "caption_tools" in block]
    names: dict = {}
    exec(compile(source, "captioning.md", "exec"), names)
    scores = names["scores"]
    for name, title in (("cider_d", "CIDEr-D"), ("bleu_4", "BLEU-4"), ("rouge_l", "ROUGE-L")):
        assert 100 * scores[name].corpus == pytest.approx(result["metrics"][title]["value"])
        assert [line["scores"][title] for line in lines] == pytest.approx(list(scores[name].clips))

    # What is done is kept, as long as all of it is there.
    evaluate(model, out, *options)
    assert "done before" in capsys.readouterr().err
    (tmp_path / result["files"][0]).unlink()
    assert evaluate(model, out, *options)["results"] == [result]
    assert "done before" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.java
def test_with_java_all_that_needs_no_download_comes(model, clips):
    result = CaptioningTask(beam=1, max_length=6).run(EvaluatedModel(slap.load(model)), clips, silent)
    expected = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "METEOR", "CIDEr-D"]
    assert list(result.metrics) == expected
    assert result.settings["scoring"]["tokenizer"] == "PTB"
    assert result.settings["generation"] == {"method": "greedy", "max_length": 6}
    for metric in result.metrics.values():
        assert metric.low - 1e-9 <= metric.value <= metric.high + 1e-9
        assert metric.count == 3


@pytest.fixture
def clips(tmp_path):
    """A set with a clip without captions, and one that cannot be read."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    made = []
    for name, seconds in (("a", 0.4), ("b", 0.7), ("c", 0.2), ("d", 0.3)):
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, round(seconds * 16_000)), 16_000)
        made.append(EvalClip(name, tmp_path / f"{name}.wav", () if name == "d" else (f"the sound {name}", "it")))
    (tmp_path / "bad.wav").write_text("no audio")
    made.insert(1, EvalClip("bad", tmp_path / "bad.wav", ("a bad clip",)))
    return EvalSet("mine", "test", made)


def test_clips_that_cannot_be_used_are_left_out_and_named(model, clips, no_java):
    result = CaptioningTask(beam=1, max_length=6).run(EvaluatedModel(slap.load(model)), clips, silent)
    assert [json.loads(line)["id"] for line in result.files["captions.jsonl"].splitlines()] == ["a", "b", "c"]
    assert [name for name, _ in result.failed] == ["bad"]
    assert result.counts["evaluated"] == 3
    with pytest.raises(ValueError, match="no clip of mine has captions"):
        CaptioningTask().run(EvaluatedModel(slap.load(model)), EvalSet("mine", "test", clips.clips[-1:]), silent)


def test_guessing_is_the_captions_of_other_clips(model, clips, no_java):
    result = CaptioningTask(beam=1, max_length=6).run(EvaluatedModel(slap.load(model)), clips, silent)
    lines = [json.loads(line) for line in result.files["captions.jsonl"].splitlines()]
    written, references = [line["caption"] for line in lines], [line["references"] for line in lines]
    tools = caption_tools()
    own, other = (tools.scores(texts, references)["rouge_l"] for texts in (written, written[1:] + written[:1]))
    assert result.metrics["ROUGE-L"] == caption_result(own, other)
    assert result.settings["guessing"].startswith("chance: the captions of other clips")


def test_a_model_that_writes_nothing_is_skipped_or_said(corpora, tmp_path, capsys):
    mute = tmp_path / "mute.ckpt"
    tiny_checkpoint(mute, {"contrastive": 1.0})
    rows = ("--tasks", "captioning", "retrieval/clotho", "--data", corpora)
    record = evaluate(mute, tmp_path / "all.json", *rows)
    reasons = {row["row"]: row["reason"] for row in record["skipped"]}
    assert "no captioning objective: it was not trained with one" in reasons["captioning/clotho"]
    record = evaluate(mute, tmp_path / "one.json", "--tasks", "captioning/clotho", "--data", corpora, status=2)
    assert "no captioning objective" in record["failed"][0]["reason"]
    assert "no captioning objective" in capsys.readouterr().err


def test_a_tool_that_fails_stops_no_other_row(model, corpora, tmp_path, monkeypatch):
    def fail(self, written, others, references):
        raise ToolFailedError("METEOR stopped")

    monkeypatch.setattr(CaptionMetrics, "scores_and_guesses", fail)
    rows = ("--tasks", "captioning/clotho", "retrieval/clotho", "--data", corpora, *SHORT)
    monkeypatch.setattr(java_tools.shutil, "which", lambda name: None)
    record = evaluate(model, tmp_path / "r.json", *rows, status=3)
    assert [row["task"] for row in record["results"]] == ["retrieval"]
    assert record["failed"] == [{"row": "captioning/clotho", "reason": "ToolFailedError: METEOR stopped"}]


def test_options_that_make_no_sense_together(model, corpora, tmp_path):
    assert CaptioningTask(top_p=0.9).decoding.settings()["method"] == "nucleus"
    assert CaptioningTask().decoding.settings()["beam"] == 4
    both = ("captioning.top_p=0.9", "captioning.beam=2")
    options = ("--tasks", "captioning/clotho", "--data", corpora, "--set", *both)
    record = evaluate(model, tmp_path / "r.json", *options, status=2)
    assert "choose a beam or top_p" in record["failed"][0]["reason"]


def test_a_line_for_each_clip_whatever_captions_hold():
    clips = [EvalClip("a", "a.wav", ("rain\u2028falls", "caf\xe9")), EvalClip("b", "b.wav", ("x",))]
    lines = captions_file(clips, ["\x85", "b\nc"], {}).splitlines()
    assert [json.loads(line)["caption"] for line in lines] == ["\x85", "b\nc"]
    assert json.loads(lines[0])["references"] == ["rain\u2028falls", "caf\xe9"]


def test_one_line_for_each_reason():
    tools = CaptionMetrics(
        "PTB", True, missing={"spice": "get the jars", "spider": "get the jars", "fense": "get models"}
    )
    assert missing_in_words(tools) == ["without SPICE, SPIDEr: get the jars", "without FENSE: get models"]
