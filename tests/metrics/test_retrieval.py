"""Ranks and recalls against a reference case with known values, and against torchmetrics."""

import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate

from slap.metrics.bootstrap import mean_over_clips
from slap.metrics.retrieval import average_precision_at, chance_average_precision, chance_recall
from slap.metrics.retrieval_ranks import first_ranks, right_ranks

CLIPS, EACH = 3, 5


def text_to_audio_ranks(audio, text, clip):
    return right_ranks(text, audio, torch.arange(len(text)), clip)


def caption_ranks(audio, text, clip):
    order = clip.argsort(stable=True)
    return right_ranks(audio, text, clip[order], order)[order.argsort()]


def audio_to_text_ranks(audio, text, clip):
    return first_ranks(caption_ranks(audio, text, clip), clip, len(audio))


@pytest.fixture
def reference():
    """3 clips x 15 captions with scores S[a, t]: clips are unit vectors, captions the columns of S."""
    scores = torch.tensor(
        [
            [
                round(0.5 * (((a * 15 + t) * 37) % 101) / 101 - 0.2 + (0.25 if t // EACH == a else 0), 4)
                for t in range(CLIPS * EACH)
            ]
            for a in range(CLIPS)
        ],
        dtype=torch.float64,
    )
    return torch.eye(CLIPS, dtype=torch.float64), scores.T.contiguous(), torch.arange(CLIPS * EACH) // EACH


def test_reference_case(reference):
    ranks = text_to_audio_ranks(*reference)
    assert ranks.tolist() == [1, 0, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1]
    assert (ranks < 1).double().mean().item() == pytest.approx(0.53333333)
    assert (ranks < 5).double().mean().item() == 1.0
    assert average_precision_at(10, ranks, torch.arange(15)).mean().item() == pytest.approx(0.76666667)
    assert audio_to_text_ranks(*reference).tolist() == [0, 0, 0]
    _, _, clip = reference
    assert average_precision_at(10, caption_ranks(*reference), clip).mean().item() == pytest.approx(0.74476190)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_equals_torchmetrics_hit_rate(k, monkeypatch):
    monkeypatch.setattr("slap.metrics.retrieval_ranks.CHUNK", 7)
    generator = torch.Generator().manual_seed(k)
    audio, text = (torch.randn(n, 8, generator=generator) for n in (20, 50))
    clip = torch.cat([torch.arange(20), torch.randint(20, (30,), generator=generator)])
    scores = text @ audio.T
    right = clip[:, None] == torch.arange(20)
    oracle = RetrievalHitRate(top_k=k)
    queries = torch.arange(50)[:, None].expand(-1, 20)
    expected = oracle(scores.flatten(), right.flatten(), indexes=queries.flatten())
    assert (text_to_audio_ranks(audio, text, clip) < k).float().mean() == pytest.approx(expected.item())
    queries = torch.arange(20)[:, None].expand(-1, 50)
    expected = RetrievalHitRate(top_k=k)(scores.T.flatten(), right.T.flatten(), indexes=queries.flatten())
    assert (audio_to_text_ranks(audio, text, clip) < k).float().mean() == pytest.approx(expected.item())


@pytest.mark.parametrize("levels", [5, 1000], ids=["ties", "no ties"])
def test_ranks_of_captions_and_average_precision_by_loops(levels, monkeypatch):
    monkeypatch.setattr("slap.metrics.retrieval_ranks.CHUNK", 4)
    generator = torch.Generator().manual_seed(levels)
    audio, text = torch.eye(9), torch.randint(levels, (30, 9), generator=generator).float()
    clip = torch.cat([torch.arange(9), torch.randint(9, (21,), generator=generator)])
    scores, owner = (audio @ text.T).tolist(), clip.tolist()

    def ahead(t, other):
        """Whether another caption stands before caption t."""
        mine, theirs = scores[owner[t]][t], scores[owner[t]][other]
        return theirs > mine or (theirs == mine and (owner[other] != owner[t] or other < t))

    expected = [sum(ahead(t, other) for other in range(30) if other != t) for t in range(30)]
    ranks = caption_ranks(audio, text, clip)
    assert ranks.tolist() == expected
    for by in ("all", "found"):
        precisions = []
        for a in range(9):
            mine = sorted(rank for rank, clip_of in zip(expected, owner, strict=True) if clip_of == a)
            terms = [(i + 1) / (rank + 1) for i, rank in enumerate(mine) if rank < 10]
            precisions.append(sum(terms) / (len(mine) if by == "all" else max(len(terms), 1)))
        assert average_precision_at(10, ranks, clip, by).tolist() == pytest.approx(precisions)


@pytest.mark.parametrize("by", ["all", "found"])
def test_chance_of_average_precision_equals_simulation(by):
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(20_000, 30, generator=generator).argsort(1).argsort(1)[:, :3]
    query = torch.arange(20_000)[:, None].expand(-1, 3)
    simulated = 100 * average_precision_at(10, order.flatten(), query.flatten(), by).mean().item()
    assert chance_average_precision(10, 30, 3, by) == pytest.approx(simulated, abs=0.5)


def test_a_collapsed_model_does_not_look_perfect():
    audio, text = torch.ones(10, 4), torch.ones(20, 4)
    clip = torch.arange(20) % 10
    assert text_to_audio_ranks(audio, text, clip).tolist() == [9] * 20
    assert audio_to_text_ranks(audio, text, clip).tolist() == [18] * 10


def test_chance_equals_simulation():
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(20_000, 30, generator=generator).argsort(1)
    simulated = 100 * (order[:, :5] < 3).any(1).double().mean().item()
    assert chance_recall(5, 30, 3) == pytest.approx(simulated, abs=1.0)
    assert chance_recall(1, 4, 1) == 25.0
    assert chance_recall(10, 4, 1) == 100.0


def test_bootstrap_draws_clips_with_all_their_captions():
    hits = torch.tensor([True] * 50 + [False] * 50)
    alone = mean_over_clips(hits, torch.arange(100), chance=1.0)
    together = mean_over_clips(hits, torch.arange(100) // 25, chance=1.0)
    assert alone.value == together.value == 50.0
    assert alone.low == pytest.approx(40, abs=2)  # 50 +- 1.96 * sqrt(0.25 / 100)
    assert alone.high == pytest.approx(60, abs=2)
    assert together.low == pytest.approx(0, abs=0.1)  # four clips, two right: all four may be drawn wrong
    assert together.count == 100
