"""Sound event detection: the library's numbers for segments and PSDS, scikit-learn's for frames, intervals by loops."""

import sys

import pytest
import torch
from sklearn.metrics import roc_auc_score

from slap.core.segments import Segment
from slap.metrics import psds as psds_module
from slap.metrics.psds import SCENARIOS, psds
from slap.metrics.sound_events import Detections, active, auroc, f1_of, frame_auroc, segment_counts, segment_f1

CLASSES = ["dog", "rain", "siren"]
HOP = 0.16


def clip(seed, scores="noisy", frames=60, classes=CLASSES):
    """A clip with events at random places; scores are those of a good, a perfect or a random model."""
    rng = torch.Generator().manual_seed(seed)
    edges = torch.arange(frames + 1, dtype=torch.float64) * HOP
    segments = []
    for name in classes:
        if torch.rand(1, generator=rng) < 0.7:
            start, stop = sorted(torch.randperm(frames, generator=rng)[:2].tolist())
            segments.append(Segment(start * HOP, stop * HOP, name))
    made = Detections(torch.zeros(frames, len(classes)), edges, (), segments)
    truth = made.truth(classes).float()
    noise = torch.rand(frames, len(classes), generator=rng)
    found = {"noisy": truth + 2 * noise, "perfect": truth, "random": noise}[scores]
    runs = [] if scores != "perfect" else segments
    if scores == "noisy":
        runs = [
            Segment(float(edges[i]), float(edges[i + 1]), name)
            for k, name in enumerate(classes)
            for i in range(frames)
            if found[i, k] > 1.6
        ]
    return Detections(found, edges, runs, segments)


def clips(count, scores="noisy"):
    return [clip(seed, scores) for seed in range(count)]


def each(count):
    return torch.arange(count)


def test_active_spans_and_moments():
    begins = torch.tensor([0.0, 1.0, 2.0])
    events = [Segment(0.5, 1.0, "dog"), Segment(1.0, 1.5, "rain")]
    assert active(events, begins, begins + 1, CLASSES).int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    moments = torch.tensor([0.5, 0.99, 1.0, 1.5])  # an end is no longer heard
    assert active(events, moments, moments, CLASSES).int().tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_counts_of_a_clip_by_hand():
    edges = torch.tensor([0.0, 2.5], dtype=torch.float64)
    said, heard = [Segment(0.9, 1.1, "dog")], [Segment(1.5, 2.5, "dog"), Segment(0.0, 0.1, "rain")]
    counts = segment_counts(Detections(torch.zeros(1, 3), edges, said, heard), CLASSES)
    assert counts.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0]]  # right, wrong, missed in 0-1, 1-2 and 2-2.5 s
    assert f1_of(counts).tolist()[:2] == [0.5, 0.0]
    assert f1_of(counts)[2].isnan()


def test_a_perfect_model_has_all_and_a_random_one_chance():
    perfect, random = clips(12, "perfect"), clips(60, "random")
    assert segment_f1(perfect, CLASSES, each(12))[0].value == 100
    assert frame_auroc(perfect, CLASSES, each(12))[0].value == 100
    found = frame_auroc(random, CLASSES, each(60))[0]
    assert found.value == pytest.approx(50, abs=3)
    assert found.low < 50 < found.high
    assert found.chance == 50


def test_chance_of_f1_is_to_find_everything_everywhere():
    some = clips(12)
    always = [
        Detections(c.scores, c.edges, [Segment(0.0, c.seconds, name) for name in CLASSES], c.segments) for c in some
    ]
    found, _ = segment_f1(always, CLASSES, each(12))
    assert found.value == pytest.approx(found.chance)
    assert segment_f1(some, CLASSES, each(12))[0].chance == pytest.approx(found.chance)


def test_auroc_is_that_of_scikit_learn():
    some = clips(8)
    scores, truth = torch.cat([c.scores for c in some]), torch.cat([c.truth(CLASSES) for c in some])
    scores = (scores * 10).round()  # equal ones
    for k in range(3):
        assert auroc(scores[:, k], truth[:, k]) == pytest.approx(roc_auc_score(truth[:, k], scores[:, k]), abs=1e-12)
    assert auroc(scores[:, 0], torch.ones(len(scores), dtype=torch.bool)) != auroc(scores[:, 0], truth[:, 0])


def test_scores_that_are_not_finite_rank_last():
    (one,) = clips(1, "perfect")
    lost = Detections(one.scores.masked_fill(one.truth(CLASSES), torch.nan), one.edges, (), one.segments)
    assert frame_auroc([lost], CLASSES, each(1))[0].value < 1


def test_intervals_are_over_origins():
    some = clips(10)
    apart, together = each(10), each(10) // 5
    for metric in (segment_f1, frame_auroc):
        one, two = metric(some, CLASSES, apart)[0], metric(some, CLASSES, together)[0]
        assert one.value == two.value
        assert one.low < one.value < one.high
        assert (one.over, two.over) == ("clips", "origins")
        assert (one.low, one.high) != (two.low, two.high)


def test_bootstrap_samples_are_those_of_loops(monkeypatch):
    """The binned AUROC of a sample is that of its clips repeated, when there are few different scores."""
    monkeypatch.setattr("slap.metrics.bootstrap.SAMPLES", 5)
    monkeypatch.setattr("slap.metrics.average_precision.MIN_SAMPLES", 5)
    some = [Detections((c.scores * 5).round(), c.edges, c.events, c.segments) for c in clips(6)]
    found = frame_auroc(some, CLASSES, each(6))[0]
    rng, values, areas = torch.Generator().manual_seed(0), [], []
    for sample in torch.randint(6, (5, 6), generator=rng).tolist():
        drawn = [some[i] for i in sample]
        areas.append(frame_auroc(drawn, CLASSES, each(6))[0].value)
        values.append(segment_f1(drawn, CLASSES, each(6))[0].value)
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    assert (found.low, found.high) == pytest.approx(torch.tensor(areas).double().quantile(quantiles).tolist(), abs=1e-4)
    f1 = segment_f1(some, CLASSES, each(6))[0]
    assert (f1.low, f1.high) == pytest.approx(torch.tensor(values).double().quantile(quantiles).tolist(), abs=1e-4)


def test_a_class_that_is_always_heard_has_no_auroc():
    edges = torch.arange(3, dtype=torch.float64)
    always = Detections(torch.rand(2, 1), edges, (), [Segment(0.0, 2.0, "hum")])
    assert frame_auroc([always], ["hum"], each(1))[0] is None


# -- by sed_scores_eval -----------------------------------------------------------------------------------------------


@pytest.fixture
def library():
    pytest.importorskip("sed_scores_eval", reason="needs the extra sed", exc_type=ImportError)
    return psds_module._library()


def named(some):
    return {f"{i:02}": one for i, one in enumerate(some)}


def test_segment_f1_is_that_of_the_library(library):
    some = clips(10)
    tables = {
        name: psds_module._table(
            torch.stack([active(c.events, c.edges[:-1], c.edges[1:], CLASSES)])[0].float(), c.edges, CLASSES
        )
        for name, c in named(some).items()
    }
    truth = {name: [tuple(one) for one in c.segments] for name, c in named(some).items()}
    seconds = {name: c.seconds for name, c in named(some).items()}
    with psds_module._quiet():
        theirs, *_ = library.segment_based.fscore(
            tables, truth, seconds, threshold=dict.fromkeys(CLASSES, 0.5), segment_length=1.0
        )
    mine, per_class = segment_f1(some, CLASSES, each(10))
    assert mine.value == pytest.approx(100 * theirs["macro_average"], abs=1e-9)
    assert per_class.tolist() == pytest.approx([theirs[name] for name in CLASSES], abs=1e-9)


def test_psds_of_a_perfect_and_of_a_random_model(library):
    perfect = psds(named(clips(12, "perfect")), CLASSES, each(12), samples=4)
    random = psds(named(clips(12, "random")), CLASSES, each(12), samples=4)
    for name in SCENARIOS:
        assert perfect[name].value == pytest.approx(100)
        assert perfect[name].low == pytest.approx(100)
        assert perfect[name].chance < 60
        assert random[name].value < 60
        assert random[name].low <= random[name].high


def test_psds_is_that_of_the_library_with_its_tables(library):
    some = named(clips(8))
    tables = {name: psds_module._table(c.scores, c.edges, CLASSES) for name, c in some.items()}
    truth = {name: [tuple(one) for one in c.segments] for name, c in some.items()}
    seconds = {name: c.seconds for name, c in some.items()}
    mine = psds(some, CLASSES, each(8), samples=4)
    for name, options in SCENARIOS.items():
        with psds_module._quiet():
            theirs, *_ = library.intersection_based.psds(tables, truth, seconds, max_efpr=100.0, **options)
        assert mine[name].value == pytest.approx(100 * theirs, abs=1e-9)


def test_psds_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
    with pytest.raises(ImportError, match=r"pip install 'slap-audio\[sed\]'"):
        psds(named(clips(2)), CLASSES, each(2))
