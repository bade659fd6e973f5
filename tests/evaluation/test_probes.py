"""Linear and nearest-neighbor probes against scikit-learn, and that nothing is selected on the test."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier

from slap.evaluation.probes.knn import TEMPERATURE, neighbor_scores
from slap.evaluation.probes.logistic import fit_logistic
from slap.evaluation.probes.protocol import (
    LinearProbing,
    NeighborProbing,
    Probe,
    choose,
    probe_folds,
    probe_parts,
    quality,
    stratified,
)


def problem(clips=120, width=8, classes=4, noise=1.0, seed=0):
    """Unit embeddings around a direction a class."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (clips,), generator=generator)
    centers = torch.randn(classes, width, generator=generator)
    features = centers[label] + noise * torch.randn(clips, width, generator=generator)
    return torch.nn.functional.normalize(features, dim=1), torch.nn.functional.one_hot(label, classes).bool()


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_the_regression_equals_scikit_learns(strength):
    features, truth = problem()
    fit = fit_logistic(features, truth, strength)
    features = features.double()  # scikit-learn would compute in single precision
    oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(features.numpy(), truth.int().argmax(1))
    assert fit.weight.numpy() == pytest.approx(oracle.coef_, abs=2e-4 * max(1, strength))
    expected = oracle.predict_proba(features.numpy())
    assert fit.scores(features).softmax(1).numpy() == pytest.approx(expected, abs=1e-4)


def test_several_classes_a_clip_are_a_regression_each():
    features, truth = problem()
    truth = truth | problem(seed=1)[1]
    fit = fit_logistic(features, truth, 1.0, multilabel=True)
    oracle = OneVsRestClassifier(LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)).fit(features, truth.numpy())
    assert fit.scores(features).sigmoid().numpy() == pytest.approx(oracle.predict_proba(features), abs=1e-5)


def test_where_the_search_begins_changes_nothing():
    features, truth = problem()
    alone = fit_logistic(features, truth, 1.0)
    after = fit_logistic(features, truth, 1.0, begin=fit_logistic(features, truth, 0.1))
    assert after.weight.numpy() == pytest.approx(alone.weight.numpy(), abs=1e-5)


def test_a_class_without_clips_is_never_guessed():
    features, truth = problem(classes=3)
    truth = torch.cat([truth, torch.zeros(len(truth), 1, dtype=torch.bool)], 1)
    assert (fit_logistic(features, truth, 10.0).scores(features).argmax(1) < 3).all()


@pytest.mark.parametrize("k", [1, 5, 400])
def test_neighbors_equal_scikit_learns(k):
    features, truth = problem()
    queries, _ = problem(40, seed=2)
    found = neighbor_scores(features, truth, queries, [3, k, 1])[k]
    weigh = lambda distances: np.exp((1 - distances) / TEMPERATURE)  # noqa: E731
    oracle = KNeighborsClassifier(min(k, 120), metric="cosine", weights=weigh, algorithm="brute")
    oracle.fit(features.double(), truth.int().argmax(1))
    assert found.numpy() == pytest.approx(oracle.predict_proba(queries.double()), abs=1e-9)


def test_neighbors_by_hand_and_in_parts(monkeypatch):
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    truth = torch.tensor([[1, 1], [0, 1], [1, 0]]).bool()
    queries = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    monkeypatch.setattr("slap.evaluation.probes.knn.AT_ONCE", 1)
    found = neighbor_scores(features, truth, queries, [1, 2], temperature=1.0)
    assert found[1].tolist() == [[1, 1], [0, 1]]
    near = 1 / (1 + np.exp(-1))  # cosines 1 and 0
    assert found[2][0].tolist() == pytest.approx([near, 1.0])


class Remembers(Probe):
    """Scores by the first feature times the setting; notes what it learned from and was asked."""

    settings = (1.0, -1.0, 0.5)

    def __init__(self):
        self.calls = []

    def scores(self, features, truth, queries, settings, multilabel):
        self.calls.append((features[:, 0].tolist(), queries[:, 0].tolist(), tuple(settings)))
        return {setting: torch.stack([queries[:, 1] * setting, -queries[:, 1] * setting], 1) for setting in settings}


def marked(clips):
    """Features whose first says which clip it is, whose second its class; the truth is the opposite in odd clips."""
    number = torch.arange(clips).float()
    sign = torch.where(number % 2 == 0, 1.0, -1.0)
    return torch.stack([number, sign], 1), torch.stack([sign > 0, sign < 0], 1)


def test_settings_are_chosen_on_validation_and_the_test_is_asked_once():
    features, truth = marked(9)
    parts = ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    probe = Remembers()
    flipped = truth.clone()
    flipped[6:] = ~flipped[6:]  # on the test the opposite would be right
    found = probe_parts(probe, features, flipped, parts)
    assert found.chosen == 1.0
    assert found.rows.tolist() == [6, 7, 8]
    assert quality(found.scores, flipped[6:], False) == 0.0
    assert probe.calls == [([0, 1, 2], [3, 4, 5, 6, 7, 8], Remembers.settings)]


def test_without_validation_settings_are_chosen_within_the_training_clips():
    features, truth = marked(12)
    truth[10:] = ~truth[10:]
    probe = Remembers()
    found = probe_parts(probe, features, truth, ["train"] * 10 + ["test"] * 2)
    assert found.chosen == 1.0
    assert all(set(asked) < set(range(10)) for _, asked, _ in probe.calls[:-1])
    assert probe.calls[-1] == ([*range(10)], [10, 11], (1.0,))


def test_each_fold_is_scored_by_the_others_alone():
    features, truth = marked(12)
    folds = [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3]
    truth[[2, 3, 8, 9]] = ~truth[[2, 3, 8, 9]]  # fold 2 says the opposite
    probe = Remembers()
    found = probe_folds(probe, features, truth, folds)
    for learned, asked, _ in probe.calls:
        assert not {folds[int(clip)] for clip in learned} & {folds[int(clip)] for clip in asked}
    final = [(learned, asked) for learned, asked, settings in probe.calls if len(settings) == 1]
    assert [sorted(asked) for _, asked in final] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert all(len(learned) == 8 for learned, _ in final)
    assert found.chosen == {1: 1.0, 2: 1.0, 3: 1.0}  # 1 of 2 inner folds is right either way, and the first wins
    assert found.rows.tolist() == [*range(12)]


def test_cross_validation_equals_loops_over_scikit_learn():
    features, truth = problem(90, classes=3, noise=1.5)
    folds = [n % 3 for n in range(90)]
    found = probe_folds(LinearProbing((0.1, 10.0)), features, truth, folds)
    x, y, fold = (features * 8**0.5).numpy(), truth.int().argmax(1).numpy(), np.array(folds)
    fit = lambda rows, c: LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(x[rows], y[rows])  # noqa: E731
    for number in range(3):
        right = {}
        for c in (0.1, 10.0):
            inner = [(fold != number) & (fold != other) for other in range(3) if other != number]
            left = [(fold == other) for other in range(3) if other != number]
            right[c] = sum(fit(rows, c).score(x[out], y[out]) for rows, out in zip(inner, left, strict=True))
        best = max((0.1, 10.0), key=right.get)
        assert found.chosen[number] == best
        expected = fit(fold != number, best).predict(x[fold == number])
        assert found.scores[torch.tensor(fold == number)].argmax(1).tolist() == expected.tolist()


def test_several_classes_are_chosen_by_their_map():
    features, truth = problem(60)
    truth = truth | problem(60, seed=3)[1]
    parts = ["train"] * 30 + ["val"] * 15 + ["test"] * 15
    for probe in (LinearProbing(), NeighborProbing()):
        found = probe_parts(probe, features, truth, parts, multilabel=True)
        assert max(found.quality.values()) == found.quality[found.chosen]
        assert quality(found.scores, truth[45:], True) > quality(torch.zeros(15, 4), truth[45:], True)


def test_equally_good_settings_give_the_first():
    features, truth = problem(20)
    assert choose(NeighborProbing((5, 5)), features, truth, stratified(truth, 2), False) == 5
    always = NeighborProbing((30, 40))  # more than there are is all there are, so both are the same
    assert choose(always, features, truth, stratified(truth, 2), False) == 30


@pytest.mark.parametrize(
    ("parts", "message"),
    [(["train"] * 4, "got 4 and 0 clips"), (["test"] * 4, "got 0 and 4 clips")],
)
def test_a_probe_needs_clips_to_learn_from_and_to_judge(parts, message):
    features, truth = problem(4)
    with pytest.raises(ValueError, match=message):
        probe_parts(NeighborProbing(), features, truth, parts)


def test_what_cannot_be_fitted_is_refused():
    features, truth = problem(6)
    with pytest.raises(ValueError, match="exactly one class"):
        fit_logistic(features, torch.ones_like(truth), 1.0)
    with pytest.raises(ValueError, match="strength must be above 0"):
        fit_logistic(features, truth, 0.0)
    with pytest.raises(ValueError, match="two folds or more"):
        probe_folds(NeighborProbing(), features, truth, [1] * 6)
    with pytest.raises(ValueError, match="numbers from 1 on"):
        neighbor_scores(features, truth, features, [0])
