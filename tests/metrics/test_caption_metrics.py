"""Captioning metrics against the field's reference values, and our CIDEr-D against the field's own."""

import random

import pytest

from slap.metrics.captioning import CaptionMetrics
from slap.metrics.captioning import ptb as java_tools
from slap.metrics.captioning.cider import cider_d
from slap.metrics.captioning.ptb import Meteor, MissingToolError, package_folder, ptb_tokenize

WRITTEN = [
    "a dog barks while a man is speaking",
    "rain falls on a metal roof",
    "a car engine is running and then stops",
]
REFERENCES = [
    [
        "A dog barks and a man speaks",
        "A man is talking while a dog barks nearby",
        "Dog barking followed by a man talking.",
        "A dog is barking as someone speaks",
        "A man speaks over a barking dog",
    ],
    [
        "Rain is falling heavily on a tin roof",
        "Rain pours down onto a metal surface.",
        "Heavy rain hitting a roof, with distant thunder",
        "The rain falls steadily",
        "Water droplets hit a metal roof",
    ],
    [
        "An engine idles and then revs up",
        "A vehicle engine runs, then it is turned off",
        "A car engine is idling",
        "The engine of a car hums steadily",
        "A motor vehicle is running then accelerates away",
    ],
]
EXPECTED = {  # coco-caption's values: corpus, then each clip
    "bleu_1": (0.909091, 0.875000, 1.000000, 0.875000),
    "bleu_4": (0.356223, 0.000080, 0.000090, 0.451801),
    "rouge_l": (0.624654, 0.674779, 0.557078, 0.642105),
    "meteor": (0.368962, 0.439220, 0.270379, 0.362015),
    "cider_d": (1.891722, 2.189519, 1.696749, 1.788900),
}
METRICS = CaptionMetrics("PTB", coco=True)


@pytest.mark.slow
@pytest.mark.java
def test_reference_values():
    scores = METRICS.scores(WRITTEN, REFERENCES)
    assert list(scores) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor", "cider_d"]
    for name, expected in EXPECTED.items():
        found = [scores[name].corpus, *scores[name].clips]
        assert [f"{value:.6f}" for value in found] == [f"{value:.6f}" for value in expected], name


def test_cider_d_without_java_equals_the_fields():
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    rng = random.Random(0)
    words = ["a", "dog", "barks", "rain", "falls", "on", "the", "roof", "and", "then", "stops"]

    def caption():
        return " ".join(rng.choices(words, k=rng.randint(0, 12)))

    references = [[caption() for _ in range(rng.randint(1, 5))] for _ in range(60)]
    written = [rng.choice([caption(), rng.choice(group)]) for group in references]
    oracle = cider.Cider().compute_score(dict(enumerate(references)), {i: [text] for i, text in enumerate(written)})
    assert cider_d(written, references) == pytest.approx(oracle[1].tolist(), abs=1e-9)
    assert max(cider_d(written, references)) > 1


def test_one_clip_has_a_cider_d_of_zero():
    assert cider_d(["rain falls"], [["rain falls"]]) == [0.0]


@pytest.mark.java
def test_the_tokenizer_keeps_count_of_strange_captions():
    captions = ["", "A dog, barking.\n", "rain\u2028falls", "wind\0blows", "مرحبا بالعالم", "it's \x85loud!", "   "]
    tokens = ptb_tokenize(captions)
    assert tokens == ["", "a dog barking", "rain falls", "wind blows", "مرحبا بالعالم", "it 's loud", ""]


@pytest.mark.java
def test_an_empty_written_caption_scores_nothing(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    nothing = Meteor(0.0, [0.0, 0.0], [[0.0] * 23] * 2)
    monkeypatch.setattr("slap.metrics.captioning.scores.meteor", lambda ours, theirs: nothing)  # it takes seconds
    scores = METRICS.scores(["", "rain falls"], [["a dog"], ["rain falls", "it rains"]])
    assert [scores[name].clips[0] for name in ("bleu_1", "rouge_l", "cider_d")] == pytest.approx([0, 0, 0], abs=1e-9)
    assert scores["rouge_l"].clips[1] == 1.0


@pytest.mark.parametrize(("written", "references"), [([], []), (["a"], []), (["a"], [[]]), (["a", "b"], [["a"]])])
def test_captions_without_references_are_an_error(written, references):
    with pytest.raises(ValueError, match="at least one reference"):
        METRICS.scores(written, references)
    if written:
        with pytest.raises(ValueError, match="needs references"):
            cider_d(written, references)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(java_tools, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"pip install 'slap-audio\[captioning\]'"):
        package_folder()
    monkeypatch.undo()
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(java_tools.shutil, "which", lambda name: None)
    with pytest.raises(MissingToolError, match="Java"):
        package_folder()
