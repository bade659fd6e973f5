"""Questions with their own candidates: against loops, ties and what is not finite, bags of words, as torchmetrics."""

import pytest
import torch
from torch.nn.functional import normalize

from slap.metrics import ChoiceMetric
from slap.metrics.choice import choice_metrics

PAIR = ["a dog, then rain", "rain, then a dog"]


def test_equals_a_loop_over_questions():
    generator = torch.Generator().manual_seed(0)
    audio, text = (normalize(torch.randn(n, 6, generator=generator), dim=1) for n in (40, 25))
    candidates = [torch.randperm(25, generator=generator)[: 2 + i % 4].tolist() for i in range(40)]
    found = choice_metrics(audio, text, candidates)
    right = [max(own, key=lambda row: float(audio[i] @ text[row])) == own[0] for i, own in enumerate(candidates)]
    assert found.hits.tolist() == right
    assert found.accuracy.value == pytest.approx(100 * sum(right) / 40)
    assert found.accuracy.chance == pytest.approx(100 * sum(1 / len(own) for own in candidates) / 40)
    assert (found.accuracy.count, found.accuracy.over) == (40, "clips")
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high


def test_intervals_are_over_origins():
    text = torch.eye(2)
    audio = text[[0, 0, 1, 1]]
    found = choice_metrics(audio, text, [[0, 1]] * 4, ["d", "c", "b", "a"], ["x", "x", "y", "y"])
    assert (found.accuracy.over, found.accuracy.low, found.accuracy.high) == ("origins", 0, 100)


def test_neither_a_tie_nor_what_is_not_finite_is_right():
    """A wrong candidate of NaN makes no answer right: a model that reads one of two texts has not chosen."""
    nan = torch.full((1, 2), torch.nan)
    audio = torch.cat([torch.eye(2)[[0, 0, 0, 0]], nan, torch.zeros(1, 2)])
    text = torch.cat([torch.eye(2), nan, torch.zeros(1, 2), normalize(torch.tensor([[1.0, 1e-4]]), dim=1)])
    found = choice_metrics(audio, text, [[0, 1], [0, 4], [0, 2], [3, 1], [0, 1], [0, 1]])
    assert found.hits.tolist() == [True, False, False, False, False, False]
    assert found.tied.tolist() == [False, True, False, False, False, False]
    assert found.lost.tolist() == [False, False, True, True, True, True]


def test_a_question_needs_two_candidates():
    with pytest.raises(ValueError, match="at least two candidates; got 1"):
        choice_metrics(torch.eye(2)[:1], torch.eye(2), [[0]])
    with pytest.raises(ValueError, match="got no question"):
        choice_metrics(torch.eye(2), torch.eye(2), [])


def bag(texts):
    """Words without their order."""
    words = sorted({word.strip(",") for text in texts for word in text.split()})
    rows = [[float(word in text.replace(",", "").split()) for word in words] for text in texts]
    return normalize(torch.tensor(rows), dim=1)


def test_a_bag_of_words_answers_no_question_of_order():
    """To it both orders are one text: not 50 % by the luck of rounding, but ties, which are counted."""
    metric = ChoiceMetric(bag)
    metric.update(bag(PAIR), {"order": [PAIR, PAIR[::-1]]}, ["a", "b"])
    assert metric.compute() == {"choice_order": 0}
    assert metric.tied == {"order": 2}
    assert metric.results["choice_order"].chance == 50


def test_a_bag_of_sounds_answers_half_of_mirrored_pairs():
    """A model that hears what sounds, but not when, takes the same text for both of a pair of scenes."""
    generator = torch.Generator().manual_seed(0)
    texts = [f"scene {i}, {half}" for i in range(20) for half in "ab"]
    vectors = normalize(torch.randn(40, 8, generator=generator), dim=1)
    metric = ChoiceMetric(lambda asked: torch.stack([vectors[texts.index(text)] for text in asked]))
    sounds = normalize(torch.randn(20, 8, generator=generator), dim=1).repeat_interleave(2, 0)
    questions = [[texts[i], texts[i ^ 1]] for i in range(40)]
    metric.update(sounds, {"order": questions}, texts)
    assert metric.compute() == {"choice_order": 50}


def test_each_text_is_embedded_once_and_groups_have_their_own_metrics():
    asked = []

    def embed(texts):
        asked.extend(texts)
        return torch.stack([torch.eye(3)[["a", "b", "c"].index(text)] for text in texts])

    metric = ChoiceMetric(embed, ["farm", "forest"])
    group = torch.tensor([0, 0, 1])
    choices = {"kind": [["a", "b"], ["c", "b"], ["b", "a", "c"]], "other": [None, ["a", "c"], None]}
    metric.update(torch.eye(3)[[0, 1, 1]], choices, ["1", "2", "3"], group=group)
    metric.update(torch.eye(3)[[0]], {}, ["without question"], group=torch.tensor([1]))
    values = {name: round(value.item(), 1) for name, value in metric.compute().items()}
    assert values == {
        "choice_kind": 66.7,
        "choice_other": 0.0,
        "farm/choice_kind": 50.0,
        "farm/choice_other": 0.0,
        "forest/choice_kind": 100.0,
    }
    assert metric.results["choice_kind"].chance == pytest.approx(100 * (1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert sorted(asked) == ["a", "b", "c"]


def test_without_questions_there_is_nothing():
    metric = ChoiceMetric(bag)
    assert metric.compute() == {}
