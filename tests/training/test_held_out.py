"""Figures over a whole set: owners of captions across batches, repeated clips, zero-shot tasks."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from slap import Batch, Packed
from slap.core.bad_clip import BadClip
from slap.core.batch import fingerprint
from slap.training.held_out import HeldOutMetrics

ANIMALS = torch.eye(3)
PROMPTS = {"a dog": ANIMALS[0], "a cat": ANIMALS[1], "sea lion": ANIMALS[2]}


def embed(captions):
    return torch.stack([PROMPTS[caption.removeprefix("the sound of ")] for caption in captions])


def batch(ids, clip, labels):
    captions = [f"caption {i} of {ids[clip[i]]}" for i in range(len(clip))]  # equal text has equal embeddings
    return Batch(
        audio=Packed.pack([torch.zeros(8_000)] * len(ids)),
        text=Packed.pack([torch.tensor([0, 1])] * len(clip)),
        clip=torch.tensor(clip),
        clip_key=fingerprint(ids),
        caption_key=fingerprint(captions),
        ids=tuple(ids),
        captions=tuple(captions),
        labels={"animal": tuple(labels)},
    )


def test_recall_and_accuracy_over_several_batches():
    evaluation = HeldOutMetrics()
    audio = normalize(torch.tensor([[1.0, 0.1, 0.0], [0.2, 1.0, 0.0]]), dim=1)
    evaluation.update(batch(["dog", "cat"], [1, 0, 0], ["a dog", "a cat"]), audio, ANIMALS[[1, 0, 0]], 16_000)
    # The third clip is heard as a cat, so both its captions and its label are missed.
    audio = normalize(torch.tensor([[0.0, 1.0, 0.1]]), dim=1)
    evaluation.update(batch(["lion"], [0, 0], ["sea_lion"]), audio, ANIMALS[[2, 2]], 16_000)
    results = evaluation.compute({"animal": "the sound of {label}"}, embed)
    # "sea lion" is nearer to the third clip (0.1) than to the others (0), so its captions find it.
    assert results["t2a_R@1"].value == pytest.approx(100 * 4 / 5)  # the cat's caption prefers the third clip
    assert results["a2t_R@1"].value == pytest.approx(100 * 2 / 3)
    assert results["a2t_R@5"].value == 100.0
    assert results["t2a_mAP@10"].value == pytest.approx(100 * (4 + 1 / 2) / 5)
    # The lion's two captions come behind the cat's one: (1/2 + 2/3) / 2.
    assert results["a2t_mAP@10"].value == pytest.approx(100 * (1 + 1 + 7 / 12) / 3)
    assert results["a2t_mAP@10_found"].value == pytest.approx(results["a2t_mAP@10"].value)
    assert results["a2t_mAP@10"].count == 3
    assert results["t2a_R@1"].count == 5
    assert results["a2t_R@1"].count == 3
    assert results["t2a_R@1"].chance == pytest.approx(100 / 3)
    assert results["zeroshot_animal"].value == pytest.approx(100 * 2 / 3)
    assert results["zeroshot_animal"].chance == pytest.approx(100 / 3)
    confusion = evaluation.confusions["animal"]
    assert confusion.classes == ("a cat", "a dog", "sea_lion")
    assert confusion.counts.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert evaluation.durations == [0.5, 0.5, 0.5]


def test_a_clip_that_a_sampler_repeats_counts_once():
    evaluation = HeldOutMetrics()
    for _ in range(2):
        part = batch(["dog", "cat"], [0, 1, 1], ["a dog", None])
        evaluation.update(part, ANIMALS[[0, 1]], ANIMALS[[0, 1, 1]], 16_000)
    results = evaluation.compute({"animal": "{label}"}, embed)
    assert results["t2a_R@1"].count == 3
    assert results["t2a_R@1"].value == 100.0
    assert results["zeroshot_animal"].count == 1


def test_each_source_has_the_figures_it_would_have_alone():
    """The second source holds a clip of the first too; all of the third is bad."""
    parts = {"pets": (["dog", "cat"], [0, 1]), "zoo": (["lion", "dog"], [2, 0])}
    together = HeldOutMetrics()
    alone = {}
    for number, (source, (ids, rows)) in enumerate(parts.items()):
        part = batch(ids, [0, 1], ["sea lion" if name == "lion" else f"a {name}" for name in ids])
        part = replace(part, source=torch.full((2,), number))
        single = HeldOutMetrics()
        for evaluation in (together, single):
            evaluation.update(part, ANIMALS[rows].flip(0), ANIMALS[rows], 16_000)
        alone |= {f"{source}/{name}": result for name, result in single.compute({"animal": "{label}"}, embed).items()}
    bad = BadClip("eel", "silent", "", "eel.wav")
    lost = replace(batch(["eel"], [0], [None]), source=torch.tensor([2]), bad=(bad,))
    together.update(lost, ANIMALS[[0]], ANIMALS[[0]], 16_000)
    results = together.compute({"animal": "{label}"}, embed, ["pets", "zoo", "sea"])
    assert {name: result for name, result in results.items() if "/" in name} == alone
    assert results["t2a_R@1"].count == 3
    assert alone["zoo/t2a_R@1"].count == 2
    assert together.confusions["animal"].counts.sum() == 3


def test_median_ranks_of_all_and_of_each_source():
    """Of three clips the first two answer to each other's captions; equal scores count as better than the right one."""
    evaluation = HeldOutMetrics()
    part = replace(batch(["dog", "cat", "lion"], [0, 1, 2], [None] * 3), source=torch.tensor([0, 1, 1]))
    evaluation.update(part, ANIMALS, ANIMALS[[1, 0, 2]], 16_000)
    evaluation.compute({}, embed, ["pets", "zoo"])
    whole = evaluation.median_ranks["t2a_median_rank"]
    assert (whole.value, whole.chance, whole.count) == (3.0, 2.0, 3)  # ranks 3, 3 and 1
    assert evaluation.median_ranks["a2t_median_rank"].value == 3.0
    assert evaluation.median_ranks["pets/t2a_median_rank"].value == 1.0
    assert evaluation.median_ranks["pets/t2a_median_rank"].chance == 1.0
    assert evaluation.median_ranks["zoo/t2a_median_rank"].value == 1.5  # ranks 2 and 1
    assert not any("median" in name for name in evaluation.results)  # which are in percent


def test_compute_starts_anew():
    evaluation = HeldOutMetrics()
    part = batch(["dog"], [0], [None])
    evaluation.update(part, ANIMALS[:1], ANIMALS[:1], 16_000)
    assert "zeroshot_animal" not in evaluation.compute({}, embed)
    with pytest.raises(ValueError, match="no clips were evaluated"):
        evaluation.compute({}, embed)


def test_questions_are_answered_beside_the_other_metrics():
    evaluation = HeldOutMetrics()
    for name, row in (("dog", 0), ("cat", 1), ("eel", 2)):
        part = batch([name], [0], [None])
        asked = {"kind": (["a dog", "a cat"],)} if name != "eel" else {}
        part = replace(part, choices=asked)
        evaluation.update(part, ANIMALS[[row]], ANIMALS[[row]], 16_000)
    results = evaluation.compute({}, embed)
    assert (results["choice_kind"].value, results["choice_kind"].count, results["choice_kind"].chance) == (50, 2, 50)
    assert evaluation.tied == {"kind": (0, 2)}
    assert "choice_kind" not in _again(evaluation)


def _again(evaluation):
    evaluation.update(batch(["dog"], [0], [None]), ANIMALS[:1], ANIMALS[:1], 16_000)
    return evaluation.compute({}, embed)


def test_a_task_without_prompt_is_an_error():
    evaluation = HeldOutMetrics()
    evaluation.update(batch(["dog"], [0], ["a dog"]), ANIMALS[:1], ANIMALS[:1], 16_000)
    with pytest.raises(ValueError, match="labels of 'animal', but there is no prompt for it, only \\['bird'\\]"):
        evaluation.compute({"bird": "{label}"}, embed)


def test_a_prompt_without_label_is_an_error():
    evaluation = HeldOutMetrics()
    evaluation.update(batch(["dog"], [0], ["a dog"]), ANIMALS[:1], ANIMALS[:1], 16_000)
    with pytest.raises(ValueError, match=r"must hold \{label\}"):
        evaluation.compute({"animal": "a sound"}, embed)
