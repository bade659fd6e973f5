"""Captioning metrics where tools are missing or supplied, and bootstrap intervals of metrics that are no means."""

import json
import shutil
import stat
import sys

import pytest
import torch

from slap.metrics import captioning as caption_suite
from slap.metrics.captioning import NAMES, CaptionMetrics, caption_result, caption_tools, spice
from slap.metrics.captioning import ptb as java_tools
from slap.metrics.captioning import scores as caption_metrics
from slap.metrics.captioning.meteor import COUNTS, added, meteor_of
from slap.metrics.captioning.plain_tokens import plain_tokenize
from slap.metrics.captioning.ptb import MissingToolError, meteor, ptb_tokenize
from slap.metrics.captioning.scores import CaptionScore, bleu, bleu_of, mean_of
from slap.metrics.captioning.spice import PARSER, Spice, find_spice

WRITTEN = ["a dog barks", "rain falls on a metal roof", "a car stops", "a bird"]
REFERENCES = [
    ["a dog barks loudly", "the dog is barking"],
    ["rain falls on a tin roof"],
    ["a car engine stops", "a car brakes", "the car came to a stop"],
    ["birds sing in a tree", "a bird sings"],
]


@pytest.fixture(autouse=True)
def _no_tools_of_this_machine(monkeypatch):
    for name in ("SLAP_SPICE", "SLAP_SPICE_JAVA", "SLAP_FENSE"):
        monkeypatch.delenv(name, raising=False)


# -- tokens -----------------------------------------------------------------------------------------------------------

CAPTIONS = [
    "A dog barks, and it's loud!",
    "Rain on a (metal) high-pitched roof.",
    "Birds chirp; a man doesn't speak...",
    "People can't hear - it is a car's engine",
    "A 3.5 second beep at 2,000 Hz, then 50% silence",
    "and/or something; they're gonna leave, cannot stay",
    "\"Hello\" says a woman, wind 'howls' outside",
    "An engine idles -- then stops, water splashing,waves",
    "The man's voice: low & deep [inaudible]",
    "A clock strikes 10:30, 3 dogs & 2 cats, 80's music",
    "A beep-beep sound… a man—tired—sighs",
    "I'll be there, they've gone, he'd know, c'mon let's go",
    "the dogs' bark o'clock wow!!! so loud?!",
    "An a vehicle's engine won't start, $5 crackle_pop",
]


@pytest.mark.java
def test_plain_tokens_are_those_of_the_ptb_tokenizer_for_ordinary_captions():
    pytest.importorskip("pycocoevalcap")
    assert plain_tokenize(CAPTIONS) == ptb_tokenize(CAPTIONS)


def test_plain_tokens_of_strange_captions():
    assert plain_tokenize(["", "  \u2028 ", "a\0b", "مرحبا بالعالم", "«ça»"]) == [
        "",
        "",
        "a b",
        "مرحبا بالعالم",
        "« ça »",
    ]


# -- what is missing --------------------------------------------------------------------------------------------------


def test_without_java_what_needs_none_still_comes(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(java_tools.shutil, "which", lambda name: None)
    tools = caption_tools()
    scores = tools.scores(WRITTEN, REFERENCES)
    assert list(scores) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"]
    assert list(tools.missing) == ["meteor", "spice", "spider", "fense"]
    assert all("\n" not in why for why in tools.missing.values())
    assert "install a JRE" in tools.missing["meteor"]
    assert tools.settings["tokenizer"] == "plain"
    assert tools.settings["missing_metrics"] == tools.missing


def test_without_any_tool_cider_d_still_comes(monkeypatch):
    monkeypatch.setattr(java_tools, "find_spec", lambda name: None)
    tools = caption_tools()
    assert list(tools.scores(WRITTEN, REFERENCES)) == ["cider_d"]
    assert "pip install 'slap-audio[captioning]'" in tools.missing["bleu_1"]
    assert set(tools.missing) == set(NAMES) - {"cider_d"}


@pytest.mark.java
def test_what_the_user_must_supply_is_said_in_one_line():
    pytest.importorskip("pycocoevalcap")
    tools = caption_tools()
    assert list(tools.missing) == ["spice", "spider", "fense"]
    for part in (*PARSER, "http://nlp.stanford.edu", "SLAP_SPICE"):
        assert part in tools.missing["spice"]
    for part in ("paraphrase-TinyBERT-L6-v2", "echecker_clotho_audiocaps_base.ckpt", "SLAP_FENSE"):
        assert part in tools.missing["fense"]


# -- SPICE ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def parser(tmp_path):
    """A folder with jars of the right names, one of them beside as in pycocoevalcap's layout."""
    folder = tmp_path / "jars"
    (folder / "lib").mkdir(parents=True)
    for name in (*PARSER, "nashorn-core-15.4.jar"):
        (folder / "lib" / name).write_bytes(b"")
    return folder


FAKE_JAVA = """#!{python}
import json, sys
if "-version" in sys.argv:
    sys.exit(print('openjdk version "{version}" 2025-01-01', file=sys.stderr))
question, rest = sys.argv[-5], sys.argv[-4:]
assert sys.argv[-6] == "edu.anu.spice.SpiceScorer", sys.argv
assert [rest[0], *rest[2:]] == ["-out", "-subset", "-silent"], rest
clips = json.load(open(question))
f = [len(c["refs"]) / 10 if c["test"] else None for c in clips]
scores = [dict(image_id=c["image_id"], scores=dict(All=dict(f=f[c["image_id"]]))) for c in clips]
json.dump(scores[::-1], open(rest[1], "w"))
"""


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Makes a program that answers as SPICE does: a tenth for each reference."""
    pytest.importorskip("pycocoevalcap")

    def make(version):
        path = tmp_path / "java"
        path.write_text(FAKE_JAVA.format(python=sys.executable, version=version))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("SLAP_SPICE_JAVA", str(path))

    return make


@pytest.mark.parametrize("by", ["option", "variable"])
def test_spice_with_what_it_needs(parser, java, monkeypatch, by):
    java("1.8.0_292")
    if by == "variable":
        monkeypatch.setenv("SLAP_SPICE", str(parser))
    found = find_spice(parser if by == "option" else None)
    names = [jar.name for jar in found.jars]
    assert names[0] == "spice-1.0.jar"
    assert set(PARSER) <= set(names)
    assert "SceneGraphParser-1.0.jar" in names
    assert found.score(WRITTEN, REFERENCES) == [0.2, 0.1, 0.3, 0.2]
    assert found.score(["", "rain"], [["a"], ["b"]]) == [0.0, 0.1]


def test_spider_is_the_mean_of_cider_d_and_spice(parser, java, monkeypatch):
    java("11.0.2")
    monkeypatch.setattr(caption_suite, "meteor_score", lambda ours, theirs: mean_of([0.0] * len(ours)))
    monkeypatch.setattr(caption_suite, "ptb_tokenize", plain_tokenize)
    monkeypatch.setattr(caption_suite, "package_folder", java_tools.coco_folder)
    scores = caption_tools(spice=parser).scores(WRITTEN, REFERENCES)
    assert list(scores) == [name for name in NAMES if name != "fense"]
    assert scores["spice"].corpus == pytest.approx(0.2)
    expected = [(a + b) / 2 for a, b in zip(scores["cider_d"].clips, scores["spice"].clips, strict=True)]
    assert scores["spider"].clips == pytest.approx(expected)
    assert scores["spider"].corpus == pytest.approx((scores["cider_d"].corpus + 0.2) / 2)


def test_java_without_javascript_is_told(parser, java):
    java("17.0.15")
    assert find_spice(parser).java.endswith("java")  # a jar beside the parser brings the engine
    (parser / "lib" / "nashorn-core-15.4.jar").unlink()
    with pytest.raises(MissingToolError, match=r"JavaScript engine, which Java 17 lacks.*SLAP_SPICE_JAVA"):
        find_spice(parser)


def test_a_named_folder_without_the_jars_is_an_error(tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    with pytest.raises(FileNotFoundError, match=r"SPICE needs stanford-corenlp-3\.6\.0\.jar .*are not in"):
        caption_tools(spice=tmp_path) if shutil.which("java") else find_spice(tmp_path)


@pytest.mark.java
def test_the_real_program_starts_and_its_complaint_is_shown(parser):
    """The jars are empty, so it gets as far as looking for the parser."""
    pytest.importorskip("pycocoevalcap")
    found = find_spice(parser)
    with pytest.raises(RuntimeError, match=r"(?s)SPICE failed.*edu/stanford/nlp"):
        Spice(shutil.which("java"), found.jars).score(["a"], [["b"]])


def test_two_sets_of_captions_in_one_run_have_the_scores_that_they_have_alone(parser, java, monkeypatch):
    java("11.0.2")
    monkeypatch.setattr(caption_suite, "ptb_tokenize", plain_tokenize)
    monkeypatch.setattr(caption_suite, "package_folder", java_tools.coco_folder)
    monkeypatch.setattr(caption_suite, "meteor_score", lambda ours, theirs: mean_of([len(text) / 99 for text in ours]))
    tools = caption_tools(spice=parser)
    others = ["a car stops", "rain", "a dog barks loudly", "birds sing"]
    together = tools.scores_and_guesses(WRITTEN, others, REFERENCES)
    for found, captions in zip(together, (WRITTEN, others), strict=True):
        alone = tools.scores(captions, REFERENCES)
        assert list(found) == list(alone) == [name for name in NAMES if name != "fense"]
        for name, score in alone.items():
            assert found[name].corpus == pytest.approx(score.corpus, rel=1e-9), name
            assert found[name].clips == pytest.approx(score.clips, rel=1e-12), name
            own, its = caption_result(score, score), caption_result(found[name], found[name])
            assert (its.low, its.high) == pytest.approx((own.low, own.high), rel=1e-9), name
    with pytest.raises(ValueError, match="one written caption"):
        tools.scores_and_guesses(WRITTEN, others[1:], REFERENCES)


# -- intervals --------------------------------------------------------------------------------------------------------


def test_the_sum_of_bleu_counts_gives_the_corpus_value():
    pytest.importorskip("pycocoevalcap")
    written = [*WRITTEN, "", "a very long caption of one word"]
    references = [*REFERENCES, ["a dog"], ["one"]]
    for n in (1, 2, 3, 4):
        score = bleu(written, references)[f"bleu_{n}"]
        each = score.totals.each
        assert bleu_of(each.sum(0, keepdim=True), n).item() == pytest.approx(score.corpus, rel=1e-9)
        assert bleu_of(each, n).tolist() == pytest.approx(score.clips, rel=1e-6, abs=1e-12)
        # A clip that is drawn twice is a corpus that has it twice.
        twice = bleu([*written, written[1]], [*references, references[1]])[f"bleu_{n}"].corpus
        assert bleu_of((each.sum(0) + each[1])[None], n).item() == pytest.approx(twice, rel=1e-9)


@pytest.mark.slow
@pytest.mark.java
def test_meteors_formula_gives_what_its_program_gives():
    """Also where nothing matches, all does, there is nothing, or matches are stems, synonyms and paraphrases."""
    pytest.importorskip("pycocoevalcap")
    written = [*WRITTEN, "", "it", "rain falls", "a canine is barking", "the dogs barked very loudly indeed"]
    references = [*REFERENCES, ["a dog"], ["snow"], ["rain falls"], ["the dog barks"], ["a dog barks", "a dog"]]
    found = meteor(written, references)
    counts = torch.tensor(found.counts)
    assert counts.shape == (len(written), COUNTS)
    assert meteor_of(counts).tolist() == pytest.approx(found.clips, abs=1e-9)
    assert meteor_of(added(counts).sum(0, keepdim=True)).item() == pytest.approx(found.corpus, abs=1e-9)
    assert min(found.clips) == 0
    assert max(found.clips) == 1


def test_an_interval_of_a_mean_is_that_of_its_clips():
    scores = torch.rand(200, generator=torch.Generator().manual_seed(0)).double()
    result = caption_result(mean_of(scores.tolist()), mean_of([0.1] * 200))
    half = 196 * scores.std().item() / 200**0.5
    assert result.value == pytest.approx(100 * scores.mean().item())
    assert result.low == pytest.approx(result.value - half, abs=0.5)
    assert result.high == pytest.approx(result.value + half, abs=0.5)
    assert (result.chance, result.count) == (pytest.approx(10), 200)


def test_an_interval_of_bleu_is_of_the_corpus_value():
    pytest.importorskip("pycocoevalcap")
    score = bleu(WRITTEN * 20, REFERENCES * 20)["bleu_4"]
    result = caption_result(score, score)
    assert result.value == pytest.approx(100 * score.corpus)
    assert result.low < result.value < result.high
    mean = 100 * sum(score.clips) / len(score.clips)
    assert not result.low < mean < result.high  # BLEU of the corpus is far from the mean over clips


def test_captions_without_references_are_an_error():
    with pytest.raises(ValueError, match="at least one reference"):
        CaptionMetrics("plain", False).scores(["a"], [[]])


def test_scores_are_equal_by_their_values():
    assert CaptionScore(1.0, (1.0,)) == CaptionScore(1.0, (1.0,), caption_metrics.Totals(torch.ones(1, 1), torch.sum))
    assert json.dumps(CaptionMetrics("plain", False).settings) == '{"tokenizer": "plain"}'
    assert spice.LAST_WITH_JAVASCRIPT == 14
