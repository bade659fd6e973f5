"""The classification head: its loss by hand, soft labels, classes that are learned and travel, metrics over windows."""

from dataclasses import replace
from math import log

import pytest
import torch
from sklearn.metrics import average_precision_score

from slap.model.views import Views
from slap.objectives import Classification
from slap.testing import check_objective
from slap.testing.tiny import TinyAudio, tiny_batch, tiny_model
from slap.training.held_out import HeldOutMetrics

CLASSES = ["even", "odd"]


class Clips:
    """Stand-in for the training clips of a data module."""

    def __init__(self, *labels):
        self.found = labels

    def labels(self, task):
        return self.found if task == "parity" else [() for _ in self.found]


@pytest.mark.parametrize("multi_label", [False, True], ids=["one label", "several"])
@pytest.mark.parametrize("features", ["embedding", "tokens"])
def test_it_keeps_the_promises_of_objectives(multi_label, features):
    check_objective(Classification("parity", CLASSES, multi_label, features))


def head(**options):
    torch.manual_seed(0)
    model = tiny_model({"classification": {"task": "parity", "classes": CLASSES, **options}}).eval()
    return model, model.objectives["classification"], tiny_batch(model)


def test_the_loss_is_the_mean_cross_entropy():
    model, objective, batch = head()
    views = Views(model, batch)
    loss, logs = objective(views)
    chances = objective.scores(views.full).softmax(1).tolist()
    expected = [-log(chances[i][i % 2]) for i in range(4)]
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-5)
    assert views.noted().tolist() == pytest.approx(expected, rel=1e-5)
    right = [(chances[i][1] > chances[i][0]) == (i % 2 == 1) for i in range(4)]
    assert logs["accuracy"].item() == sum(right) / 4


def test_clips_without_label_do_not_count():
    model, objective, batch = head()
    some = replace(batch, labels={"parity": ("even", None, None, "odd")})
    views = Views(model, some)
    loss, _ = objective(views)
    noted = views.noted()
    assert noted.isnan().tolist() == [False, True, True, False]
    assert loss.item() == pytest.approx(noted[[0, 3]].mean().item())
    none, _ = objective(Views(model, replace(batch, labels={})))
    assert none.item() == 0.0
    none.backward()


def test_soft_labels_of_mixed_clips():
    model, objective, batch = head()
    tags = ({"even": 0.7, "odd": 0.3}, None, None, None)
    mixed = replace(batch, labels={"parity": (None, "odd", "even", "odd")}, tags={"parity": tags})
    chances = objective.scores(Views(model, mixed).full).log_softmax(1)
    expected = [-(0.7 * chances[0, 0] + 0.3 * chances[0, 1]), -chances[1, 1], -chances[2, 0], -chances[3, 1]]
    assert objective(Views(model, mixed))[0].item() == pytest.approx(sum(expected).item() / 4, rel=1e-5)


def test_several_labels_are_a_binary_question_each():
    model, objective, batch = head(multi_label=True)
    tags = ({"even": 1.0, "odd": 1.0}, {}, {"odd": 0.4}, None)
    several = replace(batch, labels={}, tags={"parity": tags})
    chances = objective.scores(Views(model, several).full).sigmoid()
    targets = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.4]])
    each = -(targets * chances[:3].log() + (1 - targets) * (1 - chances[:3]).log())
    assert objective(Views(model, several))[0].item() == pytest.approx(each.mean().item(), rel=1e-5)


def test_the_mean_of_dense_tokens_is_of_each_clip_alone():
    model, objective, batch = head(features="tokens")
    tokens = Views(model, batch).full.tokens
    read = torch.stack([item.mean(0) for item in tokens.unpack()])
    expected = objective.linear(objective.norm(read))
    assert torch.allclose(objective.scores(Views(model, batch).full), expected, atol=1e-6)


# -- classes ----------------------------------------------------------------------------------------------------------


def test_classes_are_learned_from_the_training_clips():
    model = tiny_model({"classification": {"task": "parity"}})
    objective = model.objectives["classification"]
    with pytest.raises(RuntimeError, match="no classes yet"):
        objective.scores(Views(model, tiny_batch(model)).full)
    objective.prepare(Clips(("odd",), (), ("even",), ("odd",)))
    assert objective.classes == ("even", "odd")
    assert objective.portable({"weight": 2.0})["classes"] == ["even", "odd"]
    objective.prepare(Clips(("other",), ("another",)))  # known already
    assert objective.classes == ("even", "odd")


def test_the_classes_come_with_the_weights():
    model, objective, batch = head()
    other = tiny_model({"classification": {"task": "parity"}}).eval()
    other.load_state_dict(model.state_dict())
    assert other.objectives["classification"].classes == ("even", "odd")
    assert torch.equal(
        other.objectives["classification"].scores(Views(other, batch).full), objective.scores(Views(model, batch).full)
    )
    third = tiny_model({"classification": {"task": "parity", "classes": ["odd", "even"]}})
    with pytest.raises(ValueError, match="the checkpoint classifies even, odd; asked for were odd, even"):
        third.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("options", "clips", "message"),
    [
        ({}, (("a", "b"), ("a",)), "several labels of the task 'parity', e.g. a, b: set multi_label"),
        ({"task": "other"}, (("a",), ("b",)), "no training clip has a label of the task 'other'"),
        ({}, (("a",), ("a",)), "two or more different names"),
    ],
)
def test_training_clips_that_do_not_fit(options, clips, message):
    model = tiny_model({"classification": {"task": "parity", **options}})
    with pytest.raises(ValueError, match=message):
        model.objectives["classification"].prepare(Clips(*clips))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "a"]}, "different names"),
        ({"features": "patches"}, "features must be one of embedding, tokens"),
        ({"label_smoothing": 0.1, "multi_label": True}, "0 with several labels"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"view": "teacher"}, "view must be one of"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Classification(**options)


def test_a_label_that_is_no_class_is_named():
    _, objective, batch = head()
    odd = replace(batch, labels={"parity": ("even", "both", None, None)})
    with pytest.raises(ValueError, match="'clip0-1' has the parity label 'both', but the classes are even, odd"):
        objective.targets(odd)


# -- metrics ----------------------------------------------------------------------------------------------------------


def compute(metrics, heads):
    return metrics.compute({}, None, classifiers=heads, embeddings=False)


def test_accuracy_over_batches_and_windows(monkeypatch):
    monkeypatch.setattr("slap.metrics.bootstrap.SAMPLES", 50)
    _, objective, batch = head()
    heads = {"h": objective}
    metrics = HeldOutMetrics()
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 0.0]], dtype=torch.float64)
    metrics.update_classifiers(batch, {"h": scores}, heads)  # right, right, wrong, wrong
    # A clip in three windows: the first two overlap by half, so they stand for 75 samples each, the last for 150.
    labels = {"parity": ("even",) * 3}
    ids, spans = ("long",) * 3, ((0, 100), (50, 150), (150, 300))
    windows = replace(tiny_batch(tiny_model(), [0.1] * 3), ids=ids, spans=spans, labels=labels)
    metrics.update_classifiers(
        windows, {"h": torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.01, 0.0]], dtype=torch.float64)}, heads
    )
    unlabeled = replace(tiny_batch(tiny_model(), [0.1], seed=5), labels={})
    metrics.update_classifiers(unlabeled, {"h": torch.zeros(1, 2)}, heads)
    found = compute(metrics, heads)
    assert list(found) == ["h_accuracy"]
    assert (found["h_accuracy"].value, found["h_accuracy"].count, found["h_accuracy"].chance) == (60.0, 5, 50.0)
    assert metrics.confusions["h"].counts.tolist() == [[2, 1], [1, 1]]
    with pytest.raises(ValueError, match="no clips were evaluated"):
        compute(metrics, heads)


def test_macro_map_equals_scikit_learns(monkeypatch):
    monkeypatch.setattr("slap.metrics.bootstrap.SAMPLES", 50)
    model, objective, _ = head(multi_label=True)
    generator = torch.Generator().manual_seed(0)
    metrics, all_scores, all_truth = HeldOutMetrics(), [], []
    for seed in range(5):
        batch = tiny_batch(model, [0.1] * 6, seed=seed)
        truth = torch.rand(6, 2, generator=generator) > 0.5
        tags = tuple({name: 1.0 for name, has in zip(CLASSES, row, strict=True) if has} for row in truth.tolist())
        scores = torch.randn(6, 2, generator=generator)
        metrics.update_classifiers(replace(batch, labels={}, tags={"parity": tags}), {"h": scores}, {"h": objective})
        all_scores.append(scores)
        all_truth.append(truth)
    expected = average_precision_score(torch.cat(all_truth), torch.cat(all_scores), average="macro")
    assert compute(metrics, {"h": objective})["h_mAP"].value == pytest.approx(100 * expected, abs=1e-4)


def test_evaluating_a_head_needs_labels():
    _, objective, batch = head()
    metrics = HeldOutMetrics()
    metrics.update_classifiers(replace(batch, labels={}), {"h": torch.zeros(4, 2)}, {"h": objective})
    with pytest.raises(ValueError, match="no clip has a label of the task 'parity', which 'h' classifies"):
        compute(metrics, {"h": objective})


def test_a_model_of_heads_alone_is_evaluated_by_them_and_others_by_both():
    audio = TinyAudio()
    alone = tiny_model({"classification": {"task": "parity", "classes": CLASSES}}, audio)
    both = tiny_model({"classification": {"task": "parity", "classes": CLASSES}, "contrastive": 1.0}, audio)
    for model, expected in ((alone, False), (both, True)):
        model.eval()
        model.validation_step(tiny_batch(model), 0)
        embed = model.embed_captions
        found = model.evaluation.compute({"parity": "{label}"}, embed, (), model.heads, len(model.objectives) > 1)
        assert "classification_accuracy" in found
        assert ("t2a_R@1" in found) == expected
