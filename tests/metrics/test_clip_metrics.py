"""Metrics over sets of clips as torchmetrics classes: on one process and on two, in any order, in windows.

The last tests start this file as a program, once per process.
"""

import random
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import normalize
from torchmetrics import MetricCollection

from launch import launch
from slap.core.bad_clip import BadClip
from slap.core.windows import window_weights
from slap.metrics import ClassifierMetric, RetrievalMetric, ZeroShotMetric
from slap.metrics.average_precision import mean_average_precision
from slap.metrics.retrieval import retrieval_metrics

CLIPS, WIDTH = 30, 8
LABELS = ("dog", "cat", "owl")
GROUPS = ("farm", "forest")


def embed(texts):
    return torch.stack([torch.eye(WIDTH)[LABELS.index(text.removeprefix("a "))] for text in texts])


def clips():
    """Clips with an id, an embedding, captions, a label or none, scores, and a group."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for i in range(CLIPS):
        audio = normalize(torch.randn(WIDTH, generator=generator), dim=0)
        text = normalize(audio + 0.4 * torch.randn(i % 4, WIDTH, generator=generator), dim=1)
        scores = torch.randn(3, generator=generator).double()
        label = LABELS[i % 3] if i % 5 else None
        found.append((f"clip {i:02} \u00e9", audio, text, label, scores, i % 2))
    return found


def fill(found, batch=4):
    """New metrics with these clips, in batches."""
    retrieval = RetrievalMetric(GROUPS)
    zero_shot = ZeroShotMetric({"animal": "a {label}"}, embed, GROUPS)
    single, multi = ClassifierMetric(LABELS), ClassifierMetric(LABELS, multi_label=True)
    for start in range(0, len(found), batch):
        ids, audio, text, labels, scores, group = zip(*found[start : start + batch], strict=True)
        audio, scores, group = torch.stack(audio), torch.stack(scores), torch.tensor(group)
        clip = torch.arange(len(ids)).repeat_interleave(torch.tensor([len(part) for part in text]))
        retrieval.update(audio, torch.cat(text), clip, ids, group=group)
        zero_shot.update(audio, {"animal": labels}, ids, group=group)
        known = torch.tensor([label is not None for label in labels])
        targets = torch.stack([torch.eye(3)[LABELS.index(label or "dog")] for label in labels])
        single.update(scores, targets, ids, known=known)
        multi.update(scores, targets + (scores > 1), ids, known=known)
    return {"retrieval": retrieval, "zero_shot": zero_shot, "single": single, "multi": multi}


def results(metrics):
    for metric in metrics.values():
        metric.compute()
    return {name: metric.results for name, metric in metrics.items()}


def test_neither_order_nor_batches_nor_repeats_matter():
    found = clips()
    expected = results(fill(found))
    assert expected["retrieval"]["t2a_R@1"].low < expected["retrieval"]["t2a_R@1"].high
    for seed in range(3):
        mixed = found + random.Random(seed).sample(found, 5)
        random.Random(seed).shuffle(mixed)
        assert results(fill(mixed, 1 + 3 * seed)) == expected


def test_values_are_those_of_the_pure_functions():
    found = clips()
    metrics = results(fill(found))
    ids, audio, text, labels, scores, _ = zip(*found, strict=True)
    clip = torch.arange(CLIPS).repeat_interleave(torch.tensor([len(part) for part in text]))
    assert {name: value for name, value in metrics["retrieval"].items() if "/" not in name} == retrieval_metrics(
        torch.stack(audio), torch.cat(text), clip, ids
    ).metrics
    known = [i for i, label in enumerate(labels) if label is not None]
    right = [labels[i] == LABELS[int((audio[i] @ torch.eye(WIDTH)[:3].T).argmax())] for i in known]
    assert metrics["zero_shot"]["zeroshot_animal"].value == pytest.approx(100 * sum(right) / len(known))
    right = [labels[i] == LABELS[int(scores[i].argmax())] for i in known]
    assert metrics["single"]["accuracy"].value == pytest.approx(100 * sum(right) / len(known))
    truth = torch.stack([torch.eye(3)[LABELS.index(labels[i])] + (scores[i] > 1) for i in known]) > 0
    expected, _ = mean_average_precision(torch.stack([scores[i] for i in known]), truth, [ids[i] for i in known])
    assert metrics["multi"]["mAP"] == expected


def test_each_group_has_the_metrics_it_would_have_alone():
    found = clips()
    metrics = results(fill(found))
    for number, name in enumerate(GROUPS):
        alone = results(fill([clip for clip in found if clip[-1] == number]))
        for kind in ("retrieval", "zero_shot"):
            own = {key.partition("/")[2]: value for key, value in metrics[kind].items() if key.startswith(f"{name}/")}
            assert own == {key: value for key, value in alone[kind].items() if "/" not in key}


def test_windows_are_merged_and_a_clip_with_a_bad_one_does_not_count():
    spans = [(0, 8), (4, 12), (8, 16), (0, 3), (0, 3)]
    ids = ["long", "long", "long", "b", "bad"]
    audio = torch.eye(8)[[0, 1, 2, 3, 4]]
    weights = torch.tensor(window_weights(spans[:3]))
    long = normalize(torch.cat([weights, torch.zeros(5)]), dim=0)
    metric = RetrievalMetric()
    bad = [BadClip("bad", "truncated", "", where="line 3"), BadClip("b", "caption", "", where="line 2")]
    metric.update(audio[3:], torch.eye(8)[[3, 4]], torch.tensor([0, 1]), ids[3:], spans[3:], bad=bad)
    metric.update(audio[:3], long[None], torch.tensor([0]), ids[:3], spans[:3])
    assert metric.compute()["t2a_R@1"] == 100
    assert metric.results["a2t_R@1"].count == 2
    assert metric.lengths == [3, 16]
    assert metric.bad == {("bad", "line 3", "truncated"), ("b", "line 2", "caption")}


@pytest.mark.parametrize(("own_only", "expected", "best"), [(False, 100, 100), (True, 0, 50)])
def test_a_caption_of_two_clips_whatever_the_rounding_of_its_embeddings(own_only, expected, best):
    """Two clips share a caption, whose embeddings in two batches differ by rounding errors."""
    text = normalize(torch.tensor([[1.0, 1.0]]), dim=1)
    for nudge in (1e-6, -1e-6):
        metric = RetrievalMetric(own_only=own_only)
        key = torch.tensor([7])
        metric.update(torch.eye(2)[:1], text, torch.tensor([0]), ["a"], caption_key=key)
        metric.update(torch.eye(2)[1:], text + nudge, torch.tensor([0]), ["b"], caption_key=key)
        assert (
            metric.compute()["t2a_R@1"] == expected
        )  # by the published rule the other clip ties, and counts as better
        assert metric.results["t2a_R@1"].best == best
        assert metric.compute()["a2t_R@1"] == expected


def test_in_a_collection_and_again_after_a_reset():
    collection = MetricCollection(
        {"found": RetrievalMetric(), "zeroshot": ZeroShotMetric({"animal": "a {label}"}, embed)}
    )
    for _ in range(2):
        batch = {"audio": torch.eye(WIDTH)[:2], "text": torch.eye(WIDTH)[:2], "clip": torch.tensor([0, 1])}
        collection.update(**batch, labels={"animal": ["cat", "dog"]}, ids=["a", "b"])
        values = collection.compute()
        assert (values["t2a_R@1"], values["zeroshot_animal"]) == (100, 0)
        collection.reset()
    with pytest.raises(ValueError, match="no clips were evaluated"):
        collection["found"].compute()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    launch(__file__, 2, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.distributed
@pytest.mark.parametrize("split", ["uneven", "empty"])
def test_two_processes_compute_the_same_as_one(two, split):
    expected = results(fill(clips()))
    assert two[0][split] == two[1][split] == expected


@pytest.mark.distributed
def test_states_are_the_processes_own_after_compute(two):
    assert [found["rows"] for found in two] == [22, 10]  # two clips are on both


def main(rank, folder):
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = clips()
    uneven = fill(found[:22] if rank == 0 else found[20:])
    saved = {"uneven": results(uneven), "empty": results(fill(found if rank == 0 else []))}
    saved["rows"] = len(uneven["retrieval"]._texts("ids"))
    torch.save(saved, Path(folder) / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
