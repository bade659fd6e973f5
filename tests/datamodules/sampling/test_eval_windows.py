"""HeldOutMetrics of clips of any length: windows within the budget of a batch, merged into one embedding a clip."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import normalize

from epochs import tokenize
from slap.core.bad_clip import BadClip
from slap.core.batch import Batch
from slap.core.merging import merge, merge_by_name
from slap.core.packed import Packed
from slap.core.windows import hop_of, window_weights, windows
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.datamodules.sampling.eval_windows import segments_of
from slap.inference.embedding import embed
from slap.testing.tiny import tiny_model
from slap.training.held_out import HeldOutMetrics
from slap.training.predict import whole_clips

RATE = 16000
SECONDS = [0.4, 1.0, 1.01, 2.5, 7.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """m.jsonl: clips c0, c1, ... of `SECONDS`, two captions each."""
    rng = np.random.default_rng(0)
    clips = []
    for i, seconds in enumerate(SECONDS):
        soundfile.write(tmp_path / f"c{i}.wav", rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE, subtype="FLOAT")
        clips.append(Clip(f"c{i}", tmp_path / f"c{i}.wav", [f"one {i}", f"two {i}"], {"n": str(i)}))
    write_manifest(tmp_path / "m.jsonl", clips)
    return tmp_path


def batches_of(folder: Path, **options) -> list[Batch]:
    data = AudioTextData(val=folder / "m.jsonl", max_clip=None, **options)
    data.connect(RATE, tokenize)
    data.setup("validate")
    return list(data.val_dataloader())


def test_segments_are_the_windows_of_each_clip() -> None:
    lengths = [1, 99, 100, 101, 250, 1000, 30]
    found = segments_of(lengths, window=100)
    expected = [(i, *span) for i, length in enumerate(lengths) for span in windows(length, 100, hop_of(100))]
    assert [(int(found.clip[i]), *found.span(i)) for i in range(len(found))] == expected
    assert found.lengths.tolist() == [stop - start for _, start, stop in expected]


@pytest.mark.parametrize("in_memory", [False, True])
def test_windows_fill_batches_and_the_first_brings_the_captions(folder: Path, in_memory: bool) -> None:
    batches = batches_of(folder, max_duration=2.0, window=1.0, in_memory=in_memory)
    seen: dict[str, list[tuple[int, int]]] = {}
    captions: dict[str, list[str]] = {}
    for batch in batches:
        assert batch.audio.values.numel() <= 2 * RATE
        assert len(batch.spans) == len(batch)
        for name, (start, stop), audio in zip(batch.ids, batch.spans, batch.audio.unpack(), strict=True):
            whole, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
            assert torch.equal(audio, torch.from_numpy(whole[start:stop]))
            seen.setdefault(name, []).append((start, stop))
        for text, item in zip(batch.captions, batch.clip.tolist(), strict=True):
            assert batch.spans[item][0] == 0
            captions.setdefault(batch.ids[item], []).append(text)
        assert batch.labels["n"] == tuple(name[1:] for name in batch.ids)
    for i, seconds in enumerate(SECONDS):
        assert sorted(seen[f"c{i}"]) == windows(round(seconds * RATE), RATE, hop_of(RATE))
        assert captions[f"c{i}"] == [f"one {i}", f"two {i}"]


def test_without_a_window_what_fits_goes_whole_and_what_does_not_still_goes(folder: Path) -> None:
    batches = batches_of(folder, max_duration=2.5)
    spans = {name: span for batch in batches for name, span in zip(batch.ids, batch.spans, strict=True)}
    assert {name for name in spans if name != "c4"} == {"c0", "c1", "c2", "c3"}
    assert all(spans[f"c{i}"] == (0, round(SECONDS[i] * RATE)) for i in range(4))
    assert [batch.spans for batch in batches_of(folder, max_duration=2.5, window=30.0)] == [b.spans for b in batches]
    with pytest.raises(ValueError, match="window must be above 0 seconds, got 0"):
        batches_of(folder, window=0)


def test_the_evaluation_embeds_a_clip_as_a_trained_model_does(folder: Path) -> None:
    model = tiny_model().eval()
    evaluation, predicted = HeldOutMetrics(), []
    with torch.no_grad():
        for batch in batches_of(folder, max_duration=2.0, window=1.0):
            model_batch = Batch(**{**vars(batch), "text": model.text.tokenize(list(batch.captions) or ["x"])})
            evaluation.update(
                batch, model.embed_audio(batch.audio), model.embed_text(model_batch.text)[: len(batch.clip)], RATE
            )
            predicted.append(model.predict_step(batch, 0))
        files = [str(folder / f"c{i}.wav") for i in range(len(SECONDS))]

        def encode(clips: Sequence[torch.Tensor]) -> torch.Tensor:
            return model.embed_audio(Packed.pack(list(clips)))

        wanted = {f"c{found.index}": found.result for found in embed(files, encode, RATE, RATE, 2 * RATE)}
    ids, embeddings = whole_clips(predicted)
    assert sorted(ids) == sorted(wanted)
    for name, embedding in zip(ids, embeddings, strict=True):
        torch.testing.assert_close(embedding, wanted[name], rtol=0, atol=1e-5)
    results = evaluation.compute({"n": "{label}"}, model.embed_captions)
    assert results["t2a_R@1"].count == 2 * len(SECONDS)
    assert results["zeroshot_n"].count == len(SECONDS)
    assert sorted(evaluation.durations) == pytest.approx(SECONDS)


def window_batch(names: Sequence[str], spans: Sequence[tuple[int, int]], owners: Sequence[int], **fields) -> Batch:
    return Batch(
        audio=Packed.pack([torch.zeros(stop - start) for start, stop in spans]),
        text=Packed.pack([torch.tensor([1])] * len(owners)) if owners else Batch.without_clips(()).text,
        clip=torch.tensor(owners, dtype=torch.int64),
        clip_key=torch.zeros(len(names), dtype=torch.int64),
        caption_key=torch.zeros(len(owners), dtype=torch.int64),
        ids=tuple(names),
        captions=tuple("x" for _ in owners),
        spans=tuple(spans),
        **fields,
    )


def test_windows_of_a_clip_may_lie_in_any_batches_in_any_order_and_twice() -> None:
    eye = torch.eye(3)
    evaluation = HeldOutMetrics()
    evaluation.update(window_batch(["long", "b"], [(4, 12), (0, 3)], [1]), eye[[1, 2]], eye[[2]], 1)
    evaluation.update(window_batch(["long"], [(8, 16)], []), eye[[2]], eye[[]], 1)
    evaluation.update(window_batch(["long", "b"], [(0, 8), (0, 3)], [0, 1]), eye[[0, 2]], eye[[0, 2]], 1)
    results = evaluation.compute({}, lambda texts: torch.zeros(0))
    assert results["t2a_R@1"].count == 2  # the caption of `b` counts once
    assert sorted(evaluation.durations) == [3.0, 16.0]
    merged = merge_by_name(["long", "b", "long", "long"], [(4, 12), (0, 3), (8, 16), (0, 8)], eye[[1, 2, 2, 0]])
    weights = torch.tensor(window_weights([(0, 8), (4, 12), (8, 16)]))
    torch.testing.assert_close(merged.embeddings[0], normalize(weights, dim=0))
    assert torch.equal(merged.embeddings[1], eye[2])
    assert (merged.first, merged.last) == ([3, 1], [2, 1])
    assert torch.equal(merge(eye[[0, 1, 2]], torch.zeros(3, dtype=torch.int64), weights)[0], merged.embeddings[0])


def test_a_clip_with_a_bad_window_is_left_out(folder: Path) -> None:
    eye = torch.eye(3)
    evaluation = HeldOutMetrics()
    bad = (
        BadClip("long", "truncated", "", where="m.jsonl, line 1"),
        BadClip("b", "caption", "", where="m.jsonl, line 2"),
    )
    evaluation.update(window_batch(["long", "b"], [(0, 8), (0, 3)], [0, 1]), eye[[0, 2]], eye[[0, 2]], 1)
    evaluation.update(window_batch(["c"], [(0, 9)], [0], bad=bad), eye[[1]], eye[[1]], 1)
    results = evaluation.compute({}, lambda texts: torch.zeros(0))
    assert results["a2t_R@1"].count == 2  # `b` has another caption, which is good
    assert evaluation.left_out == {"truncated": 1, "caption": 1}
    raw = (folder / "c4.wav").read_bytes()
    data = AudioTextData(val=folder / "m.jsonl", max_clip=None, max_duration=2.0, window=1.0, max_bad=1.0)
    data.connect(RATE, tokenize)
    data.setup("validate")
    (folder / "c4.wav").write_bytes(raw[: len(raw) // 2])
    assert {clip.id for batch in data.val_dataloader() for clip in batch.bad} == {"c4"}


def test_a_silent_window_of_a_clip_that_is_not_silent_is_no_fault(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(3 * RATE), np.full(RATE, 0.1)]), RATE)
    soundfile.write(tmp_path / "b.wav", np.zeros(3 * RATE), RATE)
    write_manifest(tmp_path / "m.jsonl", [Clip(name, tmp_path / f"{name}.wav", ["x"]) for name in "ab"])
    batches = batches_of(tmp_path, max_duration=2.0, window=1.0, max_bad=1.0)
    assert {(clip.id, clip.reason) for batch in batches for clip in batch.bad} == {("b", "silent")}
    assert sorted(span for batch in batches for span in batch.spans) == windows(4 * RATE, RATE, hop_of(RATE))


def test_predictions_of_several_processes_make_each_clip_once() -> None:
    eye = torch.eye(3)
    here = [{"ids": ("a", "long"), "spans": ((0, 5), (0, 8)), "embeddings": eye[[2, 0]]}]
    there = [{"ids": ("long", "b"), "spans": ((4, 12), (0, 4)), "embeddings": eye[[1, 2]]}]
    late = [{"ids": ["long"], "spans": [(4, 12)], "embeddings": eye[[1]]}]  # what is sent: windows that are not first
    ids, embeddings = whole_clips(here, late)
    assert ids == ["a", "long"]
    torch.testing.assert_close(embeddings[1], normalize(torch.tensor([1.0, 1.0, 0.0]), dim=0))
    assert whole_clips(there)[0] == ["b"]
    assert whole_clips([])[0] == []


def test_a_batch_of_later_windows_has_no_captions_to_embed() -> None:
    model = tiny_model().eval()
    with torch.no_grad():
        audio, text = model(window_batch(["long"], [(8000, 16000)], []))
    assert audio.shape == (1, model.embedding_dim)
    assert text.shape == (0, model.embedding_dim)
